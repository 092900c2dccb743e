//! Folders written by each released format are read by every later Davy.
//!
//! `DAVY_WRITE_FORMAT=1 cargo test -p davy-store --test format` writes the folder of the present format anew: only
//! before that format is released.
//!
//! Format 2: partitions whose packed numbers lie in pages.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{at, float, labels, options, samples, span};
use davy_model::{
    BucketSpan, Exemplar, Histogram, Labels, Matcher, Metadata, MetricType, Timestamp, TraceId, Value,
};
use davy_store::control::{Control, ControlBatch, VersionRecord};
use davy_store::{Durability, Options, SpanQuery, Store};

const STEP: i64 = 15_000;
const SERIES: usize = 6;
/// A trace begins every so many steps.
const TRACE_STEPS: i64 = 20;

/// What a folder holds.
struct Story {
    steps: i64,
    partition_range: Duration,
}

const FORMAT_1: Story = Story { steps: 200, partition_range: Duration::from_secs(1800) };
/// Long enough for chunks of several pages.
const PRESENT: Story = Story { steps: 1600, partition_range: Duration::from_secs(6 * 3600) };

impl Story {
    fn options(&self) -> Options {
        let (head_range, partition_range) = (Duration::from_secs(600), self.partition_range);
        Options { head_range, partition_range, ..options() }
    }

    fn traces(&self) -> usize {
        (self.steps / TRACE_STEPS) as usize
    }
}

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/formats/{format}"))
}

/// Every kind of column has its series.
fn value(n: usize, i: i64) -> f64 {
    match n {
        0 => (i * i) as f64,
        1 => (i * i + i / 3) as f64,
        2 => (i % 17) as f64 / 8.0 + 0.01,
        3 => 1.0 / (i as f64 + 3.0),
        4 if i % 50 == 7 => davy_model::STALE_NAN,
        4 => (i % 5) as f64,
        _ => -0.0,
    }
}

fn histogram(i: i64) -> Value {
    let counts = vec![i as f64, 2.0 * i as f64, 0.5];
    Value::Histogram(Arc::new(Histogram {
        schema: -53,
        count: 3.0 * i as f64 + 0.5,
        sum: i as f64 / 7.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_counts: counts,
        custom_bounds: vec![0.1, 1.0],
        ..Histogram::default()
    }))
}

fn version() -> VersionRecord {
    VersionRecord { service: "shop".into(), version: "1".into(), first_seen: at(0), last_seen: at(1) }
}

fn write(story: &Story, to: &Path) {
    let store = Store::open(to, at(0), story.options()).unwrap().0;
    for i in 0..story.steps {
        let t = i * STEP;
        let mut a = store.appender(at(t));
        for n in 0..SERIES {
            let s = a.series(&labels("m", n)).unwrap();
            a.append(s, at(t), float(value(n, i))).unwrap();
        }
        let s = a.series(&labels("h", 0)).unwrap();
        a.append(s, at(t), histogram(i)).unwrap();
        if i == story.steps - 1 {
            let labels = Labels::from_pairs([("trace_id", "01")]);
            a.exemplar(s, Exemplar { labels, value: 0.25, timestamp: at(t) });
            let metadata = Metadata { metric_type: MetricType::Counter, help: "m".into(), unit: "".into() };
            a.metadata("m", &metadata);
        }
        if i % TRACE_STEPS == 0 {
            let trace = (i / TRACE_STEPS) as u8 + 1;
            a.spans(vec![span(trace, "shop", t, 20), span(trace, "cart", t + 1, 10)]);
        }
        a.commit(Durability::Sync).unwrap();
        store.maintain(at(t)).unwrap();
        store.compact_slice(at(t)).unwrap();
    }
    let control = Control::open(&to.join("control.db")).unwrap();
    control.write(&ControlBatch { versions: vec![version()], ..ControlBatch::default() }).unwrap();
}

fn check(story: &Story, from: &Path) {
    let steps = story.steps;
    let now = at(steps * STEP);
    let (store, recovery) = Store::open(from, now, story.options()).unwrap();
    assert_eq!(recovery.quarantined, 0);
    assert!(recovery.samples > 0 && recovery.spans > 0, "some is still in the log: {recovery:?}");
    assert!(fs::read_dir(from.join("partitions")).unwrap().count() > 1, "some is sealed");
    let snapshot = store.snapshot();
    let mut want: Vec<_> =
        (0..SERIES).flat_map(|n| (0..steps).map(move |i| (n, i * STEP, value(n, i).to_bits()))).collect();
    want.sort_unstable();
    assert_eq!(samples(&snapshot, "m"), want);
    let all = snapshot.select(&[Matcher::equal("__name__", "h")], Timestamp::MIN, Timestamp::MAX).unwrap();
    let values: Vec<Value> = all[0].samples.iter().map(|s| s.value.clone()).collect();
    assert_eq!(values, (0..steps).map(histogram).collect::<Vec<_>>());
    for trace in 1..=story.traces() as u8 {
        assert_eq!(snapshot.trace(TraceId([trace; 16])).unwrap().len(), 2, "trace {trace}");
    }
    let carts = SpanQuery { service: Some("cart".into()), ..SpanQuery::default() };
    assert_eq!(snapshot.spans(&carts, Timestamp::MIN, Timestamp::MAX).unwrap().len(), story.traces());
    assert_eq!(snapshot.metadata("m").unwrap().help, "m");
    assert_eq!(snapshot.exemplars(&[Matcher::equal("__name__", "h")], at(0), now)[0].1.len(), 1);
    assert_eq!(Control::open(&from.join("control.db")).unwrap().versions().unwrap(), [version()]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn is_read(format: u32, story: &Story) {
    let dir = tempfile::tempdir().unwrap();
    copy(&folder(format), &dir.path().join("data"));
    check(story, &dir.path().join("data"));
}

#[test]
fn a_folder_of_format_1_is_read() {
    is_read(1, &FORMAT_1);
}

#[test]
fn a_folder_of_format_2_is_read() {
    if std::env::var_os("DAVY_WRITE_FORMAT").is_some() {
        let _ = fs::remove_dir_all(folder(2));
        write(&PRESENT, &folder(2));
    }
    is_read(2, &PRESENT);
}

#[test]
fn what_is_written_now_is_read_now() {
    let dir = tempfile::tempdir().unwrap();
    write(&PRESENT, &dir.path().join("data"));
    check(&PRESENT, &dir.path().join("data"));
}
