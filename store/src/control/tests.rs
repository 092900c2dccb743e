//! What is written is read, whole or not at all.

use super::*;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn release(service: &str) -> ReleaseRecord {
    ReleaseRecord {
        generation: 0,
        id: String::new(),
        service: service.into(),
        baseline: "1.0".into(),
        canary: "2.0+x".into(),
        phase: "watching".into(),
        verdict: "insufficient".into(),
        reason: "no traffic".into(),
        started_at: at(5),
        decided_at: None,
        detail: "{}".into(),
    }
}

fn audit(action: &str) -> AuditRecord {
    AuditRecord {
        at: at(1),
        actor: "davy".into(),
        action: action.into(),
        target: "checkout".into(),
        reason: "ü".into(),
        outcome: "ok".into(),
    }
}

fn outbox(id: &str, due: i64, state: &str) -> OutboxRecord {
    OutboxRecord {
        id: id.into(),
        receiver: "ops".into(),
        created_at: at(due),
        next_attempt_at: at(due),
        attempts: 1,
        state: state.into(),
        last_error: String::new(),
        detail: "{}".into(),
    }
}

fn everything() -> ControlBatch {
    ControlBatch {
        versions: vec![VersionRecord {
            service: "a".into(),
            version: "1".into(),
            first_seen: at(1),
            last_seen: at(2),
        }],
        releases: vec![ReleaseRecord {
            generation: 1,
            id: "a-2-1".into(),
            decided_at: Some(at(9)),
            ..release("a")
        }],
        verdicts: vec![(1, at(1), "fail".into()), (1, at(0), "insufficient".into())],
        actions: vec![ActionRecord {
            id: "k".into(),
            generation: 1,
            kind: "rollback".into(),
            state: "intended".into(),
            attempts: 0,
            at: at(3),
            detail: String::new(),
        }],
        alerts: vec![
            AlertRecord {
                id: "x".into(),
                fingerprint: "f".into(),
                starts_at: at(1),
                ends_at: None,
                detail: String::new(),
            },
            AlertRecord {
                id: "y".into(),
                fingerprint: "f".into(),
                starts_at: at(1),
                ends_at: Some(at(2)),
                detail: String::new(),
            },
        ],
        outbox: vec![outbox("m2", 20, "pending"), outbox("m1", 10, "pending"), outbox("m0", 1, "dead")],
        calibrations: vec![taught(5, "five"), taught(9, "nine")],
        silences: Vec::new(),
        audit: vec![audit("first"), audit("second")],
    }
}

fn taught(ms: i64, detail: &str) -> CalibrationRecord {
    CalibrationRecord { service: "a".into(), at: at(ms), detail: detail.into() }
}

#[test]
fn a_release_finds_what_was_taught_before_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    Control::open(&path).unwrap().write(&everything()).unwrap();
    let c = Control::open(&path).unwrap();
    let of = |service, ms| c.calibration(service, at(ms)).unwrap().map(|r| r.detail);
    assert_eq!((of("a", 4), of("a", 8), of("b", 99)), (None, Some("five".into()), None));
    assert_eq!(c.calibrations().unwrap(), [taught(9, "nine")]);
}

#[test]
fn a_database_without_calibrations_gets_room_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    Control::open(&path).unwrap().lock().execute_batch("DROP TABLE calibration").unwrap();
    assert_eq!(Control::open(&path).unwrap().calibrations().unwrap(), []);
}

#[test]
fn everything_written_is_read_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    let batch = everything();
    Control::open(&path).unwrap().write(&batch).unwrap();
    let c = Control::open(&path).unwrap();
    assert_eq!(c.versions().unwrap(), batch.versions);
    assert_eq!(c.releases(10).unwrap(), batch.releases);
    assert_eq!(c.release("a-2-1").unwrap().as_ref(), batch.releases.first());
    assert_eq!(c.release("nope").unwrap(), None);
    assert_eq!(c.verdicts(1).unwrap(), [(at(0), "insufficient".into()), (at(1), "fail".into())]);
    assert_eq!(c.actions(1).unwrap(), batch.actions);
    assert_eq!(c.open_alerts().unwrap(), batch.alerts[..1]);
    assert_eq!(c.outbox_due(at(15), &[], 10).unwrap(), batch.outbox[1..2]);
    assert_eq!(c.outbox_due(at(99), &[], 1).unwrap(), batch.outbox[1..2]);
    assert_eq!(c.outbox_next(&[]).unwrap(), Some(at(10)));
    assert_eq!(c.outbox_pending().unwrap(), 2);
    assert_eq!(c.audit(1).unwrap(), batch.audit[1..]);
}

#[test]
fn known_keys_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let c = Control::open(&dir.path().join("control.db")).unwrap();
    c.write(&everything()).unwrap();
    let done = outbox("m1", 10, "delivered");
    c.write(&ControlBatch { outbox: vec![done], ..ControlBatch::default() }).unwrap();
    assert_eq!(c.outbox_next(&[]).unwrap(), Some(at(20)));
}

#[test]
fn generations_only_grow_even_over_deleted_releases() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    let c = Control::open(&path).unwrap();
    let first = c.create_release(release("a/b"), audit("create")).unwrap();
    assert_eq!((first.generation, first.id.as_str()), (1, "a_b-2.0_x-1"));
    c.lock().execute("DELETE FROM release", ()).unwrap();
    drop(c);
    let c = Control::open(&path).unwrap();
    assert_eq!(c.create_release(release("a"), audit("create")).unwrap().generation, 2);
    c.lock().execute("UPDATE generation SET last = 0", ()).unwrap();
    assert_eq!(c.create_release(release("a"), audit("create")).unwrap().generation, 3);
    assert_eq!(c.audit(10).unwrap().len(), 3);
}

#[test]
fn a_transaction_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let c = Control::open(&dir.path().join("control.db")).unwrap();
    let batch = everything();
    c.lock()
        .execute_batch("CREATE TEMP TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    assert!(c.write(&batch).is_err());
    assert!(c.create_release(release("a"), audit("create")).is_err());
    c.lock().execute_batch("DROP TRIGGER no").unwrap();
    assert_eq!((c.versions().unwrap().len(), c.releases(9).unwrap().len()), (0, 0));
    assert_eq!(c.create_release(release("a"), audit("create")).unwrap().generation, 1);
}

#[test]
fn a_changed_row_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let c = Control::open(&dir.path().join("control.db")).unwrap();
    c.write(&everything()).unwrap();
    c.lock().execute("UPDATE action SET state = 'confirmed'", ()).unwrap();
    let err = c.actions(1).unwrap_err();
    assert!(matches!(&err, Error::CorruptRow { table: "action", key, .. } if key == "k"), "{err}");
    c.lock().execute("UPDATE alert SET ends_at = NULL", ()).unwrap();
    assert!(c.open_alerts().is_err());
    assert!(c.releases(5).is_ok());
}

#[test]
fn pruning_keeps_what_is_open_the_last_verdict_and_the_audit() {
    let dir = tempfile::tempdir().unwrap();
    let c = Control::open(&dir.path().join("control.db")).unwrap();
    c.write(&everything()).unwrap();
    let more = (2..2_600).map(|i| (1, at(i), "pass".to_owned())).collect();
    let delivered = vec![outbox("old", 5, "delivered"), outbox("new", 5_000, "delivered")];
    c.write(&ControlBatch { verdicts: more, outbox: delivered, ..ControlBatch::default() }).unwrap();
    assert_eq!(c.prune(at(0)).unwrap(), 0);
    assert_eq!(c.prune(at(3_000)).unwrap(), PRUNED_MAX + 2, "so many at once, with two messages");
    while c.prune(at(3_000)).unwrap() > 0 {}
    assert_eq!(c.verdicts(1).unwrap(), [(at(2_599), "pass".into())]);
    assert_eq!(c.outbox_due(at(99), &[], 10).unwrap().len(), 2);
    assert_eq!((c.audit(9).unwrap().len(), c.actions(1).unwrap().len()), (2, 1));
    let left: i64 = c.lock().query_row("SELECT count(*) FROM outbox", (), |r| r.get(0)).unwrap();
    assert_eq!(left, 3);
}

#[test]
fn audit_rows_cannot_be_changed_or_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let c = Control::open(&dir.path().join("control.db")).unwrap();
    c.write(&everything()).unwrap();
    for sql in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"] {
        let err = c.lock().execute(sql, ()).unwrap_err();
        assert!(err.to_string().contains("audit rows are only added"), "{err}");
    }
    assert_eq!(c.audit(9).unwrap().len(), 2);
}
