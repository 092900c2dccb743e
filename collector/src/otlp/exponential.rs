//! Exponential histograms: checked, summed up over deltas, and written as Prometheus' native histograms.
//!
//! OTLP's bucket `i` holds `(base^i, base^(i+1)]`, Prometheus' holds `(base^(i-1), base^i]`: indexes differ by one.
//! Halving the scale merges buckets `2i` and `2i+1` into `i`, exactly (OpenTelemetry's data model, "exponential scale").

use davy_model::{BucketSpan, Histogram};
use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;

use super::point::plain;

/// Prometheus' schemas.
const SCALE_MIN: i32 = -4;
const SCALE_MAX: i32 = 8;
/// Buckets on one side; SDKs use 160 by default. A sum that would need more is scaled down.
const BUCKETS_MAX: usize = 1024;
/// No float64 lies in a bucket beyond this at the finest scale we keep (1075 * 2^8, rounded up).
const INDEX_MAX: i64 = 1 << 19;
/// Prometheus' width of the zero bucket where the sender says none.
const ZERO_THRESHOLD_DEFAULT: f64 = 1e-128;
/// A run of at most this many empty buckets costs less than a new span (client_golang's `makeBuckets`).
const GAP_MAX: i64 = 2;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exponential {
    scale: i32,
    zero_threshold: f64,
    zero_count: u64,
    count: u64,
    sum: Option<f64>,
    positive: Side,
    negative: Side,
}

/// Dense counts; the first and the last are not zero.
#[derive(Debug, Clone, PartialEq, Default)]
struct Side {
    offset: i64,
    counts: Vec<u64>,
}

impl Exponential {
    pub(crate) fn from_otlp(point: &ExponentialHistogramDataPoint) -> Result<Self, String> {
        if point.scale < SCALE_MIN {
            return Err(format!("bad exponential histogram: scale {} is below {SCALE_MIN}", point.scale));
        }
        if !(point.zero_threshold.is_finite() && point.zero_threshold >= 0.0) {
            return Err(format!("bad exponential histogram: zero threshold {}", point.zero_threshold));
        }
        let side = |buckets: &Option<Buckets>| match buckets {
            Some(b) => Side::new(b.offset.into(), &b.bucket_counts),
            None => Side::default(),
        };
        let mut h = Self {
            scale: point.scale,
            zero_threshold: match point.zero_threshold {
                0.0 => ZERO_THRESHOLD_DEFAULT,
                given => given,
            },
            zero_count: point.zero_count,
            count: point.count,
            sum: point.sum,
            positive: side(&point.positive),
            negative: side(&point.negative),
        };
        let mut counts = h.positive.counts.iter().chain(&h.negative.counts);
        let total = counts.try_fold(h.zero_count, |sum, c| sum.checked_add(*c));
        if total != Some(h.count) {
            return Err(format!("bad exponential histogram: count is {}, its buckets disagree", h.count));
        }
        h.scale_to(h.scale.min(SCALE_MAX));
        for side in [&h.positive, &h.negative] {
            if side.counts.len() > BUCKETS_MAX {
                let got = side.counts.len();
                return Err(format!("bad exponential histogram: {got} buckets, at most {BUCKETS_MAX}"));
            }
            if side.offset < -INDEX_MAX || side.end() > INDEX_MAX {
                return Err(format!(
                    "bad exponential histogram: bucket offset {} is no float's",
                    side.offset
                ));
            }
        }
        Ok(h)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn has_finite_sum(&self) -> bool {
        self.sum.is_none_or(f64::is_finite)
    }

    /// `false`, and nothing added, if the zero bucket is another or no scale holds both.
    pub(crate) fn add(&mut self, more: &Self) -> bool {
        if self.zero_threshold != more.zero_threshold {
            return false;
        }
        let (mut a, mut b) = (self.clone(), more.clone());
        let mut scale = a.scale.min(b.scale);
        loop {
            a.scale_to(scale);
            b.scale_to(scale);
            if a.positive.width_with(&b.positive).max(a.negative.width_with(&b.negative))
                <= BUCKETS_MAX as i64
            {
                break;
            }
            if scale == SCALE_MIN {
                return false;
            }
            scale -= 1;
        }
        a.positive.add(&b.positive);
        a.negative.add(&b.negative);
        a.zero_count = a.zero_count.saturating_add(b.zero_count);
        a.count = a.count.saturating_add(b.count);
        a.sum = a.sum.zip(b.sum).map(|(x, y)| x + y);
        *self = a;
        true
    }

    pub(crate) fn to_native(&self) -> Histogram {
        let (positive_spans, positive_counts) = self.positive.to_spans();
        let (negative_spans, negative_counts) = self.negative.to_spans();
        Histogram {
            schema: self.scale,
            gauge: false,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: plain(self.sum.unwrap_or(0.0)),
            positive_spans,
            positive_counts,
            negative_spans,
            negative_counts,
            custom_bounds: Vec::new(),
        }
    }

    fn scale_to(&mut self, scale: i32) {
        // Every index an i32 can name is 0 or -1 after 31 halvings.
        let halvings = u32::try_from(self.scale - scale).unwrap_or(0).min(63);
        self.positive.halve(halvings);
        self.negative.halve(halvings);
        self.scale = self.scale.min(scale);
    }
}

impl Side {
    fn new(offset: i64, counts: &[u64]) -> Self {
        let (Some(first), Some(last)) =
            (counts.iter().position(|c| *c > 0), counts.iter().rposition(|c| *c > 0))
        else {
            return Self::default();
        };
        Self { offset: offset + first as i64, counts: counts[first..=last].to_vec() }
    }

    /// One past the last index.
    fn end(&self) -> i64 {
        self.offset + self.counts.len() as i64
    }

    /// Buckets from the first of either to the last of either.
    fn width_with(&self, other: &Self) -> i64 {
        match (self.counts.is_empty(), other.counts.is_empty()) {
            (true, _) => other.counts.len() as i64,
            (_, true) => self.counts.len() as i64,
            _ => self.end().max(other.end()) - self.offset.min(other.offset),
        }
    }

    fn halve(&mut self, times: u32) {
        if times == 0 || self.counts.is_empty() {
            return;
        }
        // An arithmetic shift rounds down, which is what merging `2i` and `2i+1` into `i` needs below zero too.
        let offset = self.offset >> times;
        let mut counts = vec![0u64; (((self.end() - 1) >> times) - offset + 1) as usize];
        for (i, count) in (self.offset..).zip(&self.counts) {
            let slot = &mut counts[((i >> times) - offset) as usize];
            *slot = slot.saturating_add(*count);
        }
        *self = Self { offset, counts };
    }

    fn add(&mut self, more: &Self) {
        if self.counts.is_empty() {
            *self = more.clone();
            return;
        }
        if more.counts.is_empty() {
            return;
        }
        let offset = self.offset.min(more.offset);
        let mut counts = vec![0u64; self.width_with(more) as usize];
        for side in [&*self, more] {
            for (slot, count) in counts[(side.offset - offset) as usize..].iter_mut().zip(&side.counts) {
                *slot = slot.saturating_add(*count);
            }
        }
        *self = Self { offset, counts };
    }

    fn to_spans(&self) -> (Vec<BucketSpan>, Vec<f64>) {
        let (mut spans, mut out) = (Vec::<BucketSpan>::new(), Vec::new());
        // Prometheus' index of the next bucket, were it adjacent.
        let mut next = 0i64;
        for (i, count) in (self.offset + 1..).zip(&self.counts) {
            if *count == 0 {
                continue;
            }
            let gap = i - next;
            match spans.last_mut() {
                Some(span) if gap <= GAP_MAX => {
                    span.length += gap as u32 + 1;
                    out.extend(std::iter::repeat_n(0.0, gap as usize));
                }
                _ => spans.push(BucketSpan { offset: gap as i32, length: 1 }),
            }
            out.push(*count as f64);
            next = i + 1;
        }
        (spans, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            scale,
            count: counts.iter().sum(),
            sum: Some(1.0),
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            ..ExponentialHistogramDataPoint::default()
        }
    }

    fn of(scale: i32, offset: i32, counts: &[u64]) -> Exponential {
        Exponential::from_otlp(&point(scale, offset, counts)).expect("a valid histogram")
    }

    /// `(upper bound, count)` of the buckets that are not empty.
    fn bounds(h: &Exponential) -> Vec<(f64, f64)> {
        let native = h.to_native();
        assert_eq!(native.validate(), Ok(()));
        native.buckets().into_iter().filter(|b| b.2 > 0.0).map(|(_, upper, count)| (upper, count)).collect()
    }

    #[test]
    fn bucket_zero_is_one_to_base() {
        assert_eq!(bounds(&of(0, 0, &[1, 2])), [(2.0, 1.0), (4.0, 2.0)]);
        assert_eq!(bounds(&of(0, -2, &[5])), [(0.5, 5.0)]);
    }

    #[test]
    fn wide_gaps_start_a_new_span_and_narrow_ones_are_filled() {
        let native = of(0, 0, &[1, 0, 0, 1, 0, 0, 0, 1]).to_native();
        let spans: Vec<_> = native.positive_spans.iter().map(|s| (s.offset, s.length)).collect();
        assert_eq!(spans, [(1, 4), (3, 1)]);
        assert_eq!(native.positive_counts, [1.0, 0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn finer_scales_than_prometheus_knows_are_merged_without_loss() {
        // Scale 9 has twice the buckets of 8: indexes 0,1 -> 0, 2,3 -> 1, and -1 -> -1.
        let h = of(9, -1, &[1, 2, 4, 8, 16]);
        assert_eq!((h.scale, h.positive.offset, &h.positive.counts), (8, -1, &vec![1, 6, 24]));
        assert_eq!(h.count(), 31);
        // The finest scale SDKs use, far from zero.
        let h = of(20, 1 << 20, &[1; 160]);
        assert_eq!((h.scale, h.positive.offset, &h.positive.counts), (8, 256, &vec![160]));
    }

    #[test]
    fn sums_meet_at_the_coarser_scale() {
        let mut sum = of(1, 0, &[1, 1, 1, 1]);
        assert!(sum.add(&of(0, 2, &[7])));
        assert_eq!(bounds(&sum), [(2.0, 2.0), (4.0, 2.0), (8.0, 7.0)]);
        assert_eq!((sum.count, sum.sum), (11, Some(2.0)));
    }

    #[test]
    fn sums_that_would_be_too_wide_are_scaled_down() {
        let mut sum = of(8, -200_000, &[1]);
        assert!(sum.add(&of(8, 200_000, &[2])));
        assert!(sum.positive.counts.len() <= BUCKETS_MAX && sum.scale < 8);
        assert_eq!(sum.count, 3);
    }

    #[test]
    fn impossible_histograms_are_refused() {
        let refused = |p: ExponentialHistogramDataPoint| Exponential::from_otlp(&p).expect_err("refused");
        assert!(refused(point(-5, 0, &[1])).contains("scale -5"));
        assert!(refused(point(8, i32::MAX, &[1])).contains("offset"));
        assert!(refused(point(8, 0, &vec![1; BUCKETS_MAX + 1])).contains("buckets"));
        assert!(
            refused(ExponentialHistogramDataPoint { count: 9, ..point(0, 0, &[1]) }).contains("disagree")
        );
        let nan = ExponentialHistogramDataPoint { zero_threshold: f64::NAN, ..point(0, 0, &[1]) };
        assert!(refused(nan).contains("zero threshold"));
    }

    #[test]
    fn extreme_offsets_and_scales_do_not_overflow() {
        for (scale, offset) in [(i32::MAX, i32::MAX), (i32::MAX, i32::MIN), (20, i32::MIN)] {
            let p = ExponentialHistogramDataPoint { count: 3, ..point(scale, offset, &[1, 1, 1]) };
            let _ = Exponential::from_otlp(&p);
        }
    }
}
