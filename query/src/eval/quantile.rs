//! Quantiles of values and of classic histograms, with Prometheus' interpolation (`promql/quantile.go`).

/// Differences below this are what floats do, not what was counted.
const SMALL_DELTA: f64 = 1e-12;

/// `(upper bound, count at or below it)`.
pub(crate) type ClassicBucket = (f64, f64);

/// Sorts its values; between two of them it interpolates.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    // NaN is the smallest.
    values.sort_unstable_by(|a, b| (!a.is_nan()).cmp(&!b.is_nan()).then(a.total_cmp(b)));
    let last = (values.len() - 1) as f64;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// Of a classic histogram; whether its counts had to be forced to ascend. Sorts the buckets.
pub(crate) fn bucket_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if q > 1.0 {
        return (f64::INFINITY, false);
    }
    if !prepare(buckets) {
        return (f64::NAN, false);
    }
    let forced = ascend(buckets);
    let (Some((_, observations)), true) = (buckets.last().copied(), buckets.len() >= 2) else {
        return (f64::NAN, false);
    };
    if observations == 0.0 {
        return (f64::NAN, false);
    }
    let mut rank = q * observations;
    let last = buckets.len() - 1;
    let found = buckets[..last].iter().position(|(_, c)| *c >= rank).unwrap_or(last);
    if found == last {
        return (buckets[last - 1].0, forced);
    }
    if found == 0 && buckets[0].0 <= 0.0 {
        return (buckets[0].0, forced);
    }
    let (end, mut count) = buckets[found];
    let mut start = 0.0;
    if found > 0 {
        let (bound, below) = buckets[found - 1];
        start = bound;
        count -= below;
        rank -= below;
    }
    (start + (end - start) * (rank / count), forced)
}

/// The share of observations between two values.
pub(crate) fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !prepare(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].1;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |v: f64| {
        let mut rank = 0.0;
        let mut start = f64::NEG_INFINITY;
        for (end, upto) in buckets.iter() {
            if start >= v {
                return rank;
            }
            if start < v && *end > v {
                return rank + (upto - rank) * (v - start) / (end - start);
            }
            rank = *upto;
            start = *end;
        }
        count
    };
    let capped = |rank: f64| if rank > count { count } else { rank };
    (capped(below(upper)) - capped(below(lower))) / count
}

/// Sorts, joins buckets of one bound; false unless the last is infinite.
fn prepare(buckets: &mut Vec<ClassicBucket>) -> bool {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    true
}

/// Counts at or below a bound cannot fall with the bound; whether they had to be forced.
fn ascend(buckets: &mut [ClassicBucket]) -> bool {
    let mut forced = false;
    let mut before = buckets[0].1;
    for (_, count) in &mut buckets[1..] {
        if *count == before {
            continue;
        }
        if almost_equal(before, *count) {
            *count = before;
        } else if *count < before {
            *count = before;
            forced = true;
        } else {
            before = *count;
        }
    }
    forced
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_values_interpolate() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.75, &mut [0.0, 1.0]), 0.75);
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan(), "NaN is the smallest");
    }

    #[test]
    fn classic_buckets_interpolate_within_the_bucket() {
        let of = |buckets: &[ClassicBucket], q| bucket_quantile(q, &mut buckets.to_vec());
        let inf = f64::INFINITY;
        assert_eq!(of(&[(inf, 10.0), (1.0, 5.0), (2.0, 10.0)], 0.75), (1.5, false));
        assert_eq!(of(&[(1.0, 5.0), (2.0, 4.0), (inf, 10.0)], 0.9), (2.0, true));
        assert_eq!(of(&[(1.0, 0.0), (inf, 10.0)], 0.9), (1.0, false), "beyond the last bound");
        assert!(of(&[(1.0, 5.0)], 0.9).0.is_nan(), "no infinite bucket");
    }

    #[test]
    fn fractions_of_classic_buckets() {
        let mut buckets = vec![(1.0, 5.0), (2.0, 10.0), (f64::INFINITY, 20.0)];
        assert_eq!(bucket_fraction(1.0, 1.5, &mut buckets), 0.125);
        assert_eq!(bucket_fraction(f64::NEG_INFINITY, f64::INFINITY, &mut buckets), 1.0);
    }
}
