//! Functions over the samples of a range, with Prometheus 3's semantics: the range is open on the left, staleness
//! markers are not samples, and `rate`, `increase` and `delta` extrapolate to the range's edges (its
//! `extrapolatedRate`).

use davy_model::Timestamp;

use crate::ast::RangeFunction;

/// `points` are those in `(end - range, end]`. `None` where the function has no value.
pub(crate) fn evaluate(
    f: RangeFunction,
    points: &[(Timestamp, f64)],
    end: Timestamp,
    range_s: f64,
) -> Option<f64> {
    let values = || points.iter().map(|(_, v)| *v);
    if points.is_empty() {
        return None;
    }
    match f {
        RangeFunction::Rate => extrapolated(points, end, range_s, true).map(|v| v / range_s),
        RangeFunction::Increase => extrapolated(points, end, range_s, true),
        RangeFunction::Delta => extrapolated(points, end, range_s, false),
        RangeFunction::AvgOverTime => Some(values().sum::<f64>() / points.len() as f64),
        RangeFunction::SumOverTime => Some(values().sum()),
        RangeFunction::MaxOverTime => values().reduce(|a, b| if b > a || a.is_nan() { b } else { a }),
        RangeFunction::MinOverTime => values().reduce(|a, b| if b < a || a.is_nan() { b } else { a }),
    }
}

fn extrapolated(points: &[(Timestamp, f64)], end: Timestamp, range_s: f64, counter: bool) -> Option<f64> {
    let [(first_at, first), .., (last_at, last)] = points else { return None };
    let mut gained = last - first;
    if counter {
        gained += points.windows(2).filter(|w| w[1].1 < w[0].1).map(|w| w[0].1).sum::<f64>();
    }
    let sampled_s = last_at.as_secs_f64() - first_at.as_secs_f64();
    let spacing_s = sampled_s / (points.len() - 1) as f64;
    // An edge further away than this is taken to be where the series began or ended.
    let threshold_s = spacing_s * 1.1;
    let reach = |gap_s: f64| if gap_s >= threshold_s { spacing_s / 2.0 } else { gap_s };
    let mut to_start_s = reach(first_at.as_secs_f64() - (end.as_secs_f64() - range_s));
    let to_end_s = reach(end.as_secs_f64() - last_at.as_secs_f64());
    if counter && gained > 0.0 && *first >= 0.0 {
        // A counter was never below zero.
        to_start_s = to_start_s.min(sampled_s * (first / gained));
    }
    Some(gained * (sampled_s + to_start_s + to_end_s) / sampled_s)
}
