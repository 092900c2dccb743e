//! Stories of releases whose target can be asked: read before the call, compare and set, read back, adopt.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::story::{check, machine, play, policy};
use davy_alerting::config::{Approval, Hand, OnFail, Policy, Ramp};
use davy_alerting::release::{Command, Level};
use davy_model::Timestamp;
use expect_test::expect;

fn asked() -> Policy {
    Policy { rollback: Some(Hand { name: "split".into(), level: Level::A }), ..policy(OnFail::Rollback) }
}

fn ramped() -> Policy {
    let hand = Hand { name: "split".into(), level: Level::A };
    Policy { ramp: Some(Ramp { hand, steps: vec![5, 25, 100] }), ..asked() }
}

#[test]
fn it_is_read_before_it_is_called_and_read_back_after() {
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g4 canary 10
         accepted
         look
         target: g5 baseline
         drained x2",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g4
            75s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
                READ split
            90s look: verifying
            105s target: g5 baseline: verifying
            120s drained: verifying
            135s drained: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is without traffic while v1 serves, 90 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is without traffic while v1 serves, 90 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is without traffic while v1 serves, 90 s after the call.
        "#]],
    );
}

#[test]
fn what_changed_since_it_was_judged_is_judged_again() {
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g6 canary 10
         insufficient
         fail
         target: g6 canary 10
         conflict
         target: g7 other v3",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g6 canary 10: watching
                audit davy withdraw: rolling_back -> watching (the target changed to generation g6 since it was judged)
            75s insufficient: watching
            90s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            105s target: g6 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g6
            120s conflict: rolling_back
                audit davy call: refused by the target: it is read again (conflict: status 409)
                READ split
            135s target: g7 other v3: closed
                audit davy close: rolling_back -> closed (superseded by v3)
                resolve CanaryRegression: The release is closed: superseded by v3.
        "#]],
    );
}

#[test]
fn a_rollback_by_someone_else_is_adopted_and_one_that_was_undone_is_left_alone() {
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g5 baseline
         target: g5 baseline
         drained x2",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g5 baseline: verifying
                audit davy verify: rolling_back -> verifying (someone else has rolled back (read back at generation g5); looking whether it worked)
                READ split
            75s target: g5 baseline: verifying
            90s drained: verifying
            105s drained: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is without traffic while v1 serves, 60 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is without traffic while v1 serves, 60 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is without traffic while v1 serves, 60 s after the call.
        "#]],
    );
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g6 canary 10 mark rollback/v2/u1/g4
         fail x2",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g6 canary 10 mark rollback/v2/u1/g4: rolled_back
                audit davy look: rolling_back -> rolled_back (v2 was rolled back before and has been brought back)
                raise RolledBackCanaryServes: Nothing was done: a human may have meant it.
            75s fail: rolled_back
            90s fail: rolled_back
        "#]],
    );
}

#[test]
fn an_unknown_result_is_resolved_by_reading() {
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g4 canary 10
         unknown
         unreachable
         tick
         target: g4 canary 10
         unknown
         target: g5 baseline mark rollback/v2/u1/g4
         target: g5 baseline mark rollback/v2/u1/g4
         drained x2",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g4
            75s unknown: rolling_back
                audit davy call: unknown: the target is read (timed out)
                READ split
            90s unreachable: rolling_back
            105s tick: rolling_back
                READ split
            120s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 2 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g4
            135s unknown: rolling_back
                audit davy call: unknown: the target is read (timed out)
                READ split
            150s target: g5 baseline mark rollback/v2/u1/g4: verifying
                audit davy verify: rolling_back -> verifying (the target is at the baseline (read back at generation g5); looking whether it worked)
                READ split
            165s target: g5 baseline mark rollback/v2/u1/g4: verifying
            180s drained: verifying
            195s drained: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is without traffic while v1 serves, 150 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is without traffic while v1 serves, 150 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is without traffic while v1 serves, 150 s after the call.
        "#]],
    );
    // After a restart a call that was out may have been made: the target tells.
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g4 canary 10
         restart
         look
         target: g4 canary 10
         fail
         tick",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g4
            75s restart: rolling_back
                READ split
            90s look: rolling_back
            105s target: g4 canary 10: rolling_back
                audit davy call: not called: tried again later (the newest verdict is not a fail)
            120s fail: rolling_back
                READ split
            135s tick: rolling_back
        "#]],
    );
}

#[test]
fn an_actuator_that_says_yes_and_does_nothing_is_found_out() {
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g4 canary 10
         accepted
         target: g4 canary 10
         look
         target: g4 canary 10
         look x5",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g4
            75s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
                READ split
            90s target: g4 canary 10: verifying
            105s look: verifying
                READ split
            120s target: g4 canary 10: verifying
            135s look: needs_human
                audit davy page: verifying -> needs_human (v2 still serves 60 s after the rollback was called: accepted: status 200; the target still says: 10 % for the canary)
                raise RollbackNeedsHuman: Nothing more is tried: a human must look.
            150s look: needs_human
            165s look: needs_human
            180s look: needs_human
            195s look: needs_human
        "#]],
    );
}

#[test]
fn a_rollback_after_which_nothing_recovers_is_said_to_be_ineffective() {
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g4 canary 10
         accepted
         target: g5 baseline
         drained, not recovered x6",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g4
            75s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
                READ split
            90s target: g5 baseline: verifying
            105s drained, not recovered: verifying
            120s drained, not recovered: verifying
            135s drained, not recovered: needs_human
                audit davy page: verifying -> needs_human (v1 serves alone, and what was worse is no better after 60 s: accepted: status 200)
                raise RollbackNeedsHuman: Nothing more is tried: a human must look.
            150s drained, not recovered: needs_human
            165s drained, not recovered: needs_human
            180s drained, not recovered: needs_human
        "#]],
    );
}

#[test]
fn a_hold_or_a_used_up_budget_blocks_and_says_so() {
    check(
        asked(),
        "look
         target: g4 canary 10
         gate: blocked 5 rollbacks in the last hour are the most
         fail x2
         gate: hold the file HOLD
         fail
         rollback
         free
         fail",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s gate: blocked 5 rollbacks in the last hour are the most: watching
            60s fail: watching
                audit davy rollback: blocked (5 rollbacks in the last hour are the most)
                raise RollbackBlocked: Nothing is done until that is over: 5 rollbacks in the last hour are the most.
                audit davy judge: fail: Nothing was rolled back: 5 rollbacks in the last hour are the most. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was rolled back: 5 rollbacks in the last hour are the most.
            75s fail: watching
            90s gate: hold the file HOLD: watching
            105s fail: watching
            120s rollback: watching
                audit ana rollback: refused: held by the file HOLD (because)
                raise ReleaseStuck: watching since 1970-01-01 00:00:00 UTC
            135s free: watching
            150s fail: rolling_back
                resolve RollbackBlocked: The rollback is under way.
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                resolve ReleaseStuck: watching -> rolling_back
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
        "#]],
    );
    // A hold that comes between the intent and the call.
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         gate: hold the file HOLD
         target: g4 canary 10
         tick
         free
         fail
         tick",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s gate: hold the file HOLD: rolling_back
            75s target: g4 canary 10: rolling_back
                audit davy call: not called: tried again later (held by the file HOLD)
            90s tick: rolling_back
            105s free: rolling_back
            120s fail: rolling_back
                READ split
            135s tick: rolling_back
        "#]],
    );
}

#[test]
fn a_human_approves_or_denies() {
    let approved = || Policy { approval: Approval { rollback: true, promote: false }, ..asked() };
    check(
        approved(),
        "look
         target: g4 canary 10
         approve
         fail x2
         approve
         target: g4 canary 10",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s approve: watching
                audit ana approve: refused: nothing waits for an approval (because)
            60s fail: watching
                audit davy rollback: waits for approval (errors are worse than tolerated)
                raise ApprovalNeeded: Nothing is done until someone approves or denies it.
                audit davy judge: fail: The rollback waits for a human's approval: the policy asks for it. (errors are worse than tolerated)
                raise CanaryRegression: The rollback waits for a human's approval: the policy asks for it.
            75s fail: watching
            90s approve: rolling_back
                resolve ApprovalNeeded: ana approved: because
                audit ana rollback: watching -> rolling_back (errors are worse than tolerated; approved: because)
                READ split
            105s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated; approved: because)
                CALL split v2 -> v1 key rollback/v2/u1/g4
        "#]],
    );
    check(
        approved(),
        "look
         target: g4 canary 10
         fail
         deny
         fail
         fail
         pass
         approve",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: watching
                audit davy rollback: waits for approval (errors are worse than tolerated)
                raise ApprovalNeeded: Nothing is done until someone approves or denies it.
                audit davy judge: fail: The rollback waits for a human's approval: the policy asks for it. (errors are worse than tolerated)
                raise CanaryRegression: The rollback waits for a human's approval: the policy asks for it.
            60s deny: watching
                audit ana deny: rollback denied (because)
                resolve ApprovalNeeded: ana denied it: because
            75s fail: watching
            90s fail: watching
            105s pass: promoted
                resolve CanaryRegression: The judge now says pass: errors and latency are no worse than tolerated
                audit davy promote: watching -> promoted (passed its watch: errors and latency are no worse than tolerated)
            120s approve: promoted
                audit ana approve: refused: nothing waits for an approval (because)
        "#]],
    );
    // The breaker asks even where the policy does not.
    check(
        asked(),
        "look
         target: g4 canary 10
         gate: approval 3 services turned bad within 5 minutes
         fail",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s gate: approval 3 services turned bad within 5 minutes: watching
            60s fail: watching
                audit davy rollback: waits for approval (errors are worse than tolerated)
                raise ApprovalNeeded: Nothing is done until someone approves or denies it.
                audit davy judge: fail: The rollback waits for a human's approval: 3 services turned bad within 5 minutes. (errors are worse than tolerated)
                raise CanaryRegression: The rollback waits for a human's approval: 3 services turned bad within 5 minutes.
        "#]],
    );
}

#[test]
fn a_dry_run_does_everything_but_the_call() {
    check(
        Policy { dry_run: true, ..asked() },
        "look
         target: g4 canary 10
         fail
         target: g4 canary 10
         fail",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g4 canary 10: watching
                audit davy call: rolling_back -> watching (dry run: split would have been called to roll back)
                raise CanaryRegression: Nothing was done: dry run: split would have been called to roll back.
            75s fail: watching
        "#]],
    );
}

#[test]
fn a_safety_rule_and_a_canary_that_is_down_count_as_a_fail() {
    check(
        asked(),
        "look
         target: g4 canary 10
         gate: alarm CheckoutBurnsBudget fires
         look
         target: g4 canary 10",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s gate: alarm CheckoutBurnsBudget fires: watching
            60s look: rolling_back
                audit davy rollback: watching -> rolling_back (CheckoutBurnsBudget fires)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            75s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (CheckoutBurnsBudget fires)
                CALL split v2 -> v1 key rollback/v2/u1/g4
        "#]],
    );
    check(
        asked(),
        "look
         target: g4 canary 10
         down x2
         target: g4 canary 10
         accepted
         target: g5 baseline
         canary gone x2",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s down: rolling_back
                audit davy rollback: watching -> rolling_back (v2 refuses connections while v1 serves, and others say so too)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s down: rolling_back
            75s target: g4 canary 10: rolling_back
                audit davy call: intended, attempt 1 of 8 (v2 refuses connections while v1 serves, and others say so too)
                CALL split v2 -> v1 key rollback/v2/u1/g4
            90s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
                READ split
            105s target: g5 baseline: verifying
            120s canary gone: verifying
            135s canary gone: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is gone while v1 serves, 90 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is gone while v1 serves, 90 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is gone while v1 serves, 90 s after the call.
        "#]],
    );
}

/// An alert that is open is not told again for hours, so two steps must not be one alert.
#[test]
fn each_step_of_a_ramp_is_told() {
    let mut m = machine(ramped());
    let script = "look, target: g1 baseline, target: g1 baseline, accepted, target: g2 canary 5, pass,
                  target: g2 canary 5, accepted, target: g3 canary 25";
    let (mut now, mut told) = (Timestamp::from_millis(0), BTreeSet::new());
    for event in script.split(',').map(str::trim) {
        now = now + Duration::from_secs(15);
        for command in play(&mut m, now, event) {
            if let Command::Raise(alert) = command
                && alert.name() == "RampStep"
            {
                told.insert((alert.labels.get("step").map(str::to_owned), alert.fingerprint()));
            }
        }
    }
    let steps: Vec<_> = told.iter().filter_map(|(step, _)| step.as_deref()).collect();
    assert_eq!(steps, ["25", "5"]);
}

#[test]
fn the_ramp_goes_up_a_step_with_every_pass_and_down_with_a_fail() {
    check(
        ramped(),
        "look
         target: g1 baseline
         target: g1 baseline
         accepted
         target: g2 canary 5
         insufficient
         pass
         target: g2 canary 5
         accepted
         target: g3 canary 25
         fail
         target: g3 canary 25
         accepted
         target: g4 baseline
         drained x2",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g1 baseline: watching
                audit davy read: judged from here on (target u1 at generation g1: the baseline alone)
                audit davy set_share: 5 %: intended (the ramp begins)
                READ split
            45s target: g1 baseline: watching
                audit davy call: 5 %: called, attempt 1 of 8 (the ramp begins)
                CALL split 5 % key set_share-5/v2/u1/g1
            60s accepted: watching
                READ split
            75s target: g2 canary 5: watching
                audit davy set_share: done (v2 has 5 % of the requests)
                raise RampStep: v2 has 5 % of the requests.
            90s insufficient: watching
            105s pass: watching
                audit davy set_share: 25 %: intended (errors and latency are no worse than tolerated)
                READ split
            120s target: g2 canary 5: watching
                audit davy call: 25 %: called, attempt 1 of 8 (errors and latency are no worse than tolerated)
                CALL split 25 % key set_share-25/v2/u1/g2
            135s accepted: watching
                READ split
            150s target: g3 canary 25: watching
                audit davy set_share: done (v2 has 25 % of the requests)
                raise RampStep: v2 has 25 % of the requests.
            165s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            180s target: g3 canary 25: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g3
            195s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
                READ split
            210s target: g4 baseline: verifying
            225s drained: verifying
            240s drained: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is without traffic while v1 serves, 75 s after the call)
                resolve CanaryRegression: Rolled back and verified: v2 is without traffic while v1 serves, 75 s after the call.
                resolve RampStep: Rolled back and verified: v2 is without traffic while v1 serves, 75 s after the call.
                raise RollbackVerified: Rolled back and verified: v2 is without traffic while v1 serves, 75 s after the call.
        "#]],
    );
    check(
        ramped(),
        "look
         target: g2 canary 25
         pass
         target: g2 canary 25
         accepted
         target: g3 canary 100
         look",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g2 canary 25: watching
                audit davy read: judged from here on (target u1 at generation g2: 25 % for the canary)
            45s pass: watching
                audit davy promote: 100 %: intended (errors and latency are no worse than tolerated)
                READ split
            60s target: g2 canary 25: watching
                audit davy call: 100 %: called, attempt 1 of 8 (errors and latency are no worse than tolerated)
                CALL split 100 % key promote/v2/u1/g2
            75s accepted: watching
                READ split
            90s target: g3 canary 100: promoted
                audit davy promote: watching -> promoted (v2 has 100 % of the requests)
                raise RampStep: v2 has 100 % of the requests.
            105s look: promoted
        "#]],
    );
}

#[test]
fn a_step_waits_for_a_human_where_the_policy_says_so_and_a_fail_goes_before() {
    let approved = || Policy { approval: Approval { rollback: false, promote: true }, ..ramped() };
    check(
        approved(),
        "look
         target: g2 canary 5
         pass
         approve
         target: g2 canary 5
         accepted
         target: g3 canary 25",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g2 canary 5: watching
                audit davy read: judged from here on (target u1 at generation g2: 5 % for the canary)
            45s pass: watching
                audit davy set_share: waits for approval (errors and latency are no worse than tolerated)
                raise ApprovalNeeded: Nothing is done until someone approves or denies it.
            60s approve: watching
                resolve ApprovalNeeded: ana approved: because
                audit ana set_share: 25 %: intended (errors and latency are no worse than tolerated; approved: because)
                READ split
            75s target: g2 canary 5: watching
                audit davy call: 25 %: called, attempt 1 of 8 (errors and latency are no worse than tolerated; approved: because)
                CALL split 25 % key set_share-25/v2/u1/g2
            90s accepted: watching
                READ split
            105s target: g3 canary 25: watching
                audit davy set_share: done (v2 has 25 % of the requests)
                raise RampStep: v2 has 25 % of the requests.
        "#]],
    );
    check(
        approved(),
        "look
         target: g2 canary 5
         pass
         fail
         target: g2 canary 5",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g2 canary 5: watching
                audit davy read: judged from here on (target u1 at generation g2: 5 % for the canary)
            45s pass: watching
                audit davy set_share: waits for approval (errors and latency are no worse than tolerated)
                raise ApprovalNeeded: Nothing is done until someone approves or denies it.
            60s fail: rolling_back
                resolve ApprovalNeeded: The canary is called worse.
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            75s target: g2 canary 5: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g2
        "#]],
    );
}

#[test]
fn a_ramp_that_cannot_go_on_pauses_and_a_human_may_resume_it() {
    check(
        ramped(),
        "look
         target: g2 canary 5
         pass
         target: g2 canary 5
         rejected
         pass
         resume
         pass
         target: g2 canary 5
         conflict
         target: g3 canary 40
         look
         pass",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g2 canary 5: watching
                audit davy read: judged from here on (target u1 at generation g2: 5 % for the canary)
            45s pass: watching
                audit davy set_share: 25 %: intended (errors and latency are no worse than tolerated)
                READ split
            60s target: g2 canary 5: watching
                audit davy call: 25 %: called, attempt 1 of 8 (errors and latency are no worse than tolerated)
                CALL split 25 % key set_share-25/v2/u1/g2
            75s rejected: watching
                audit davy pause: the ramp waits for an operator (the call was rejected: status 409: not that one)
                raise RampPaused: The share stays as it is: the call was rejected: status 409: not that one.
            90s pass: watching
            105s resume: watching
                audit ana resume: the ramp goes on (the call was rejected: status 409: not that one) (because)
                resolve RampPaused: ana resumed: because
            120s pass: watching
                audit davy set_share: 25 %: intended (errors and latency are no worse than tolerated)
                READ split
            135s target: g2 canary 5: watching
                audit davy call: 25 %: called, attempt 1 of 8 (errors and latency are no worse than tolerated)
                CALL split 25 % key set_share-25/v2/u1/g2
            150s conflict: watching
                READ split
            165s target: g3 canary 40: watching
                audit davy withdraw: the step was not taken (someone else changed the target to generation g3)
            180s look: watching
            195s pass: watching
                audit davy promote: 100 %: intended (errors and latency are no worse than tolerated)
                READ split
        "#]],
    );
    // Someone sets it back by hand.
    check(
        ramped(),
        "look
         target: g2 canary 5
         pass
         target: g3 baseline
         target: g3 baseline
         drained x2",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g2 canary 5: watching
                audit davy read: judged from here on (target u1 at generation g2: 5 % for the canary)
            45s pass: watching
                audit davy set_share: 25 %: intended (errors and latency are no worse than tolerated)
                READ split
            60s target: g3 baseline: verifying
                audit davy verify: watching -> verifying (someone else has rolled back (); looking whether it worked)
                READ split
            75s target: g3 baseline: verifying
            90s drained: verifying
            105s drained: rolled_back
                audit davy verify: verifying -> rolled_back (v2 is without traffic while v1 serves, 45 s after the call)
                raise RollbackVerified: Rolled back and verified: v2 is without traffic while v1 serves, 45 s after the call.
        "#]],
    );
    // A version that Davy rolled back before is not ramped up again by itself.
    check(
        ramped(),
        "look
         target: g9 baseline mark rollback/v2/u1/g4
         pass
         promote
         target: g9 baseline mark rollback/v2/u1/g4",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g9 baseline mark rollback/v2/u1/g4: watching
                audit davy read: judged from here on (target u1 at generation g9: the baseline alone)
                audit davy pause: the ramp waits for an operator (v2 was rolled back before; only an operator may promote it)
                raise RampPaused: The share stays as it is: v2 was rolled back before; only an operator may promote it.
            45s pass: watching
            60s promote: promoting
                audit ana promote: watching -> promoting (because)
                resolve RampPaused: ana promoted it: because
                audit ana promote: 100 %: intended (because)
                READ split
            75s target: g9 baseline mark rollback/v2/u1/g4: promoting
                audit davy call: 100 %: called, attempt 1 of 8 (because)
                CALL split 100 % key promote/v2/u1/g9
        "#]],
    );
}

#[test]
fn a_version_that_someone_decided_for_is_theirs_until_an_operator_resumes() {
    // An operator promoted it at another Davy, after this one had judged it.
    check(
        asked(),
        "look
         target: g4 canary 10
         fail
         target: g7 canary 100 mark decided/v2/promote/v2/u1/g6
         fail
         resume
         fail
         target: g7 canary 100 mark decided/v2/promote/v2/u1/g6
         accepted",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g4 canary 10: watching
                audit davy read: judged from here on (target u1 at generation g4: 10 % for the canary)
            45s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            60s target: g7 canary 100 mark decided/v2/promote/v2/u1/g6: watching
                audit davy withdraw: rolling_back -> watching (the target changed to generation g7 since it was judged)
                audit davy look: not rolled back until an operator resumes (an operator decided for v2, as the target's mark says)
                raise CanaryRegression: Nothing was rolled back: an operator decided for this version.
            75s fail: watching
            90s resume: watching
                audit ana resume: rolled back again if it is worse (because)
            105s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            120s target: g7 canary 100 mark decided/v2/promote/v2/u1/g6: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g7
            135s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
                READ split
        "#]],
    );
    // Someone brought it back after a rollback, before this Davy saw it.
    check(
        asked(),
        "look
         target: g6 canary 10 mark rollback/v2/u1/g4
         fail
         resume
         fail
         target: g6 canary 10 mark rollback/v2/u1/g4
         accepted",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g6 canary 10 mark rollback/v2/u1/g4: watching
                audit davy read: judged from here on (target u1 at generation g6: 10 % for the canary)
                audit davy look: not rolled back until an operator resumes (v2 was rolled back before and has been brought back)
            45s fail: watching
                audit davy judge: fail: Nothing was rolled back: an operator decided for this version. (errors are worse than tolerated)
                raise CanaryRegression: Nothing was rolled back: an operator decided for this version.
            60s resume: watching
                audit ana resume: rolled back again if it is worse (because)
            75s fail: rolling_back
                audit davy rollback: watching -> rolling_back (errors are worse than tolerated)
                raise CanaryRegression: Rolling back from v2 to v1 by the action split.
                READ split
            90s target: g6 canary 10 mark rollback/v2/u1/g4: rolling_back
                audit davy call: intended, attempt 1 of 8 (errors are worse than tolerated)
                CALL split v2 -> v1 key rollback/v2/u1/g6
            105s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
                READ split
        "#]],
    );
    // What an operator orders is for what is there.
    check(
        asked(),
        "look
         target: g6 canary 10 mark rollback/v2/u1/g4
         rollback
         target: g6 canary 10 mark rollback/v2/u1/g4
         accepted",
        &expect![[r#"
            15s look: watching
                READ split
            30s target: g6 canary 10 mark rollback/v2/u1/g4: watching
                audit davy read: judged from here on (target u1 at generation g6: 10 % for the canary)
                audit davy look: not rolled back until an operator resumes (v2 was rolled back before and has been brought back)
            45s rollback: rolling_back
                audit ana rollback: watching -> rolling_back (because)
                READ split
            60s target: g6 canary 10 mark rollback/v2/u1/g4: rolling_back
                audit davy call: intended, attempt 1 of 8 (because)
                CALL split v2 -> v1 key rollback/v2/u1/g6
            75s accepted: verifying
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
                READ split
        "#]],
    );
}
