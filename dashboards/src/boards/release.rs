//! *Release*: one canary beside its baseline. The first row answers who is woken at night: is the canary worse, by how
//! much, how sure is that, and what did Davy do.

use serde_json::{Value, json};

use super::common::{RELEASE, buckets, davy_url, davys, errors, events, requests, traces, traces_link};
use crate::build::{
    Color, Dashboard, DataLink, Link, Override, Panel, Target, Unit, Variable, instant, range, table,
};
use crate::states::{ACTIONS, CONTRACTS, PHASES, REASONS, VERDICTS};

fn of(expr: &str) -> String {
    expr.replace("RELEASE", RELEASE)
}

/// As it stands, or stood when the release ended within the board's range.
fn last(selector: &str) -> String {
    format!("last_over_time({}[$__range])", of(selector))
}

/// The metric that speaks loudest against the canary, as a filter for others of the same metric.
fn loudest() -> String {
    let evidence = last("davy_canary_evidence{RELEASE, metric!=\"release\"}");
    let verdict = last("davy_canary_verdict_code{RELEASE}");
    // One that is judged worse goes before any that is not.
    format!(
        "and on (metric) topk(1, max by (metric) ({evidence}) + 1000 * (max by (metric) ({verdict}) == bool 2))"
    )
}

fn failed_traces() -> DataLink {
    traces_link(
        "The canary's failed traces",
        r#"{resource.service.name="${service}" && resource.service.version="${canary_version}" && status=error}"#,
    )
}

fn slow_traces() -> DataLink {
    traces_link(
        "The canary's slow traces",
        r#"{resource.service.name="${service}" && resource.service.version="${canary_version}" && duration>250ms}"#,
    )
}

fn variables() -> Vec<Variable> {
    let label = |name: &str, label: &str, description: &str, query: &str| {
        Variable::label(name, label, description, &of(query))
    };
    let mut variables = davys();
    variables.extend([
        traces(),
        label(
            "service",
            "Service",
            "Services with a release in this time range",
            r#"label_values(davy_release_info{job=~"$job", instance=~"$instance"}, service)"#,
        ),
        label(
            "release",
            "Release",
            "Newest first",
            r#"label_values(davy_release_info{job=~"$job", instance=~"$instance", service="$service"}, id)"#,
        )
        .newest_first(),
        label("baseline_version", "Baseline", "", "label_values(davy_release_info{RELEASE}, baseline)")
            .hidden(),
        label("canary_version", "Canary", "", "label_values(davy_release_info{RELEASE}, canary)").hidden(),
        label(
            "metric",
            "Metric",
            "Metrics drawn one by one",
            "label_values(davy_canary_margin{RELEASE}, metric)",
        )
        .each(),
        davy_url(),
    ]);
    variables
}

pub(super) fn board() -> Dashboard {
    let report = "${davy_url}/api/davy/v1/releases/${release}/report";
    let board = Dashboard::new(
        "davy-release",
        "Davy / Release",
        "One canary beside its baseline: is it worse, by how much, how sure is that, what did Davy do, and why.",
        "now-1h",
    )
    .variables(&variables())
    .link(Link::to("Report", report, "Davy's page of this release, with a sentence for each metric"))
    .row("Is $canary_version of $service worse than $baseline_version?")
    .band(5, [(5, verdict()), (5, difference_now()), (5, sure()), (5, phase()), (4, action())])
    .band(7, [(12, timeline()), (12, evidence())])
    .row("Canary over baseline, as judged")
    .band(8, [(8, level_errors()), (8, level_latency()), (8, level_cpu())])
    .band(8, [(8, level_memory()), (8, level_proportion()), (8, level_gauge())])
    .band(9, [(24, metrics())])
    .row("As it is now")
    .band(8, [(8, now_errors()), (8, now_latency()), (8, now_requests())])
    .band(9, [(12, heatmap_baseline()), (12, heatmap_canary())])
    .band(7, [(12, share()), (12, observations())])
    .row("Difference, its confidence band, and the margin that is tolerated")
    .band(8, [(8, difference())]);
    events(RELEASE).iter().fold(board, Dashboard::annotate)
}

fn verdict() -> Panel {
    Panel::state(
        "Is the canary worse?",
        VERDICTS,
        "Worse: beyond the margin, with enough evidence for a rollback. No worse: shown to be within the margin. Until then Davy waits.",
    )
    .query(instant(&format!("max({})", last("davy_release_verdict_code{RELEASE}")), "verdict"))
}

fn difference_now() -> Panel {
    let value =
        |metric: &str| format!("max by (metric) ({}) {}", last(&format!("{metric}{{RELEASE}}")), loudest());
    Panel::stat(
        "By how much?",
        Unit::Share,
        "Canary over baseline less one, of the metric with the most evidence against the canary, and the ends of its confidence band.",
    )
    .option("textMode", json!("value_and_name"))
    .option("orientation", json!("vertical"))
    .decimals(0)
    .plain(Color::CANARY)
    .query(instant(&value("davy_canary_estimate"), "{{metric}}"))
    .query(instant(&value("davy_canary_lower"), "at least"))
    .query(instant(&value("davy_canary_upper"), "at most"))
    .over(Override::regex("at .*").color(Color::Gray))
}

fn sure() -> Panel {
    Panel::stat(
        "How sure?",
        Unit::Share,
        "Evidence that the canary is worse, all metrics together, as a share of what a rollback needs: from 100 % on the canary counts as worse.",
    )
    .decimals(0)
    .option("graphMode", json!("area"))
    .steps(&[(0.2, Color::Yellow), (0.6, Color::Orange), (1.0, Color::Red)])
    .query(range(&of("max(davy_canary_evidence{RELEASE, metric=\"release\"})"), "evidence"))
}

fn phase() -> Panel {
    Panel::state("What is Davy doing?", PHASES, "The phase that the release is in.")
        .query(instant(&format!("max({})", last("davy_release_phase_code{RELEASE}")), "phase"))
}

fn action() -> Panel {
    Panel::state(
        "What did Davy do?",
        ACTIONS,
        "How the rollback stands. Verified means that the live versions showed it: the canary is gone or without traffic.",
    )
    .no_value("No rollback")
    .query(instant(&format!("max({})", last("davy_release_action_code{RELEASE, kind=\"rollback\"}")), "rollback"))
}

fn timeline() -> Panel {
    Panel::timeline(
        "Phase, verdict, and whether the data can be judged",
        "Each over time. Data that cannot be judged holds the verdict: being blind is never evidence.",
    )
    .query(range(&of("max(davy_release_phase_code{RELEASE})"), "Phase"))
    .query(range(&of("max(davy_release_verdict_code{RELEASE})"), "Verdict"))
    .query(range(&of("max(davy_release_contract_code{RELEASE})"), "Data"))
    .over(Override::name("Phase").states(PHASES))
    .over(Override::name("Verdict").states(VERDICTS))
    .over(Override::name("Data").states(CONTRACTS))
}

fn evidence() -> Panel {
    Panel::lines(
        "Evidence against its boundary",
        Unit::Share,
        "By metric, and of the release as a whole. Above the dashed line the canary counts as worse; what lies beyond twice of that is drawn there.",
    )
    .min(0.0)
    .soft_max(1.1)
    .query(range(&of("clamp_max(max by (metric) (davy_canary_evidence{RELEASE, metric!=\"release\"}), 2)"), "{{metric}}"))
    .query(range(&of("clamp_max(max(davy_canary_evidence{RELEASE, metric=\"release\"}), 2)"), "all together"))
    .query(range(&of("max(davy_release_evidence_boundary{RELEASE})"), "boundary"))
    .over(Override::name("all together").color(Color::CANARY).set("custom.lineWidth", json!(3)))
    .over(Override::name("boundary").color(Color::Red).dashed())
}

/// Two arms in one panel, in their two colours.
fn arms(panel: Panel, expr: &str, legend: &str) -> Panel {
    panel
        .query(range(&of(expr), legend))
        .custom("fillOpacity", json!(0))
        .over(Override::regex("/baseline$/").color(Color::BASELINE))
        .over(Override::regex("/canary$/").color(Color::CANARY).set("custom.lineWidth", json!(2)))
        .data_links(&[failed_traces(), slow_traces()])
}

fn level(title: &str, class: &str, unit: Unit, description: &str) -> Panel {
    let expr = format!("max by (metric, arm) (davy_canary_level{{RELEASE, class=\"{class}\"}})");
    arms(Panel::lines(title, unit, description), &expr, "{{metric}} {{arm}}")
}

fn level_errors() -> Panel {
    level("Errors", "errors", Unit::Share, "Share of requests that failed, since the release began.").min(0.0)
}

fn level_latency() -> Panel {
    level("Latency", "latency", Unit::Seconds, "Time to answer, since the release began.").min(0.0)
}

fn level_cpu() -> Panel {
    level("CPU", "cpu", Unit::Short, "Cores, or core-seconds a request where requests are counted.").min(0.0)
}

fn level_memory() -> Panel {
    level("Memory", "memory", Unit::Bytes, "Resident memory of an instance.").min(0.0)
}

fn level_proportion() -> Panel {
    level("Proportions", "proportion", Unit::Share, "Shares that the file names, such as a conversion.")
}

fn level_gauge() -> Panel {
    level("Gauges", "gauge", Unit::Short, "Gauges and queries that the file names, in their own unit.")
}

fn metrics() -> Panel {
    let by = |selector: &str| table(&format!("max by (metric, class) ({})", last(selector)));
    let plain = |metric: &str| by(&format!("{metric}{{RELEASE}}"));
    let arm = |metric: &str, arm: &str| by(&format!("{metric}{{RELEASE, arm=\"{arm}\"}}"));
    let panel = Panel::table(
        "Metrics: verdicts and reasons",
        "Baseline and canary in the metric's own unit; difference, bounds and margin relative to the baseline. The report has a sentence for each.",
    )
    .query(plain("davy_canary_reason_code"))
    .query(plain("davy_canary_verdict_code"))
    .query(arm("davy_canary_level", "baseline"))
    .query(arm("davy_canary_level", "canary"))
    .query(plain("davy_canary_estimate"))
    .query(plain("davy_canary_lower"))
    .query(plain("davy_canary_upper"))
    .query(plain("davy_canary_margin"))
    .query(by("davy_canary_evidence{RELEASE, metric!=\"release\"}"))
    .query(arm("davy_canary_observations", "baseline"))
    .query(arm("davy_canary_observations", "canary"))
    .query(table(&of("max by (metric, class) (davy_canary_needed_seconds{RELEASE})")));
    let names = [
        ("metric", "Metric"),
        ("class", "Class"),
        ("Value #B", "Verdict"),
        ("Value #A", "Reason"),
        ("Value #C", "Baseline"),
        ("Value #D", "Canary"),
        ("Value #E", "Difference"),
        ("Value #F", "At least"),
        ("Value #G", "At most"),
        ("Value #H", "Margin"),
        ("Value #I", "Evidence"),
        ("Value #J", "n baseline"),
        ("Value #K", "n canary"),
        ("Value #L", "Decided in"),
    ];
    let rename: serde_json::Map<String, Value> =
        names.iter().map(|(from, to)| ((*from).to_owned(), json!(to))).collect();
    let order: serde_json::Map<String, Value> =
        names.iter().enumerate().map(|(i, (from, _))| ((*from).to_owned(), json!(i))).collect();
    let share = |name| Override::name(name).unit(Unit::Share).decimals(1);
    panel
        .transform("merge", json!({}))
        .transform(
            "organize",
            json!({"excludeByName": {"Time": true}, "indexByName": order, "renameByName": rename}),
        )
        .option("sortBy", json!([{"displayName": "Evidence", "desc": true}]))
        .over(Override::name("Verdict").states(VERDICTS).width(130))
        .over(Override::name("Reason").states(REASONS).width(230))
        .over(Override::name("Baseline").color(Color::BASELINE).set("custom.cellOptions", json!({"type": "color-text"})))
        .over(Override::name("Canary").color(Color::CANARY).set("custom.cellOptions", json!({"type": "color-text"})))
        .over(share("Difference"))
        .over(share("At least"))
        .over(share("At most"))
        .over(share("Margin").decimals(0))
        .over(
            share("Evidence").decimals(0).set("max", json!(1)).set("min", json!(0)).set("color", json!({"mode": "thresholds"}))
            .set("thresholds", json!({"mode": "absolute", "steps": [
                {"color": Color::Green, "value": null}, {"color": Color::Yellow, "value": 0.2}, {"color": Color::Red, "value": 1},
            ]}))
            .set("custom.cellOptions", json!({"type": "gauge", "mode": "basic", "valueDisplayMode": "text"})),
        )
        .over(Override::name("Decided in").unit(Unit::Seconds).set("noValue", json!("")))
}

/// Both versions, each in its colour.
fn versions(panel: Panel) -> Panel {
    panel
        .over(Override::name("baseline").color(Color::BASELINE))
        .over(Override::name("canary").color(Color::CANARY).set("custom.lineWidth", json!(2)))
        .data_links(&[failed_traces(), slow_traces()])
}

const BASELINE: &str = r#"version="$baseline_version""#;
const CANARY: &str = r#"version="$canary_version""#;

fn now_errors() -> Panel {
    versions(Panel::lines("Errors", Unit::Share, "Share of requests that fail.").min(0.0).soft_max(0.01))
        .query(range(&errors(BASELINE, "version"), "baseline"))
        .query(range(&errors(CANARY, "version"), "canary"))
}

fn now_latency() -> Panel {
    let p95 = |of| format!("histogram_quantile(0.95, {})", buckets(of, "le"));
    versions(Panel::lines("95 % of requests are answered within", Unit::Seconds, "Dots are traces.").min(0.0))
        .query(range(&p95(BASELINE), "baseline"))
        .query(range(&p95(CANARY), "canary").exemplars())
}

fn now_requests() -> Panel {
    versions(Panel::lines("Requests", Unit::RequestsPerSecond, "Answered by each version.").min(0.0))
        .query(range(&requests(BASELINE, "version"), "baseline"))
        .query(range(&requests(CANARY, "version"), "canary"))
}

fn heatmap_baseline() -> Panel {
    Panel::heatmap("Latency of $baseline_version", "Blues", "Where the baseline's times to answer lie.")
        .query(Target::heatmap(range(&buckets(BASELINE, "le"), "")))
}

fn heatmap_canary() -> Panel {
    Panel::heatmap("Latency of $canary_version", "Oranges", "Where the canary's times to answer lie.")
        .query(Target::heatmap(range(&buckets(CANARY, "le"), "")))
}

fn share() -> Panel {
    let (baseline, canary) = (requests(BASELINE, "version"), requests(CANARY, "version"));
    let now = format!("sum({canary}) / (sum({canary}) + (sum({baseline}) or vector(0)))");
    Panel::lines(
        "Canary's share of the traffic",
        Unit::Share,
        "Of the requests to both versions: as it is now, since the release began (which stands still once a rollback is called), and as the ramp has set it.",
    )
        .min(0.0)
        .max(1.0)
        .steps_line()
        .query(range(&now, "now"))
        .query(range(&of("max(davy_release_traffic_share{RELEASE})"), "as judged"))
        .query(range(&of("max(davy_release_ramp_share{RELEASE})"), "ramp"))
        .over(Override::name("ramp").color(Color::Purple).dashed())
        .over(Override::name("now").color(Color::CANARY).set("custom.fillOpacity", json!(20)))
        .over(Override::name("as judged").color(Color::Gray).dashed())
}

fn observations() -> Panel {
    let panel = Panel::lines(
        "Requests judged so far",
        Unit::Short,
        "Of each version: how much the verdict rests on. It begins anew when the canary has warmed up.",
    );
    arms(panel.min(0.0), "max by (arm) (davy_canary_observations{RELEASE})", "{{arm}}")
}

fn difference() -> Panel {
    let of_metric = |metric: &str| of(&format!("max({metric}{{RELEASE, metric=~\"$metric\"}})"));
    // The first minutes know little: their bounds would leave no room for the rest.
    let bound = |metric: &str| format!("clamp({}, -1, 5)", of_metric(metric));
    Panel::lines(
        "$metric",
        Unit::Share,
        "Canary over baseline less one. The band is where the truth lies as far as the data can tell; a whole band beyond the dashed margin is a canary that is worse. Bounds beyond 500 % are drawn there.",
    )
    .query(range(&bound("davy_canary_upper"), "at most"))
    .query(range(&bound("davy_canary_lower"), "at least"))
    .query(range(&of_metric("davy_canary_estimate"), "difference"))
    .query(range(&of_metric("davy_canary_margin"), "margin"))
    .over(Override::name("at most").color(Color::CANARY).fill_to("at least"))
    .over(Override::name("at least").color(Color::CANARY).set("custom.lineWidth", json!(0)).set("custom.fillOpacity", json!(0)))
    .over(Override::name("difference").color(Color::CANARY).set("custom.lineWidth", json!(2)).set("custom.fillOpacity", json!(0)))
    .over(Override::name("margin").color(Color::Red).dashed())
    .repeat("metric", 3)
}
