//! When what happens: a pure function of the record and the time.

use std::time::Duration;

use super::record::Record;
use super::service::Fault;

/// The baseline alone, so that who lived first is clear.
const DEPLOY_AFTER: Duration = Duration::from_secs(6);
/// Both versions, healthy; longer than the judge's warm-up.
const HEALTHY_FOR: Duration = Duration::from_secs(14);
/// How long the story goes on when it is told, so that the traffic afterwards is seen.
const AFTERWARDS: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Wait,
    /// Start the canary and give it its share.
    Deploy,
    Inject(Fault),
    End,
}

/// `duration` is how long a healthy story runs, and how long a regression may go on after its injection.
pub(super) fn next(record: &Record, now: Duration, duration: Duration) -> Step {
    let Some(deployed_at) = record.deployed_at else {
        return if now >= DEPLOY_AFTER { Step::Deploy } else { Step::Wait };
    };
    let told = record.is_told() && record.rolled_back_at.is_some_and(|at| now >= at + AFTERWARDS);
    let begun = record.injected.map_or(Duration::ZERO, |injected| injected.at);
    if told || record.is_lost() || now >= begun + duration {
        return Step::End;
    }
    match record.scenario.fault() {
        Some(fault)
            if record.injected.is_none()
                && record.opened_at.is_some()
                && now >= deployed_at + HEALTHY_FOR =>
        {
            Step::Inject(fault)
        }
        Some(_) | None => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{Scenario, samples};

    fn check(record: &Record, now: u64, expected: Step) {
        assert_eq!(next(record, Duration::from_secs(now), Duration::from_secs(60)), expected, "at {now} s");
    }

    #[test]
    fn the_canary_is_deployed_once_the_baseline_has_lived_for_a_while() {
        let record = Record::new(Scenario::Errors, 1, 50);
        check(&record, 5, Step::Wait);
        check(&record, 6, Step::Deploy);
    }

    #[test]
    fn the_fault_waits_for_healthy_seconds_and_for_davy() {
        let mut record = samples::healthy();
        record.scenario = Scenario::Errors;
        check(&record, 19, Step::Wait);
        check(&record, 20, Step::Inject(Fault::Errors(0.05)));
        record.opened_at = None;
        check(&record, 20, Step::Wait);
    }

    #[test]
    fn a_healthy_story_runs_its_time_without_a_fault() {
        check(&samples::healthy(), 59, Step::Wait);
        check(&samples::healthy(), 60, Step::End);
    }

    #[test]
    fn a_regression_ends_a_little_after_all_is_told() {
        let mut record = samples::rolled_back();
        check(&record, 34, Step::Wait);
        check(&record, 35, Step::End);
        record.arrivals.clear();
        check(&record, 79, Step::Wait);
        check(&record, 80, Step::End);
    }

    #[test]
    fn a_lost_story_ends_at_once() {
        let mut record = samples::rolled_back();
        record.injected = None;
        check(&record, 25, Step::End);
    }
}
