//! `Point`: one OTLP data point as the series samples it becomes; they are taken or refused together.

use std::sync::{Arc, OnceLock};

use davy_model::{Exemplar, Histogram, Labels, Timestamp, Value};
use davy_store::SeriesRef;

/// Samples of one time. A histogram's buckets, sum and count are one point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub at: Timestamp,
    /// When all these series stood at zero: a counter that starts at 3 then has an increase of 3.
    pub zero_at: Option<Timestamp>,
    pub series: Vec<(Labels, Value)>,
    /// With the index of the series each belongs to.
    pub exemplars: Vec<(usize, Exemplar)>,
    /// Where the store's names of these very series are kept, if the same will be written again.
    pub(crate) known: Option<KnownSeries>,
}

/// Filled by whoever first writes all of them. A name the store has forgotten since is looked up again by labels.
pub(crate) type KnownSeries = Arc<OnceLock<Vec<SeriesRef>>>;

impl Point {
    pub(crate) fn new(at: Timestamp, series: Vec<(Labels, Value)>) -> Self {
        Self { at, zero_at: None, series, exemplars: Vec::new(), known: None }
    }

    /// Samples this will write, the zeros included.
    pub(crate) fn samples(&self) -> usize {
        self.series.len() * if self.zero_at.is_some() { 2 } else { 1 }
    }
}

/// What a series of this kind of value shows before anything was counted.
pub(crate) fn zero(value: &Value) -> Value {
    match value {
        Value::Float(_) => Value::Float(0.0),
        Value::Histogram(h) => Value::Histogram(Arc::new(Histogram {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            ..Histogram::default()
        })),
    }
}

/// A NaN from outside must not look like the staleness marker.
pub(crate) fn plain(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}
