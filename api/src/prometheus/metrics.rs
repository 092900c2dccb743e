//! What Davy says of the queries it is asked: how long they take, how they end, how many wait.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::error::ApiError;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

#[derive(Debug)]
pub(super) struct QueryMetrics {
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    pub(super) running: Gauge,
    pub(super) waiting: Gauge,
    pub(super) joined: Counter,
}

/// From a millisecond to two minutes.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 18))
}

impl Default for QueryMetrics {
    fn default() -> Self {
        Self {
            seconds: Family::new_with_constructor(buckets),
            running: Gauge::default(),
            waiting: Gauge::default(),
            joined: Counter::default(),
        }
    }
}

impl QueryMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "query_duration_seconds",
            "From a query's request to its answer, waiting included, by outcome",
            self.seconds.clone(),
        );
        r.register("queries_running", "Queries that are being evaluated", self.running.clone());
        r.register("queries_waiting", "Queries that wait for their turn", self.waiting.clone());
        r.register(
            "queries_joined",
            "Queries that waited with an equal one and got its answer",
            self.joined.clone(),
        );
    }

    pub(super) fn began(&self) -> Timed<'_> {
        Timed { metrics: self, began: Instant::now(), outcome: "canceled" }
    }
}

/// One query; whoever drops it before its end has gone.
pub(super) struct Timed<'a> {
    metrics: &'a QueryMetrics,
    began: Instant,
    outcome: &'static str,
}

impl Timed<'_> {
    pub(super) fn ended<T>(mut self, with: &Result<T, ApiError>) {
        self.outcome = with.as_ref().err().map_or("success", ApiError::kind);
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let labels = Labels { outcome: self.outcome };
        self.metrics.seconds.get_or_create(&labels).observe(self.began.elapsed().as_secs_f64());
    }
}
