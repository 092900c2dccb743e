//! Whether what was worse is as it was before, once the baseline serves alone: a rollback that helps nothing is
//! ineffective, and a human must hear of it.

use davy_detector::{Arm, Interval, Measurement, Outcome, Plan, Verdict};

/// Requests of the baseline since the rollback before its level says anything.
const TRIALS_MIN: f64 = 50.0;

/// The levels of the metrics that failed, since the rollback was called.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// By index into the plan: events and trials.
    counted: Vec<(f64, f64)>,
}

impl Recovery {
    /// Takes an interval and says how things stand: shares of errors and other proportions only, since other levels
    /// have too much of their own noise to tell in a minute or two.
    pub(super) fn see(&mut self, interval: &Interval, plan: &Plan, verdict: &Verdict) -> Option<bool> {
        self.counted.resize(plan.metrics.len(), (0.0, 0.0));
        for instance in interval.instances.iter().filter(|i| i.arm == Arm::Baseline) {
            for (sum, measured) in self.counted.iter_mut().zip(&instance.measurements) {
                if let Some(Measurement::Proportion { events, trials }) = measured {
                    *sum = (sum.0 + events, sum.1 + trials);
                }
            }
        }
        let mut recovered = None;
        for (metric, (events, trials)) in plan.metrics.iter().zip(&self.counted) {
            let failed = verdict.metrics.iter().find(|m| m.name == metric.name && m.outcome == Outcome::Fail);
            let Some(failed) = failed.filter(|m| m.baseline.is_finite() && m.canary.is_finite()) else {
                continue;
            };
            if *trials < TRIALS_MIN {
                continue;
            }
            // On the baseline's side of the middle between what the two were.
            let middle = f64::midpoint(failed.baseline, failed.canary);
            let level = events / trials;
            let well = if failed.canary > failed.baseline { level <= middle } else { level >= middle };
            recovered = Some(recovered.unwrap_or(true) && well);
        }
        recovered
    }
}
