//! Quantiles, fractions and the variance of a native histogram.

use super::{Bucket, Histo};
use crate::eval::kahan::Kahan;

/// What observations that are not numbers did to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NanEffect {
    None,
    /// The quantile lies among them.
    Result,
    /// They count as if they were infinite.
    Skew,
}

impl Histo {
    /// Interpolated on a logarithmic scale in exponential buckets, linearly in custom ones and around zero.
    pub(crate) fn quantile(&self, q: f64) -> (f64, NanEffect) {
        let none = |v| (v, NanEffect::None);
        if q < 0.0 {
            return none(f64::NEG_INFINITY);
        }
        if q > 1.0 {
            return none(f64::INFINITY);
        }
        if self.count == 0.0 || q.is_nan() {
            return none(f64::NAN);
        }
        // Observations that are not numbers are in the count and in no bucket: only from below is the rank right.
        let forward = self.sum.is_nan() || q < 0.5;
        let mut buckets = self.buckets();
        if !forward {
            buckets.reverse();
        }
        let mut rank = if forward { q * self.count } else { (1.0 - q) * self.count };
        let mut count = 0.0;
        let mut bucket = Bucket { lower: 0.0, upper: 0.0, count: 0.0 };
        let mut rest = buckets.iter();
        for b in rest.by_ref() {
            bucket = *b;
            if b.count == 0.0 {
                continue;
            }
            count += b.count;
            if count >= rank {
                break;
            }
        }
        if self.is_custom() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return none(bucket.upper);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return none(bucket.lower);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            self.one_sided(&mut bucket);
        }
        count = if count > self.count { self.count } else { count };
        if count < rank {
            return if self.sum.is_nan() { (f64::NAN, NanEffect::Result) } else { none(bucket.upper) };
        }
        if forward {
            rank -= count - bucket.count;
        } else {
            rank = count - rank;
        }
        let mut effect = NanEffect::None;
        if self.sum.is_nan() && count + rest.map(|b| b.count).sum::<f64>() < self.count {
            effect = NanEffect::Skew;
        }
        let fraction = rank / bucket.count;
        if self.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
            return (bucket.lower + (bucket.upper - bucket.lower) * fraction, effect);
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let v = if bucket.lower > 0.0 {
            (lower + (upper - lower) * fraction).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - fraction)).exp2()
        };
        (v, effect)
    }

    /// A histogram of one sign has a zero bucket of one sign.
    fn one_sided(&self, bucket: &mut Bucket) {
        if self.negative.is_empty() && !self.positive.is_empty() {
            bucket.lower = 0.0;
        } else if self.positive.is_empty() && !self.negative.is_empty() {
            bucket.upper = 0.0;
        }
    }

    /// The share of observations between two values; whether some are not numbers.
    pub(crate) fn fraction(&self, lower: f64, upper: f64) -> (f64, bool) {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, false);
        }
        if lower >= upper {
            return (0.0, false);
        }
        let buckets = self.buckets();
        let mut rank = 0.0;
        let (mut below_lower, mut below_upper) = (None, None);
        for mut b in buckets.iter().copied() {
            let around_zero = b.lower <= 0.0 && b.upper >= 0.0;
            if around_zero {
                self.one_sided(&mut b);
            }
            let up_to = |v: f64| {
                let share = if self.is_custom() || around_zero {
                    (v - b.lower) / (b.upper - b.lower)
                } else {
                    let (l, u, v_log) = (b.lower.abs().log2(), b.upper.abs().log2(), v.abs().log2());
                    if v > 0.0 { (v_log - l) / (u - l) } else { 1.0 - (v_log - u) / (l - u) }
                };
                rank + b.count * share
            };
            for (found, v) in [(&mut below_lower, lower), (&mut below_upper, upper)] {
                if found.is_none() && b.lower >= v {
                    *found = Some(rank);
                } else if found.is_none() && b.lower < v && b.upper > v {
                    *found = Some(up_to(v));
                }
            }
            if below_lower.is_some() && below_upper.is_some() {
                break;
            }
            rank += b.count;
        }
        let mut count = self.count;
        let mut with_nans = false;
        if self.sum.is_nan() {
            let numbers: f64 = buckets.iter().map(|b| b.count).sum();
            with_nans = numbers < self.count;
            count = numbers;
        }
        let capped = |found: Option<f64>| found.filter(|r| *r <= count).unwrap_or(count);
        ((capped(below_upper) - capped(below_lower)) / self.count, with_nans)
    }

    /// Each bucket taken at its geometric middle, custom ones at their arithmetic middle.
    pub(crate) fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let mut sum = Kahan::default();
        for b in self.buckets().iter().filter(|b| b.count != 0.0) {
            let middle = if self.is_custom() {
                f64::midpoint(b.upper, b.lower)
            } else if b.lower <= 0.0 && b.upper >= 0.0 {
                0.0
            } else {
                (b.upper * b.lower).sqrt().copysign(b.upper)
            };
            let delta = middle - mean;
            sum.add(b.count * delta * delta);
        }
        sum.total() / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::histo;

    #[test]
    fn quantiles_are_interpolated_on_the_logarithm() {
        let h = histo(0, &[(1, 4.0)]); // four in (1, 2]
        assert_eq!(h.quantile(0.5).0, std::f64::consts::SQRT_2);
        assert_eq!(h.quantile(0.0).0, 1.0);
        assert_eq!(h.quantile(1.0).0, 2.0);
        assert!(h.quantile(-1.0).0 == f64::NEG_INFINITY && h.quantile(2.0).0 == f64::INFINITY);
    }

    #[test]
    fn fractions_undo_quantiles() {
        let h = histo(1, &[(-2, 3.0), (0, 2.0), (3, 5.0)]);
        for q in [0.1, 0.3, 0.5, 0.9] {
            let back = h.fraction(f64::NEG_INFINITY, h.quantile(q).0).0;
            assert!((back - q).abs() < 1e-12, "{q} {back}");
        }
    }
}
