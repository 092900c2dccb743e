//! Requests of remote write 2.0 as a sender encodes them, against a real store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Request as HttpRequest, StatusCode};
use axum::body::Body;
use davy_model::{Labels, ManualClock, MetricType, STALE_NAN, Timestamp, Value};
use davy_store::{Limits, Options, SeriesSamples, Store};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use prost::Message;
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::{Receiver, RemoteWriteLimits, http_router};

const NOW: i64 = 1_767_225_600_000;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Point>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata>,
    #[prost(int64, tag = "6")]
    created_timestamp: i64,
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
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    metric_type: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, tag = "2")]
    count: f64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// Makes requests: texts become symbols.
#[derive(Default)]
struct Builder {
    request: Request,
    numbers: BTreeMap<String, u32>,
}

impl Builder {
    fn new() -> Self {
        let mut b = Self::default();
        b.symbol("");
        b
    }

    fn symbol(&mut self, text: &str) -> u32 {
        let next = self.request.symbols.len() as u32;
        let n = *self.numbers.entry(text.to_owned()).or_insert(next);
        if n == next {
            self.request.symbols.push(text.to_owned());
        }
        n
    }

    fn refs(&mut self, pairs: &[(&str, &str)]) -> Vec<u32> {
        pairs.iter().flat_map(|(n, v)| [self.symbol(n), self.symbol(v)]).collect()
    }

    fn series(&mut self, pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> &mut TimeSeries {
        let labels_refs = self.refs(pairs);
        let samples = samples.iter().map(|(t, value)| Point { value: *value, timestamp: NOW + t }).collect();
        self.request.timeseries.push(TimeSeries { labels_refs, samples, ..TimeSeries::default() });
        self.request.timeseries.last_mut().unwrap()
    }

    fn body(&self) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(&self.request.encode_to_vec()).unwrap()
    }
}

struct Fixture {
    store: Store,
    receiver: Receiver,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            commit_interval: Duration::from_millis(1),
            limits: Limits { free_disk_bytes_min: 0, ..Limits::default() },
            ..Options::default()
        };
        let store = Store::open(dir.path(), Timestamp::from_millis(NOW), options).unwrap().0;
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW)));
        let receiver = Receiver::new(store.clone(), clock, &RemoteWriteLimits::default());
        Self { store, receiver, _dir: dir }
    }

    async fn post(&self, body: Vec<u8>) -> (StatusCode, HeaderMap, String) {
        let request = HttpRequest::post("/api/v1/write")
            .header("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "2.0.0");
        let response = http_router(self.receiver.clone())
            .oneshot(request.body(Body::from(body)).unwrap())
            .await
            .unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, headers, String::from_utf8(body.to_vec()).unwrap())
    }

    fn select(&self) -> Vec<SeriesSamples> {
        self.store.snapshot().select(&[], Timestamp::MIN, Timestamp::MAX).unwrap()
    }
}

fn written(headers: &HeaderMap) -> [&str; 3] {
    ["samples", "histograms", "exemplars"]
        .map(|of| headers[&format!("x-prometheus-remote-write-{of}-written")].to_str().unwrap())
}

#[tokio::test]
async fn everything_that_a_series_brings_is_stored_and_counted() {
    let f = Fixture::new();
    let mut b = Builder::new();
    let (help, unit, trace) = (b.symbol("How long."), b.symbol("seconds"), b.refs(&[("trace_id", "abc")]));
    b.series(&[("__name__", "up"), ("job", "a")], &[(0, 1.0), (1, f64::NAN), (2, STALE_NAN)]);
    let s = b.series(&[("__name__", "latency"), ("job", "a")], &[]);
    s.metadata = Some(Metadata { metric_type: 3, help_ref: help, unit_ref: unit });
    s.exemplars = vec![Exemplar { labels_refs: trace, value: 0.5, timestamp: NOW }];
    let of = |timestamp, schema, custom_values: &[f64]| Histogram {
        count: 3.0,
        sum: 4.5,
        schema,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_counts: vec![1.0, 2.0],
        timestamp,
        custom_values: custom_values.to_vec(),
    };
    s.histograms = vec![of(NOW, 1, &[]), of(NOW + 1, -53, &[0.1, 0.5, 1.0])];
    let body = b.body();
    for _ in 0..2 {
        let (status, headers, text) = f.post(body.clone()).await;
        assert_eq!((status.as_u16(), written(&headers)), (204, ["3", "2", "1"]), "{text}");
    }
    let found = f.select();
    assert_eq!(found[1].labels, Labels::from_pairs([("__name__", "up"), ("job", "a")]));
    let bits: Vec<u64> = found[1].samples.iter().map(|s| s.value.as_float().unwrap().to_bits()).collect();
    assert_eq!(bits, [1f64.to_bits(), f64::NAN.to_bits(), STALE_NAN.to_bits()]);
    let Value::Histogram(h) = &found[0].samples[1].value else { panic!("{found:?}") };
    assert_eq!((h.schema, h.custom_bounds.as_slice()), (-53, &[0.1, 0.5, 1.0][..]));
    let snapshot = f.store.snapshot();
    let known = snapshot.metadata("latency").unwrap();
    assert_eq!(
        (known.metric_type, known.help.as_str(), known.unit.as_str()),
        (MetricType::Histogram, "How long.", "seconds")
    );
    let at = Timestamp::from_millis(NOW);
    let exemplars = snapshot.exemplars(&[], at, at);
    assert_eq!(exemplars[0].1[0].labels, Labels::from_pairs([("trace_id", "abc")]));
}

#[tokio::test]
async fn what_is_refused_is_counted_and_the_rest_is_written() {
    let f = Fixture::new();
    let mut b = Builder::new();
    b.series(&[("__name__", "up")], &[(0, 1.0), (0, 2.0), (-7_200_000, 1.0)]);
    b.series(&[("job", "nameless")], &[(0, 1.0), (1, 1.0)]);
    b.series(&[("__name__", "long"), ("l", &"x".repeat(3000))], &[(0, 1.0)]);
    b.series(&[("__name__", "other")], &[(0, 7.0)]);
    let (status, headers, text) = f.post(b.body()).await;
    assert_eq!((status.as_u16(), written(&headers)), (400, ["2", "0", "0"]), "{text}");
    for want in ["5 of 7 samples refused", "1 duplicate", "1 out_of_bounds", "3 invalid_labels"] {
        assert!(text.contains(want), "{want}: {text}");
    }
    assert_eq!(f.select().len(), 2);
}

#[tokio::test]
async fn a_start_becomes_a_zero_once_and_an_old_one_none() {
    let f = Fixture::new();
    for t in [0, 15_000] {
        let mut b = Builder::new();
        b.series(&[("__name__", "errors_total")], &[(t, 3.0)]).created_timestamp = NOW - 10_000;
        b.series(&[("__name__", "old_total")], &[(t, 3.0)]).created_timestamp = NOW - 3_600_000;
        let (status, headers, text) = f.post(b.body()).await;
        assert_eq!((status.as_u16(), written(&headers)[0]), (204, "2"), "{text}");
    }
    let times = |s: &SeriesSamples| {
        let one = |s: &davy_model::Sample| (s.timestamp.as_millis() - NOW, s.value.as_float().unwrap());
        s.samples.iter().map(one).collect::<Vec<_>>()
    };
    let found = f.select();
    assert_eq!(times(&found[0]), [(-10_000, 0.0), (0, 3.0), (15_000, 3.0)]);
    assert_eq!(times(&found[1]), [(0, 3.0), (15_000, 3.0)]);
    assert_eq!(f.store.stats().samples_refused, 0);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_whole() {
    let f = Fixture::new();
    let with = |refs: Vec<u32>| {
        let mut b = Builder::new();
        b.series(&[("__name__", "up")], &[(0, 1.0)]);
        b.request.timeseries[0].labels_refs = refs;
        b.body()
    };
    let many = with(vec![1; 300]);
    let pack = |m: &[u8]| snap::raw::Encoder::new().compress_vec(m).unwrap();
    for (body, want) in [
        (with(vec![1, 9]), "symbol that is not there"),
        (with(vec![1]), "odd number"),
        (many, "at most 64"),
        (pack(&[0x22, 0x7f]), "truncated"),
        (pack(&[0x0a, 0]), "1.0 in the content type of 2.0"),
    ] {
        let (status, headers, text) = f.post(body).await;
        assert_eq!((status.as_u16(), written(&headers)), (400, ["0", "0", "0"]), "{text}");
        assert!(text.contains(want), "{want}: {text}");
    }
    assert!(f.select().is_empty());
}

#[test]
fn both_versions_know_a_series_by_the_same_bytes() {
    let f = Fixture::new();
    let mut b = Builder::new();
    b.series(&[("__name__", "up"), ("job", "a")], &[(0, 1.0)]);
    f.receiver.write_v2(&b.body()).unwrap();
    let label = |n: &str, v: &str| {
        let text = [&[0x0a, n.len() as u8], n.as_bytes(), &[0x12, v.len() as u8], v.as_bytes()].concat();
        [&[0x0a, text.len() as u8][..], &text].concat()
    };
    let mut sample = vec![0x12, 16, 0x09];
    sample.extend(1f64.to_le_bytes());
    sample.push(0x10);
    prost::encoding::encode_varint((NOW + 1) as u64, &mut sample);
    sample[1] = (sample.len() - 2) as u8;
    let series = [label("__name__", "up"), label("job", "a"), sample].concat();
    let message = [&[0x0a, series.len() as u8][..], &series].concat();
    f.receiver.write(&snap::raw::Encoder::new().compress_vec(&message).unwrap()).unwrap();
    assert_eq!((f.receiver.series_known(), f.select()[0].samples.len()), (1, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn mutated_requests_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let f = Fixture::new();
        let mut b = Builder::new();
        let trace = b.refs(&[("trace_id", "abc")]);
        let s = b.series(&[("__name__", "up"), ("job", "a")], &[(0, 1.0), (1, 2.0)]);
        s.created_timestamp = NOW - 5;
        s.metadata = Some(Metadata { metric_type: 1, help_ref: 1, unit_ref: 2 });
        s.exemplars = vec![Exemplar { labels_refs: trace, value: 1.0, timestamp: NOW }];
        s.histograms = vec![Histogram { count: 1.0, positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_counts: vec![1.0], timestamp: NOW + 3, ..Histogram::default() }];
        let mut message = b.request.encode_to_vec();
        let i = at.index(message.len());
        if cut { message.truncate(i); } else { message[i] = byte; }
        let _ = f.receiver.write_v2(&snap::raw::Encoder::new().compress_vec(&message).unwrap());
    }
}
