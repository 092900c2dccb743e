//! Rotten bits and torn ends: noticed, set aside, counted, never served.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{at, float, labels, options, samples, span};
use davy_model::TraceId;
use davy_store::{Durability, Options, Store};
use rusqlite::Connection;

const MINUTE: i64 = 60_000;

fn small() -> Options {
    Options { head_range: Duration::from_secs(600), partition_range: Duration::from_secs(3600), ..options() }
}

/// Flips one bit in the middle of the frame of one row.
fn rot(path: &Path, table: &str, number: i64) {
    let conn = Connection::open(path).unwrap();
    let select = format!("SELECT frame FROM {table} WHERE number = {number}");
    let mut frame: Vec<u8> = conn.query_row(&select, (), |r| r.get(0)).unwrap();
    let middle = frame.len() / 2;
    frame[middle] ^= 0x10;
    conn.execute(&format!("UPDATE {table} SET frame = ?1 WHERE number = {number}"), [frame]).unwrap();
}

fn put(store: &Store, ms: i64) {
    let mut a = store.appender(at(ms));
    for n in 0..5 {
        let s = a.series(&labels("m", n)).unwrap();
        a.append(s, at(ms), float(ms as f64)).unwrap();
    }
    a.spans(vec![span((ms / MINUTE) as u8 + 1, "cart", ms, 1)]);
    a.commit(Durability::Sync).unwrap();
}

fn times(store: &Store) -> Vec<i64> {
    samples(&store.snapshot(), "m").into_iter().filter(|s| s.0 == 0).map(|s| s.1 / MINUTE).collect()
}

fn partition(dir: &tempfile::TempDir) -> PathBuf {
    let mut files = std::fs::read_dir(dir.path().join("partitions")).unwrap().map(|e| e.unwrap().path());
    files.find(|p| p.extension().is_some_and(|e| e == "db")).unwrap()
}

#[test]
fn a_rotten_log_record_is_set_aside_and_the_others_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), at(0), small()).unwrap().0;
    (0..4).for_each(|i| put(&store, i * MINUTE));
    drop(store);
    rot(&dir.path().join("telemetry.db"), "samples", 2);
    rot(&dir.path().join("telemetry.db"), "spans", 3);
    let (store, recovery) = Store::open(dir.path(), at(5 * MINUTE), small()).unwrap();
    assert_eq!((recovery.samples, recovery.spans, recovery.quarantined), (15, 3, 2));
    assert_eq!(store.stats().quarantined_chunks, 2);
    assert_eq!(times(&store), [0, 2, 3]);
    assert_eq!(store.snapshot().trace(TraceId([3; 16])).unwrap(), []);
    drop(store);
    let (store, recovery) = Store::open(dir.path(), at(5 * MINUTE), small()).unwrap();
    assert_eq!(recovery.quarantined, 0, "it was set aside once and for all");
    assert_eq!(store.stats().quarantined_chunks, 2, "and is still reported");
}

/// A partition remembers up to which record it took samples: what comes under such a number again would be lost.
#[test]
fn the_number_of_a_record_that_was_set_aside_is_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), at(0), small()).unwrap().0;
    put(&store, 0);
    put(&store, MINUTE);
    drop(store);
    let telemetry = dir.path().join("telemetry.db");
    rot(&telemetry, "samples", 2);
    rot(&telemetry, "spans", 2);
    for _ in 0..2 {
        drop(Store::open(dir.path(), at(MINUTE), small()).unwrap());
    }
    let store = Store::open(dir.path(), at(MINUTE), small()).unwrap().0;
    put(&store, 2 * MINUTE);
    drop(store);
    let conn = Connection::open(&telemetry).unwrap();
    for table in ["samples", "spans"] {
        let newest = conn.query_row(&format!("SELECT max(number) FROM {table}"), (), |r| r.get::<_, i64>(0));
        assert_eq!(newest.unwrap(), 3, "{table}");
    }
}

#[test]
fn the_number_of_a_record_that_was_sealed_is_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), at(0), small()).unwrap().0;
    (0..3).for_each(|i| put(&store, i * MINUTE));
    store.maintain(at(60 * MINUTE)).unwrap();
    drop(store);
    let telemetry = dir.path().join("telemetry.db");
    let numbers = |table: &str| {
        let conn = Connection::open(&telemetry).unwrap();
        let sql = format!("SELECT number FROM {table} ORDER BY number");
        let mut rows = conn.prepare(&sql).unwrap();
        rows.query_map((), |r| r.get::<_, i64>(0)).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!((numbers("samples"), numbers("spans")), (vec![], vec![]), "all are sealed and gone");
    // Retention has taken what remembered them.
    std::fs::remove_dir_all(dir.path().join("partitions")).unwrap();
    let store = Store::open(dir.path(), at(60 * MINUTE), small()).unwrap().0;
    put(&store, 60 * MINUTE);
    drop(store);
    assert_eq!((numbers("samples"), numbers("spans")), (vec![4], vec![4]));
}

#[test]
fn a_rotten_catalogue_block_costs_its_series_only_until_they_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), at(0), small()).unwrap().0;
    put(&store, 0);
    drop(store);
    rot(&dir.path().join("telemetry.db"), "series", 1);
    let (store, recovery) = Store::open(dir.path(), at(MINUTE), small()).unwrap();
    assert_eq!((recovery.series, recovery.quarantined), (0, 1));
    assert_eq!(times(&store), [0i64; 0]);
    put(&store, MINUTE);
    assert_eq!(times(&store), [1], "old samples are not served under new labels");
    drop(store);
    assert_eq!(times(&Store::open(dir.path(), at(MINUTE), small()).unwrap().0), [1]);
}

#[test]
fn a_rotten_chunk_or_span_block_is_a_gap_that_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), at(0), small()).unwrap().0;
    for i in 0..40 {
        put(&store, i * MINUTE);
        store.maintain(at(i * MINUTE)).unwrap();
    }
    let all = times(&store);
    assert_eq!(all, (0..40).collect::<Vec<_>>());
    drop(store);
    rot(&partition(&dir), "chunks", 2);
    rot(&partition(&dir), "spans", 1);
    let store = Store::open(dir.path(), at(40 * MINUTE), small()).unwrap().0;
    assert_eq!(store.stats().quarantined_chunks, 0);
    let want: Vec<i64> = (0..10).chain(20..40).collect();
    assert_eq!(times(&store), want);
    assert_eq!(store.snapshot().trace(TraceId([1; 16])).unwrap(), []);
    assert_eq!(times(&store), want);
    assert_eq!(store.stats().quarantined_chunks, 2, "counted once each");
    store.maintain(at(40 * MINUTE)).unwrap();
    drop(store);
    let store = Store::open(dir.path(), at(40 * MINUTE), small()).unwrap().0;
    assert_eq!(store.stats().quarantined_chunks, 2);
    assert_eq!(times(&store), want);
}

#[test]
fn a_partition_that_is_no_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), at(0), small()).unwrap().0;
    for i in 0..40 {
        put(&store, i * MINUTE);
        store.maintain(at(i * MINUTE)).unwrap();
    }
    drop(store);
    std::fs::write(partition(&dir), [7; 4096]).unwrap();
    let (store, recovery) = Store::open(dir.path(), at(40 * MINUTE), small()).unwrap();
    assert_eq!(recovery.quarantined, 1);
    assert!(times(&store).iter().all(|t| *t >= 20));
    for i in 40..80 {
        put(&store, i * MINUTE);
        store.maintain(at(i * MINUTE)).unwrap();
    }
    assert!((40..80).all(|t| times(&store).contains(&t)));
}

#[test]
fn garbage_in_place_of_the_log_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("telemetry.db"), [7; 4096]).unwrap();
    let err = Store::open(dir.path(), at(0), small()).err().unwrap().to_string();
    assert!(err.contains("telemetry.db") && err.contains("not a database"), "{err}");
}
