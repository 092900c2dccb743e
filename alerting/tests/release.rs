//! What a release machine does about verdicts, operators and time, told as stories.

mod common;

use common::story::{check, machine, play, policy};
use davy_alerting::alert::Alert;
use davy_alerting::config::{OnFail, Policy};
use davy_alerting::release::{Command, ReleaseMachine, record_alert, verdict_of};
use davy_alerting::words::Language;
use davy_model::Timestamp;
use expect_test::expect;

#[test]
fn a_bad_canary_is_rolled_back_and_verified() {
    check(
        policy(OnFail::Rollback),
        "insufficient
         fail
         accepted
         look
         drained x2
         look x3",
        &expect![[r#"
            15s insufficient: watching
            30s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            45s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
            60s look: verifying
            75s drained: verifying
            90s drained: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is without traffic while v1 serves, 60 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is without traffic while v1 serves, 60 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is without traffic while v1 serves, 60 s after the call.
            105s look: rolled_back
            120s look: rolled_back
            135s look: rolled_back
                audit davy look: page; nothing else is done (v2 has traffic again)
                raise RolledBackCanaryServes: Nothing was done: a human may have meant it.
        "#]],
    );
}

#[test]
fn a_healthy_canary_is_promoted_watched_on_and_closed_when_it_serves_alone() {
    check(
        policy(OnFail::Rollback),
        "pass x4\npass\nbaseline gone x4",
        &expect![[r#"
            15s pass: watching
            30s pass: watching
            45s pass: watching
            60s pass: promoted
                audit davy promote: watching -> promoted (passed its watch: errors and latency are no worse than tolerated)
            75s pass: promoted
            90s baseline gone: promoted
            105s baseline gone: promoted
            120s baseline gone: promoted
            135s baseline gone: closed
                audit davy close: promoted -> closed (promoted: v2 serves alone, v1 is gone)
        "#]],
    );
}

#[test]
fn a_fail_after_promotion_still_rolls_back() {
    check(
        policy(OnFail::Rollback),
        "pass x4\nfail",
        &expect![[r#"
            15s pass: watching
            30s pass: watching
            45s pass: watching
            60s pass: promoted
                audit davy promote: watching -> promoted (passed its watch: errors and latency are no worse than tolerated)
            75s fail: rolling_back
                audit davy rollback: promoted -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
        "#]],
    );
}

#[test]
fn record_and_hold_alert_and_call_nothing() {
    check(
        policy(OnFail::Record),
        "fail x2\npass\nfail",
        &expect![[r#"
            15s fail: watching
                audit davy judge: fail: Nothing was done: on_fail is record. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was done: on_fail is record.
            30s fail: watching
            45s pass: watching
                resolve CanaryRegression: The judge now says pass: errors and latency are no worse than tolerated
            60s fail: watching
                audit davy judge: fail: Nothing was done: on_fail is record. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was done: on_fail is record.
        "#]],
    );
    check(
        policy(OnFail::Hold),
        "fail x2\nresume\nfail x2\npass\nfail",
        &expect![[r#"
            15s fail: holding
                audit davy hold: watching -> holding (errors are worse than tolerated)
                audit davy judge: fail: The release is on hold until an operator resumes. (errors are worse than tolerated)
                raise CanaryRegression: The release is on hold until an operator resumes.
            30s fail: holding
            45s resume: watching
                audit ana resume: holding -> watching (because)
            60s fail: watching
            75s fail: watching
            90s pass: promoted
                resolve CanaryRegression: The judge now says pass: errors and latency are no worse than tolerated
                audit davy promote: watching -> promoted (passed its watch: errors and latency are no worse than tolerated)
            105s fail: holding
                audit davy hold: promoted -> holding (errors are worse than tolerated)
                audit davy judge: fail: The release is on hold until an operator resumes. (errors are worse than tolerated)
                raise CanaryRegression: The release is on hold until an operator resumes.
        "#]],
    );
}

#[test]
fn what_is_no_evidence_calls_nothing() {
    check(
        policy(OnFail::Rollback),
        "fail without a look
         fail, contract blind
         stale fail
         blind
         fail without a look
         nothing seen
         fail without a look
         canary gone
         fail without a look
         baseline gone
         fail without a look",
        &expect![[r#"
            15s fail without a look: watching
                audit davy judge: fail: Nothing was rolled back: the live versions have not been looked at lately. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was rolled back: the live versions have not been looked at lately.
            30s fail, contract blind: watching
            45s stale fail: watching
            60s blind: watching
            75s fail without a look: watching
            90s nothing seen: watching
            105s fail without a look: watching
            120s canary gone: watching
                raise ReleaseStuck: watching since 1970-01-01 00:00:00 UTC
            135s fail without a look: watching
            150s baseline gone: watching
            165s fail without a look: watching
        "#]],
    );
}

#[test]
fn a_canary_that_leaves_is_closed() {
    check(
        policy(OnFail::Rollback),
        "insufficient\ncanary gone x3\nlook\ncanary gone x4\nfail",
        &expect![[r#"
            15s insufficient: watching
            30s canary gone: watching
            45s canary gone: watching
            60s canary gone: watching
            75s look: watching
            90s canary gone: watching
            105s canary gone: watching
            120s canary gone: watching
                raise ReleaseStuck: watching since 1970-01-01 00:00:00 UTC
            135s canary gone: closed
                audit davy close: watching -> closed (canary gone: v2 left while v1 serves)
                resolve ReleaseStuck: watching -> closed
            150s fail: closed
        "#]],
    );
}

#[test]
fn a_hold_stops_everything_but_an_operators_word() {
    check(
        policy(OnFail::Rollback),
        "hold\nfail\npass\nfail\nrollback\nhold\nnot sent\nfail",
        &expect![[r#"
            15s hold: holding
                audit ana hold: watching -> holding (because)
            30s fail: holding
                audit davy judge: fail: Nothing was done: the release is on hold. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was done: the release is on hold.
            45s pass: holding
                resolve CanaryRegression: The judge now says pass: errors and latency are no worse than tolerated
            60s fail: holding
                audit davy judge: fail: Nothing was done: the release is on hold. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was done: the release is on hold.
            75s rollback: rolling_back
                audit ana rollback: holding -> rolling_back (because)
                audit davy call: intended, attempt 1 of 8 (because)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            90s hold: rolling_back
                audit ana hold: the call is in flight; it will not be repeated (because)
            105s not sent: holding
                audit davy call: not sent, attempt 1 of 8 (connection refused)
                audit davy hold: rolling_back -> holding (held by ana before it was sent)
            120s fail: holding
        "#]],
    );
    check(
        policy(OnFail::Rollback),
        "fail\nnot sent\nhold\nresume\nfail\nrollback",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s not sent: rolling_back
                audit davy call: not sent, attempt 1 of 8 (connection refused)
            45s hold: holding
                audit ana hold: rolling_back -> holding (because)
            60s resume: watching
                audit ana resume: holding -> watching (because)
            75s fail: watching
            90s rollback: rolling_back
                audit ana rollback: watching -> rolling_back (because)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
        "#]],
    );
}

#[test]
fn a_promotion_by_an_operator_is_not_rolled_back_until_someone_resumes() {
    check(
        policy(OnFail::Rollback),
        "promote\nfail\nresume\nfail",
        &expect![[r#"
            15s promote: promoting
                audit ana promote: watching -> promoting (because)
            30s fail: promoting
                audit davy judge: fail: Nothing was done: an operator promoted this version. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was done: an operator promoted this version.
            45s resume: watching
                audit ana resume: promoting -> watching (because)
            60s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
        "#]],
    );
}

#[test]
fn every_state_that_lasts_tells_someone() {
    check(
        policy(OnFail::Rollback),
        "look\n1 min: look\n2 min: look\nhold\n241 min: look\nresume",
        &expect![[r#"
            15s look: watching
            90s look: watching
            225s look: watching
                raise ReleaseStuck: watching since 1970-01-01 00:00:00 UTC
            240s hold: holding
                audit ana hold: watching -> holding (because)
                resolve ReleaseStuck: watching -> holding
            14715s look: holding
                raise ReleaseStuck: holding since 1970-01-01 00:04:00 UTC
            14730s resume: watching
                audit ana resume: holding -> watching (because)
                resolve ReleaseStuck: holding -> watching
        "#]],
    );
    check(
        policy(OnFail::Rollback),
        "blind x19\nblind x2\nlook",
        &expect![[r#"
            15s blind: watching
            30s blind: watching
            45s blind: watching
            60s blind: watching
            75s blind: watching
            90s blind: watching
            105s blind: watching
            120s blind: watching
                raise ReleaseStuck: watching since 1970-01-01 00:00:00 UTC
            135s blind: watching
            150s blind: watching
            165s blind: watching
            180s blind: watching
            195s blind: watching
            210s blind: watching
            225s blind: watching
            240s blind: watching
            255s blind: watching
            270s blind: watching
            285s blind: watching
            300s blind: watching
                raise DavyBlind: Nothing is decided until the versions are seen again.
            315s blind: watching
            330s look: watching
                resolve DavyBlind: The versions are seen again.
        "#]],
    );
    check(
        policy(OnFail::Rollback),
        "fail\n6 min: tick\ncanary gone x2",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            390s tick: verifying
                audit davy verify: rolling_back -> verifying (the call may or may not have been carried out (no result of the call was reported); looking whether it worked)
                raise DavyBlind: Nothing is decided until the versions are seen again.
            405s canary gone: verifying
                resolve DavyBlind: The versions are seen again.
            420s canary gone: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is gone while v1 serves, 405 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is gone while v1 serves, 405 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is gone while v1 serves, 405 s after the call.
        "#]],
    );
}

#[test]
fn a_metric_that_is_worse_without_failing_the_release_is_alerted_on() {
    check(
        policy(OnFail::Rollback),
        "soft fail x2\ninsufficient",
        &expect![[r#"
            15s soft fail: watching
                raise CanaryMetricWorse: Nothing was done: this metric does not decide the release.
            30s soft fail: watching
            45s insufficient: watching
                resolve CanaryMetricWorse: It is no longer worse by itself.
        "#]],
    );
}

#[test]
fn without_an_action_in_the_file_nothing_can_be_called() {
    check(
        Policy { rollback: None, ..policy(OnFail::Rollback) },
        "fail\nrollback",
        &expect![[r#"
            15s fail: watching
                audit davy judge: fail: Nothing was rolled back: no rollback action is configured. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was rolled back: no rollback action is configured.
            30s rollback: watching
                audit ana rollback: refused: no rollback action is configured (because)
        "#]],
    );
}

#[test]
fn a_record_from_a_newer_version_is_refused_and_paged() {
    let mut record = machine(policy(OnFail::Rollback)).to_record();
    record.phase = "ramping".into();
    let error = ReleaseMachine::from_record(&record, policy(OnFail::Rollback)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "release checkout-v2-7 has the unknown phase \"ramping\", written by a newer version"
    );
    let alert: Alert = record_alert(&record, &error, Language::English, Timestamp::from_millis(5));
    assert_eq!(alert.labels.get("severity"), Some("critical"));

    let mut record = machine(policy(OnFail::Rollback)).to_record();
    record.detail = record.detail.replace("\"format\":2", "\"format\":3");
    let error = ReleaseMachine::from_record(&record, policy(OnFail::Rollback)).unwrap_err();
    assert!(error.to_string().contains("is in format 3, written by a newer version"), "{error}");
}

#[test]
fn the_batch_holds_state_action_and_audit_of_the_intent() {
    let mut m = machine(policy(OnFail::Rollback));
    let commands = play(&mut m, Timestamp::from_millis(15_000), "fail");
    let batch = m.batch(&commands);
    assert!(matches!(commands.last(), Some(Command::Call(_))), "the call comes last");
    assert_eq!((batch.releases.len(), batch.actions.len()), (1, 1));
    let (release, action) = (&batch.releases[0], &batch.actions[0]);
    assert_eq!((release.phase.as_str(), release.verdict.as_str()), ("rolling_back", "fail"));
    assert_eq!(release.decided_at, Some(Timestamp::from_millis(15_000)));
    assert_eq!(
        (action.id.as_str(), action.state.as_str(), action.attempts),
        ("checkout-v2-7-rollback", "calling", 1)
    );
    assert!(batch.audit.iter().any(|a| a.action == "call" && a.outcome.starts_with("intended")));
    let shown = verdict_of(release).unwrap().expect("the verdict is kept in full");
    assert_eq!(shown.metrics[0].name, "errors");
    assert!(shown.metrics[1].upper.is_nan(), "null reads back as NaN");
}
