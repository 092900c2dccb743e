//! `Instances`: what each instance has counted since a copy of the processes began, and how their rates scatter.

use crate::plan::Arm;

use super::study;
use super::term::Counts;

#[derive(Debug, Clone, Default)]
pub(crate) struct Instances {
    slots: Vec<Slot>,
    /// Of the baseline's and of the canary's.
    spreads: [Spread; 2],
}

/// What one instance has counted, and its rate.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    pub(crate) trials: f64,
    pub(crate) events: f64,
    rate: f64,
}

/// How the rates of an arm's instances differ.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread {
    /// That were seen.
    pub(super) instances: f64,
    /// Variance of their rates in units of the arm's; not a number where the arm has no events.
    pub(super) variance: f64,
    /// What of it a binomial's chance gives.
    pub(super) by_chance: f64,
}

/// Sums over the instances of an arm.
#[derive(Default)]
struct Tally {
    instances: f64,
    trials: f64,
    events: f64,
    rates: f64,
    squares: f64,
}

#[cfg(test)]
impl Slot {
    pub(crate) fn of(trials: f64, events: f64) -> Self {
        Self { trials, events, rate: events / trials }
    }
}

impl Instances {
    pub(super) fn add(&mut self, arms: &[Arm], counts: &Counts) {
        self.slots.resize(arms.len().max(self.slots.len()), Slot::default());
        let mut sums = [Tally::default(), Tally::default()];
        let new = counts.trials.iter().zip(&counts.events);
        for ((slot, arm), (n, x)) in self.slots.iter_mut().zip(arms).zip(new) {
            if *n > 0.0 {
                slot.trials += n;
                slot.events += x;
                slot.rate = slot.events / slot.trials;
            }
            if slot.trials > 0.0 {
                let s = &mut sums[*arm as usize];
                s.instances += 1.0;
                s.trials += slot.trials;
                s.events += slot.events;
                s.rates += slot.rate;
                s.squares += slot.rate * slot.rate;
            }
        }
        self.spreads = sums.map(|s| s.spread());
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn spreads(&self) -> &[Spread; 2] {
        &self.spreads
    }
}

impl Tally {
    fn spread(&self) -> Spread {
        let Self { instances: k, trials, events, rates, squares } = *self;
        let per_rate = trials / events;
        // Of `rate * per_rate - 1`, squared.
        let deviations = per_rate * (per_rate * squares - 2.0 * rates) + k;
        let success = if study::is_followed() { 1.0 } else { 1.0 - events / trials };
        Spread {
            instances: k,
            variance: if deviations < 0.0 { 0.0 } else { deviations / (k - 1.0) },
            by_chance: success * k / events,
        }
    }
}
