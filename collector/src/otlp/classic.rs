//! Explicit-bucket histograms: checked, summed up over deltas, and written as `_bucket`, `_sum` and `_count`.

use davy_model::{Labels, STALE_NAN, Value, name};
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;

use super::point::plain;

/// Bounds of one histogram; SDKs use 15 by default.
const BOUNDS_MAX: usize = 512;

/// `counts` has one more than `bounds`, or both are empty. Counts are per bucket, not cumulative over `le`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Classic {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    count: u64,
    sum: Option<f64>,
}

impl Classic {
    pub(crate) fn from_otlp(point: &HistogramDataPoint) -> Result<Self, String> {
        let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
        if bounds.len() > BOUNDS_MAX {
            return Err(format!("bad histogram: {} bounds, at most {BOUNDS_MAX}", bounds.len()));
        }
        let bare = bounds.is_empty() && counts.is_empty();
        if !bare && counts.len() != bounds.len() + 1 {
            let (got, expected) = (counts.len(), bounds.len() + 1);
            return Err(format!("bad histogram: {got} bucket counts, expected {expected}"));
        }
        if bounds.iter().any(|b| !b.is_finite()) || !bounds.windows(2).all(|w| w[0] < w[1]) {
            return Err("bad histogram: bounds are not ascending and finite".to_owned());
        }
        let total = counts.iter().try_fold(0u64, |sum, c| sum.checked_add(*c));
        if !bare && total != Some(point.count) {
            return Err(format!("bad histogram: count is {}, its buckets disagree", point.count));
        }
        Ok(Self { bounds: bounds.clone(), counts: counts.clone(), count: point.count, sum: point.sum })
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What makes a running total useless: it would never be a number again.
    pub(crate) fn has_finite_sum(&self) -> bool {
        self.sum.is_none_or(f64::is_finite)
    }

    /// `false`, and nothing added, if the buckets are different ones.
    pub(crate) fn add(&mut self, more: &Self) -> bool {
        if self.bounds != more.bounds || self.counts.len() != more.counts.len() {
            return false;
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&more.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count = self.count.saturating_add(more.count);
        self.sum = self.sum.zip(more.sum).map(|(a, b)| a + b);
        true
    }

    /// Series of the family `base` names: buckets in ascending order with `+Inf` last, then count, then sum.
    pub(crate) fn series(&self, base: &Labels) -> Vec<(Labels, Value)> {
        let mut series = Vec::with_capacity(self.bounds.len() + 3);
        let mut cumulative = 0u64;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            cumulative = cumulative.saturating_add(*count);
            series.push((bucket(base, &bound.to_string()), Value::Float(cumulative as f64)));
        }
        series.push((bucket(base, "+Inf"), Value::Float(self.count as f64)));
        series.push((suffixed(base, "_count"), Value::Float(self.count as f64)));
        if let Some(sum) = self.sum {
            series.push((suffixed(base, "_sum"), Value::Float(plain(sum))));
        }
        series
    }

    /// Index in [`series`](Self::series) of the bucket that holds `value`.
    pub(crate) fn bucket_of(&self, value: f64) -> usize {
        self.bounds.partition_point(|b| *b < value)
    }
}

/// Staleness markers for the series that a point without a value names.
pub(crate) fn stale_series(point: &HistogramDataPoint, base: &Labels) -> Vec<(Labels, Value)> {
    let bounds = point.explicit_bounds.iter().take(BOUNDS_MAX).map(f64::to_string);
    let buckets = bounds.chain(["+Inf".to_owned()]).map(|le| bucket(base, &le));
    let rest = ["_count", "_sum"].map(|suffix| suffixed(base, suffix));
    buckets.chain(rest).map(|labels| (labels, Value::Float(STALE_NAN))).collect()
}

fn bucket(base: &Labels, le: &str) -> Labels {
    let mut labels = base.builder();
    labels.set(name::METRIC, &format!("{}_bucket", base.metric_name())).set(name::LE, le);
    labels.build()
}

pub(crate) fn suffixed(base: &Labels, suffix: &str) -> Labels {
    let mut labels = base.builder();
    labels.set(name::METRIC, &format!("{}{suffix}", base.metric_name()));
    labels.build()
}
