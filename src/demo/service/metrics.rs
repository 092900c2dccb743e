//! The service's `/metrics`, by the Rust client library of Prometheus, under the names that client libraries
//! and their HTTP middlewares use everywhere: nothing here is made for Davy.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::process::ProcessCollector;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Fine about the quantiles that are judged, also where a busy machine stretches them.
const BUCKETS_SECONDS: [f64; 23] = [
    0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15,
    0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
    method: &'static str,
    path: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    path: &'static str,
}

pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    checkouts: Counter,
    orders: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<RequestLabels, Counter>::default();
        let durations = Family::<RouteLabels, Histogram, fn() -> Histogram>::new_with_constructor(|| {
            Histogram::new(BUCKETS_SECONDS)
        });
        let (checkouts, orders) = (Counter::default(), Counter::default());
        registry.register("http_requests", "Requests answered, by status code", requests.clone());
        registry.register("http_request_duration_seconds", "Time to answer a request", durations.clone());
        registry.register("checkouts", "Checkouts tried", checkouts.clone());
        registry.register("orders", "Checkouts that became an order", orders.clone());
        registry.register_collector(Box::new(ProcessCollector));
        Self { registry, requests, durations, checkouts, orders }
    }

    pub(super) fn observe(&self, method: &'static str, path: &'static str, code: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { code, method, path }).inc();
        self.durations.get_or_create(&RouteLabels { method, path }).observe(took.as_secs_f64());
    }

    pub(super) fn count_checkout(&self, ordered: bool) {
        self.checkouts.inc();
        if ordered {
            self.orders.inc();
        }
    }

    pub(super) fn exposition(&self) -> Result<String, fmt::Error> {
        let mut body = String::new();
        encode(&mut body, &self.registry)?;
        Ok(body)
    }
}

/// `process_*` as every client library has them, read from procfs at each scrape.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_has_the_names_that_client_libraries_use() {
        let metrics = Metrics::new();
        metrics.observe("POST", "/checkout", 200, Duration::from_millis(7));
        metrics.observe("POST", "/checkout", 500, Duration::from_millis(70));
        metrics.count_checkout(true);
        metrics.count_checkout(false);
        let body = metrics.exposition().unwrap();
        for line in [
            r#"http_requests_total{code="200",method="POST",path="/checkout"} 1"#,
            r#"http_requests_total{code="500",method="POST",path="/checkout"} 1"#,
            r#"http_request_duration_seconds_bucket{le="0.0075",method="POST",path="/checkout"} 1"#,
            r#"http_request_duration_seconds_count{method="POST",path="/checkout"} 2"#,
            "checkouts_total 2",
            "orders_total 1",
            "# EOF",
        ] {
            assert!(body.lines().any(|l| l == line), "{line} is missing in\n{body}");
        }
        for name in
            ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_start_time_seconds "]
        {
            assert!(body.lines().any(|l| l.starts_with(name)), "{name} is missing in\n{body}");
        }
    }
}
