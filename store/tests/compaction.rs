//! Compaction, with virtual time: fewer bytes, the same samples, whoever looks.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{at, float, labels, options, samples, span};
use davy_model::{BucketSpan, Histogram, Labels, Matcher, Timestamp, TraceId, Value};
use davy_store::{Durability, Options, Store};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const STEP: i64 = 15_000;

/// Ten minutes a chunk, two hours a partition.
fn small() -> Options {
    let (head_range, partition_range) = (Duration::from_secs(600), Duration::from_secs(7200));
    Options { head_range, partition_range, ..options() }
}

fn open(dir: &tempfile::TempDir, ms: i64) -> Store {
    Store::open(dir.path(), at(ms), small()).unwrap().0
}

/// Counters, buckets over each other, decimals, noise, and staleness now and then.
fn value(n: usize, t: i64) -> f64 {
    let i = t / STEP;
    match n % 5 {
        _ if (i + n as i64) % 97 == 0 => davy_model::STALE_NAN,
        0 => (i * n as i64 + i * i % 7) as f64,
        1 => ((i - 1) * (n as i64 - 1) + (i - 1) * (i - 1) % 7 + i / 9) as f64,
        2 => ((t as f64).sin() * 1e3).round() / 100.0,
        3 => (t as f64 * n as f64).sin(),
        _ => 42.0,
    }
}

fn histogram(t: i64) -> Histogram {
    let i = (t / STEP) as f64;
    Histogram {
        schema: 2,
        count: 6.0 * i,
        sum: 0.25 * i,
        positive_spans: vec![BucketSpan { offset: 1, length: if t > HOUR { 4 } else { 3 } }],
        positive_counts: (1..=if t > HOUR { 4 } else { 3 }).map(|b| f64::from(b) * i).collect(),
        ..Histogram::default()
    }
}

/// Some series come and go; one is a native histogram.
fn fill(store: &Store, until: i64) -> Vec<(usize, i64, u64)> {
    let mut put = Vec::new();
    for t in (0..until / STEP).map(|i| i * STEP) {
        let mut a = store.appender(at(t));
        for n in (0..150).filter(|n| n % 10 != 9 || (t / HOUR + *n as i64 / 10) % 2 == 0) {
            let s = a.series(&labels("m", n)).unwrap();
            a.append(s, at(t), float(value(n, t))).unwrap();
            put.push((n, t, value(n, t).to_bits()));
        }
        let s = a.series(&labels("h", 0)).unwrap();
        a.append(s, at(t), Value::Histogram(Arc::new(histogram(t)))).unwrap();
        if t % (10 * MINUTE) == 0 {
            a.spans(vec![span((t / (10 * MINUTE)) as u8 + 1, "shop", t, 20)]);
        }
        a.commit(Durability::Group).unwrap();
        if t % MINUTE == 0 {
            store.maintain(at(t)).unwrap();
        }
    }
    put.sort_unstable();
    put
}

fn bytes(dir: &tempfile::TempDir) -> u64 {
    let files = std::fs::read_dir(dir.path().join("partitions")).unwrap();
    files.map(|f| f.unwrap().metadata().unwrap().len()).sum()
}

fn check(store: &Store, want: &[(usize, i64, u64)], spans: u8) {
    let snapshot = store.snapshot();
    assert_eq!(samples(&snapshot, "m"), want);
    let found = snapshot.select(&[Matcher::equal("__name__", "h")], Timestamp::MIN, Timestamp::MAX).unwrap();
    for sample in &found[0].samples {
        let t = sample.timestamp.since(at(0)).as_millis() as i64;
        assert_eq!(sample.value, Value::Histogram(Arc::new(histogram(t))), "at {t}");
    }
    for trace in 1..=spans {
        assert_eq!(snapshot.trace(TraceId([trace; 16])).unwrap().len(), 1, "trace {trace}");
    }
}

#[test]
fn a_partition_that_is_over_becomes_smaller_and_reads_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let want = fill(&store, 3 * HOUR);
    let before = bytes(&dir);
    let mut slices = 0;
    while store.compact_slice(at(3 * HOUR)).unwrap() {
        slices += 1;
        assert!(slices < 100, "it never ends");
    }
    assert!(slices >= 2, "one with work and one to finish");
    assert!(bytes(&dir) * 10 < before * 9, "{} of {before}", bytes(&dir));
    check(&store, &want, 18);
    assert!(!store.compact_slice(at(3 * HOUR)).unwrap(), "it is done once");
    drop(store);
    check(&open(&dir, 3 * HOUR), &want, 18);
}

#[test]
fn compacting_all_leaves_next_to_nothing_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let want = fill(&store, HOUR);
    store.compact(at(2 * HOUR)).unwrap();
    check(&store, &want, 6);
    drop(store);
    let (store, recovery) = Store::open(dir.path(), at(2 * HOUR), small()).unwrap();
    assert_eq!((recovery.samples, recovery.spans), (0, 0));
    check(&store, &want, 6);
    assert!(std::fs::metadata(dir.path().join("telemetry.db")).unwrap().len() < 128 << 10);
}

#[test]
fn a_snapshot_from_before_an_import_never_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let want = fill(&store, 3 * HOUR);
    let before = store.snapshot();
    let extra = Labels::from_pairs([("__name__", "m"), ("job", "api"), ("instance", "a:1"), ("n", "3")]);
    let imported = store.import(at(3 * HOUR), |import| {
        let series = import.series(&extra).expect("below every limit");
        import.append(series, at(7), 1.0)
    });
    assert_eq!(imported.unwrap().samples, 1);
    store.compact(at(3 * HOUR)).unwrap();
    assert_eq!(samples(&before, "m"), want, "while it compacts, and after");
    let mut with = want.clone();
    with.push((3, 7, 1f64.to_bits()));
    with.sort_unstable();
    assert_eq!(samples(&store.snapshot(), "m"), with);
    drop(before);
    // Nobody stands in the way any more.
    store.compact(at(3 * HOUR)).unwrap();
    assert!(!store.compact_slice(at(9 * HOUR)).unwrap());
    assert_eq!(samples(&store.snapshot(), "m"), with);
}
