//! When what happens: a pure function of the record and the time.

use std::time::Duration;

use super::record::Record;
use super::service::Fault;

/// The baseline alone, so that who lived first is clear.
const DEPLOY_AFTER: Duration = Duration::from_secs(6);
/// Both versions at the share that the fault comes at, healthy; shorter than any step takes to be passed.
const HEALTHY_FOR: Duration = Duration::from_secs(3);
/// How long the story goes on when the canary has all of the traffic.
const PROMOTED_FOR: Duration = Duration::from_secs(8);
/// How long the story goes on when it is told, so that the traffic afterwards is seen.
const AFTERWARDS: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Wait,
    /// Start the canary, without traffic: its share is Davy's to give.
    Deploy,
    Inject(Fault),
    End,
}

/// `duration` is how long a healthy story runs at most, and how long a regression may go on after its injection.
pub(super) fn next(record: &Record, now: Duration, duration: Duration) -> Step {
    if record.deployed_at.is_none() {
        return if now >= DEPLOY_AFTER { Step::Deploy } else { Step::Wait };
    }
    let told = record.is_told() && record.rolled_back_at.is_some_and(|at| now >= at + AFTERWARDS);
    let begun = record.injected.map_or(Duration::ZERO, |injected| injected.at);
    if told || record.is_lost() || now >= begun + duration {
        return Step::End;
    }
    let in_force = record.ramp.in_force();
    match record.scenario.fault() {
        Some(fault)
            if record.injected.is_none()
                && in_force
                    .is_some_and(|step| step.share >= record.weight && now >= step.at + HEALTHY_FOR) =>
        {
            Step::Inject(fault)
        }
        None if in_force.is_some_and(|step| step.share == 100 && now >= step.at + PROMOTED_FOR) => Step::End,
        Some(_) | None => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::splitter::About;
    use crate::demo::{Scenario, samples};

    fn check(record: &Record, now: u64, expected: Step) {
        assert_eq!(next(record, Duration::from_secs(now), Duration::from_secs(60)), expected, "at {now} s");
    }

    #[test]
    fn the_canary_is_deployed_once_the_baseline_has_lived_for_a_while() {
        let record = Record::new(Scenario::Errors, 1, 50, About::default());
        check(&record, 5, Step::Wait);
        check(&record, 6, Step::Deploy);
    }

    #[test]
    fn the_fault_waits_for_its_share_and_some_healthy_seconds() {
        let mut record = samples::rolled_back();
        record.injected = None;
        record.seen = None;
        record.ramp.steps[1].until = None;
        check(&record, 18, Step::Wait);
        check(&record, 19, Step::Inject(Fault::Errors(0.05)));
        record.ramp.steps.truncate(1);
        record.ramp.steps[0].until = None;
        check(&record, 19, Step::Wait);
    }

    #[test]
    fn a_healthy_story_ends_a_little_after_the_ramp_or_when_its_time_is_up() {
        let mut record = samples::healthy();
        check(&record, 47, Step::Wait);
        check(&record, 48, Step::End);
        record.ramp.steps.truncate(2);
        record.ramp.steps[1].until = None;
        check(&record, 59, Step::Wait);
        check(&record, 60, Step::End);
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
