//! Davy's judge as one rule among the others, through its public interface.

use std::time::Duration;

use davy_detector::config::JudgeSpec;
use davy_detector::{AnalysisRun, Interval, Outcome};
use davy_fixtures::peers::{Decision, Points, Rule};
use davy_fixtures::scenario::Run;

use crate::common::{at, intervals_of, plan};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Judge {
    Davy { name: &'static str, title: &'static str, spec: JudgeSpec },
    Peer(Rule),
}

/// What a judge decided, with Davy's sentence for a rollback.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    pub(crate) reason: Option<String>,
}

impl Judge {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Davy { name, .. } => name,
            Self::Peer(rule) => rule.name,
        }
    }

    pub(crate) fn title(&self) -> &'static str {
        match self {
            Self::Davy { title, .. } => title,
            Self::Peer(rule) => rule.title,
        }
    }
}

/// All judges on one run.
pub(crate) fn decide(judges: &[Judge], run: &Run) -> Vec<Decided> {
    let points = Points::new(run);
    let intervals = intervals_of(run);
    let each = judges.iter().map(|judge| match judge {
        Judge::Davy { spec, .. } => davy(spec, run, &intervals),
        Judge::Peer(rule) => Decided { decision: (rule.decide)(run, &points), reason: None },
    });
    each.collect()
}

fn davy(spec: &JudgeSpec, run: &Run, intervals: &[Interval]) -> Decided {
    let spec = JudgeSpec { interval: Duration::from_secs_f64(run.interval_s), ..*spec };
    let mut analysis = AnalysisRun::new(&spec, &plan(), at(0.0));
    let mut decided = Decided::default();
    for (t, interval) in intervals.iter().enumerate() {
        let verdict = analysis.step(interval);
        match verdict.outcome {
            Outcome::Fail => {
                decided.decision.rolled_back = Some(t + 1);
                decided.reason = Some(verdict.reason);
                break;
            }
            Outcome::Pass => {
                decided.decision.promoted.get_or_insert(t + 1);
            }
            Outcome::Insufficient => {}
        }
    }
    decided
}
