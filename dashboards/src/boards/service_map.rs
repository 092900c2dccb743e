//! *Service map and traces*: who calls whom, how well that goes, and the traces behind it.

use serde_json::json;

use super::common::{traces, traces_link};
use crate::build::{Color, Dashboard, Override, Panel, Target, Unit, Variable, range, table};

const EDGES: &str = r#"client=~"$client", server=~"$server""#;

fn edges(expr: &str) -> String {
    expr.replace("EDGES", EDGES)
}

pub(super) fn board() -> Dashboard {
    let variables = [
        Variable::source("datasource", "Data source", "prometheus"),
        traces(),
        Variable::label(
            "client",
            "Client",
            "Who calls",
            "label_values(traces_service_graph_request_total, client)",
        )
        .many(),
        Variable::label(
            "server",
            "Server",
            "Who is called",
            "label_values(traces_service_graph_request_total{client=~\"$client\"}, server)",
        )
        .many(),
    ];
    Dashboard::new(
        "davy-service-map",
        "Davy / Service map and traces",
        "Who calls whom, how well that goes, and the traces behind it.",
        "now-1h",
    )
    .variables(&variables)
    .row("Who calls whom")
    .band(10, [(14, map()), (10, calls())])
    .row("Between services")
    .band(8, [(8, rate()), (8, errors()), (8, duration())])
    .row("Operations")
    .band(9, [(24, operations())])
    .row("Traces")
    .band(10, [(12, failed()), (12, slow())])
}

fn map() -> Panel {
    Panel::node_graph(
        "Service map",
        "From the spans that Davy received: a circle's colours are its calls' outcomes, the figures their duration and rate.",
    )
    .query(Target::service_map())
}

fn calls() -> Panel {
    let sum =
        |metric: &str| edges(&format!("sum by (client, server) (rate({metric}{{EDGES}}[$__rate_interval]))"));
    let total = sum("traces_service_graph_request_total");
    let names = json!({
        "client": "Client", "server": "Server", "Value #A": "Rate", "Value #B": "Errors", "Value #C": "90 %",
    });
    let order = json!({"client": 0, "server": 1, "Value #A": 2, "Value #B": 3, "Value #C": 4});
    Panel::table("Calls", "As they are now, from client to server.")
        .query(table(&total))
        .query(table(&format!(
            "({} or {total} * 0) / {total}",
            sum("traces_service_graph_request_failed_total")
        )))
        .query(table(&edges(
            "histogram_quantile(0.9, sum by (le, client, server) (rate(traces_service_graph_request_server_seconds_bucket{EDGES}[$__rate_interval])))",
        )))
        .transform("merge", json!({}))
        .transform("organize", json!({"excludeByName": {"Time": true}, "indexByName": order, "renameByName": names}))
        .option("sortBy", json!([{"displayName": "Rate", "desc": true}]))
        .over(Override::name("Rate").unit(Unit::RequestsPerSecond))
        .over(errors_cell("Errors"))
        .over(Override::name("90 %").unit(Unit::Seconds))
}

fn errors_cell(name: &'static str) -> Override {
    let steps = json!([
        {"color": Color::Green, "value": null}, {"color": Color::Yellow, "value": 0.01}, {"color": Color::Red, "value": 0.05},
    ]);
    Override::name(name)
        .unit(Unit::Share)
        .decimals(2)
        .set("color", json!({"mode": "thresholds"}))
        .set("thresholds", json!({"mode": "absolute", "steps": steps}))
        .set("custom.cellOptions", json!({"type": "color-text"}))
}

fn rate() -> Panel {
    Panel::lines("Rate", Unit::RequestsPerSecond, "Calls a second, from client to server.").min(0.0).query(
        range(
            &edges(
                "sum by (client, server) (rate(traces_service_graph_request_total{EDGES}[$__rate_interval]))",
            ),
            "{{client}} → {{server}}",
        ),
    )
}

fn errors() -> Panel {
    let sum =
        |metric: &str| edges(&format!("sum by (client, server) (rate({metric}{{EDGES}}[$__rate_interval]))"));
    let total = sum("traces_service_graph_request_total");
    Panel::lines("Errors", Unit::Share, "Share of calls that fail.").min(0.0).query(range(
        &format!("({} or {total} * 0) / {total}", sum("traces_service_graph_request_failed_total")),
        "{{client}} → {{server}}",
    ))
}

fn duration() -> Panel {
    Panel::lines("Duration", Unit::Seconds, "95 % of calls are answered within this, as the server sees it.")
        .min(0.0)
        .query(range(
            &edges("histogram_quantile(0.95, sum by (le, client, server) (rate(traces_service_graph_request_server_seconds_bucket{EDGES}[$__rate_interval])))"),
            "{{client}} → {{server}}",
        ).exemplars())
}

fn operations() -> Panel {
    let calls = |more: &str| {
        format!(
            "sum by (service, span_name, version) (rate(traces_spanmetrics_calls_total{{service=~\"$server\"{more}}}[$__rate_interval]))"
        )
    };
    let (failed, all) = (calls(", status_code=\"STATUS_CODE_ERROR\""), calls(""));
    let names = json!({
        "service": "Service", "span_name": "Operation", "version": "Version", "Value #A": "Rate", "Value #B": "Errors",
        "Value #C": "90 %",
    });
    let order =
        json!({"service": 0, "span_name": 1, "version": 2, "Value #A": 3, "Value #B": 4, "Value #C": 5});
    let traces = traces_link(
        "Traces of this operation",
        r#"{resource.service.name="${__data.fields.Service}" && name="${__data.fields.Operation}"}"#,
    );
    Panel::table("Operations", "Of every service that is called, as they are now.")
        .query(table(&all))
        .query(table(&format!("({failed} or {all} * 0) / {all}")))
        .query(table(
            "histogram_quantile(0.9, sum by (le, service, span_name, version) (rate(traces_spanmetrics_latency_bucket{service=~\"$server\"}[$__rate_interval])))",
        ))
        .transform("merge", json!({}))
        .transform("organize", json!({"excludeByName": {"Time": true}, "indexByName": order, "renameByName": names}))
        .option("sortBy", json!([{"displayName": "Errors", "desc": true}]))
        .over(Override::name("Operation").links(&[traces]))
        .over(Override::name("Rate").unit(Unit::RequestsPerSecond))
        .over(errors_cell("Errors"))
        .over(Override::name("90 %").unit(Unit::Seconds))
}

fn failed() -> Panel {
    Panel::table("Newest failed traces", "Click one to see it span by span.")
        .query(Target::traceql("{status=error}", 20))
}

fn slow() -> Panel {
    Panel::table("Newest slow traces", "Longer than a quarter of a second.")
        .query(Target::traceql("{duration>250ms}", 20))
}
