//! *Service*: rate, errors, duration of one service, version by version, and what its processes use.

use serde_json::json;

use super::common::{OWN, buckets, errors, events, of_service, requests, traces, traces_link};
use crate::build::{
    Color, Dashboard, DataLink, Override, Panel, Target, Unit, Variable, instant, range, table,
};

fn failed() -> DataLink {
    traces_link("Failed traces", r#"{resource.service.name="${service}" && status=error}"#)
}

fn slow() -> DataLink {
    traces_link("Slow traces", r#"{resource.service.name="${service}" && duration>250ms}"#)
}

pub(super) fn board() -> Dashboard {
    let mut variables = super::common::davys();
    variables.extend([
        traces(),
        Variable::label(
            "service",
            "Service",
            "By its `service` label or `service.name`",
            "label_values({__name__=~\"up|davy_pushed|traces_spanmetrics_calls_total|davy_release_info\", service!=\"\"}, service)",
        ),
    ]);
    let selector = format!("{OWN}, service=\"$service\"");
    let board = Dashboard::new(
        "davy-service",
        "Davy / Service",
        "Rate, errors and duration of one service, version by version, with traces on the lines; and what its processes use.",
        "now-1h",
    )
    .variables(&variables)
    .row("$service")
    .band(4, [(6, rate_now()), (6, errors_now()), (6, latency_now()), (6, instances())])
    .band(8, [(8, rate()), (8, error_share()), (8, duration())])
    .band(9, [(12, quantiles()), (12, heatmap())])
    .row("Operations")
    .band(9, [(24, operations())])
    .row("Processes")
    .band(8, [(8, cpu()), (8, memory()), (8, alive())]);
    events(&selector).iter().fold(board, Dashboard::annotate)
}

fn rate_now() -> Panel {
    Panel::stat("Requests", Unit::RequestsPerSecond, "Answered by all versions.")
        .plain(Color::Blue)
        .option("graphMode", json!("area"))
        .query(range(&format!("sum({})", requests("", "version")), "requests"))
}

fn errors_now() -> Panel {
    Panel::stat("Errors", Unit::Share, "Share of requests that fail, of all versions.")
        .option("graphMode", json!("area"))
        .decimals(2)
        .steps(&[(0.01, Color::Yellow), (0.05, Color::Red)])
        .query(range(&format!("max({})", errors("", "service")), "errors"))
}

fn latency_now() -> Panel {
    Panel::stat("95 % are answered within", Unit::Seconds, "Of all versions.")
        .option("graphMode", json!("area"))
        .plain(Color::Blue)
        .query(range(&format!("histogram_quantile(0.95, {})", buckets("", "le")), "p95"))
}

fn instances() -> Panel {
    Panel::stat("Instances by version", Unit::Short, "Instances that are scraped or push, by version.")
        .option("textMode", json!("value_and_name"))
        .plain(Color::Blue)
        .query(instant(
            &format!(
                "count by (version) (group by (version, instance) ({} == 1 or {} == 1))",
                of_service("up", str::to_owned),
                of_service("davy_pushed", str::to_owned)
            ),
            "{{version}}",
        ))
}

fn rate() -> Panel {
    Panel::lines("Rate", Unit::RequestsPerSecond, "Requests a second, by version.")
        .min(0.0)
        .stacked()
        .query(range(&requests("", "version"), "{{version}}"))
        .data_links(&[slow(), failed()])
}

fn error_share() -> Panel {
    Panel::lines("Errors", Unit::Share, "Share of requests that fail, by version.")
        .min(0.0)
        .soft_max(0.01)
        .query(range(&errors("", "version"), "{{version}}"))
        .data_links(&[failed()])
}

fn duration() -> Panel {
    Panel::lines(
        "Duration",
        Unit::Seconds,
        "95 % of requests are answered within this, by version. Dots are traces.",
    )
    .min(0.0)
    .query(
        range(&format!("histogram_quantile(0.95, {})", buckets("", "le, version")), "{{version}}")
            .exemplars(),
    )
    .data_links(&[slow()])
}

fn quantiles() -> Panel {
    let of = |q: &str| format!("histogram_quantile({q}, {})", buckets("", "le"));
    Panel::lines("Duration, the usual and the slow", Unit::Seconds, "Of all versions. Dots are traces.")
        .min(0.0)
        .legend(&["lastNotNull", "max"])
        .query(range(&of("0.5"), "50 %"))
        .query(range(&of("0.95"), "95 %").exemplars())
        .query(range(&of("0.99"), "99 %").exemplars())
        .over(Override::name("50 %").color(Color::Green))
        .over(Override::name("95 %").color(Color::Yellow))
        .over(Override::name("99 %").color(Color::Red))
        .data_links(&[slow()])
}

fn heatmap() -> Panel {
    Panel::heatmap("Duration, all of it", "Spectral", "Where the times to answer lie.")
        .query(Target::heatmap(range(&buckets("", "le"), "")))
}

fn operations() -> Panel {
    let calls = |more: &str| {
        format!(
            "sum by (span_name, version) (rate(traces_spanmetrics_calls_total{{service=\"$service\"{more}}}[$__rate_interval]))"
        )
    };
    let failed = calls(", status_code=\"STATUS_CODE_ERROR\"");
    let all = calls("");
    let names = json!({
        "span_name": "Operation", "version": "Version", "Value #A": "Rate", "Value #B": "Errors", "Value #C": "95 %",
    });
    let order = json!({"span_name": 0, "version": 1, "Value #A": 2, "Value #B": 3, "Value #C": 4});
    let traces = traces_link(
        "Traces of this operation",
        r#"{resource.service.name="${service}" && name="${__data.fields.Operation}" && resource.service.version="${__data.fields.Version}"}"#,
    );
    Panel::table("Operations", "By the name of the span, as they are now.")
        .query(table(&all))
        .query(table(&format!("({failed} or {all} * 0) / {all}")))
        .query(table(
            "histogram_quantile(0.95, sum by (le, span_name, version) (rate(traces_spanmetrics_latency_bucket{service=\"$service\"}[$__rate_interval])))",
        ))
        .transform("merge", json!({}))
        .transform("organize", json!({"excludeByName": {"Time": true}, "indexByName": order, "renameByName": names}))
        .option("sortBy", json!([{"displayName": "Rate", "desc": true}]))
        .over(Override::name("Operation").links(&[traces]))
        .over(Override::name("Rate").unit(Unit::RequestsPerSecond))
        .over(
            Override::name("Errors")
                .unit(Unit::Share)
                .decimals(2)
                .set("color", json!({"mode": "thresholds"}))
                .set("thresholds", json!({"mode": "absolute", "steps": [
                    {"color": Color::Green, "value": null}, {"color": Color::Yellow, "value": 0.01}, {"color": Color::Red, "value": 0.05},
                ]}))
                .set("custom.cellOptions", json!({"type": "color-text"})),
        )
        .over(Override::name("95 %").unit(Unit::Seconds))
}

fn cpu() -> Panel {
    let rate = |selector: &str| format!("rate({selector}[$__rate_interval])");
    Panel::lines("CPU of an instance", Unit::Short, "Cores, by version: the mean of its instances.")
        .min(0.0)
        .query(range(
            &format!("avg by (version) ({})", of_service("process_cpu_seconds_total", rate)),
            "{{version}}",
        ))
}

fn memory() -> Panel {
    Panel::lines(
        "Memory of an instance",
        Unit::Bytes,
        "Resident memory, by version: the mean of its instances.",
    )
    .min(0.0)
    .query(range(
        &format!("avg by (version) ({})", of_service("process_resident_memory_bytes", str::to_owned)),
        "{{version}}",
    ))
}

fn alive() -> Panel {
    Panel::lines("Instances that are seen", Unit::Short, "Scraped without an error, or pushing, by version.")
        .min(0.0)
        .decimals(0)
        .steps_line()
        .query(range(
            &format!(
                "sum by (version) (max by (version, instance) ({} or {}))",
                of_service("up", str::to_owned),
                of_service("davy_pushed", str::to_owned)
            ),
            "{{version}}",
        ))
}
