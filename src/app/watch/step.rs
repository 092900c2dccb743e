//! One step of a ramp, judged by itself: a pass at 5 % says nothing of what 50 % does to the canary.
//!
//! The release's one error rate is shared: half of it goes to the release as a whole, which may be called worse at any
//! step, and the other half in equal parts to the steps.

use davy_alerting::config::Policy;
use davy_detector::config::ReleaseSpec;
use davy_detector::{AnalysisRun, Broken, Calibration, Interval, Outcome, Plan, Verdict};
use davy_model::Timestamp;

pub(super) struct StepRun {
    percent: u8,
    since: Timestamp,
    run: AnalysisRun,
}

/// The judge of the release as a whole.
pub(super) fn whole(spec: &ReleaseSpec, policy: &Policy) -> ReleaseSpec {
    let mut spec = spec.clone();
    if policy.ramp.is_some() {
        spec.judge.alpha /= 2.0;
        // The share moves, as it should; each step declares its own.
        spec.traffic_share = None;
    }
    spec
}

impl StepRun {
    pub(super) fn new(
        (percent, since): (u8, Timestamp),
        spec: &ReleaseSpec,
        policy: &Policy,
        plan: &Plan,
        known: &Calibration,
    ) -> Self {
        let mut judge = spec.judge;
        let steps = policy.ramp.as_ref().map_or(1, |r| r.steps.len());
        judge.alpha /= 2.0 * steps as f64;
        // The canary has been warm since the first step.
        judge.warm_up = judge.interval;
        let run = AnalysisRun::with_calibration(&judge, plan, since, known)
            .expecting_share(Some(f64::from(percent) / 100.0));
        Self { percent, since, run }
    }

    pub(super) fn in_force(&self) -> (u8, Timestamp) {
        (self.percent, self.since)
    }

    /// The verdict of the interval, given that of the whole.
    pub(super) fn judge(&mut self, whole: Verdict, interval: &Interval, broken: Option<&Broken>) -> Verdict {
        // The interval in which the share changed has something of both.
        if interval.start < self.since {
            return match whole.outcome {
                Outcome::Fail => whole,
                Outcome::Pass | Outcome::Insufficient => Verdict {
                    outcome: Outcome::Insufficient,
                    reason: self.says("it has just begun"),
                    ..whole
                },
            };
        }
        let own = self.run.step_under(interval, broken);
        if whole.outcome == Outcome::Fail {
            return whole;
        }
        Verdict { reason: self.says(&own.reason), ..own }
    }

    fn says(&self, reason: &str) -> String {
        format!("at {} % of the requests: {reason}", self.percent)
    }
}
