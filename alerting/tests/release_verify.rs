//! After the call: what the live versions say of whether it worked.

mod common;

use common::story::{check, policy};
use davy_alerting::config::OnFail;
use expect_test::expect;

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
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
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
                audit davy page: verifying -> needs_human (v2 still serves 60 s after the rollback was called: accepted: status 200)
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
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
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
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
            45s look: verifying
            60s look: verifying
            75s look: verifying
            90s look: needs_human
                audit davy page: verifying -> needs_human (v2 still serves 60 s after the rollback was called: accepted: status 200)
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
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
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
                audit davy verify: rolling_back -> verifying (the call was accepted (accepted: status 200); looking whether it worked)
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
