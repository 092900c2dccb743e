//! Requests as a sender encodes them (by prost, from a schema written down here), against a real store.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, StatusCode};
use axum::body::Body;
use davy_model::{Labels, ManualClock, Matcher, MetricType, STALE_NAN, Sample, Timestamp, Value};
use davy_store::{Limits, Options, SeriesSamples, Store};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use prost::Message;
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::{Failed, Receiver, RemoteWriteLimits, Written, http_router};

const NOW: i64 = 1_767_225_600_000;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Point>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Point {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    metric_type: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

struct Fixture {
    store: Store,
    receiver: Receiver,
    _dir: TempDir,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options {
            commit_interval: Duration::from_millis(1),
            limits: Limits { free_disk_bytes_min: 0, ..Limits::default() },
            ..Options::default()
        };
        change(&mut options);
        let store = Store::open(dir.path(), Timestamp::from_millis(NOW), options).unwrap().0;
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW)));
        let receiver = Receiver::new(store.clone(), clock, &RemoteWriteLimits::default());
        Self { store, receiver, _dir: dir }
    }

    fn write(&self, request: &WriteRequest) -> Result<Written, Failed> {
        self.receiver.write(&pack(&request.encode_to_vec()))
    }

    fn select(&self, metric: &str) -> Vec<SeriesSamples> {
        let all = (Timestamp::MIN, Timestamp::MAX);
        self.store.snapshot().select(&[Matcher::equal("__name__", metric)], all.0, all.1).unwrap()
    }
}

fn pack(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    let label = |(n, v): &(&str, &str)| Label { name: (*n).to_owned(), value: (*v).to_owned() };
    pairs.iter().map(label).collect()
}

fn series(pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    let samples = samples.iter().map(|(t, value)| Point { value: *value, timestamp: NOW + t }).collect();
    TimeSeries { labels: labels(pairs), samples, ..TimeSeries::default() }
}

fn request(timeseries: Vec<TimeSeries>) -> WriteRequest {
    WriteRequest { timeseries, metadata: vec![] }
}

fn floats(found: &[Sample]) -> Vec<(i64, u64)> {
    let float = |s: &Sample| (s.timestamp.as_millis() - NOW, s.value.as_float().unwrap().to_bits());
    found.iter().map(float).collect()
}

#[test]
fn what_was_acknowledged_is_read_back_bit_for_bit() {
    let f = Fixture::new(|_| {});
    let odd = f64::from_bits(0x7ff8_0000_0000_0001);
    let values = [(0, 0.0), (1, -0.0), (2, odd), (3, f64::INFINITY), (4, 1e-300), (5, STALE_NAN)];
    // -0 is zero to protobuf, and is not written.
    let want: Vec<_> = values.iter().map(|(t, v)| (*t, if *t == 1 { 0 } else { v.to_bits() })).collect();
    for _ in 0..3 {
        let written = f.write(&request(vec![series(&[("__name__", "up"), ("job", "a")], &values)])).unwrap();
        assert_eq!((written.samples, written.refused.samples()), (6, 0), "what comes again is taken once");
        let found = f.select("up");
        assert_eq!(found[0].labels, Labels::from_pairs([("__name__", "up"), ("job", "a")]));
        assert_eq!(floats(&found[0].samples), want);
    }
    assert_eq!(f.receiver.series_known(), 1);
}

#[test]
fn series_are_told_apart_whatever_their_order() {
    let f = Fixture::new(|_| {});
    let name = |n: usize| format!("m{}", n % 7);
    let all: Vec<(String, String)> = (0..50).map(|n| (name(n), n.to_string())).collect();
    for round in 0..6i64 {
        let mut order: Vec<usize> = (0..50).collect();
        order.rotate_left(round as usize * 7);
        if round % 2 == 1 {
            order.reverse();
        }
        let one = |n: &usize| {
            let (m, id) = &all[*n];
            series(&[("__name__", m), ("id", id)], &[(round, *n as f64)])
        };
        let written = f.write(&request(order.iter().map(one).collect())).unwrap();
        assert_eq!(written.samples, 50);
    }
    for n in 0..50 {
        let found = f.select(&name(n));
        let id = n.to_string();
        let mine = found.iter().find(|s| s.labels.get("id") == Some(&id)).unwrap();
        assert_eq!(floats(&mine.samples), (0..6).map(|t| (t, (n as f64).to_bits())).collect::<Vec<_>>());
    }
    assert_eq!(f.receiver.series_known(), 50);
}

#[test]
fn the_good_part_is_kept_and_the_answer_counts_the_rest() {
    let f = Fixture::new(|_| {});
    f.write(&request(vec![series(&[("__name__", "up")], &[(0, 1.0)])])).unwrap();
    let hour = 3_600_000;
    let written = f
        .write(&request(vec![
            series(
                &[("__name__", "up")],
                &[(0, 2.0), (1, 1.0), (-hour / 2, 1.0), (-2 * hour, 1.0), (hour, 1.0)],
            ),
            series(&[("job", "nameless")], &[(0, 1.0), (1, 1.0)]),
            series(&[("__name__", "other")], &[(0, 7.0)]),
        ]))
        .unwrap();
    let mut reasons: Vec<_> = written.refused.by_reason().collect();
    reasons.sort_unstable();
    assert_eq!(reasons, [("duplicate", 1), ("invalid_labels", 2), ("out_of_bounds", 2), ("out_of_order", 1)]);
    assert_eq!(written.samples, 2);
    let text = written.to_string();
    assert!(text.starts_with("6 of 8 samples refused, the others are stored:"), "{text}");
    assert!(text.contains("1 duplicate (the first: up at 1767225600: a different value"), "{text}");
    assert!(text.contains("2 invalid_labels (the first: no metric name"), "{text}");
    assert_eq!(floats(&f.select("up")[0].samples), [(0, 1f64.to_bits()), (1, 1f64.to_bits())]);
    assert_eq!(f.select("other").len(), 1);
}

#[test]
fn a_limit_refuses_the_new_and_keeps_the_old() {
    let f = Fixture::new(|o| o.limits.series_max = 2);
    let some = |t| (0..3).map(|n| series(&[("__name__", "m"), ("n", &n.to_string())], &[(t, 1.0)])).collect();
    for t in 0..2 {
        let written = f.write(&request(some(t))).unwrap();
        assert_eq!((written.samples, written.refused.by_reason().next()), (2, Some(("series_limit", 1))));
    }
    assert_eq!(f.select("m").len(), 2);
}

#[test]
fn histograms_exemplars_and_metadata_are_stored() {
    let f = Fixture::new(|_| {});
    let mut s = series(&[("__name__", "latency")], &[]);
    s.histograms = vec![
        Histogram {
            count: 3,
            sum: 4.5,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_deltas: vec![1, 1],
            timestamp: NOW,
            ..Histogram::default()
        },
        Histogram { positive_deltas: vec![1], timestamp: NOW + 1, ..Histogram::default() },
        Histogram { sum: STALE_NAN, timestamp: NOW + 2, ..Histogram::default() },
    ];
    s.exemplars = vec![
        Exemplar { labels: labels(&[("trace_id", "abc")]), value: 0.5, timestamp: NOW },
        Exemplar { labels: labels(&[("trace_id", &"x".repeat(129))]), value: 0.5, timestamp: NOW },
    ];
    let metadata = Metadata {
        metric_type: 3,
        family: "latency".into(),
        help: "How long.".into(),
        unit: "seconds".into(),
    };
    let written = f.write(&WriteRequest { timeseries: vec![s], metadata: vec![metadata] }).unwrap();
    assert_eq!((written.samples, written.exemplars, written.metadata), (2, 1, 1));
    assert!(written.to_string().contains("1 invalid_histogram (the first: latency: "), "{written}");
    let found = f.select("latency");
    let Value::Histogram(h) = &found[0].samples[0].value else { panic!("{found:?}") };
    assert_eq!((h.count, h.sum, &h.positive_counts), (3.0, 4.5, &vec![1.0, 2.0]));
    assert!(found[0].samples[1].value.is_stale());
    let snapshot = f.store.snapshot();
    let known = snapshot.metadata("latency").unwrap();
    assert_eq!((known.metric_type, known.unit.as_str()), (MetricType::Histogram, "seconds"));
    let at = Timestamp::from_millis(NOW);
    assert_eq!(snapshot.exemplars(&[], at, at)[0].1[0].value, 0.5);
}

#[test]
fn without_room_on_disk_nothing_is_taken_and_the_sender_may_come_again() {
    let f = Fixture::new(|o| o.limits.free_disk_bytes_min = u64::MAX);
    let ended = f.write(&request(vec![series(&[("__name__", "up")], &[(0, 1.0)])]));
    assert!(matches!(&ended, Err(e @ Failed::Unavailable(_)) if e.retry_after().is_some()), "{ended:?}");
}

/// Status and text of an answer.
async fn post(receiver: &Receiver, headers: &[(&str, &str)], body: Vec<u8>) -> (StatusCode, String) {
    let mut request = Request::post("/api/v1/write");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response =
        http_router(receiver.clone()).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn answers_are_those_of_prometheus() {
    let f = Fixture::new(|_| {});
    let ok = pack(&request(vec![series(&[("__name__", "up")], &[(0, 1.0)])]).encode_to_vec());
    let bad = pack(&request(vec![series(&[("__name__", "up")], &[(0, 2.0)])]).encode_to_vec());
    let v1 = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    let check = async |headers: &[(&str, &str)], body: &[u8], status: u16, text: &str| {
        let (got, said) = post(&f.receiver, headers, body.to_vec()).await;
        assert_eq!(got.as_u16(), status, "{headers:?}: {said}");
        assert!(said.contains(text), "{said}");
    };
    check(&v1, &ok, 204, "").await;
    check(&[], &ok, 204, "").await;
    check(&[("content-type", "application/x-protobuf;proto=prometheus.WriteRequest")], &ok, 204, "").await;
    let v3 = [("content-type", "application/x-protobuf;proto=io.prometheus.write.v3.Request")];
    check(&v3, &ok, 415, "or proto=io.prometheus.write.v2.Request").await;
    let v2 = [("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")];
    check(&v2, &ok, 400, "a WriteRequest of 1.0 in the content type of 2.0").await;
    check(&[("content-type", "application/json")], b"{}", 415, "got \"application/json\"").await;
    check(&[("content-encoding", "gzip")], &ok, 415, "content encoding").await;
    check(&v1, &bad, 400, "1 of 1 samples refused").await;
    check(&v1, b"no snappy", 400, "not a snappy block").await;
    check(&v1, &pack(&[0x0a, 0x7f]), 400, "not a remote write message: truncated field").await;
    check(&[("content-length", "17000000")], b"", 413, "16777216 bytes as sent").await;
    check(&v1, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 413, "after decompression").await;
    assert_eq!(floats(&f.select("up")[0].samples), [(0, 1f64.to_bits())]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a sender gets wrong: an answer, no panic, and nothing stored that was not in it.
    #[test]
    fn mutated_requests_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let f = Fixture::new(|_| {});
        let mut s = series(&[("__name__", "up"), ("job", "a")], &[(0, 1.0), (1, 2.0)]);
        s.histograms = vec![Histogram { count: 1, positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_deltas: vec![1], timestamp: NOW + 3, ..Histogram::default() }];
        s.exemplars = vec![Exemplar { labels: labels(&[("id", "1")]), value: 1.0, timestamp: NOW }];
        let mut message = request(vec![s.clone(), s]).encode_to_vec();
        let i = at.index(message.len());
        if cut { message.truncate(i); } else { message[i] = byte; }
        let _ = f.receiver.write(&pack(&message));
        let mut packed = pack(&message);
        let i = at.index(packed.len());
        packed[i] = byte;
        let _ = f.receiver.write(&packed);
    }
}
