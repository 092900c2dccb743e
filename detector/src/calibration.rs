//! `Calibration`: what earlier releases of a service and its own instances taught of its noise. Plain data, so that
//! it can be kept: [`crate::AnalysisRun::learned`] gives it, [`Calibration::merge`] adds it up, and
//! [`crate::AnalysisRun::with_calibration`] begins with it instead of with priors alone.

use std::collections::BTreeMap;

use crate::interval::Interval;
use crate::plan::Arm;

/// Beyond this weight old releases fade as new ones come: a service changes.
const WEIGHT_MAX: f64 = 200.0;
const RUNS_MAX: u64 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    /// Releases that taught it.
    pub releases: u64,
    /// Splits of a baseline's own instances that were judged as if they were a release, and those called worse.
    pub aa_runs: u64,
    pub aa_alarms: u64,
    /// By the metric's name.
    pub metrics: BTreeMap<String, Noise>,
}

/// Noise of one metric, in squared logs: of rates, of latencies, of use.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Noise {
    /// Variance of instance luck: how much an instance differs from its like as long as it lives.
    pub luck_variance: f64,
    /// How many instances taught it.
    pub luck_weight: f64,
    /// Variance of the slow noise that all instances of one arm share.
    pub arm_variance: f64,
    /// In spells of that noise.
    pub arm_weight: f64,
    /// How much more counts scatter than a binomial's, and from how many intervals that is known.
    pub dispersion: f64,
    pub dispersion_weight: f64,
}

impl Calibration {
    /// Adds what another release taught.
    pub fn merge(&mut self, other: &Self) {
        let sum = |a: u64, b: u64| a.saturating_add(b).min(RUNS_MAX);
        self.releases = sum(self.releases, other.releases);
        self.aa_runs = sum(self.aa_runs, other.aa_runs);
        self.aa_alarms = sum(self.aa_alarms, other.aa_alarms);
        for (name, noise) in &other.metrics {
            self.metrics.entry(name.clone()).or_default().merge(noise);
        }
    }

    /// Share of the splits of a baseline that were called worse; `None` before any was judged.
    pub fn false_alarm_rate(&self) -> Option<f64> {
        (self.aa_runs > 0).then(|| self.aa_alarms as f64 / self.aa_runs as f64)
    }
}

impl Noise {
    pub(crate) fn merge(&mut self, other: &Self) {
        let mean = |a: f64, wa: f64, b: f64, wb: f64| {
            let sound = |v: f64, w: f64| v.is_finite() && v >= 0.0 && w.is_finite() && w > 0.0;
            match (sound(a, wa), sound(b, wb)) {
                (true, true) => ((a * wa + b * wb) / (wa + wb), (wa + wb).min(WEIGHT_MAX)),
                (true, false) => (a, wa.min(WEIGHT_MAX)),
                (false, true) => (b, wb.min(WEIGHT_MAX)),
                (false, false) => (0.0, 0.0),
            }
        };
        (self.luck_variance, self.luck_weight) =
            mean(self.luck_variance, self.luck_weight, other.luck_variance, other.luck_weight);
        (self.arm_variance, self.arm_weight) =
            mean(self.arm_variance, self.arm_weight, other.arm_variance, other.arm_weight);
        (self.dispersion, self.dispersion_weight) =
            mean(self.dispersion, self.dispersion_weight, other.dispersion, other.dispersion_weight);
    }

    /// This and a prior `(variance, weight)` of luck.
    pub(crate) fn luck(&self, prior: (f64, f64)) -> (f64, f64) {
        pooled(prior, (self.luck_variance, self.luck_weight))
    }

    pub(crate) fn arm(&self, prior: (f64, f64)) -> (f64, f64) {
        pooled(prior, (self.arm_variance, self.arm_weight))
    }

    pub(crate) fn dispersion(&self, prior: (f64, f64)) -> (f64, f64) {
        pooled(prior, (self.dispersion, self.dispersion_weight))
    }
}

/// What is not a number teaches nothing: a calibration is read from disk.
fn pooled((a, wa): (f64, f64), (b, wb): (f64, f64)) -> (f64, f64) {
    let sound = b.is_finite() && b >= 0.0 && wb.is_finite() && wb > 0.0;
    let wb = if sound { wb.min(WEIGHT_MAX) } else { 0.0 };
    if wb > 0.0 { ((a * wa + b * wb) / (wa + wb), wa + wb) } else { (a, wa) }
}

/// The baseline alone, every other of its instances as if it were the canary: judged like a release, it tells how
/// often equal versions of this service are called worse. `None` of fewer than two instances.
pub fn split_baseline(interval: &Interval) -> Option<Interval> {
    let mut names: Vec<_> = interval.instances.iter().filter(|i| i.arm == Arm::Baseline).collect();
    if names.len() < 2 {
        return None;
    }
    names.sort_by(|a, b| a.instance.cmp(&b.instance));
    let arm = |name: &str| if half(name) { Arm::Canary } else { Arm::Baseline };
    let instances = names.into_iter().map(|i| {
        let mut i = i.clone();
        i.arm = arm(&i.instance);
        i
    });
    let down = interval.down.iter().filter(|(a, _)| *a == Arm::Baseline);
    Some(Interval {
        instances: instances.collect(),
        down: down.map(|(_, n)| (arm(n), n.clone())).collect(),
        ..interval.clone()
    })
}

/// By name, so that an instance stays in its half whoever else is seen.
fn half(name: &str) -> bool {
    let hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)).count_ones() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(luck: f64, weight: f64) -> Noise {
        Noise { luck_variance: luck, luck_weight: weight, ..Noise::default() }
    }

    #[test]
    fn merging_weighs_by_what_was_seen() {
        let of = |n| Calibration {
            releases: 1,
            metrics: [("errors".to_owned(), n)].into(),
            ..Calibration::default()
        };
        let mut all = of(noise(0.04, 4.0));
        all.merge(&of(noise(0.01, 8.0)));
        assert_eq!(all.releases, 2);
        let errors = all.metrics["errors"];
        assert!((errors.luck_variance - 0.02).abs() < 1e-12 && errors.luck_weight == 12.0);
        all.merge(&of(noise(f64::NAN, 8.0)));
        assert_eq!(all.metrics["errors"].luck_weight, 12.0, "what is not a number teaches nothing");
    }

    #[test]
    fn false_alarms_of_splits_are_a_rate() {
        let mut all = Calibration { aa_runs: 40, aa_alarms: 1, ..Calibration::default() };
        assert_eq!(Calibration::default().false_alarm_rate(), None);
        all.merge(&Calibration { aa_runs: 60, ..Calibration::default() });
        assert_eq!(all.false_alarm_rate(), Some(0.01));
    }

    #[test]
    fn names_fall_into_both_halves() {
        let canary = (0..100).filter(|i| half(&format!("10.0.0.{i}:8080"))).count();
        assert!((25..=75).contains(&canary), "{canary}");
    }
}
