//! Did the story go as its scenario says? A pure function of the record.

use std::time::Duration;

use super::inbox::Channel;
use super::record::{Call, Record};
use super::splitter::Answer;

/// Share of the arrivals that may have been shed: above it the load was not what it claims to be.
const SHED_SHARE_MAX: f64 = 0.02;

/// By then a healthy canary has passed its first step: it takes about twenty seconds, and now and then thirty.
const FIRST_STEP_MAX: Duration = Duration::from_secs(60);

/// What went otherwise than the scenario says, a sentence each; empty when all went well.
pub(super) fn problems(record: &Record) -> Vec<String> {
    let mut problems = record.ramp.problems();
    problems.extend(match record.scenario.fault() {
        Some(_) => regression(record),
        None => healthy(record),
    });
    problems.extend(changes(record));
    if record.last.release.is_none() {
        problems.push(match &record.blind_reason {
            None => "Davy never opened a release".to_owned(),
            Some(reason) => format!(
                "Davy never showed a release; its release API failed {} times, last with: {reason}",
                record.blind_looks
            ),
        });
    }
    let load = record.last.load;
    if load.sent == 0 || load.shed as f64 > SHED_SHARE_MAX * load.sent as f64 {
        problems.push(format!(
            "the load could not be kept up: {} of {} arrivals were shed",
            load.shed,
            load.sent + load.shed
        ));
    }
    problems
}

/// What Davy asked of the splitter besides the rollback.
fn changes(record: &Record) -> Vec<String> {
    let others = record.calls.iter().filter(|call| !call.change.wants_rollback());
    let failed = others.filter(|call| call.change.answer != Answer::Applied);
    let mut problems: Vec<String> = failed
        .map(|call| {
            format!("a step of the ramp was not applied, key {}: {:?}", call.change.key, call.change.answer)
        })
        .collect();
    if record.last.unseen > 0 {
        problems.push(format!("{} changes of the splitter were not looked at", record.last.unseen));
    }
    problems
}

fn healthy(record: &Record) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(seen) = &record.seen {
        problems.push(format!(
            "the canary is healthy, but the verdict was fail after {:.1} s: {}",
            seen.at.as_secs_f64(),
            seen.reason
        ));
    }
    let rollbacks = record.rollbacks().count();
    if rollbacks > 0 {
        problems.push(format!("the canary is healthy, but the rollback was called {rollbacks} times"));
    }
    let waited =
        record.ramp.in_force().filter(|_| record.ramp.steps.len() == 1 && record.ramp.planned.len() > 1);
    if let Some(step) = waited.filter(|step| record.last.at >= step.at + FIRST_STEP_MAX) {
        let seconds = FIRST_STEP_MAX.as_secs();
        problems
            .push(format!("the canary is healthy, but {} % was not passed within {seconds} s", step.share));
    }
    problems
}

fn regression(record: &Record) -> Vec<String> {
    let mut problems = Vec::new();
    let mut wrong = |text: String| problems.push(text);
    match (record.injected, &record.seen) {
        (None, None) => wrong("the fault was never injected".to_owned()),
        (None, Some(seen)) => wrong(format!(
            "the verdict was fail after {:.1} s, before any fault was injected: {}",
            seen.at.as_secs_f64(),
            seen.reason
        )),
        (Some(_), None) => wrong("the fault was never seen: no fail verdict".to_owned()),
        (Some(injected), Some(seen)) if seen.at < injected.at => {
            wrong("the verdict was fail before the fault was injected".to_owned());
        }
        (Some(_), Some(_)) => {}
    }

    if let Some(injected) = record.injected.filter(|injected| injected.share < record.weight) {
        wrong(format!("the fault came at {} %, before the step of {} %", injected.share, record.weight));
    }

    let rollbacks: Vec<&Call> = record.rollbacks().collect();
    match rollbacks.as_slice() {
        [] => wrong("the splitter was never rolled back".to_owned()),
        [call] => {
            let change = &call.change;
            if let Some(order) = &change.order {
                if order.call.as_ref().is_some_and(|call| call.service != record.service) {
                    wrong(format!("the rollback was for another service than {}", record.service));
                }
                if (&order.canary, &order.baseline) != (&record.canary, &record.baseline) {
                    wrong(format!("the rollback was from {} to {}", order.canary, order.baseline));
                }
            }
            if change.answer != Answer::Applied {
                wrong(format!("the rollback was not applied: {:?}", change.answer));
            }
            if record.calls.last().is_some_and(|last| last.change.key != change.key) {
                wrong("the splitter was changed again after the rollback".to_owned());
            }
            let verdict = record.ramp.steps.last().and_then(|step| step.decision.as_ref());
            let verdict = verdict.map_or("none", |decision| &decision.verdict);
            if verdict != "fail" {
                wrong(format!("the rollback was taken on the verdict {verdict}, not fail"));
            }
        }
        calls => wrong(format!("the rollback was called {} times, not once", calls.len())),
    }
    if let Some(call) = record.applied().next() {
        let after = record.last.canary.requests.saturating_sub(call.change.canary.requests);
        if after > 0 {
            wrong(format!("{} got {after} requests after the rollback", record.canary));
        }
        let share = |version: &str| record.last.shares.get(version).copied();
        if (share(&record.baseline), share(&record.canary)) != (Some(100), Some(0)) {
            wrong(format!("the splitter is not back at {}: {:?}", record.baseline, record.last.shares));
        }
    }
    if record.rolled_back_at.is_none() {
        let phase = record.last.release.as_ref().map_or("unknown", |release| &release.phase);
        wrong(format!("the rollback was not verified: the release's phase is {phase}, not rolled_back"));
    }
    for channel in Channel::ALL {
        if record.arrived(channel).next().is_none() {
            wrong(format!("no alert arrived by {} after the injection", channel.as_str()));
        }
    }
    for refused in &record.refused {
        wrong(format!("an alert was turned away: {refused}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::Scenario;
    use crate::demo::ramp::Decision;
    use crate::demo::record::{Look, Tone};
    use crate::demo::samples;
    use crate::demo::splitter::{CallBody, Order};

    fn check(record: &Record, expected: &[&str]) {
        let problems = problems(record);
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, part) in problems.iter().zip(expected) {
            assert!(problem.contains(part), "{problem:?} does not say {part:?}");
        }
    }

    fn altered(alter: impl FnOnce(&mut Record)) -> Record {
        let mut record = samples::rolled_back();
        alter(&mut record);
        record
    }

    #[test]
    fn a_regression_that_was_rolled_back_is_well() {
        check(&samples::rolled_back(), &[]);
    }

    #[test]
    fn a_healthy_canary_that_was_left_alone_is_well() {
        check(&samples::healthy(), &[]);
    }

    #[test]
    fn a_healthy_canary_that_was_condemned_is_not() {
        let record = altered(|r| r.scenario = Scenario::Healthy);
        check(
            &record,
            &["the canary is healthy, but the verdict", "the canary is healthy, but the rollback"],
        );
        let mut record = samples::healthy();
        record.ramp.steps.truncate(1);
        record.ramp.steps[0].until = None;
        check(&record, &[]);
        record.last.at = Duration::from_secs(70);
        check(&record, &["25 % was not passed within 60 s"]);
    }

    #[test]
    fn the_ramp_must_have_been_taken_step_by_step() {
        let verdict = |r: &mut Record, verdict: &str| {
            let decision = Decision { verdict: verdict.to_owned(), reason: String::new() };
            r.ramp.steps[0].decision = Some(decision);
        };
        check(
            &altered(|r| verdict(r, "insufficient")),
            &["after 25 % was taken on the verdict insufficient"],
        );
        check(&altered(|r| r.ramp.steps[1].decision = None), &["rollback was taken on the verdict none"]);
        check(&altered(|r| r.injected.as_mut().unwrap().share = 25), &["the fault came at 25 %"]);
        check(&altered(|r| r.last.unseen = 2), &["2 changes of the splitter were not looked at"]);
        let refused = altered(|r| r.calls[1].change.answer = Answer::Refused(409, "stale".into()));
        check(&refused, &["set_share-50/v2/splitter/3"]);
    }

    #[test]
    fn a_verdict_before_the_injection_is_wrong() {
        check(&altered(|r| r.seen.as_mut().unwrap().at = Duration::from_secs(1)), &["before the fault"]);
        let never = altered(|r| r.injected = None);
        check(&never, &["before any fault", "by webhook", "by slack", "by email"]);
    }

    #[test]
    fn a_fault_that_nobody_saw_is_wrong() {
        let record = altered(|r| {
            r.seen = None;
            r.calls.truncate(2);
            r.rolled_back_at = None;
            r.arrivals.clear();
        });
        check(&record, &["never seen", "never rolled back", "not verified", "webhook", "slack", "email"]);
    }

    #[test]
    fn the_call_must_be_one_and_right() {
        check(&altered(|r| r.calls.push(r.calls[2].clone())), &["called 2 times"]);
        check(&altered(|r| r.calls.push(r.calls[1].clone())), &["changed again after"]);
        let order = |alter: fn(&mut Order)| altered(|r| alter(r.calls[2].change.order.as_mut().unwrap()));
        check(&order(|o| std::mem::swap(&mut o.canary, &mut o.baseline)), &["from v1 to v2"]);
        let of_another = |o: &mut Order| {
            o.call = Some(CallBody { service: "cart".into(), ..CallBody::default() });
        };
        check(&order(of_another), &["another service"]);
        // HAProxy is given weights and a mark: nothing to read of the service.
        check(&order(|o| o.call = None), &[]);
        let refused = altered(|r| r.calls[2].change.answer = Answer::Refused(409, "stale".into()));
        check(&refused, &["not applied"]);
    }

    #[test]
    fn a_canary_that_still_serves_is_wrong() {
        check(&altered(|r| r.last.canary.requests += 1), &["v2 got 1 requests after the rollback"]);
        let shared = altered(|r| r.last.shares = [("v1".to_owned(), 99), ("v2".to_owned(), 1)].into());
        check(&shared, &["not back at v1"]);
    }

    #[test]
    fn an_unverified_rollback_is_wrong() {
        let record = altered(|r| {
            r.rolled_back_at = None;
            r.last.release.as_mut().unwrap().phase = "verifying".into();
        });
        check(&record, &["phase is verifying"]);
    }

    #[test]
    fn every_channel_must_have_brought_the_alert() {
        for channel in Channel::ALL {
            let record = altered(|r| r.arrivals.retain(|a| a.letter.channel != channel));
            check(&record, &[channel.as_str()]);
        }
        let about_another = altered(|r| r.arrivals[0].letter.text = "cart".into());
        check(&about_another, &["no alert arrived"]);
        check(&altered(|r| r.refused.push("signature invalid".into())), &["turned away"]);
    }

    #[test]
    fn a_load_that_was_not_kept_up_or_a_release_never_seen_is_wrong_in_any_scenario() {
        let mut record = samples::healthy();
        record.last.load.shed = record.last.load.sent;
        check(&record, &["could not be kept up"]);
        let mut record = samples::healthy();
        record.last = Look { load: record.last.load, ..Look::default() };
        record.say(Duration::ZERO, Tone::Plain, "nothing");
        check(&record, &["never opened a release"]);
        record.blind("status 500".to_owned());
        check(&record, &["failed 1 times, last with: status 500"]);
    }
}
