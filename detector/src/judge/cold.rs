//! A cold canary: caches are empty and code is not compiled yet, so for a while an equal canary is slower and fails
//! more. What the warm-up shows is evidence only if it persists, and at once only if no cold start looks like it.

use std::f64::consts::{LN_2, PI};

use super::evidence::log_add;

/// An estimate of an effect and the variance of its sampling.
pub(crate) type Estimate = (f64, f64);

/// Log evidence of an effect that was there from the start: the better of two explanations without a regression is
/// to be beaten, chance (`whole`: evidence of everything) and a cold start followed by chance (`since`: evidence
/// after the warm-up). Half of all canaries are taken to start cold, by effects of standard deviation `cold_sd`;
/// a warm-up that showed the same effect as what came after it speaks for a regression as much as a chance cold
/// start of just that size is unlikely. The other half of the weight is on effects that came later.
pub(crate) fn persistent(
    whole: f64,
    since: f64,
    warm: Option<Estimate>,
    now: Option<Estimate>,
    cold_sd: f64,
) -> f64 {
    let Some((warm, now)) = warm.zip(now) else { return since };
    let same = log_density(warm.0 - now.0, warm.1 + now.1);
    let by_chance = log_density(warm.0, warm.1 + cold_sd * cold_sd);
    let cold = since + same - by_chance;
    if cold.is_nan() || whole.is_nan() {
        return since;
    }
    let from_start = LN_2 - log_add(-whole, -cold);
    log_add(from_start, since) - LN_2
}

/// Of a normal.
fn log_density(x: f64, variance: f64) -> f64 {
    -0.5 * (x * x / variance + (2.0 * PI * variance).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_faded_with_the_warm_up_is_no_evidence() {
        let at = |warm: f64, now: f64| persistent(40.0, 1.0, Some((warm, 0.02)), Some((now, 0.01)), 1.0);
        assert!(at(1.5, 0.0) < 1.0, "it was cold");
        assert!(at(1.0, 1.0) > 2.0, "it persists: {}", at(1.0, 1.0));
        assert!(at(1.0, 1.0) < 1.0 + 40.0);
        assert_eq!(persistent(40.0, 1.0, None, Some((1.0, 0.1)), 1.0), 1.0);
    }

    /// `logaddexp(log(2) - logaddexp(-whole, -(since + norm.logpdf(w - n, 0, sqrt(vw + vn)) -
    /// norm.logpdf(w, 0, sqrt(vw + c*c)))), since) - log(2)`, SciPy 1.x.
    #[test]
    fn persistence_agrees_with_scipy() {
        let wanted = [
            (5.0, 2.0, (0.4, 0.02), (0.35, 0.03), 1.1, 3.527553778011434),
            (40.0, 1.0, (1.5, 0.02), (0.0, 0.01), 1.1, 0.30685281944005627),
            (3.0, 2.5, (-0.1, 0.05), (0.3, 0.01), 0.4, 2.379644064433881),
        ];
        for (whole, since, warm, now, sd, want) in wanted {
            let got = persistent(whole, since, Some(warm), Some(now), sd);
            assert!((got - want).abs() < 1e-9, "got {got}, want {want}");
        }
    }

    #[test]
    fn a_healthy_warm_up_is_forgiven_nothing() {
        let e = persistent(-1.0, -1.0, Some((-0.1, 0.02)), Some((-0.1, 0.02)), 1.0);
        assert!(e < 0.0, "{e}");
    }
}
