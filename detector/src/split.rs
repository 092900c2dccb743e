//! `Split`: are the requests split as declared? An anytime-valid test of the canary's share.
//!
//! Reference: likelihood ratios as e-processes, Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe
//! anytime-valid inference" (2023), as sample-ratio checks of experiments use them. Assumes that a request goes to
//! the canary with a probability within the tolerance of what was declared, independently given the past. An
//! interval counts as at most `REQUESTS_MAX` requests, so requests that stick together in groups of up to a
//! hundredth of an interval's do no harm; larger groups could. Cries wolf in at most two of a thousand releases.

use std::collections::VecDeque;

use crate::judge::log_add;

/// Of either side.
const ALPHA: f64 = 0.001;
/// What is tolerated: a quarter of the smaller side, and at least two points.
const TOLERANCE: f64 = 0.25;
const TOLERANCE_MIN: f64 = 0.02;
const REQUESTS_MAX: f64 = 100.0;
/// Shares that the alternatives stand for, between the edge of what is tolerated and all or nothing.
const ALTERNATIVES: [f64; 4] = [0.05, 0.2, 0.6, 0.9];
/// What one interval may add to the log evidence: one in which the route was changed is no other split.
const LOG_E_MAX: f64 = 2.3;
/// Intervals whose requests must be split as declared before it is believed again.
const RECOVERY: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct Split {
    declared: f64,
    /// Log evidence of each alternative: more than declared, less than declared.
    sides: [Side; 2],
    recent: VecDeque<[f64; 2]>,
    broken: bool,
}

#[derive(Debug, Clone)]
struct Side {
    edge: f64,
    log_e: [f64; ALTERNATIVES.len()],
}

impl Split {
    pub(crate) fn new(declared: f64) -> Self {
        let tolerance = TOLERANCE_MIN.max(TOLERANCE * declared.min(1.0 - declared));
        let side = |edge| Side { edge, log_e: [0.0; ALTERNATIVES.len()] };
        let sides = [side(declared + tolerance), side(declared - tolerance)];
        Self { declared, sides, recent: VecDeque::with_capacity(RECOVERY), broken: false }
    }

    /// Requests of the baseline and of the canary in one interval.
    pub(crate) fn see(&mut self, [baseline, canary]: [f64; 2]) {
        let all = baseline + canary;
        if !(all > 0.0 && all.is_finite()) {
            return;
        }
        if self.recent.len() == RECOVERY {
            self.recent.pop_front();
        }
        self.recent.push_back([baseline, canary]);
        let scale = (REQUESTS_MAX / all).min(1.0);
        let [more, less] = &mut self.sides;
        more.see(baseline * scale, canary * scale, 1.0);
        less.see(baseline * scale, canary * scale, 0.0);
        self.broken |= self.sides.iter().any(|s| s.log_e() >= -ALPHA.ln());
        let as_declared = (self.sides[1].edge..=self.sides[0].edge).contains(&self.share());
        if self.broken && as_declared && self.recent.len() == RECOVERY {
            *self = Self { recent: std::mem::take(&mut self.recent), ..Self::new(self.declared) };
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn sentence(&self) -> String {
        let percent = |v: f64| format!("{:.*} %", usize::from(v < 0.1), v * 100.0);
        format!(
            "the canary has {} of the requests where {} was declared: the traffic is not split as said",
            percent(self.share()),
            percent(self.declared)
        )
    }

    /// Of the last intervals.
    fn share(&self) -> f64 {
        let sum = |i: usize| self.recent.iter().map(|r| r[i]).sum::<f64>();
        sum(1) / (sum(0) + sum(1))
    }
}

impl Side {
    /// `end` is the share at which this side's alternatives end: everything or nothing.
    fn see(&mut self, baseline: f64, canary: f64, end: f64) {
        if !(self.edge > 0.0 && self.edge < 1.0) {
            return;
        }
        for (log_e, way) in self.log_e.iter_mut().zip(ALTERNATIVES) {
            let p = self.edge + way * (end - self.edge);
            let gained = canary * (p / self.edge).ln() + baseline * ((1.0 - p) / (1.0 - self.edge)).ln();
            *log_e += gained.min(LOG_E_MAX);
        }
    }

    fn log_e(&self) -> f64 {
        let share = (ALTERNATIVES.len() as f64).ln();
        self.log_e.iter().map(|e| e - share).fold(f64::NEG_INFINITY, log_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are always the same.
    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Intervals until it is called broken, of `n` requests each with this share to the canary.
    fn broken_after(declared: f64, share: f64, n: usize, intervals: usize, seed: u64) -> Option<usize> {
        let (mut split, mut state) = (Split::new(declared), seed);
        (0..intervals).find(|_| {
            let canary = (0..n).filter(|_| uniform(&mut state) < share).count() as f64;
            split.see([n as f64 - canary, canary]);
            split.is_broken()
        })
    }

    #[test]
    fn a_split_as_declared_is_hardly_ever_called_broken() {
        for (declared, share) in [(0.05, 0.05), (0.5, 0.5), (0.05, 0.07), (0.5, 0.6), (0.01, 0.004)] {
            let wolf =
                (0..200).filter(|seed| broken_after(declared, share, 40, 480, *seed).is_some()).count();
            assert!(wolf <= 2, "{declared} {share}: {wolf} of 200");
        }
    }

    #[test]
    fn another_split_is_found_soon() {
        for (declared, share, within) in
            [(0.05, 0.5, 4), (0.5, 0.05, 4), (0.05, 0.01, 40), (0.5, 0.3, 12), (0.05, 0.12, 20)]
        {
            let after = broken_after(declared, share, 300, 200, 7);
            assert!(after.is_some_and(|n| n <= within), "{declared} {share}: {after:?}");
        }
    }

    #[test]
    fn it_is_believed_again_when_the_requests_are_split_as_declared() {
        let mut split = Split::new(0.05);
        (0..5).for_each(|_| split.see([50.0, 50.0]));
        assert!(split.is_broken());
        assert_eq!(
            split.sentence(),
            "the canary has 50 % of the requests where 5.0 % was declared: the traffic is not split as said"
        );
        (0..8).for_each(|_| split.see([95.0, 5.0]));
        assert!(!split.is_broken());
        split.see([0.0, 100.0]);
        assert!(!split.is_broken(), "one odd interval");
        split.see([0.0, 0.0]);
        split.see([f64::NAN, 1.0]);
        assert!(!split.is_broken());
    }
}
