//! Tampering, each kind once, and whether it is found.

use std::path::Path;

use davy_model::Timestamp;
use davy_store::audit::{AuditLog, Checkpoint, link};
use davy_store::control::{AuditRecord, Control, ControlBatch};
use rusqlite::Connection;

use super::keeper::{AuditKeeper, public_key};
use super::verify::verify;

fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1000)
}

fn row(n: i64) -> AuditRecord {
    AuditRecord {
        at: at(n),
        actor: "davy".into(),
        action: "call".into(),
        target: format!("checkout-v2-{n}"),
        reason: "errors are worse".into(),
        outcome: "intended".into(),
    }
}

/// A folder with fifty rows and a checkpoint every ten.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(&dir.path().join("control.db")).unwrap();
    let keeper = AuditKeeper::open(control.clone(), dir.path(), None, None).unwrap();
    for n in 1..=50 {
        control.write(&ControlBatch { audit: vec![row(n)], ..ControlBatch::default() }).unwrap();
        if n % 10 == 0 {
            keeper.checkpoint(at(n)).unwrap();
        }
    }
    dir
}

/// Someone who can write the file, triggers or not.
fn tamper(dir: &Path, sql: &str) {
    let conn = Connection::open(dir.join("control.db")).unwrap();
    conn.execute_batch(
        "DROP TRIGGER IF EXISTS audit_is_not_changed; DROP TRIGGER IF EXISTS audit_is_not_deleted",
    )
    .unwrap();
    conn.execute_batch(sql).unwrap();
}

fn faults(dir: &Path, anchored: &[Checkpoint]) -> Vec<String> {
    let log = AuditLog::open(&dir.join("control.db")).unwrap();
    let key = public_key(dir, None).unwrap();
    verify(&log, Some(&key), anchored).unwrap().faults
}

fn checkpoints(dir: &Path) -> Vec<Checkpoint> {
    AuditLog::open(&dir.join("control.db")).unwrap().checkpoints().unwrap()
}

fn found(sql: &str, expected: &str) {
    let dir = folder();
    tamper(dir.path(), sql);
    let faults = faults(dir.path(), &[]);
    assert!(faults.iter().any(|f| f.contains(expected)), "{sql}: {faults:?}");
}

#[test]
fn what_was_written_is_in_order() {
    let dir = folder();
    let anchored = checkpoints(dir.path());
    assert_eq!(anchored.len(), 5);
    assert_eq!(faults(dir.path(), &anchored), Vec::<String>::new());
    let text = std::fs::read_to_string(dir.path().join("audit.checkpoints")).unwrap();
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn edits_removals_and_insertions_are_found() {
    found("UPDATE audit SET actor = 'ana' WHERE number = 7", "row 7 is not what was written");
    found("DELETE FROM audit WHERE number = 7", "rows 7 to 7 are missing");
    found("DELETE FROM audit WHERE number > 45", "row 46 was removed: its hash is still there");
    found("UPDATE audit SET number = number + 100 WHERE number = 7", "rows 7 to 7 are missing");
    let insert = "INSERT INTO audit VALUES (51, 51000, 'x', 'y', 'z', 'r', 'o', 0)";
    found(insert, "row 51 was not written by Davy");
    let swap = "UPDATE audit SET number = 900 WHERE number = 3; UPDATE audit SET number = 3 WHERE number = 4;
                UPDATE audit SET number = 4 WHERE number = 900";
    found(swap, "row 3 is not what was written");
}

#[test]
fn a_cut_end_is_found_even_where_the_links_were_cut_with_it() {
    let cut = "DELETE FROM audit WHERE number > 45; DELETE FROM audit_link WHERE number > 45;";
    found(cut, "the end was cut off");
    // Together with the checkpoints in the database: only one from elsewhere tells.
    let dir = folder();
    let anchored = checkpoints(dir.path());
    tamper(dir.path(), &format!("{cut} DELETE FROM audit_checkpoint WHERE size > 45;"));
    assert_eq!(faults(dir.path(), &[]), Vec::<String>::new());
    assert!(faults(dir.path(), &anchored).iter().any(|f| f.contains("the end was cut off")));
}

#[test]
fn a_chain_that_was_written_anew_disagrees_with_its_checkpoints() {
    let dir = folder();
    tamper(dir.path(), "UPDATE audit SET actor = 'ana' WHERE number = 7");
    let conn = Connection::open(dir.path().join("control.db")).unwrap();
    let mut before = [0; 32];
    for n in 1..=50 {
        let changed = AuditRecord { actor: if n == 7 { "ana".into() } else { "davy".into() }, ..row(n) };
        before = link(&before, n, &changed);
        conn.execute("UPDATE audit_link SET hash = ?1 WHERE number = ?2", (before, n)).unwrap();
    }
    let faults = faults(dir.path(), &[]);
    assert!(faults.iter().any(|f| f.contains("it was written anew")), "{faults:?}");
}

#[test]
fn a_checkpoint_of_another_key_is_none() {
    let dir = folder();
    std::fs::remove_file(dir.path().join("audit.key")).unwrap();
    let control = Control::open(&dir.path().join("control.db")).unwrap();
    AuditKeeper::open(control, dir.path(), None, None).unwrap();
    let faults = faults(dir.path(), &[]);
    assert!(faults.iter().any(|f| f.contains("is not signed with this key")), "{faults:?}");
}

#[test]
fn rows_from_before_the_chain_are_linked_when_the_database_is_opened() {
    let dir = folder();
    tamper(dir.path(), "DROP TABLE audit_link; DROP TABLE audit_checkpoint");
    Control::open(&dir.path().join("control.db")).unwrap();
    assert_eq!(faults(dir.path(), &[]), Vec::<String>::new());
}
