//! `Histogram`: a native (sparse, exponential or custom-bucket) histogram, Prometheus' data model of 3.x.
//!
//! Integer histograms are kept as floats: every count below 2^53 is exact.
//! An exponential bucket `i` of schema `s` holds `(base^(i-1), base^i]` with `base = 2^(2^-s)`.

/// Schema that says "the bounds are listed in `custom_bounds`".
const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// A run of consecutive buckets: `offset` from the end of the previous run (from bucket 0 for the first).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSpan {
    pub offset: i32,
    pub length: u32,
}

/// Counts are cumulative over time like any counter's unless `gauge` is set; buckets are *not* cumulative over `le`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    pub schema: i32,
    pub gauge: bool,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<BucketSpan>,
    pub positive_counts: Vec<f64>,
    pub negative_spans: Vec<BucketSpan>,
    pub negative_counts: Vec<f64>,
    /// Upper bounds, ascending, without `+Inf`; empty unless the schema is -53.
    pub custom_bounds: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HistogramError {
    #[error("histogram schema {got} is neither in -4..=8 nor -53 (custom buckets)")]
    Schema { got: i32 },
    #[error("histogram has {counts} {side} bucket counts but its spans cover {spans}")]
    SpanMismatch { side: &'static str, spans: u64, counts: usize },
    #[error("histogram has a negative or non-finite bucket count {got}")]
    Count { got: f64 },
    #[error("custom bounds are not ascending and finite")]
    Bounds,
}

impl Histogram {
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Checks what every reader relies on; the edges call it before a histogram enters the store.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if !self.is_custom() && !EXPONENTIAL_SCHEMAS.contains(&self.schema) {
            return Err(HistogramError::Schema { got: self.schema });
        }
        for (side, spans, counts) in [
            ("positive", &self.positive_spans, &self.positive_counts),
            ("negative", &self.negative_spans, &self.negative_counts),
        ] {
            let covered: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
            if covered != counts.len() as u64 {
                return Err(HistogramError::SpanMismatch { side, spans: covered, counts: counts.len() });
            }
        }
        let counts = self.positive_counts.iter().chain(&self.negative_counts).chain([&self.zero_count]);
        if let Some(&got) = counts.into_iter().find(|c| !(c.is_finite() && **c >= 0.0)) {
            return Err(HistogramError::Count { got });
        }
        let ascending = self.custom_bounds.windows(2).all(|w| w[0] < w[1]);
        if !ascending || self.custom_bounds.iter().any(|b| !b.is_finite()) {
            return Err(HistogramError::Bounds);
        }
        Ok(())
    }

    /// `(lower, upper, count)` of every bucket from the most negative to the most positive, zero bucket included.
    pub fn buckets(&self) -> Vec<(f64, f64, f64)> {
        let mut out: Vec<_> = indexed(&self.negative_spans, &self.negative_counts)
            .map(|(i, c)| (-self.bound(i), -self.bound(i.saturating_sub(1)), c))
            .collect();
        out.reverse();
        if self.zero_count > 0.0 {
            out.push((-self.zero_threshold, self.zero_threshold, self.zero_count));
        }
        out.extend(
            indexed(&self.positive_spans, &self.positive_counts)
                .map(|(i, c)| (self.bound(i.saturating_sub(1)), self.bound(i), c)),
        );
        out
    }

    /// Upper bound of bucket `i`.
    fn bound(&self, i: i32) -> f64 {
        if self.is_custom() {
            return match usize::try_from(i) {
                Ok(i) => self.custom_bounds.get(i).copied().unwrap_or(f64::INFINITY),
                Err(_) => f64::NEG_INFINITY,
            };
        }
        (f64::from(i) * (-f64::from(self.schema)).exp2()).exp2()
    }
}

fn indexed<'a>(spans: &'a [BucketSpan], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    spans
        .iter()
        .flat_map(move |s| {
            let start = next.saturating_add(s.offset);
            next = start.saturating_add_unsigned(s.length);
            start..next
        })
        .zip(counts.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_runs() -> Histogram {
        Histogram {
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 1.0,
            count: 7.0,
            sum: 20.0,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 1 }],
            positive_counts: vec![1.0, 2.0, 3.0],
            ..Histogram::default()
        }
    }

    #[test]
    fn buckets_follow_the_spans() {
        let h = two_runs();
        assert_eq!(h.validate(), Ok(()));
        assert_eq!(
            h.buckets(),
            vec![(-0.001, 0.001, 1.0), (0.5, 1.0, 1.0), (1.0, 2.0, 2.0), (4.0, 8.0, 3.0)]
        );
    }

    #[test]
    fn custom_buckets_end_at_infinity() {
        let h = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_bounds: vec![1.0, 5.0],
            positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
            positive_counts: vec![1.0, 2.0, 3.0],
            ..Histogram::default()
        };
        assert_eq!(
            h.buckets(),
            vec![(f64::NEG_INFINITY, 1.0, 1.0), (1.0, 5.0, 2.0), (5.0, f64::INFINITY, 3.0)]
        );
    }

    #[test]
    fn malformed_histograms_are_refused() {
        let broken = |change: fn(&mut Histogram)| {
            let mut h = two_runs();
            change(&mut h);
            h.validate()
        };
        assert!(matches!(broken(|h| h.schema = 9), Err(HistogramError::Schema { got: 9 })));
        assert!(matches!(
            broken(|h| h.positive_counts.truncate(1)),
            Err(HistogramError::SpanMismatch { .. })
        ));
        assert!(matches!(broken(|h| h.zero_count = f64::NAN), Err(HistogramError::Count { .. })));
        assert!(matches!(broken(|h| h.custom_bounds = vec![2.0, 1.0]), Err(HistogramError::Bounds)));
    }
}
