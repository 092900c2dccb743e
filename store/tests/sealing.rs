//! Sealing, retention and forgetting, with virtual time.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{START, at, float, labels, options, samples, span};
use davy_model::{Labels, TraceId};
use davy_store::{Durability, Options, Snapshot, SpanQuery, Store};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Ten minutes a chunk, an hour a partition.
fn small() -> Options {
    Options {
        head_range: Duration::from_secs(600),
        partition_range: Duration::from_secs(3600),
        retention: Duration::from_secs(4 * 3600),
        ..options()
    }
}

fn open(dir: &tempfile::TempDir, ms: i64) -> Store {
    Store::open(dir.path(), at(ms), small()).unwrap().0
}

/// Values as they come: counters, decimals, noise, staleness now and then.
fn value(n: usize, t: i64) -> f64 {
    match n % 4 {
        _ if (t / 1000 + n as i64) % 97 == 0 => davy_model::STALE_NAN,
        0 => (t / 1000 * n as i64) as f64,
        1 => ((t as f64).sin() * 1e3).round() / 100.0,
        2 => (t as f64 * (n as f64)).sin(),
        _ => 42.0,
    }
}

fn scrape(store: &Store, series: std::ops::Range<usize>, ms: i64) -> Vec<(usize, i64, u64)> {
    let mut a = store.appender(at(ms));
    let mut put = Vec::new();
    for n in series {
        let s = a.series(&labels("m", n)).unwrap();
        a.append(s, at(ms), float(value(n, ms))).unwrap();
        put.push((n, ms, value(n, ms).to_bits()));
    }
    a.commit(Durability::Group).unwrap();
    put
}

fn files(dir: &tempfile::TempDir) -> Vec<i64> {
    let names = std::fs::read_dir(dir.path().join("partitions")).unwrap().map(|e| e.unwrap().file_name());
    let mut starts: Vec<i64> = names
        .filter_map(|n| n.to_str()?.strip_suffix(".db")?.parse::<i64>().ok())
        .map(|s| s * 1000 - START)
        .collect();
    starts.sort_unstable();
    starts
}

#[test]
fn what_is_sealed_reads_as_before_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir, 0);
    let mut want = Vec::new();
    for i in 0..(3 * HOUR / 15_000) {
        let t = i * 15_000;
        want.extend(scrape(&store, 0..150, t));
        if i % 4 == 0 {
            store.maintain(at(t)).unwrap();
        }
        if i % 200 == 150 {
            drop(store);
            store = open(&dir, t);
        }
    }
    want.sort_unstable();
    assert_eq!(files(&dir), [0, HOUR, 2 * HOUR]);
    assert!(samples(&store.snapshot(), "m") == want);
    let middle = store.snapshot().select(&[], at(HOUR - 30_000), at(HOUR + 30_000)).unwrap();
    assert_eq!(middle.iter().map(|s| s.samples.len()).collect::<Vec<_>>(), [5; 150]);
    drop(store);
    let (store, recovery) = Store::open(dir.path(), at(3 * HOUR), small()).unwrap();
    assert!(recovery.samples < 150 * 80, "the log holds the head's range only: {recovery:?}");
    assert!(samples(&store.snapshot(), "m") == want);
}

#[test]
fn a_crash_between_sealing_and_trimming_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let mut want = Vec::new();
    (0..80).for_each(|i| want.extend(scrape(&store, 0..10, i * 15_000)));
    want.sort_unstable();
    drop(store);
    let (log, kept) = (dir.path().join("telemetry.db"), dir.path().join("kept"));
    std::fs::copy(&log, &kept).unwrap();
    let store = open(&dir, 20 * MINUTE);
    store.maintain(at(20 * MINUTE)).unwrap();
    drop(store);
    std::fs::copy(&kept, &log).unwrap();
    let (store, recovery) = Store::open(dir.path(), at(20 * MINUTE), small()).unwrap();
    assert_eq!(recovery.samples, 10 * 40, "the sealed half is left out");
    assert!(samples(&store.snapshot(), "m") == want);
    store.maintain(at(HOUR)).unwrap();
    assert!(samples(&store.snapshot(), "m") == want);
}

#[test]
fn retention_deletes_whole_partitions_by_age_and_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    for i in 0..(7 * HOUR / MINUTE) {
        scrape(&store, 0..5, i * MINUTE);
        store.maintain(at(i * MINUTE)).unwrap();
    }
    assert_eq!(files(&dir), [2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR, 6 * HOUR]);
    let oldest = samples(&store.snapshot(), "m").iter().map(|s| s.1).min();
    assert_eq!(oldest, Some(2 * HOUR));
    drop(store);
    let little = Options { retention_bytes_max: Some(1), ..small() };
    let store = Store::open(dir.path(), at(7 * HOUR), little).unwrap().0;
    (0..9).for_each(|_| store.maintain(at(7 * HOUR)).unwrap());
    assert_eq!(files(&dir), [6 * HOUR], "the newest stays");
}

#[test]
fn a_snapshot_outlives_sealing_and_retention() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let mut at_hour = None;
    for i in 0..(8 * HOUR / MINUTE) {
        scrape(&store, 0..5, i * MINUTE);
        store.maintain(at(i * MINUTE)).unwrap();
        if i == 65 {
            let snapshot = store.snapshot();
            at_hour = Some((samples(&snapshot, "m"), snapshot));
        }
    }
    let (before, snapshot): (_, Snapshot) = at_hour.unwrap();
    assert_eq!(before.len(), 66 * 5);
    assert!(!files(&dir).contains(&0));
    assert!(samples(&snapshot, "m") == before);
}

#[test]
fn series_without_samples_are_forgotten_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let mut a = store.appender(at(0));
    let (once, dropped) = (a.series(&labels("once", 1)).unwrap(), a.series(&labels("dropped", 1)).unwrap());
    a.append(once, at(0), float(1.0)).unwrap();
    a.commit(Durability::Sync).unwrap();
    for i in 0..60 {
        scrape(&store, 0..3, i * MINUTE);
        store.maintain(at(i * MINUTE)).unwrap();
    }
    assert_eq!(store.stats().series_active, 3);
    assert_eq!(samples(&store.snapshot(), "once").len(), 1, "what is sealed of it stays readable");
    // Their references still work: a scraper may have kept them.
    let mut a = store.appender(at(HOUR));
    a.append(once, at(HOUR), float(2.0)).unwrap();
    a.append(dropped, at(HOUR), float(3.0)).unwrap();
    a.append(once, at(HOUR + 1), float(4.0)).unwrap();
    a.commit(Durability::Sync).unwrap();
    let want = [(1, 0, 1f64.to_bits()), (1, HOUR, 2f64.to_bits()), (1, HOUR + 1, 4f64.to_bits())];
    assert_eq!(samples(&store.snapshot(), "once"), want);
    drop(store);
    let store = open(&dir, HOUR);
    assert_eq!(samples(&store.snapshot(), "once"), want);
    assert_eq!(samples(&store.snapshot(), "dropped"), [(1, HOUR, 3f64.to_bits())]);
}

#[test]
fn a_catalogue_of_the_dead_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    scrape(&store, 0..5000, 0);
    for i in 0..40 {
        scrape(&store, 6000..6003, i * MINUTE);
        store.maintain(at(i * MINUTE)).unwrap();
    }
    drop(store);
    let (store, recovery) = Store::open(dir.path(), at(40 * MINUTE), small()).unwrap();
    assert_eq!(recovery.series, 3);
    assert_eq!(samples(&store.snapshot(), "m").len(), 5000 + 3 * 40);
}

#[test]
fn a_clock_that_ran_ahead_does_not_shut_out_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let mut want = Vec::new();
    want.extend(scrape(&store, 0..2, 0));
    let ahead = 3 * HOUR;
    for i in 0..30 {
        want.extend(scrape(&store, 0..2, ahead + i * MINUTE));
        store.maintain(at(ahead + i * MINUTE)).unwrap();
    }
    for i in 1..30 {
        // The first minute after the clock was set right may be refused: maintenance notices the jump.
        store.maintain(at(i * MINUTE)).unwrap();
        want.extend(scrape(&store, 0..2, i * MINUTE));
    }
    want.sort_unstable();
    assert!(samples(&store.snapshot(), "m") == want);
    drop(store);
    assert!(samples(&open(&dir, 30 * MINUTE).snapshot(), "m") == want);
}

#[test]
fn spans_move_to_disk_and_are_found_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let mut by_trace: BTreeMap<u8, Vec<_>> = BTreeMap::new();
    for i in 0..6000i64 {
        let s = span((i % 50) as u8 + 1, if i % 3 == 0 { "cart" } else { "pay" }, i, (i % 100) as u64);
        by_trace.entry((i % 50) as u8 + 1).or_default().push(s);
    }
    for (i, spans) in by_trace.values().enumerate() {
        let mut a = store.appender(at(6000));
        a.spans(spans.clone());
        a.commit(if i % 2 == 0 { Durability::Sync } else { Durability::Group }).unwrap();
    }
    let before = store.snapshot();
    store.maintain(at(6000)).unwrap();
    let check = |snapshot: &Snapshot| {
        for (trace, spans) in &by_trace {
            assert_eq!(&snapshot.trace(TraceId([*trace; 16])).unwrap(), spans);
        }
        let slow = SpanQuery {
            service: Some("cart".into()),
            duration_min: Some(Duration::from_millis(90)),
            limit: 7,
            ..SpanQuery::default()
        };
        let found = snapshot.spans(&slow, at(0), at(5_000)).unwrap();
        let mut want: Vec<_> = by_trace.values().flatten().filter(|s| slow_cart(s)).cloned().collect();
        want.retain(|s| s.start_nanos / 1_000_000 <= (START + 5_000) as u64);
        want.sort_by_key(|s| std::cmp::Reverse(s.start_nanos));
        assert_eq!(found, want[..7]);
    };
    check(&before);
    check(&store.snapshot());
    drop(store);
    let (store, recovery) = Store::open(dir.path(), at(6000), small()).unwrap();
    assert_eq!(recovery.spans, 0, "sealed spans have left the log");
    check(&store.snapshot());
}

fn slow_cart(s: &davy_model::Span) -> bool {
    s.resource.service() == "cart" && s.duration_nanos() >= 90_000_000
}

#[test]
fn spans_of_impossible_times_go_with_their_partition() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let mut a = store.appender(at(0));
    a.spans(vec![span(1, "cart", i64::MAX / 2_000_000, 1), span(2, "cart", -START, 1)]);
    a.commit(Durability::Sync).unwrap();
    store.maintain(at(0)).unwrap();
    assert_eq!(files(&dir), [0]);
    assert_eq!(store.snapshot().trace(TraceId([1; 16])).unwrap().len(), 1);
    store.maintain(at(6 * HOUR)).unwrap();
    assert_eq!(files(&dir), [0i64; 0]);
    assert_eq!(store.snapshot().trace(TraceId([1; 16])).unwrap().len(), 0);
}

#[test]
fn labels_of_sealed_series_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 0);
    let mut a = store.appender(at(0));
    let s = a.series(&Labels::from_pairs([("__name__", "old"), ("colour", "red")])).unwrap();
    a.append(s, at(0), float(1.0)).unwrap();
    a.commit(Durability::Sync).unwrap();
    for i in 0..60 {
        scrape(&store, 0..1, i * MINUTE);
        store.maintain(at(i * MINUTE)).unwrap();
    }
    let snapshot = store.snapshot();
    assert_eq!(snapshot.label_values("colour", &[], at(0), at(HOUR)).unwrap(), ["red"]);
    assert_eq!(
        snapshot.label_values("colour", &[], at(30 * MINUTE), at(HOUR)).unwrap(),
        Vec::<String>::new()
    );
    let names = snapshot.label_names(&[], at(0), at(HOUR)).unwrap();
    assert_eq!(names, ["__name__", "colour", "instance", "job", "n"]);
}
