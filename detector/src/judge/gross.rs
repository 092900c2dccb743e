//! Gross errors: what no cold start does. While the canary warms up it may fail as much more often as cold canaries
//! do; beyond that its users are hurt, whatever the reason, and it fails at once.

use crate::plan::Arm;

use super::evidence::{EFFECTS, log_e};
use super::instances::Slot;

/// A cold canary may fail by this much more of its requests, or by this many times the baseline's rate more,
/// whichever is larger.
const MORE: f64 = 0.02;
const TIMES_MORE: f64 = 2.2;
/// Standard deviation of an instance's log rate.
const LUCK_SD: f64 = 0.05;
/// Few instances of one rate look this much more different by chance.
const BETWEEN_BY_CHANCE: f64 = 2.0;
/// Fewer events than this are an accident.
const EVENTS_MIN: f64 = 5.0;

/// Log evidence that the canary fails more than a cold one, from sums of trials and events by slot. The variance
/// is the larger of what the counts give, times their dispersion, and of what the instances of an arm show,
/// so that one instance in trouble is not taken for the release.
pub(crate) fn log_e_of(arms: &[Arm], slots: &[Slot], dispersion: f64) -> f64 {
    let (Some(c), Some(b)) = (Share::of(arms, slots, Arm::Canary), Share::of(arms, slots, Arm::Baseline))
    else {
        return 0.0;
    };
    let more = (TIMES_MORE * b.rate).max(MORE);
    let unit = ((c.events + b.events) / (c.trials + b.trials)).max(MORE);
    let m = (c.rate - b.rate - more) / unit;
    let luck = LUCK_SD * LUCK_SD * (c.rate * c.rate / c.instances + (b.rate + more).powi(2) / b.instances);
    let variance = c.variance(dispersion) + b.variance(dispersion) + luck;
    let log_e = log_e(m, variance / (unit * unit), EFFECTS, Some(WIDE));
    if c.events < EVENTS_MIN { log_e.min(0.0) } else { log_e }
}

/// Effects in units of the tolerance or the pooled rate reach about this far.
const WIDE: f64 = 1.0;

struct Share {
    trials: f64,
    events: f64,
    rate: f64,
    instances: f64,
    /// Of the rate, by how the instances differ.
    between: f64,
}

impl Share {
    fn of(arms: &[Arm], slots: &[Slot], arm: Arm) -> Option<Self> {
        let seen = || arms.iter().zip(slots).filter(|(a, s)| **a == arm && s.trials > 0.0).map(|(_, s)| s);
        let (k, trials, events) =
            seen().fold((0.0, 0.0, 0.0), |of, s| (of.0 + 1.0, of.1 + s.trials, of.2 + s.events));
        if trials <= 0.0 {
            return None;
        }
        let rate = events / trials;
        let squares: f64 = seen().map(|s| (s.events - s.trials * rate).powi(2)).sum();
        let between = if k > 1.0 { squares / (trials * trials) * k / (k - 1.0) } else { 0.0 };
        Some(Self { trials, events, rate, instances: k, between })
    }

    /// One event and one success more keep it above zero.
    fn variance(&self, dispersion: f64) -> f64 {
        let p = (self.events + 1.0) / (self.trials + 2.0);
        (dispersion * p * (1.0 - p) / self.trials).max(self.between / BETWEEN_BY_CHANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARMS: [Arm; 4] = [Arm::Baseline, Arm::Baseline, Arm::Canary, Arm::Canary];

    #[test]
    fn a_cold_canary_is_spared_and_a_gross_one_is_not() {
        let slots = |b: f64, c: f64| [b, b + 1.0, c, c + 1.0].map(|x| Slot::of(1000.0, x));
        assert!(log_e_of(&ARMS, &slots(10.0, 50.0), 1.0) > 2.0, "1 to 5 %");
        for (b, c) in [(5.0, 15.0), (10.0, 30.0), (50.0, 150.0), (100.0, 300.0), (0.0, 10.0)] {
            assert!(log_e_of(&ARMS, &slots(b, c), 1.0) < 1.0, "{b} to {c} of 1000 may be cold");
        }
    }

    #[test]
    fn one_instance_and_a_handful_of_events_are_not_gross() {
        let one = [5.0, 5.0, 5.0, 200.0].map(|x| Slot::of(1000.0, x));
        assert!(log_e_of(&ARMS, &one, 1.0) < 2.0);
        let few = [(10.0, 0.0), (10.0, 0.0), (2.0, 2.0), (2.0, 2.0)].map(|(n, x)| Slot::of(n, x));
        assert!(log_e_of(&ARMS, &few, 1.0) <= 0.0);
        assert_eq!(log_e_of(&ARMS, &[], 1.0), 0.0);
    }
}
