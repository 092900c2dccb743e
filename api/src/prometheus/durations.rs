//! How long queries take, for Davy's own metrics.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::error::ApiError;

type Labels = [(&'static str, &'static str); 1];

/// From the request to its answer, waiting included, by how it ended. Clones count together.
#[derive(Debug, Clone)]
pub struct QueryDurations(Family<Labels, Histogram, fn() -> Histogram>);

impl Default for QueryDurations {
    fn default() -> Self {
        // A quarter of a millisecond to two minutes.
        Self(Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.00025, 2.0, 20))))
    }
}

impl QueryDurations {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "query_duration_seconds",
            "Time that queries take, by how they end",
            self.0.clone(),
        );
    }

    /// `outcome` is a word of a small set.
    pub fn observe(&self, outcome: &'static str, took: Duration) {
        self.0.get_or_create(&[("outcome", outcome)]).observe(took.as_secs_f64());
    }

    pub(super) fn ended<T>(&self, result: &Result<T, ApiError>, took: Duration) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(ApiError::Timeout(_)) => "timeout",
            Err(ApiError::Unavailable(_)) => "refused",
            Err(ApiError::Canceled(_)) => "canceled",
            Err(_) => "error",
        };
        self.observe(outcome, took);
    }
}
