//! `Analysis`: one release under judgement with what its service taught before, and beside it the same judge on the
//! baseline alone, split in two: how often equal versions of this very service are called worse.

mod calibration;

use davy_detector::config::ReleaseSpec;
use davy_detector::{AnalysisRun, Broken, Calibration, Interval, Outcome, Plan, Verdict, split_baseline};
use davy_model::Timestamp;

pub use calibration::{in_words, load, read, record};

/// A split that was judged for fewer intervals tells nothing.
const SPLIT_INTERVALS_MIN: u64 = 20;

pub struct Analysis {
    run: AnalysisRun,
    split: AnalysisRun,
    split_intervals: u64,
    split_failed: bool,
    failed: bool,
    /// What was known when the release began.
    known: Calibration,
}

impl Analysis {
    /// `since` is when the canary began to live.
    pub fn new(spec: &ReleaseSpec, plan: &Plan, since: Timestamp, known: &Calibration) -> Self {
        let run = || AnalysisRun::with_calibration(&spec.judge, plan, since, known);
        Self {
            run: run().expecting_share(spec.traffic_share),
            split: run(),
            split_intervals: 0,
            split_failed: false,
            failed: false,
            known: known.clone(),
        }
    }

    pub fn step(&mut self, interval: &Interval, broken: Option<&Broken>) -> Verdict {
        if let Some(split) = split_baseline(interval) {
            let verdict = self.split.step_under(&split, broken);
            self.split_intervals = verdict.intervals;
            self.split_failed |= verdict.outcome == Outcome::Fail;
        }
        let verdict = self.run.step_under(interval, broken);
        self.failed |= verdict.outcome == Outcome::Fail;
        verdict
    }

    pub fn known(&self) -> &Calibration {
        &self.known
    }

    /// What is known of the service's noise once this release is over. A canary that failed was not like its
    /// baseline: of such a release only the split is kept.
    pub fn learned(&self) -> Calibration {
        let mut all = self.known.clone();
        let mut this = if self.failed { Calibration::default() } else { self.run.learned() };
        if self.split_intervals >= SPLIT_INTERVALS_MIN {
            (this.aa_runs, this.aa_alarms) = (1, u64::from(self.split_failed));
        }
        all.merge(&this);
        all
    }
}
