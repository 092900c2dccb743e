//! `Histo`: a native histogram while it is being calculated with, its buckets as index and count.
//!
//! Arithmetic and quantiles as Prometheus 3.5 has them (`model/histogram/float_histogram.go`, `promql/quantile.go`):
//! schemas meet at the coarser one, zero buckets at the wider one, custom bounds only at their equals.

mod arithmetic;
mod quantile;
mod text;

pub(crate) use quantile::NanEffect;
pub(crate) use text::short;

use davy_model::{BucketSpan, Histogram};

const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Why two histograms cannot be calculated with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// One has exponential buckets and the other custom ones.
    Schema,
    /// Both are custom, with other bounds.
    Bounds,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Histo {
    pub schema: i32,
    pub gauge: bool,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    /// Index and count, ascending.
    pub positive: Vec<(i32, f64)>,
    pub negative: Vec<(i32, f64)>,
    pub bounds: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub count: f64,
}

impl Histo {
    pub(crate) fn new(h: &Histogram) -> Self {
        Self {
            schema: h.schema,
            gauge: h.gauge,
            zero_threshold: h.zero_threshold,
            zero_count: h.zero_count,
            count: h.count,
            sum: h.sum,
            positive: indexed(&h.positive_spans, &h.positive_counts),
            negative: indexed(&h.negative_spans, &h.negative_counts),
            bounds: h.custom_bounds.clone(),
        }
    }

    /// A histogram with the layout of `like` in which nothing was observed.
    fn empty_like(like: &Self) -> Self {
        Self {
            schema: like.schema,
            gauge: false,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Vec::new(),
            negative: Vec::new(),
            bounds: like.bounds.clone(),
        }
    }

    pub(crate) fn to_model(&self) -> Histogram {
        let (positive_spans, positive_counts) = spans(&self.positive);
        let (negative_spans, negative_counts) = spans(&self.negative);
        Histogram {
            schema: self.schema,
            gauge: self.gauge,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans,
            positive_counts,
            negative_spans,
            negative_counts,
            custom_bounds: self.bounds.clone(),
        }
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Without buckets that hold nothing.
    pub(crate) fn compact(&mut self) {
        self.positive.retain(|(_, c)| *c != 0.0);
        self.negative.retain(|(_, c)| *c != 0.0);
    }

    /// Upper bound of a positive bucket.
    fn bound(&self, index: i32) -> f64 {
        if self.is_custom() {
            return match usize::try_from(index) {
                Ok(i) => self.bounds.get(i).copied().unwrap_or(f64::INFINITY),
                Err(_) => f64::NEG_INFINITY,
            };
        }
        exponential_bound(index, self.schema)
    }

    fn positive_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        Bucket { lower: self.bound(index.saturating_sub(1)), upper: self.bound(index), count }
    }

    fn negative_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        Bucket { lower: -self.bound(index), upper: -self.bound(index.saturating_sub(1)), count }
    }

    /// Every bucket, ascending; those that overlap the zero bucket end where it begins.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let zero = self.zero_threshold;
        let mut all = Vec::with_capacity(self.positive.len() + self.negative.len() + 1);
        for b in self.negative.iter().rev() {
            let mut b = self.negative_bucket(*b);
            if b.upper < 0.0 && b.upper > -zero {
                b.upper = -zero;
            }
            all.push(b);
        }
        if self.zero_count > 0.0 {
            all.push(Bucket { lower: -zero, upper: zero, count: self.zero_count });
        }
        for b in &self.positive {
            let mut b = self.positive_bucket(*b);
            if b.lower > 0.0 && b.lower < zero {
                b.lower = zero;
            }
            all.push(b);
        }
        all
    }

    /// The same to whoever reads it: buckets that hold nothing do not count, NaN is itself.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        let held = |of: &[(i32, f64)]| of.iter().filter(|(_, c)| *c != 0.0).copied().collect::<Vec<_>>();
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.zero_threshold == other.zero_threshold
            && self.zero_count == other.zero_count
            && self.bounds == other.bounds
            && held(&self.positive) == held(&other.positive)
            && held(&self.negative) == held(&other.negative)
    }
}

/// `2^(index / 2^schema)`: exact where it is a power of two.
fn exponential_bound(index: i32, schema: i32) -> f64 {
    if schema <= 0 {
        let doublings = i64::from(index) << -schema;
        return (doublings.clamp(-1_100, 1_100) as f64).exp2();
    }
    let per_doubling = 1i32 << schema;
    let whole = index.div_euclid(per_doubling);
    let part = index.rem_euclid(per_doubling);
    let fraction = (f64::from(part) / f64::from(per_doubling)).exp2();
    // The last bucket before infinity has the largest number as its bound.
    if whole == 1024 && part == 0 { f64::MAX } else { fraction * f64::from(whole).exp2() }
}

fn indexed(spans: &[BucketSpan], counts: &[f64]) -> Vec<(i32, f64)> {
    let mut next = 0i32;
    let mut out = Vec::with_capacity(counts.len());
    let mut counts = counts.iter();
    for s in spans {
        next = next.saturating_add(s.offset);
        for _ in 0..s.length {
            let Some(c) = counts.next() else { return out };
            out.push((next, *c));
            next = next.saturating_add(1);
        }
    }
    out
}

fn spans(buckets: &[(i32, f64)]) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next = 0i32;
    for (index, _) in buckets {
        let offset = index.saturating_sub(next);
        match spans.last_mut() {
            Some(last) if offset == 0 => last.length += 1,
            _ => spans.push(BucketSpan { offset, length: 1 }),
        }
        next = index.saturating_add(1);
    }
    (spans, buckets.iter().map(|(_, c)| *c).collect())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Histo;

    pub(crate) fn histo(schema: i32, positive: &[(i32, f64)]) -> Histo {
        Histo {
            schema,
            gauge: false,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: positive.iter().map(|(_, c)| c).sum(),
            sum: 0.0,
            positive: positive.to_vec(),
            negative: Vec::new(),
            bounds: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::histo;
    use super::*;

    #[test]
    fn bounds_are_those_of_the_schema() {
        assert_eq!(exponential_bound(0, 0), 1.0);
        assert_eq!(exponential_bound(3, 0), 8.0);
        assert_eq!(exponential_bound(-2, 0), 0.25);
        assert_eq!(exponential_bound(4, 2), 2.0);
        assert_eq!(exponential_bound(1, 1), std::f64::consts::SQRT_2);
        assert_eq!(exponential_bound(-1, 1), std::f64::consts::FRAC_1_SQRT_2);
        assert_eq!(exponential_bound(1, -2), 16.0);
    }

    #[test]
    fn spans_and_back() {
        let h = histo(2, &[(-3, 1.0), (-2, 2.0), (5, 3.0)]);
        let model = h.to_model();
        assert_eq!(
            model.positive_spans,
            [BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 6, length: 1 }]
        );
        assert_eq!(Histo::new(&model), h);
    }
}
