//! Davy's judge as one rule among the others, through its public interface.

use std::time::Duration;

use davy_detector::Interval;
use davy_detector::config::JudgeSpec;
use davy_fixtures::peers::{Decision, Points, Rule};
use davy_fixtures::scenario::Run;

use crate::common::{Judged, intervals_of, judge_all};

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
    let Judged { failed_at, passed_at, last } = judge_all(intervals, &spec);
    Decided {
        decision: Decision { rolled_back: failed_at, promoted: passed_at },
        reason: failed_at.map(|_| last.reason),
    }
}
