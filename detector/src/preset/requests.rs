//! Requests: counters whose labels tell the server's faults, and histograms of how long they took.

use davy_model::Matcher;

use crate::config::Preset;
use crate::plan::{Margins, Metric, Reading, selector};
use crate::verdict::MetricClass;

use super::{Inventory, matching, metric, named};

/// A family of requests: its counter, its histogram, or both.
struct Family {
    preset: Preset,
    /// `_total`, or a histogram's `_count`.
    counter: &'static str,
    /// A histogram's `_bucket` and what its unit is in seconds.
    buckets: Option<(&'static str, f64)>,
    /// Labels that may tell the outcome.
    outcome: &'static [&'static str],
    fault: Fault,
    /// Only these series are the server's own view.
    only: Option<(&'static str, &'static str)>,
}

/// Values of the outcome label that are the server's fault.
#[derive(Clone, Copy)]
enum Fault {
    Http,
    Grpc,
    Span,
    Class,
}

impl Fault {
    fn regex(self) -> &'static str {
        match self {
            Self::Http => "5..|5xx|5XX",
            // OpenTelemetry's list of server faults, as names and as numbers.
            Self::Grpc => {
                "Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss|UNKNOWN|DEADLINE_EXCEEDED|\
                 UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|2|4|12|13|14|15"
            }
            Self::Span => "STATUS_CODE_ERROR",
            Self::Class => "5",
        }
    }
}

const CODES: &[&str] = &["code", "status", "status_code", "http_status", "status_class", "response_code"];
const MS: f64 = 1e-3;

const fn http(counter: &'static str, buckets: &'static str) -> Family {
    let buckets = Some((buckets, 1.0));
    Family { preset: Preset::Http, counter, buckets, outcome: CODES, fault: Fault::Http, only: None }
}

const fn otel(
    counter: &'static str,
    buckets: (&'static str, f64),
    outcome: &'static [&'static str],
    fault: Fault,
) -> Family {
    Family { preset: Preset::Otel, counter, buckets: Some(buckets), outcome, fault, only: None }
}

const HTTP_CODE: &[&str] = &["http_response_status_code", "http_status_code"];
const RPC_CODE: &[&str] = &["rpc_response_status_code", "rpc_grpc_status_code"];

/// In the order of preference: the server's own counters, then those of what stands before it.
const FAMILIES: &[Family] = &[
    http("http_requests_total", "http_request_duration_seconds_bucket"),
    http("http_server_requests_total", "http_server_request_duration_seconds_bucket"),
    // Micrometer (Spring Boot).
    http("http_server_requests_seconds_count", "http_server_requests_seconds_bucket"),
    // prometheus-net (ASP.NET Core).
    http("http_requests_received_total", "http_request_duration_seconds_bucket"),
    // prometheus-flask-exporter.
    http("flask_http_request_total", "flask_http_request_duration_seconds_bucket"),
    // starlette-exporter and starlette-prometheus.
    http("starlette_requests_total", "starlette_request_duration_seconds_bucket"),
    http("starlette_responses_total", "starlette_requests_processing_time_seconds_bucket"),
    // django-prometheus.
    http(
        "django_http_responses_total_by_status_total",
        "django_http_requests_latency_seconds_by_view_method_bucket",
    ),
    // axum-prometheus and actix-web-prom.
    http("axum_http_requests_total", "axum_http_requests_duration_seconds_bucket"),
    http("api_http_requests_total", "api_http_requests_duration_seconds_bucket"),
    http("http_request_duration_seconds_count", "http_request_duration_seconds_bucket"),
    otel(
        "http_server_request_duration_seconds_count",
        ("http_server_request_duration_seconds_bucket", 1.0),
        HTTP_CODE,
        Fault::Http,
    ),
    otel(
        "http_server_duration_milliseconds_count",
        ("http_server_duration_milliseconds_bucket", MS),
        HTTP_CODE,
        Fault::Http,
    ),
    Family {
        preset: Preset::Grpc,
        counter: "grpc_server_handled_total",
        buckets: Some(("grpc_server_handling_seconds_bucket", 1.0)),
        outcome: &["grpc_code"],
        fault: Fault::Grpc,
        only: None,
    },
    otel(
        "rpc_server_call_duration_seconds_count",
        ("rpc_server_call_duration_seconds_bucket", 1.0),
        RPC_CODE,
        Fault::Grpc,
    ),
    otel(
        "rpc_server_duration_milliseconds_count",
        ("rpc_server_duration_milliseconds_bucket", MS),
        RPC_CODE,
        Fault::Grpc,
    ),
    Family {
        preset: Preset::Istio,
        counter: "istio_requests_total",
        buckets: Some(("istio_request_duration_milliseconds_bucket", MS)),
        outcome: &["response_code"],
        fault: Fault::Http,
        only: Some(("reporter", "destination")),
    },
    Family {
        preset: Preset::Nginx,
        counter: "nginx_ingress_controller_requests",
        buckets: Some(("nginx_ingress_controller_request_duration_seconds_bucket", 1.0)),
        outcome: &["status"],
        fault: Fault::Http,
        only: None,
    },
    Family {
        preset: Preset::Istio,
        counter: "envoy_cluster_upstream_rq_xx",
        buckets: Some(("envoy_cluster_upstream_rq_time_bucket", MS)),
        outcome: &["envoy_response_code_class"],
        fault: Fault::Class,
        only: None,
    },
    Family {
        preset: Preset::Otel,
        counter: "traces_spanmetrics_calls_total",
        buckets: Some(("traces_spanmetrics_latency_bucket", 1.0)),
        outcome: &["status_code"],
        fault: Fault::Span,
        only: Some(("span_kind", "SPAN_KIND_SERVER")),
    },
];

/// A request counter as it was found.
pub(super) struct Counter {
    pub(super) trials: Vec<Matcher>,
    /// `None` where nothing tells the outcome.
    pub(super) errors: Option<Vec<Matcher>>,
}

pub(super) fn counter(inventory: &Inventory, wanted: impl Fn(Preset) -> bool) -> Option<Counter> {
    let families: Vec<&Family> = FAMILIES.iter().filter(|f| wanted(f.preset)).collect();
    let outcome = |f: &&&Family| f.outcome.iter().copied().find(|l| inventory.has_label(f.counter, l));
    let telling: Vec<&Family> = families.iter().filter(|f| outcome(f).is_some()).copied().collect();
    if let Some(i) = inventory.first(&telling, |f| f.counter) {
        let family = telling[i];
        let trials = family.series(inventory, family.counter);
        let label = outcome(&&family).expect("only families with an outcome are kept");
        let errors = trials.iter().cloned().chain([matching(label, family.fault.regex())]).collect();
        return Some(Counter { trials, errors: Some(errors) });
    }
    if wanted(Preset::Http)
        && let Some(found) = alike(inventory)
    {
        return Some(found);
    }
    let i = inventory.first(&families, |f| f.counter)?;
    Some(Counter { trials: families[i].series(inventory, families[i].counter), errors: None })
}

/// A counter of one's own naming: `…_requests_total` with a status label.
fn alike(inventory: &Inventory) -> Option<Counter> {
    let not_served = ["promhttp_", "client", "outgoing", "outbound", "upstream", "davy_", "istio_"];
    let mut candidates: Vec<(&str, &str)> = inventory
        .metrics()
        .filter(|m| m.ends_with("requests_total") && !not_served.iter().any(|n| m.contains(n)))
        .filter_map(|m| Some((m, CODES.iter().copied().find(|l| inventory.has_label(m, l))?)))
        .collect();
    candidates.sort_by_key(|(m, _)| (!m.contains("http"), m.len(), *m));
    let (metric, label) = candidates[inventory.first(&candidates, |(m, _)| m)?];
    let trials = vec![named(metric)];
    let errors = vec![named(metric), matching(label, Fault::Http.regex())];
    Some(Counter { trials, errors: Some(errors) })
}

pub(super) fn latency(inventory: &Inventory, wanted: impl Fn(Preset) -> bool) -> Option<Metric> {
    let found: Vec<(&Family, &str, f64)> = FAMILIES
        .iter()
        .filter(|f| wanted(f.preset))
        .filter_map(|f| f.buckets.map(|(buckets, unit)| (f, buckets, unit)))
        .collect();
    let i = inventory.first(&found, |(_, buckets, _)| buckets)?;
    let (family, buckets, seconds_per_unit) = found[i];
    let series = family.series(inventory, buckets);
    let source = selector(&series);
    let reading = Reading::Buckets { series, seconds_per_unit };
    Some(metric("latency", MetricClass::Latency, Margins::LATENCY, source, reading))
}

impl Family {
    fn series(&self, inventory: &Inventory, metric: &str) -> Vec<Matcher> {
        let only = self.only.filter(|(l, v)| inventory.values(metric, l).any(|x| x == *v));
        std::iter::once(named(metric)).chain(only.map(|(l, v)| Matcher::equal(l, v))).collect()
    }
}
