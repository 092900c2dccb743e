//! Inventories as real software shows them, and what is judged of each.

use davy_model::{Sample, Value};
use davy_query::Recorded;
use davy_store::SeriesSamples;
use expect_test::{Expect, expect};

use crate::config::{ArmSpec, JudgeSpec};

use super::*;

fn arms() -> Arms {
    Arms::of(&spec(&[]), "shop", "1", "2")
}

fn spec(presets: &[Preset]) -> ReleaseSpec {
    ReleaseSpec {
        service: None,
        version_label: "version".into(),
        baseline: ArmSpec::Auto,
        canary: ArmSpec::Auto,
        presets: presets.to_vec(),
        metrics: vec![],
        traffic_share: None,
        judge: JudgeSpec::default(),
    }
}

/// Each series as `name label=value …`, in the versions named before it (`12`, `1` or `2`).
fn check_with(presets: &[Preset], lines: &[&str], want: &Expect) {
    let mut data = Vec::new();
    for line in lines {
        let (versions, rest) = line.split_once(' ').unwrap();
        let (metric, labels) = rest.split_once(' ').unwrap_or((rest, ""));
        for version in versions.chars() {
            let version = version.to_string();
            let pairs = labels.split(' ').filter_map(|l| l.split_once('='));
            let all = pairs.chain([("__name__", metric), ("job", "shop"), ("version", version.as_str())]);
            let sample = Sample { timestamp: Timestamp::from_millis(0), value: Value::Float(1.0) };
            data.push(SeriesSamples { labels: Labels::from_pairs(all), samples: vec![sample] });
        }
    }
    let (from, to) = (Timestamp::from_millis(0), Timestamp::from_millis(1000));
    let plan = plan_release(&spec(presets), &arms(), &Recorded(data), from, to).unwrap();
    let shown: Vec<String> = plan.metrics.iter().map(|m| format!("{}: {}", m.name, m.source)).collect();
    want.assert_eq(&shown.join("\n"));
}

fn check(lines: &[&str], want: &Expect) {
    check_with(&[], lines, want);
}

#[test]
fn a_python_service_with_prometheus_client() {
    check(
        &[
            "12 http_requests_total method=GET status=200 path=/",
            "1 http_requests_total method=GET status=500 path=/",
            "12 http_request_duration_seconds_bucket le=0.1",
            "12 http_request_duration_seconds_count",
            "12 process_cpu_seconds_total",
            "12 process_resident_memory_bytes",
            "12 python_gc_collections_total generation=0",
        ],
        &expect![[r#"
            errors: http_requests_total{status=~"5..|5xx|5XX"} / http_requests_total
            latency: http_request_duration_seconds_bucket
            cpu: process_cpu_seconds_total
            memory: process_resident_memory_bytes"#]],
    );
}

#[test]
fn an_opentelemetry_service_counts_its_own_requests_before_its_spans() {
    check(
        &[
            "12 http_server_request_duration_seconds_count http_response_status_code=200",
            "12 http_server_request_duration_seconds_bucket http_response_status_code=200 le=0.1",
            "12 traces_spanmetrics_calls_total span_kind=SPAN_KIND_SERVER status_code=STATUS_CODE_UNSET",
            "12 traces_spanmetrics_latency_bucket span_kind=SPAN_KIND_SERVER le=0.1",
            "12 process_cpu_time_seconds_total state=user",
            "12 process_memory_usage_bytes",
        ],
        &expect![[r#"
            errors: http_server_request_duration_seconds_count{http_response_status_code=~"5..|5xx|5XX"} / http_server_request_duration_seconds_count
            latency: http_server_request_duration_seconds_bucket
            cpu: process_cpu_time_seconds_total
            memory: process_memory_usage_bytes"#]],
    );
}

#[test]
fn a_service_that_only_traces() {
    check(
        &[
            "12 traces_spanmetrics_calls_total span_kind=SPAN_KIND_SERVER status_code=STATUS_CODE_UNSET",
            "12 traces_spanmetrics_calls_total span_kind=SPAN_KIND_CLIENT status_code=STATUS_CODE_UNSET",
            "12 traces_spanmetrics_latency_bucket span_kind=SPAN_KIND_SERVER le=0.1",
        ],
        &expect![[r#"
            errors: traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER", status_code=~"STATUS_CODE_ERROR"} / traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}
            latency: traces_spanmetrics_latency_bucket{span_kind="SPAN_KIND_SERVER"}"#]],
    );
}

#[test]
fn spring_boot_and_go_grpc_and_meshes() {
    check(
        &[
            "12 http_server_requests_seconds_count outcome=SUCCESS status=200 uri=/",
            "12 http_server_requests_seconds_bucket outcome=SUCCESS status=200 le=0.1",
        ],
        &expect![[r#"
            errors: http_server_requests_seconds_count{status=~"5..|5xx|5XX"} / http_server_requests_seconds_count
            latency: http_server_requests_seconds_bucket"#]],
    );
    check(
        &[
            "12 grpc_server_handled_total grpc_code=OK",
            "12 grpc_server_handling_seconds_bucket le=0.1",
            "12 promhttp_metric_handler_requests_total code=200",
        ],
        &expect![[r#"
            errors: grpc_server_handled_total{grpc_code=~"Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss|UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|2|4|12|13|14|15"} / grpc_server_handled_total
            latency: grpc_server_handling_seconds_bucket"#]],
    );
    check(
        &[
            "12 istio_requests_total reporter=destination response_code=200",
            "12 istio_requests_total reporter=source response_code=200",
            "12 istio_request_duration_milliseconds_bucket reporter=destination le=1",
            "12 container_cpu_usage_seconds_total container=app pod=p",
            "12 container_memory_working_set_bytes container=app pod=p",
        ],
        &expect![[r#"
            errors: istio_requests_total{reporter="destination", response_code=~"5..|5xx|5XX"} / istio_requests_total{reporter="destination"}
            latency: istio_request_duration_milliseconds_bucket{reporter="destination"}
            cpu: container_cpu_usage_seconds_total{container!="", container!="POD"}
            memory: container_memory_working_set_bytes{container!="", container!="POD"}"#]],
    );
    check(
        &[
            "12 nginx_ingress_controller_requests status=200",
            "12 nginx_ingress_controller_request_duration_seconds_bucket le=1",
        ],
        &expect![[r#"
            errors: nginx_ingress_controller_requests{status=~"5..|5xx|5XX"} / nginx_ingress_controller_requests
            latency: nginx_ingress_controller_request_duration_seconds_bucket"#]],
    );
}

#[test]
fn names_of_ones_own_and_outcomes_that_are_not_told() {
    check(
        &[
            "12 shop_http_requests_total code=200",
            "12 shop_client_requests_total code=200",
            "12 queue_requests_total kind=a",
        ],
        &expect![[r#"errors: shop_http_requests_total{code=~"5..|5xx|5XX"} / shop_http_requests_total"#]],
    );
    check(
        &["12 http_requests_total path=/", "12 process_cpu_seconds_total"],
        &expect!["cpu: process_cpu_seconds_total"],
    );
    check(&["12 up"], &expect![[""]]);
}

#[test]
fn what_both_arms_show_is_preferred_and_presets_can_be_chosen() {
    let lines = [
        "1 http_requests_total code=200",
        "12 istio_requests_total response_code=200",
        "12 process_cpu_seconds_total",
    ];
    check(
        &lines,
        &expect![[r#"
        errors: istio_requests_total{response_code=~"5..|5xx|5XX"} / istio_requests_total
        cpu: process_cpu_seconds_total"#]],
    );
    check_with(
        &[Preset::Http],
        &lines,
        &expect![[r#"errors: http_requests_total{code=~"5..|5xx|5XX"} / http_requests_total"#]],
    );
}

#[test]
fn a_metric_of_the_file_s_own_stands_for_the_preset_s_of_its_name() {
    use crate::config::{Margin, MetricKind, MetricSpec};

    let series = |metric: &str| SeriesSamples {
        labels: Labels::from_pairs([
            ("__name__", metric),
            ("job", "shop"),
            ("code", "200"),
            ("version", "1"),
        ]),
        samples: vec![Sample { timestamp: Timestamp::from_millis(0), value: Value::Float(1.0) }],
    };
    let own = MetricSpec {
        name: "errors".into(),
        kind: MetricKind::Proportion {
            events: vec![named("refused_total")],
            trials: vec![named("orders_total")],
        },
        direction: Direction::Increase,
        margin: Margin { relative: 0.0, absolute: 0.01 },
        critical: true,
    };
    let spec = ReleaseSpec { metrics: vec![own], ..spec(&[]) };
    let data = Recorded(vec![series("http_requests_total"), series("process_cpu_seconds_total")]);
    let survey =
        survey(&spec, &arms(), &data, Timestamp::from_millis(0), Timestamp::from_millis(1000)).unwrap();
    let judged: Vec<String> =
        survey.plan.metrics.iter().map(|m| format!("{}: {}", m.name, m.source)).collect();
    assert_eq!(judged, ["cpu: process_cpu_seconds_total", "errors: refused_total / orders_total"]);
    // The requests are counted as before: CPU is divided by them.
    assert_eq!(survey.plan.requests, Some(vec![named("http_requests_total")]));
    assert_eq!(survey.found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["cpu"]);
}

/// `docs/presets.md` shows this table: `UPDATE_EXPECT=1` writes it anew.
#[test]
fn the_table_of_conventions_is_that_of_the_documentation() {
    use std::fmt::Write;

    let mut table = String::from("| from | counter | errors | latency |\n|---|---|---|---|\n");
    let mut known = BTreeSet::new();
    for c in conventions::requests().iter().chain(conventions::outgoing()) {
        // Other translations of the same names are said in words.
        if c.preset == Preset::Otel && !known.insert(c.by) {
            continue;
        }
        let labels = c.outcome.iter().filter(|l| !l.contains('.')).map(|l| format!("`{l}`"));
        let labels = match labels.collect::<Vec<_>>() {
            l if l.len() == conventions::CODES.len() => "a status label".to_owned(),
            l => l.join(", "),
        };
        let value = match c.fault {
            conventions::Fault::Http => "5xx".to_owned(),
            conventions::Fault::Grpc => "a gRPC server fault".to_owned(),
            conventions::Fault::Present => "anything".to_owned(),
            other => format!("`{}`", other.regex()),
        };
        let only = c.only.map_or(String::new(), |(l, v)| format!(", where `{l}` is `{v}`"));
        let histogram = c.histogram.as_ref().map_or("none".to_owned(), |(h, unit)| {
            format!("`{h}`{}", if *unit == 1.0 { "" } else { " in ms" })
        });
        writeln!(table, "| {} | `{}`{only} | {labels} is {value} | {histogram} |", c.by, c.counter).unwrap();
    }
    let mut resources = String::from("| judged as | metric | from |\n|---|---|---|\n");
    for (all, class) in [(conventions::cpu(), "CPU"), (conventions::memory(), "memory")] {
        let mut known = BTreeSet::new();
        for r in all.iter().filter(|r| known.insert(r.by)) {
            let only = r.only.iter().filter(|(_, v)| !v.starts_with('!'));
            let only: String = only.map(|(l, v)| format!(", where `{l}` is `{v}`")).collect();
            writeln!(resources, "| {class} | `{}`{only} | {} |", r.metric, r.by).unwrap();
        }
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/presets.md");
    let text = std::fs::read_to_string(&file).expect("docs/presets.md is there");
    let mut wanted = text.clone();
    for (name, table) in [("requests", &table), ("resources", &resources)] {
        let (from, to) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
        let (before, rest) = wanted.split_once(&from).expect("the table's beginning is marked");
        let (_, after) = rest.split_once(&to).expect("the table's end is marked");
        wanted = format!("{before}{from}{table}{to}{after}");
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, &wanted).expect("docs/presets.md can be written");
    } else {
        assert_eq!(text, wanted, "run with UPDATE_EXPECT=1");
    }
}
