//! `Sample`: a value at a time, and the staleness marker.

use std::sync::Arc;

use crate::{Histogram, Labels, Timestamp};

/// The NaN by which Prometheus marks "this series ended here". Compare with [`is_stale`], never with `==`.
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether `v` is the staleness marker, bit for bit; an ordinary NaN is a value.
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN.to_bits()
}

/// What a series holds at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Float(f64),
    /// A native histogram: one sample, all buckets.
    Histogram(Arc<Histogram>),
}

impl Value {
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Float(v) => is_stale(*v),
            Self::Histogram(h) => is_stale(h.sum),
        }
    }

    /// The float, `None` for a histogram.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(v) => Some(*v),
            Self::Histogram(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub timestamp: Timestamp,
    pub value: Value,
}

/// A trace that stands for a sample: how a latency panel links to a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// `trace_id` and `span_id` by convention.
    pub labels: Labels,
    pub value: f64,
    pub timestamp: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marker_is_stale() {
        assert!(is_stale(STALE_NAN));
        assert!(!is_stale(f64::NAN) && !is_stale(0.0));
        assert!(STALE_NAN.is_nan());
    }
}
