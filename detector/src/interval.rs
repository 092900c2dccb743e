//! `Interval`: what was counted of a release between two times, instance by instance: all that the judge sees.
//!
//! Counts are increments, gauges are values; exposure and value of an instance cover the same time. An instance
//! that was not seen is absent, and its increments come with the next interval in which it is seen. Recorded
//! intervals (`davy judge --intervals`) and those that [`crate::Observer`] reads from the store look the same.

use std::sync::Arc;

use davy_model::Timestamp;

use crate::plan::Arm;

#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    pub start: Timestamp,
    pub end: Timestamp,
    /// Upper bounds of each metric's buckets in seconds, ascending, without `+Inf`; in the order of the plan's
    /// metrics and empty for those without buckets.
    pub edges: Vec<Arc<[f64]>>,
    pub instances: Vec<InstanceInterval>,
    /// Instances that should be there and are not, as `(arm, instance)`.
    pub down: Vec<(Arm, Arc<str>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct InstanceInterval {
    pub arm: Arm,
    pub instance: Arc<str>,
    /// Time that the measurements cover: more than the interval after a missed scrape.
    pub seconds: f64,
    /// Requests served in that time, where they are known.
    pub requests: Option<f64>,
    /// In the order of the plan's metrics; `None` is "not measured".
    pub measurements: Vec<Option<Measurement>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Measurement {
    Proportion {
        events: f64,
        trials: f64,
    },
    /// One count more than edges: the last is of what lies above them.
    Buckets(Vec<f64>),
    /// Cores, bytes, or the gauge's own unit.
    Gauge(f64),
}

impl Measurement {
    /// Whether every number is one that can be counted with.
    pub(crate) fn is_sound(&self) -> bool {
        let count = |v: f64| v.is_finite() && v >= 0.0;
        match self {
            Self::Proportion { events, trials } => count(*events) && count(*trials),
            Self::Buckets(counts) => counts.iter().all(|c| count(*c)),
            Self::Gauge(v) => v.is_finite(),
        }
    }
}
