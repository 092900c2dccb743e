//! `Totals`: what is shown of a proportion: the arms' shares, their ratio and its bounds.

use super::counts::{CountProcess, DISPERSION_PRIOR_INTERVALS};
use super::evidence::radius;
use super::long_run::LoneRun;
use super::row::Levels;
use super::term::OfArms;
use super::{CONFIDENCE_ALPHA, Frame};

/// Sums of the arms, and the ratio of their rates stratified by interval (Mantel and Haenszel).
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    canary: Share,
    baseline: Share,
    canary_paired: f64,
    baseline_paired: f64,
}

/// One arm's events, and how they scatter over time about their own rate. Unlike the test's dispersion it does not
/// mistake a gross difference between the arms for noise.
#[derive(Debug, Clone, Default)]
struct Share {
    trials: f64,
    events: f64,
    intervals: f64,
    over_time: LoneRun,
}

impl Share {
    fn add(&mut self, (trials, events): (f64, f64)) {
        if trials > 0.0 {
            self.trials += trials;
            self.events += events;
            self.intervals += 1.0;
            self.over_time.push(events, trials);
        }
    }

    fn rate(&self) -> f64 {
        self.events / self.trials
    }

    /// How much more the events scatter over time than a binomial's.
    fn dispersion(&self) -> f64 {
        let p = self.rate();
        let model = self.trials * p * (1.0 - p);
        let prior = DISPERSION_PRIOR_INTERVALS / self.intervals.max(1.0);
        if model > 0.0 {
            ((self.over_time.variance(p) / model + prior) / (1.0 + prior)).max(1.0)
        } else {
            1.0
        }
    }

    /// Variance of the log rate. One event more keeps it finite without any.
    fn log_variance(&self) -> f64 {
        self.dispersion() / (self.events + 1.0)
    }
}

impl Totals {
    pub(crate) fn add(&mut self, [(nb, xb), (nc, xc)]: OfArms) {
        self.canary.add((nc, xc));
        self.baseline.add((nb, xb));
        let n = nc + nb;
        if n > 0.0 {
            self.canary_paired += xc * nb / n;
            self.baseline_paired += xb * nc / n;
        }
    }

    /// Log of the rate ratio; half an event stands in where an arm has none. `None` without events.
    pub(crate) fn log_ratio(&self) -> Option<f64> {
        let (c, b) = (&self.canary, &self.baseline);
        if c.events + b.events == 0.0 || c.trials == 0.0 || b.trials == 0.0 {
            return None;
        }
        if self.canary_paired == 0.0 || self.baseline_paired == 0.0 {
            return Some(((c.events + 0.5) / c.trials / ((b.events + 0.5) / b.trials)).ln());
        }
        Some((self.canary_paired / self.baseline_paired).ln())
    }

    /// The larger of the arms'.
    pub(crate) fn dispersion(&self) -> f64 {
        self.canary.dispersion().max(self.baseline.dispersion())
    }

    /// Variance of [`Self::log_ratio`], luck included.
    pub(crate) fn variance(&self, process: Option<&CountProcess>) -> f64 {
        let luck = process.and_then(CountProcess::effect).map_or(0.0, |e| e.w2());
        self.canary.log_variance() + self.baseline.log_variance() + luck
    }

    pub(crate) fn levels(&self, process: Option<&CountProcess>, frame: &Frame<'_>) -> Levels {
        let shown = Levels {
            baseline: self.baseline.rate(),
            canary: self.canary.rate(),
            baseline_n: self.baseline.trials,
            canary_n: self.canary.trials,
            ..Levels::NONE
        };
        match self.log_ratio() {
            Some(l) if frame.judged => {
                let (lower, upper) = self.bounds(l, process);
                Levels { estimate: l.exp_m1(), lower, upper, ..shown }
            }
            Some(l) => Levels { estimate: l.exp_m1(), ..shown },
            None => shown,
        }
    }

    /// Bounds of the relative difference: Wilson's score interval for the canary's share of the events, as wide as
    /// looking all the time asks for, and widened by instance luck. It holds at zero events, where a normal
    /// interval about the log ratio says nothing: without events in the baseline there is no upper bound.
    fn bounds(&self, log_ratio: f64, process: Option<&CountProcess>) -> (f64, f64) {
        let (c, b) = (&self.canary, &self.baseline);
        let events = c.events + b.events;
        let luck = process.and_then(CountProcess::effect).map_or(0.0, |e| e.w2());
        // Luck adds to the variance of the log ratio as so much more dispersion would.
        let per_luck = (c.events + 0.5) * (b.events + 0.5) / (events + 1.0);
        let dispersion = c.dispersion().max(b.dispersion()) + luck * per_luck;
        // Standard errors of the interval at this much information, were the events shared equally.
        let even = 4.0 * dispersion / events;
        let z = radius(even, CONFIDENCE_ALPHA) / even.sqrt();
        let spread = z * z * dispersion;
        let middle = c.events + spread / 2.0;
        let half = (spread * (c.events * b.events / events + spread / 4.0)).sqrt();
        let share = |v: f64| (v / (events + spread)).clamp(0.0, 1.0);
        // Pairing by interval moves the estimate away from the plain ratio, and the bounds with it.
        let paired =
            if c.events > 0.0 && b.events > 0.0 { log_ratio.exp() / (c.rate() / b.rate()) } else { 1.0 };
        let ratio = |p: f64| p / (1.0 - p) * b.trials / c.trials * paired;
        (ratio(share(middle - half)) - 1.0, ratio(share(middle + half)) - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::term::Counts;
    use super::*;
    use crate::plan::Arm;

    fn bounds(canary: (f64, f64), baseline: (f64, f64)) -> (f64, f64) {
        let arms = [Arm::Baseline, Arm::Canary];
        let mut totals = Totals::default();
        let counts = Counts { trials: vec![baseline.0, canary.0], events: vec![baseline.1, canary.1] };
        totals.add(counts.of_arms(&arms));
        totals.bounds(totals.log_ratio().expect("there are events"), None)
    }

    #[test]
    fn bounds_hold_where_an_arm_has_no_events() {
        let (lower, upper) = bounds((2_000.0, 54.0), (2_000.0, 0.0));
        assert!(lower > 1.0, "54 against none is certainly more than double: {lower}");
        assert_eq!(upper, f64::INFINITY);
        let (lower, upper) = bounds((2_000.0, 0.0), (2_000.0, 54.0));
        assert_eq!(lower, -1.0);
        assert!(upper < -0.5, "{upper}");
    }

    #[test]
    fn many_events_give_a_narrow_interval_about_the_ratio() {
        let (lower, upper) = bounds((1e6, 50_000.0), (1e6, 10_000.0));
        assert!(lower > 3.7 && upper < 4.4, "five times as many: {lower} to {upper}");
        let (lower, upper) = bounds((5e4, 500.0), (95e4, 9_500.0));
        assert!(lower < 0.0 && upper > 0.0 && upper < 0.3, "equal at 5/95: {lower} to {upper}");
    }

    #[test]
    fn one_event_says_next_to_nothing() {
        let (lower, upper) = bounds((100.0, 1.0), (100.0, 0.0));
        assert!(lower < -0.8 && upper == f64::INFINITY, "{lower} to {upper}");
    }
}
