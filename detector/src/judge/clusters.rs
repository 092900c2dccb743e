//! Evidence where the instance is the unit: a gauge of one instance says nothing new when it is read again, so
//! few instances are few observations, however long one looks.

use crate::plan::Arm;

use super::counts::CANARY_SPREAD_MAX;
use super::evidence::{Scales, log_e, t_inflation};
use super::study;

/// One value an instance, reduced to the arms' means and the baseline's variance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clusters {
    pub(crate) canary: f64,
    pub(crate) baseline: f64,
    /// Between the baseline's instances, and between the canary's; zero of fewer than two.
    pub(crate) variance: f64,
    pub(crate) canary_variance: f64,
    pub(crate) canary_n: f64,
    pub(crate) baseline_n: f64,
}

impl Clusters {
    /// `value` gives none for an instance that is not to count. One pass, with sums about the first value of each arm so
    /// that nothing cancels.
    pub(crate) fn of(arms: &[Arm], value: impl Fn(usize) -> Option<f64>) -> Self {
        #[derive(Default)]
        struct Sums {
            n: f64,
            first: f64,
            sum: f64,
            squares: f64,
        }
        let mut sums = [Sums::default(), Sums::default()];
        for (i, arm) in arms.iter().enumerate() {
            let Some(v) = value(i) else { continue };
            let s = &mut sums[*arm as usize];
            if s.n == 0.0 {
                s.first = v;
            }
            let d = v - s.first;
            s.n += 1.0;
            s.sum += d;
            s.squares += d * d;
        }
        let mean = |s: &Sums| if s.n > 0.0 { s.first + s.sum / s.n } else { 0.0 };
        let variance = |s: &Sums| {
            if s.n > 1.0 { ((s.squares - s.sum * s.sum / s.n) / (s.n - 1.0)).max(0.0) } else { 0.0 }
        };
        let [baseline, canary] = &sums;
        Self {
            canary: mean(canary),
            baseline: mean(baseline),
            variance: variance(baseline),
            canary_variance: variance(canary),
            canary_n: canary.n,
            baseline_n: baseline.n,
        }
    }

    pub(crate) fn difference(&self) -> f64 {
        self.canary - self.baseline
    }

    pub(crate) fn both(&self) -> bool {
        self.canary_n > 0.0 && self.baseline_n > 0.0
    }

    /// Variance between like instances and its degrees of freedom, from both arms.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let (b, c) = (self.degrees(), (self.canary_n - 1.0).max(0.0));
        let sum = b * self.variance + c * self.canary_variance;
        if b + c > 0.0 { (sum / (b + c), b + c) } else { (0.0, 0.0) }
    }

    pub(crate) fn degrees(&self) -> f64 {
        (self.baseline_n - 1.0).max(0.0)
    }

    /// Variance of the difference: the baseline's, seen with `degrees` of freedom, pooled with a prior and its weight and
    /// with the canary's own, which counts up to [`CANARY_SPREAD_MAX`] of what is known without it.
    pub(crate) fn pooled(&self, variance: f64, degrees: f64, (prior, weight): (f64, f64)) -> f64 {
        let nu = weight + degrees;
        let known = (weight * prior + degrees * variance) / nu;
        let more = if study::is_followed() { 0.0 } else { (self.canary_n - 1.0).max(0.0) };
        let canary = self.canary_variance.min(CANARY_SPREAD_MAX * known);
        let total = (nu * known + more * canary) / (nu + more);
        total * (1.0 / self.baseline_n + 1.0 / self.canary_n) * t_inflation(nu + more)
    }

    /// Log evidence that an effect of `m` with this variance is above zero; zero without both arms.
    pub(crate) fn log_e(&self, m: f64, a2: f64, scales: Scales) -> f64 {
        if self.both() { log_e(m, a2, scales, None) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python: `known = (6*.0009 + 4*.002) / 10; v = (10*known + 4*.001) / 14 * (1/5 + 1/5) *
    /// (t.isf(1e-3, 14) / norm.isf(1e-3))**2`.
    #[test]
    fn pooling_agrees_with_scipy() {
        let c = Clusters {
            variance: 0.002,
            canary_variance: 0.001,
            canary_n: 5.0,
            baseline_n: 5.0,
            ..Clusters::default()
        };
        let got = c.pooled(c.variance, c.degrees(), (0.0009, 6.0));
        assert!((got / 0.0007467565795817452 - 1.0).abs() < 1e-4, "{got}");
        let (variance, degrees) = c.spread();
        assert!((variance - 0.0015).abs() < 1e-12 && degrees == 8.0);
    }

    #[test]
    fn a_canary_that_is_broken_in_part_does_not_hide_behind_its_own_spread() {
        let c = |canary_variance| Clusters {
            variance: 0.001,
            canary_variance,
            canary_n: 5.0,
            baseline_n: 5.0,
            ..Clusters::default()
        };
        let pooled = |v| c(v).pooled(0.001, 4.0, (0.001, 6.0));
        assert_eq!(pooled(1.0), pooled(100.0));
        assert!(pooled(100.0) < 4.0 * pooled(0.001));
    }
}
