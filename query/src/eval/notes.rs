//! What an evaluation notices without failing: Prometheus' warnings and infos, word for word where they exist there.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::histogram::Mismatch;
use crate::histogram::short;

/// Different ones of each kind that are kept.
const NOTES_MAX: usize = 100;

#[derive(Debug, Default)]
pub(crate) struct Notes {
    text: String,
    warnings: RefCell<BTreeSet<String>>,
    infos: RefCell<BTreeSet<String>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Note<'a> {
    InvalidQuantile(f64),
    BadBucketLabel { metric: &'a str, le: &'a str },
    MixedFloatsHistograms { metric: &'a str },
    MixedFloatsHistogramsAggregation,
    MixedClassicNative { metric: &'a str },
    NotCounter { metric: &'a str },
    NotGauge { metric: &'a str },
    Mismatch { of: Mismatch, metric: &'a str },
    MismatchInOperation { operator: &'a str },
    PossibleNonCounter { metric: &'a str },
    ForcedMonotonicity { metric: &'a str },
    IncompatibleTypes { left: &'a str, operator: &'a str, right: &'a str },
    IgnoredInAggregation { aggregation: &'a str },
    IgnoredInRange { metric: &'a str },
    QuantileIsNan { metric: &'a str },
    QuantileIsSkewed { metric: &'a str },
    FractionWithoutNans { metric: &'a str },
}

impl Notes {
    pub(crate) fn of(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    pub(crate) fn add(&self, note: Note<'_>, position: usize) {
        let (is_warning, words) = note.words();
        let kind = if is_warning { &self.warnings } else { &self.infos };
        let mut kept = kind.borrow_mut();
        if kept.len() < NOTES_MAX {
            let prefix = if is_warning { "PromQL warning" } else { "PromQL info" };
            kept.insert(format!("{prefix}: {words} ({})", self.place(position)));
        }
    }

    /// Line and column, from one.
    fn place(&self, position: usize) -> String {
        let before = self.text.get(..position).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |i| i + 1) + 1;
        format!("{line}:{column}")
    }

    /// Warnings and infos, sorted.
    pub(crate) fn finish(self) -> (Vec<String>, Vec<String>) {
        (self.warnings.into_inner().into_iter().collect(), self.infos.into_inner().into_iter().collect())
    }
}

impl Note<'_> {
    /// Whether it is a warning, and what it says.
    fn words(self) -> (bool, String) {
        match self {
            Self::InvalidQuantile(q) => {
                (true, format!("quantile value should be between 0 and 1, got {}", short(q)))
            }
            Self::BadBucketLabel { metric, le } => (
                true,
                format!(
                    "bucket label \"le\" is missing or has a malformed value of {le:?} for metric name {metric:?}"
                ),
            ),
            Self::MixedFloatsHistograms { metric } => {
                (true, format!("encountered a mix of histograms and floats for metric name {metric:?}"))
            }
            Self::MixedFloatsHistogramsAggregation => {
                (true, "encountered a mix of histograms and floats for aggregation".to_owned())
            }
            Self::MixedClassicNative { metric } => (
                true,
                format!("vector contains a mix of classic and native histograms for metric name {metric:?}"),
            ),
            Self::NotCounter { metric } => {
                (true, format!("this native histogram metric is not a counter: {metric:?}"))
            }
            Self::NotGauge { metric } => {
                (true, format!("this native histogram metric is not a gauge: {metric:?}"))
            }
            Self::Mismatch { of: Mismatch::Schema, metric } => (
                true,
                format!(
                    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {metric:?}"
                ),
            ),
            Self::Mismatch { of: Mismatch::Bounds, metric } => (
                true,
                format!(
                    "vector contains histograms with incompatible custom buckets for metric name {metric:?}"
                ),
            ),
            Self::MismatchInOperation { operator } => {
                (true, format!("incompatible bucket layout encountered for binary operator {operator}"))
            }
            Self::PossibleNonCounter { metric } => (
                false,
                format!(
                    "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}"
                ),
            ),
            Self::ForcedMonotonicity { metric } => (
                false,
                format!(
                    "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name {metric:?}"
                ),
            ),
            Self::IncompatibleTypes { left, operator, right } => (
                false,
                format!(
                    "incompatible sample types encountered for binary operator {operator:?}: {left} {operator} {right}"
                ),
            ),
            Self::IgnoredInAggregation { aggregation } => {
                (false, format!("ignored histogram in {aggregation} aggregation"))
            }
            Self::IgnoredInRange { metric } => (
                false,
                format!(
                    "ignored histograms in a range containing both floats and histograms for metric name {metric:?}"
                ),
            ),
            Self::QuantileIsNan { metric } => (
                false,
                format!(
                    "input to histogram_quantile has NaN observations, result is NaN for metric name {metric:?}"
                ),
            ),
            Self::QuantileIsSkewed { metric } => (
                false,
                format!(
                    "input to histogram_quantile has NaN observations, result is skewed higher for metric name {metric:?}"
                ),
            ),
            Self::FractionWithoutNans { metric } => (
                false,
                format!(
                    "input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name {metric:?}"
                ),
            ),
        }
    }
}
