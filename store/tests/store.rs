//! What the store promises to those who append and read.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{at, float, labels, options, samples, span};
use davy_model::{Exemplar, Histogram, Labels, Matcher, Metadata, MetricType, STALE_NAN, Timestamp, Value};
use davy_store::{Durability, Error, Limits, Options, Refusal, SpanQuery, Store};

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(dir.path(), at(0), options()).unwrap().0
}

fn put(
    store: &Store,
    metric: &str,
    n: usize,
    ms: i64,
    v: f64,
    durability: Durability,
) -> Result<(), Refusal> {
    let mut a = store.appender(at(ms));
    let series = a.series(&labels(metric, n))?;
    a.append(series, at(ms), float(v))?;
    a.commit(durability).unwrap();
    Ok(())
}

#[test]
fn both_durabilities_are_visible_at_once_and_found_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    put(&store, "m", 1, 0, 1.5, Durability::Group).unwrap();
    put(&store, "m", 2, 0, STALE_NAN, Durability::Sync).unwrap();
    let want = [(1, 0, 1.5f64.to_bits()), (2, 0, STALE_NAN.to_bits())];
    assert_eq!(samples(&store.snapshot(), "m"), want);
    drop(store);
    let (store, recovery) = Store::open(dir.path(), at(0), options()).unwrap();
    assert_eq!((recovery.series, recovery.samples, recovery.quarantined), (2, 2, 0));
    assert_eq!(samples(&store.snapshot(), "m"), want);
    put(&store, "m", 1, 1000, 2.0, Durability::Sync).unwrap();
    assert_eq!(samples(&store.snapshot(), "m").len(), 3);
}

#[test]
fn histograms_exemplars_metadata_and_spans_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let histogram =
        Value::Histogram(Arc::new(Histogram { schema: 3, count: 4.0, sum: 0.1, ..Histogram::default() }));
    let metadata =
        Metadata { metric_type: MetricType::Histogram, help: "How long".into(), unit: "seconds".into() };
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), value: 0.5, timestamp: at(5) };
    let mut a = store.appender(at(0));
    let series = a.series(&labels("h", 1)).unwrap();
    a.append(series, at(0), histogram.clone()).unwrap();
    a.exemplar(series, exemplar.clone());
    a.metadata("h", &metadata);
    a.spans(vec![span(1, "cart", 0, 5), span(2, "cart", 10, 50), span(2, "pay", 5, 50)]);
    a.commit(Durability::Sync).unwrap();
    let check = |store: &Store| {
        let s = store.snapshot();
        let found = s.select(&[Matcher::equal("job", "api")], at(0), at(0)).unwrap();
        assert_eq!(found[0].samples[0].value, histogram);
        assert_eq!(s.exemplars(&[], at(0), at(9)), [(labels("h", 1), vec![exemplar.clone()])]);
        assert_eq!(s.metadata("h").as_ref(), Some(&metadata));
        let trace = s.trace(davy_model::TraceId([2; 16])).unwrap();
        assert_eq!(trace, [span(2, "pay", 5, 50), span(2, "cart", 10, 50)]);
        let slow = SpanQuery { duration_min: Some(Duration::from_millis(10)), ..SpanQuery::default() };
        assert_eq!(s.spans(&slow, at(0), at(100)).unwrap().len(), 2);
        let newest = SpanQuery { limit: 1, ..SpanQuery::default() };
        assert_eq!(s.spans(&newest, at(0), at(100)).unwrap(), [span(2, "cart", 10, 50)]);
    };
    check(&store);
    drop(store);
    check(&open(&dir));
}

#[test]
fn order_duplicates_and_bounds_are_judged_per_sample() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let now = at(3_600_000);
    let mut a = store.appender(now);
    let s = a.series(&labels("m", 1)).unwrap();
    let other = a.series(&labels("m", 2)).unwrap();
    a.append(s, now, float(1.0)).unwrap();
    assert_eq!(a.append(s, now, float(1.0)), Ok(()), "the same again in one batch");
    assert_eq!(a.append(s, now, float(2.0)), Err(Refusal::Duplicate { at: now }));
    a.commit(Durability::Sync).unwrap();

    let mut a = store.appender(now);
    let (earlier, too_late) = (at(3_600_000 - 600_000), at(3_600_000 - 600_001));
    assert_eq!(a.append(s, now, float(1.0)), Ok(()), "the same again");
    assert_eq!(a.append(s, now, float(2.0)), Err(Refusal::Duplicate { at: now }));
    assert_eq!(a.append(s, too_late, float(0.5)), Err(Refusal::OutOfOrder { got: too_late, newest: now }));
    a.append(s, earlier, float(0.5)).unwrap();
    a.append(other, too_late, float(7.0)).unwrap();
    for outside in [at(-1), at(3_600_000 + 600_001), Timestamp::MAX, Timestamp::MIN] {
        assert!(matches!(a.append(s, outside, float(1.0)), Err(Refusal::OutOfBounds { .. })), "{outside}");
    }
    a.commit(Durability::Sync).unwrap();
    let want = [
        (1, 3_000_000, 0.5f64.to_bits()),
        (1, 3_600_000, 1.0f64.to_bits()),
        (2, 2_999_999, 7.0f64.to_bits()),
    ];
    assert_eq!(samples(&store.snapshot(), "m"), want);
    let refused = store.stats().refused;
    assert_eq!((refused.duplicate, refused.out_of_order, refused.out_of_bounds), (2, 1, 4));
    assert_eq!(store.stats().samples_refused, 7);
    drop(store);
    assert_eq!(samples(&open(&dir).snapshot(), "m"), want);
}

#[test]
fn every_sample_of_a_late_row_is_compared_with_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut a = store.appender(at(2000));
    let [first, second, third, fourth] = [1, 2, 3, 4].map(|n| a.series(&labels("m", n)).unwrap());
    for (series, ms) in [(second, 1000), (fourth, 1000), (first, 2000), (second, 2000), (third, 2000)] {
        a.append(series, at(ms), float(1.0)).unwrap();
    }
    a.commit(Durability::Group).unwrap();
    let mut a = store.appender(at(2000));
    a.append(first, at(1000), float(2.0)).unwrap();
    assert_eq!(a.append(second, at(1000), float(2.0)), Err(Refusal::Duplicate { at: at(1000) }));
    a.append(third, at(1000), float(2.0)).unwrap();
    let after_two_in_the_row = a.append(fourth, at(1000), float(2.0));
    assert_eq!(after_two_in_the_row, Err(Refusal::Duplicate { at: at(1000) }));
    a.commit(Durability::Group).unwrap();
    let at_1000: Vec<_> = samples(&store.snapshot(), "m").into_iter().filter(|s| s.1 == 1000).collect();
    let want = [(1, 2.0f64), (2, 1.0), (3, 2.0), (4, 1.0)].map(|(n, v)| (n, 1000, v.to_bits()));
    assert_eq!(at_1000, want);
}

#[test]
fn limits_refuse_the_new_and_name_the_offender() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { series_max: 5, series_per_service_max: 3, ..options().limits };
    let store = Store::open(dir.path(), at(0), Options { limits, ..options() }).unwrap().0;
    let mut a = store.appender(at(0));
    let of = |service: &str, n: usize| Labels::from_pairs([("service", service), ("n", &n.to_string())]);
    let known: Vec<_> = (0..3).map(|n| a.series(&of("greedy", n)).unwrap()).collect();
    let err = a.series(&of("greedy", 3)).unwrap_err();
    assert_eq!(err, Refusal::SeriesLimit { scope: "service \"greedy\"".into(), max: 3 });
    a.series(&of("calm", 0)).unwrap();
    a.series(&of("calm", 1)).unwrap();
    let err = a.series(&of("third", 0)).unwrap_err().to_string();
    assert!(err.contains("limit of 5") && err.contains("\"greedy\""), "{err}");
    assert_eq!(a.series(&of("greedy", 1)), Ok(known[1]), "existing series keep working");
    a.append(known[1], at(0), float(1.0)).unwrap();
    a.commit(Durability::Sync).unwrap();
    assert_eq!((store.stats().series_active, store.stats().refused.series_limit), (5, 2));
}

#[test]
fn a_batch_that_is_dropped_leaves_nothing_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut a = store.appender(at(0));
    let s = a.series(&labels("m", 1)).unwrap();
    a.append(s, at(0), float(1.0)).unwrap();
    a.spans(vec![span(1, "cart", 0, 5)]);
    drop(a);
    put(&store, "m", 2, 0, 1.0, Durability::Sync).unwrap();
    assert_eq!(samples(&store.snapshot(), "m"), [(2, 0, 1.0f64.to_bits())]);
    assert_eq!(store.snapshot().series(&[], at(0), at(0)).unwrap(), [labels("m", 2)]);
    assert_eq!(store.snapshot().trace(davy_model::TraceId([1; 16])).unwrap(), []);
}

#[test]
fn a_folder_has_one_davy_and_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let err = Store::open(dir.path(), at(0), options()).err().unwrap();
    assert!(matches!(&err, Error::Locked { path } if path == dir.path()), "{err}");
    assert!(err.to_string().contains(dir.path().to_str().unwrap()));
    drop(store);
    open(&dir);
}

#[test]
fn below_the_disk_floor_telemetry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { free_disk_bytes_min: u64::MAX, ..Limits::default() };
    let store = Store::open(dir.path(), at(0), Options { limits, ..options() }).unwrap().0;
    let mut a = store.appender(at(0));
    let s = a.series(&labels("m", 1)).unwrap();
    assert_eq!(a.append(s, at(0), float(1.0)), Err(Refusal::DiskFull { floor_bytes: u64::MAX }));
    a.spans(vec![span(1, "cart", 0, 5)]);
    assert!(matches!(a.commit(Durability::Sync), Err(Error::DiskFull { .. })));
    assert!(store.stats().disk_low);
}

#[test]
fn a_snapshot_does_not_change_under_concurrent_appends() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let put_all = |t: i64| {
        let mut a = store.appender(at(t));
        for n in 0..200 {
            let s = a.series(&labels("m", n)).unwrap();
            a.append(s, at(t), float(t as f64)).unwrap();
        }
        a.commit(Durability::Group).unwrap();
    };
    put_all(0);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..300).for_each(|i| put_all(i * 1000)));
        let mut last = 0;
        while last < 200 * 300 {
            let snapshot = store.snapshot();
            let first = samples(&snapshot, "m");
            assert_eq!(first.len() % 200, 0, "a batch is visible as a whole");
            assert!(first.len() >= last);
            last = first.len();
            std::thread::yield_now();
            assert_eq!(samples(&snapshot, "m"), first);
        }
    });
}

/// Statistics once held the head twice over: with a writer waiting in between, nobody went on.
#[test]
fn statistics_and_appends_do_not_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            for i in 0..5_000 {
                put(&store, "m", 1, i, 1.0, Durability::Group).unwrap();
            }
        });
        while !writer.is_finished() {
            store.stats();
        }
    });
    assert_eq!(store.stats().samples_appended, 5_000);
}

#[test]
fn label_values_and_series_obey_matchers_and_range() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    put(&store, "a", 1, 0, 1.0, Durability::Sync).unwrap();
    put(&store, "b", 2, 60_000, 1.0, Durability::Sync).unwrap();
    let s = store.snapshot();
    assert_eq!(s.label_values("n", &[], at(0), at(60_000)).unwrap(), ["1", "2"]);
    assert_eq!(s.label_values("n", &[Matcher::equal("__name__", "b")], at(0), at(60_000)).unwrap(), ["2"]);
    assert_eq!(s.label_values("n", &[], at(0), at(59_999)).unwrap(), ["1"]);
    assert_eq!(s.label_values("absent", &[], at(0), at(60_000)).unwrap(), Vec::<String>::new());
    assert_eq!(s.select(&[], at(1), at(59_999)).unwrap(), []);
}
