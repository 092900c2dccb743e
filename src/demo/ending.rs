//! Did the story go as its scenario says? A pure function of the record.

use super::inbox::Channel;
use super::record::Record;

/// Share of the arrivals that may have been shed: above it the load was not what it claims to be.
const SHED_SHARE_MAX: f64 = 0.02;

/// What went otherwise than the scenario says, a sentence each; empty when all went well.
pub(super) fn problems(record: &Record) -> Vec<String> {
    let mut problems = match record.scenario.fault() {
        Some(_) => regression(record),
        None => healthy(record),
    };
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

fn healthy(record: &Record) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(seen) = &record.seen {
        problems.push(format!(
            "the canary is healthy, but the verdict was fail after {:.1} s: {}",
            seen.at.as_secs_f64(),
            seen.reason
        ));
    }
    if !record.calls.is_empty() {
        problems
            .push(format!("the canary is healthy, but the rollback was called {} times", record.calls.len()));
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

    match record.calls.as_slice() {
        [] => wrong("the splitter's rollback was never called".to_owned()),
        [call] => {
            match &call.call.body {
                Some(body) if body.service != record.service => {
                    wrong(format!("the rollback was for service {:?}", body.service));
                }
                Some(body)
                    if (&body.from_version, &body.to_version) != (&record.canary, &record.baseline) =>
                {
                    wrong(format!("the rollback was from {} to {}", body.from_version, body.to_version));
                }
                Some(_) | None => {}
            }
            if record.applied().next().is_none() {
                wrong(format!("the rollback was not applied: {:?}", call.call.answer));
            }
        }
        calls => wrong(format!("the rollback was called {} times, not once", calls.len())),
    }
    if let Some(call) = record.applied().next() {
        let after = record.last.canary.requests.saturating_sub(call.call.canary_requests);
        if after > 0 {
            wrong(format!("{} got {after} requests after the rollback", record.canary));
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
    use std::time::Duration;

    use super::*;
    use crate::demo::Scenario;
    use crate::demo::record::{Look, Tone};
    use crate::demo::samples;
    use crate::demo::splitter::RollbackAnswer;

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
            r.calls.clear();
            r.rolled_back_at = None;
            r.arrivals.clear();
        });
        check(&record, &["never seen", "never called", "not verified", "webhook", "slack", "email"]);
    }

    #[test]
    fn the_call_must_be_one_and_right() {
        check(&altered(|r| r.calls.push(r.calls[0].clone())), &["called 2 times"]);
        let body = |alter: fn(&mut crate::demo::splitter::RollbackBody)| {
            altered(|r| alter(r.calls[0].call.body.as_mut().unwrap()))
        };
        check(&body(|b| std::mem::swap(&mut b.from_version, &mut b.to_version)), &["from v1 to v2"]);
        check(&body(|b| b.service = "cart".into()), &["for service \"cart\""]);
        let refused = altered(|r| r.calls[0].call.answer = RollbackAnswer::Refused(409, "stale".into()));
        check(&refused, &["not applied"]);
    }

    #[test]
    fn a_canary_that_still_serves_is_wrong() {
        check(&altered(|r| r.last.canary.requests += 1), &["v2 got 1 requests after the rollback"]);
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
