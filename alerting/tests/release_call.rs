//! The call of a rollback: retries, refusals, unknown results, restarts.

mod common;

use common::story::{check, policy};
use davy_alerting::config::OnFail;
use expect_test::expect;

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
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
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
                audit ana rollback: refused: the rollback has been called already (because)
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
                audit davy page: rolling_back -> needs_human (the rollback call was rejected: rejected: status 409: not that one)
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
                audit davy call: ignored: no call of this release is in flight (accepted: status 200)
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
