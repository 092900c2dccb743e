//! What a release machine does, told as stories: each line of a script is an event, 15 seconds apart, and the
//! answer shows the phase it leads to with everything that was asked for.

mod common;

use std::fmt::Write;
use std::time::Duration;

use common::verdicts::{errors, verdict};
use davy_alerting::alert::{ACTION, ALERTNAME, Alert, fingerprint};
use davy_alerting::config::{OnFail, Policy};
use davy_alerting::release::{
    CallOutcome, Command, Event, Liveness, OperatorAct, ReleaseMachine, record_alert, verdict_of,
};
use davy_detector::{Contract, Outcome, Verdict};
use davy_model::Timestamp;
use expect_test::{Expect, expect};

fn policy(on_fail: OnFail) -> Policy {
    Policy {
        on_fail,
        watch: Duration::from_secs(60),
        verify_timeout: Duration::from_secs(60),
        rollback: Some("to-stable".into()),
    }
}

fn machine(policy: Policy) -> ReleaseMachine {
    let name = |s: &str| s.to_owned();
    let now = Timestamp::from_millis(0);
    ReleaseMachine::new(7, name("checkout-v2-7"), name("checkout"), name("v1"), name("v2"), policy, now)
}

fn live(baseline: Option<f64>, canary: Option<f64>, blind: bool) -> Liveness {
    Liveness {
        baseline_seen: baseline.is_some(),
        canary_seen: canary.is_some(),
        baseline_requests: baseline,
        canary_requests: canary,
        blind,
    }
}

/// Plays one line; a verdict and a look are both meant by `fail`, `pass` and `insufficient`.
fn play(m: &mut ReleaseMachine, now: Timestamp, line: &str) -> Vec<Command> {
    let healthy = live(Some(900.0), Some(100.0), false);
    let judge = |m: &mut ReleaseMachine, v: Verdict| {
        let mut commands = m.step(now, Event::Live(healthy));
        commands.extend(m.step(now, Event::Judged(&v)));
        commands
    };
    let order = |act| Event::Operator(act, "ana".into(), "because".into());
    match line {
        "fail" => judge(m, verdict(Outcome::Fail, Contract::Ok, now)),
        "pass" => judge(m, verdict(Outcome::Pass, Contract::Ok, now)),
        "insufficient" => judge(m, verdict(Outcome::Insufficient, Contract::Ok, now)),
        "soft fail" => {
            let soft = verdict(Outcome::Insufficient, Contract::Ok, now);
            judge(m, Verdict { metrics: vec![errors(Outcome::Fail)], ..soft })
        }
        "fail, contract blind" => judge(m, verdict(Outcome::Fail, Contract::Blind, now)),
        "fail without a look" => m.step(now, Event::Judged(&verdict(Outcome::Fail, Contract::Ok, now))),
        "stale fail" => judge(m, verdict(Outcome::Fail, Contract::Ok, now - Duration::from_secs(3600))),
        "look" => m.step(now, Event::Live(healthy)),
        "blind" => m.step(now, Event::Live(Liveness { blind: true, ..healthy })),
        "nothing seen" => m.step(now, Event::Live(live(None, None, false))),
        "canary gone" => m.step(now, Event::Live(live(Some(1000.0), None, false))),
        "baseline gone" => m.step(now, Event::Live(live(None, Some(1000.0), false))),
        "drained" => m.step(now, Event::Live(live(Some(1000.0), Some(0.0), false))),
        "probes only" => m.step(now, Event::Live(live(Some(1000.0), Some(1.0), false))),
        "idle" => m.step(now, Event::Live(live(Some(0.0), Some(0.0), false))),
        "accepted" => m.step(now, Event::Called(CallOutcome::Accepted { status: 200 })),
        "rejected" => {
            m.step(now, Event::Called(CallOutcome::Rejected { status: 409, detail: "not that one".into() }))
        }
        "not sent" => {
            m.step(now, Event::Called(CallOutcome::NotSent { detail: "connection refused".into() }))
        }
        "unknown" => m.step(now, Event::Called(CallOutcome::Unknown { detail: "timed out".into() })),
        "hold" => m.step(now, order(OperatorAct::Hold)),
        "resume" => m.step(now, order(OperatorAct::Resume)),
        "rollback" => m.step(now, order(OperatorAct::Rollback)),
        "promote" => m.step(now, order(OperatorAct::Promote)),
        "superseded" => m.step(now, Event::Superseded { by: "v3".into() }),
        "tick" => m.step(now, Event::Tick),
        "restart" => {
            *m = ReleaseMachine::from_record(&m.to_record(), m.policy().clone()).expect("its own record");
            m.step(now, Event::Restarted)
        }
        other => panic!("no such event: {other}"),
    }
}

/// Plays the script and compares what came of it. `5 min: look` waits first; `look x4` repeats.
fn check(policy: Policy, script: &str, want: &Expect) {
    let mut m = machine(policy);
    let mut now = Timestamp::from_millis(0);
    let mut told = String::new();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (wait, event) = line.split_once(" min: ").unwrap_or(("0", line));
        now = now + Duration::from_secs(60 * wait.parse::<u64>().unwrap());
        let (event, times) = event.rsplit_once(" x").unwrap_or((event, "1"));
        for _ in 0..times.parse().unwrap() {
            now = now + Duration::from_secs(15);
            let commands = play(&mut m, now, event);
            writeln!(told, "{}s {event}: {}", now.as_millis() / 1000, m.phase().as_str()).unwrap();
            for command in &commands {
                writeln!(told, "    {}", show(command)).unwrap();
            }
        }
    }
    want.assert_eq(&told);
}

fn show(command: &Command) -> String {
    match command {
        Command::Audit(a) => format!("audit {} {}: {} ({})", a.actor, a.action, a.outcome, a.reason),
        Command::Raise(a) => format!("raise {}: {}", a.name(), a.annotation(ACTION)),
        Command::Resolve { fingerprint, annotations } => {
            format!("resolve {}: {}", alert_name(fingerprint), annotations[ACTION])
        }
        Command::Call(r) => {
            format!("CALL {} {} -> {} key {}", r.actuator, r.from_version, r.to_version, r.key)
        }
    }
}

/// Finds the alert behind a fingerprint of the test's release.
fn alert_name(wanted: &str) -> &'static str {
    for (name, severity) in [
        ("CanaryRegression", "critical"),
        ("RollbackVerified", "info"),
        ("RollbackNeedsHuman", "critical"),
        ("DavyBlind", "critical"),
        ("ReleaseStuck", "warning"),
        ("RolledBackCanaryServes", "critical"),
        ("CanaryMetricWorse", "warning"),
    ] {
        let labels = davy_model::Labels::from_pairs([
            (ALERTNAME, name),
            ("severity", severity),
            ("release", "checkout-v2-7"),
            ("service", "checkout"),
            ("version", "v2"),
            ("baseline", "v1"),
            ("metric", if name == "CanaryMetricWorse" { "errors" } else { "" }),
        ]);
        if fingerprint(&labels) == wanted {
            return name;
        }
    }
    panic!("{wanted} is no alert of this release")
}

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
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted with status 200); looking whether it worked)
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
fn a_call_that_was_not_sent_is_repeated_under_its_key_with_growing_waits() {
    check(
        policy(OnFail::Rollback),
        "fail\nnot sent\nfail\nnot sent\nfail\nblind\nfail without a look\naccepted",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s not sent: rolling_back
                audit davy call: not sent, attempt 1 of 8 (connection refused)
            45s fail: rolling_back
                audit davy call: intended, attempt 2 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            60s not sent: rolling_back
                audit davy call: not sent, attempt 2 of 8 (connection refused)
            75s fail: rolling_back
                audit davy call: intended, attempt 3 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            90s blind: rolling_back
            105s fail without a look: rolling_back
            120s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted with status 200); looking whether it worked)
        "#]],
    );
}

#[test]
fn after_eight_attempts_a_human_is_paged_and_may_order_it_again() {
    let mut script = String::new();
    for _ in 0..8 {
        script += "1 min: fail\nnot sent\n";
    }
    script += "fail\nresume\nfail\nrollback\nrestart\n";
    check(
        policy(OnFail::Rollback),
        &script,
        &expect![[r#"
            75s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            90s not sent: rolling_back
                audit davy call: not sent, attempt 1 of 8 (connection refused)
            165s fail: rolling_back
                audit davy call: intended, attempt 2 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            180s not sent: rolling_back
                audit davy call: not sent, attempt 2 of 8 (connection refused)
            255s fail: rolling_back
                audit davy call: intended, attempt 3 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            270s not sent: rolling_back
                audit davy call: not sent, attempt 3 of 8 (connection refused)
            345s fail: rolling_back
                audit davy call: intended, attempt 4 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            360s not sent: rolling_back
                audit davy call: not sent, attempt 4 of 8 (connection refused)
            435s fail: rolling_back
                audit davy call: intended, attempt 5 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            450s not sent: rolling_back
                audit davy call: not sent, attempt 5 of 8 (connection refused)
            525s fail: rolling_back
                audit davy call: intended, attempt 6 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            540s not sent: rolling_back
                audit davy call: not sent, attempt 6 of 8 (connection refused)
            615s fail: rolling_back
                audit davy call: intended, attempt 7 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            630s not sent: rolling_back
                audit davy call: not sent, attempt 7 of 8 (connection refused)
            705s fail: rolling_back
                audit davy call: intended, attempt 8 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            720s not sent: needs_human
                audit davy call: not sent, attempt 8 of 8 (connection refused)
                audit davy page: rolling_back -> needs_human (the rollback call could not be delivered: connection refused)
                raise RollbackNeedsHuman: Nothing more is tried: a human must look.
            735s fail: needs_human
            750s resume: watching
                audit ana resume: needs_human -> watching (because)
                resolve RollbackNeedsHuman: ana resumed: because
            765s fail: watching
            780s rollback: rolling_back
                audit ana rollback: watching -> rolling_back (because)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            795s restart: verifying
                audit davy verify: rolling_back -> verifying (the call may or may not have been carried out (Davy stopped while the call was in flight); looking whether it worked)
        "#]],
    );
}

#[test]
fn an_unknown_result_is_never_sent_again() {
    check(
        policy(OnFail::Rollback),
        "fail\nunknown\nfail\nlook x5\nrollback\nresume\nfail",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s unknown: verifying
                audit davy verify: rolling_back -> verifying (the call may or may not have been carried out (timed out); looking whether it worked)
            45s fail: verifying
            60s look: verifying
            75s look: verifying
            90s look: needs_human
                audit davy page: verifying -> needs_human (v2 still serves 60 s after the rollback was called: timed out)
                raise RollbackNeedsHuman: Nothing more is tried: a human must look.
            105s look: needs_human
            120s look: needs_human
            135s rollback: needs_human
                audit ana rollback: refused: the rollback of this generation has been called already (because)
            150s resume: watching
                audit ana resume: needs_human -> watching (because)
                resolve RollbackNeedsHuman: ana resumed: because
            165s fail: watching
        "#]],
    );
}

#[test]
fn a_refusal_pages_and_a_humans_own_rollback_closes() {
    check(
        policy(OnFail::Rollback),
        "fail\nrejected\nfail\ncanary gone x2",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s rejected: needs_human
                audit davy page: rolling_back -> needs_human (the rollback call was rejected: rejected with status 409: not that one)
                raise RollbackNeedsHuman: Nothing more is tried: a human must look.
            45s fail: needs_human
            60s canary gone: needs_human
            75s canary gone: closed
                audit davy close: needs_human -> closed (v2 no longer serves, without a call of Davy's)
                resolve CanaryRegression: The release is closed: v2 no longer serves, without a call of Davy's.
                resolve RollbackNeedsHuman: The release is closed: v2 no longer serves, without a call of Davy's.
        "#]],
    );
}

#[test]
fn a_restart_during_the_call_counts_as_unknown_and_during_a_wait_goes_on_waiting() {
    check(
        policy(OnFail::Rollback),
        "fail\nrestart\naccepted\ncanary gone x2",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s restart: verifying
                audit davy verify: rolling_back -> verifying (the call may or may not have been carried out (Davy stopped while the call was in flight); looking whether it worked)
            45s accepted: verifying
                audit davy call: ignored: no call of this release is in flight (accepted with status 200)
            60s canary gone: verifying
            75s canary gone: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is gone while v1 serves, 60 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is gone while v1 serves, 60 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is gone while v1 serves, 60 s after the call.
        "#]],
    );
    check(
        policy(OnFail::Rollback),
        "fail\nnot sent\nrestart\ntick\nfail",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s not sent: rolling_back
                audit davy call: not sent, attempt 1 of 8 (connection refused)
            45s restart: rolling_back
            60s tick: rolling_back
            75s fail: rolling_back
                audit davy call: intended, attempt 2 of 8 (errors are worse than tolerated)
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
        "#]],
    );
}

#[test]
fn blind_looks_freeze_the_verification() {
    check(
        policy(OnFail::Rollback),
        "fail\naccepted\nlook x2\nblind x6\nlook\nblind\nlook x2",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted with status 200); looking whether it worked)
            45s look: verifying
            60s look: verifying
            75s blind: verifying
            90s blind: verifying
            105s blind: verifying
            120s blind: verifying
            135s blind: verifying
            150s blind: verifying
            165s look: verifying
            180s blind: verifying
            195s look: needs_human
                audit davy page: verifying -> needs_human (v2 still serves 60 s after the rollback was called: accepted with status 200)
                raise RollbackNeedsHuman: Nothing more is tried: a human must look.
            210s look: needs_human
        "#]],
    );
}

#[test]
fn probes_on_a_drained_canary_are_no_traffic_and_an_idle_service_is_no_proof() {
    check(
        policy(OnFail::Rollback),
        "fail\naccepted\nidle x2\nprobes only x2",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted with status 200); looking whether it worked)
            45s idle: verifying
            60s idle: verifying
            75s probes only: verifying
            90s probes only: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is without traffic while v1 serves, 75 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is without traffic while v1 serves, 75 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is without traffic while v1 serves, 75 s after the call.
        "#]],
    );
}

#[test]
fn a_rollback_that_works_late_is_noticed() {
    check(
        policy(OnFail::Rollback),
        "fail\naccepted\nlook x4\ncanary gone x2",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted with status 200); looking whether it worked)
            45s look: verifying
            60s look: verifying
            75s look: verifying
            90s look: needs_human
                audit davy page: verifying -> needs_human (v2 still serves 60 s after the rollback was called: accepted with status 200)
                raise RollbackNeedsHuman: Nothing more is tried: a human must look.
            105s canary gone: needs_human
            120s canary gone: rolled_back
                audit davy verify: needs_human -> rolled_back (v2 is gone while v1 serves, 105 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is gone while v1 serves, 105 s after the call.
                resolve RollbackNeedsHuman: Rolled back and verified: v2 is gone while v1 serves, 105 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is gone while v1 serves, 105 s after the call.
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
fn another_version_closes_before_the_call_and_not_after() {
    check(
        policy(OnFail::Rollback),
        "superseded\nfail",
        &expect![[r#"
            15s superseded: closed
                audit davy close: watching -> closed (superseded by v3)
            30s fail: closed
        "#]],
    );
    check(
        policy(OnFail::Rollback),
        "fail\nnot sent\nsuperseded\nfail",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s not sent: rolling_back
                audit davy call: not sent, attempt 1 of 8 (connection refused)
            45s superseded: closed
                audit davy close: rolling_back -> closed (superseded by v3)
                resolve CanaryRegression: The release is closed: superseded by v3.
            60s fail: closed
        "#]],
    );
    check(
        policy(OnFail::Rollback),
        "fail\nsuperseded\nnot sent",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s superseded: rolling_back
            45s not sent: closed
                audit davy call: not sent, attempt 1 of 8 (connection refused)
                audit davy close: rolling_back -> closed (superseded by v3)
                resolve CanaryRegression: The release is closed: superseded by v3.
        "#]],
    );
    check(
        policy(OnFail::Rollback),
        "fail\naccepted\nsuperseded\ncanary gone x2",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted with status 200); looking whether it worked)
            45s superseded: verifying
                audit davy close: refused: the rollback is being verified (superseded by v3)
            60s canary gone: verifying
            75s canary gone: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is gone while v1 serves, 60 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is gone while v1 serves, 60 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is gone while v1 serves, 60 s after the call.
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
fn a_version_that_comes_back_after_its_rollback_is_only_told_of() {
    check(
        policy(OnFail::Rollback),
        "fail\naccepted\ndrained x2\nlook x4\nfail\ndrained x3",
        &expect![[r#"
            15s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action to-stable.
                CALL to-stable v2 -> v1 key checkout-v2-7-rollback
            30s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted with status 200); looking whether it worked)
            45s drained: verifying
            60s drained: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is without traffic while v1 serves, 45 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is without traffic while v1 serves, 45 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is without traffic while v1 serves, 45 s after the call.
            75s look: rolled_back
            90s look: rolled_back
            105s look: rolled_back
                audit davy look: page; nothing else is done (v2 has traffic again)
                raise RolledBackCanaryServes: Nothing was done: a human may have meant it.
            120s look: rolled_back
            135s fail: rolled_back
            150s drained: rolled_back
            165s drained: rolled_back
            180s drained: rolled_back
                resolve RolledBackCanaryServes: It is without traffic again.
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
    let alert: Alert = record_alert(&record, &error, Timestamp::from_millis(5));
    assert_eq!(alert.labels.get("severity"), Some("critical"));

    let mut record = machine(policy(OnFail::Rollback)).to_record();
    record.detail = record.detail.replace("\"format\":1", "\"format\":2");
    let error = ReleaseMachine::from_record(&record, policy(OnFail::Rollback)).unwrap_err();
    assert!(error.to_string().contains("is in format 2, written by a newer version"), "{error}");
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
