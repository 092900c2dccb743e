//! Mutated requests of both signals and formats through everything that reads them: nothing may panic, and what
//! comes out is what the store relies on. Tests only.

use bytes::Bytes;
use davy_fixtures::spans::{Shop, exported};
use davy_model::{Timestamp, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use proptest::prelude::*;
use prost::Message as _;

use super::cumulative::Streams;
use super::decode::{Format, Request, decode};
use super::received::Received;
use super::span_metrics::SpanMetrics;
use super::spans::Window;
use super::{metrics, spans, walk};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const WINDOW: Window = Window { from: Timestamp::from_millis(0), to: Timestamp::from_millis(2_000_000) };

const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"cart"}},{"key":"n","value":{"intValue":"-7"}},
    {"key":"list","value":{"arrayValue":{"values":[{"doubleValue":1.5},{"bytesValue":"AQI="},
      {"kvlistValue":{"values":[{"key":"k","value":{"boolValue":true}}]}}]}}}]},
    "scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10",
      "spanId":"0102030405060708","parentSpanId":"0102030405060709","name":"GET","kind":2,
      "startTimeUnixNano":"999000000000","endTimeUnixNano":"1000000000000","status":{"code":2,"message":"no"},
      "events":[{"timeUnixNano":"1","name":"e"}],"links":[{"traceId":"0102030405060708090a0b0c0d0e0f10",
      "spanId":"0102030405060708"}]}]}]}]}"#;

const METRICS: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"cart"}}]},"scopeMetrics":[{"metrics":[
    {"name":"a","unit":"By/s","sum":{"isMonotonic":true,"aggregationTemporality":1,"dataPoints":[
      {"asInt":"3","startTimeUnixNano":"990000000000","timeUnixNano":"1000000000000",
       "attributes":[{"key":"k","value":{"stringValue":"v"}}]}]}},
    {"name":"g","unit":"1","gauge":{"dataPoints":[{"asDouble":1.5,"timeUnixNano":"1000000000000"}]}},
    {"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[{"count":3,"sum":2.5,
       "timeUnixNano":"1000000000000","explicitBounds":[1,2],"bucketCounts":[1,1,1],
       "exemplars":[{"timeUnixNano":"1","asDouble":1,"traceId":"0102030405060708090a0b0c0d0e0f10"}]}]}},
    {"name":"e","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"count":5,"scale":10,
       "zeroCount":1,"timeUnixNano":"1000000000000","positive":{"offset":-3,"bucketCounts":[1,2]},
       "negative":{"offset":900,"bucketCounts":[1]}}]}},
    {"name":"s","summary":{"dataPoints":[{"count":1,"sum":1,"timeUnixNano":"1000000000000",
       "quantileValues":[{"quantile":0.5,"value":1}]}]}}]}]}]}"#;

#[derive(Debug, Clone)]
enum Mutation {
    Flip { at: usize, bit: u8 },
    Set { at: usize, byte: u8 },
    Insert { at: usize, bytes: Vec<u8> },
    Remove { at: usize, length: usize },
    Repeat { at: usize, length: usize },
    Truncate { at: usize },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..4096usize;
    prop_oneof![
        (at.clone(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        (at.clone(), prop_oneof![Just(0u8), Just(0x7f), Just(0xff), any::<u8>()])
            .prop_map(|(at, byte)| Mutation::Set { at, byte }),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(at, bytes)| Mutation::Insert { at, bytes }),
        (at.clone(), 1..64usize).prop_map(|(at, length)| Mutation::Remove { at, length }),
        (at.clone(), 1..64usize).prop_map(|(at, length)| Mutation::Repeat { at, length }),
        at.prop_map(|at| Mutation::Truncate { at }),
    ]
}

fn mutate(mut body: Vec<u8>, mutations: &[Mutation]) -> Bytes {
    for mutation in mutations {
        if body.is_empty() {
            break;
        }
        let length = body.len();
        match *mutation {
            Mutation::Flip { at, bit } => body[at % length] ^= 1 << bit,
            Mutation::Set { at, byte } => body[at % length] = byte,
            Mutation::Insert { at, ref bytes } => {
                let at = at % length;
                body.splice(at..at, bytes.iter().copied());
            }
            Mutation::Remove { at, length: n } => {
                body.drain(at % length..(at % length + n).min(length));
            }
            Mutation::Repeat { at, length: n } => {
                let at = at % length;
                let again = body[at..(at + n).min(length)].to_vec();
                body.splice(at..at, again);
            }
            Mutation::Truncate { at } => body.truncate(at % length),
        }
    }
    body.into()
}

fn protobuf<R: Request>(document: &'static str) -> Vec<u8> {
    decode::<R>(Format::Json, Bytes::from_static(document.as_bytes()))
        .expect("the document is valid")
        .encode_to_vec()
}

/// Reading in place comes to what decoding and converting does, whether the request is good or bad.
fn compare(body: &Bytes) {
    let converted = decode::<ExportTraceServiceRequest>(Format::Protobuf, body.clone())
        .map(|request| Received::from(spans::convert(&request, WINDOW)));
    let walked = walk::walk(body, WINDOW);
    match (walked, converted) {
        (Ok(walked), Ok(converted)) => {
            let facts = |r: &Received| {
                let spans = r.block.as_ref().map(|b| b.spans().expect("readable"));
                // As text, since a NaN is not equal to itself.
                format!("{spans:?} {:?} {:?} {:?} {:?}", r.senders, r.tally, r.truncated, r.halves)
            };
            assert_eq!(facts(&walked), facts(&converted));
            let [mut metrics, mut other] = [SpanMetrics::new(), SpanMetrics::new()];
            assert_eq!(metrics.observe_calls(&walked.calls, NOW), other.observe_calls(&converted.calls, NOW));
        }
        (Err(_), Err(_)) => {}
        (walked, converted) => panic!("walked: {walked:?}\nconverted: {converted:?}"),
    }
}

fn read_traces(format: Format, body: Bytes) {
    if format == Format::Protobuf {
        compare(&body);
    }
    let Ok(request) = decode::<ExportTraceServiceRequest>(format, body) else { return };
    let sent: usize = request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
    let converted = spans::convert(&request, WINDOW);
    assert_eq!(converted.tally.accepted + converted.tally.rejected, sent as u64);
    assert_eq!(converted.tally.accepted, converted.spans.len() as u64);
    let calls = SpanMetrics::new().observe(&converted.spans, NOW);
    assert!(calls.len() <= converted.spans.len());
}

fn read_metrics(format: Format, body: Bytes) {
    let Ok(request) = decode::<ExportMetricsServiceRequest>(format, body) else { return };
    let mut streams = Streams::new();
    for _ in 0..2 {
        let converted = metrics::convert(&request, &mut streams, WINDOW, NOW);
        for point in converted.points {
            assert!(WINDOW.from <= point.at && point.at <= WINDOW.to);
            assert!(point.zero_at.is_none_or(|zero| zero < point.at));
            assert!(point.exemplars.iter().all(|(series, _)| *series < point.series.len()));
            for (labels, value) in point.series {
                assert!(!labels.metric_name().is_empty());
                if let Value::Histogram(h) = value {
                    assert_eq!(h.validate(), Ok(()));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_protobuf_traces_never_panic(m in prop::collection::vec(mutation(), 1..6)) {
        read_traces(Format::Protobuf, mutate(protobuf::<ExportTraceServiceRequest>(TRACES), &m));
    }

    #[test]
    fn mutated_json_traces_never_panic(m in prop::collection::vec(mutation(), 1..4)) {
        read_traces(Format::Json, mutate(TRACES.into(), &m));
    }

    #[test]
    fn mutated_protobuf_metrics_never_panic(m in prop::collection::vec(mutation(), 1..6)) {
        read_metrics(Format::Protobuf, mutate(protobuf::<ExportMetricsServiceRequest>(METRICS), &m));
    }

    #[test]
    fn mutated_json_metrics_never_panic(m in prop::collection::vec(mutation(), 1..4)) {
        read_metrics(Format::Json, mutate(METRICS.into(), &m));
    }
}

/// Fields that protobuf lets come twice or in any order: the last counts, messages merge, lists are joined.
#[test]
fn fields_in_pieces_and_in_any_order_are_put_together() {
    let whole = protobuf::<ExportTraceServiceRequest>(TRACES);
    let request: ExportTraceServiceRequest =
        decode(Format::Protobuf, whole.clone().into()).expect("the document is valid");
    let field = |number: u8, content: &[u8]| {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        out.extend(content);
        out
    };
    let from = &request.resource_spans[0];
    let resource = from.resource.as_ref().expect("it has one").encode_to_vec();
    let (scope, span) = (&from.scope_spans[0], from.scope_spans[0].spans[0].encode_to_vec());
    let scope_name = scope.scope.as_ref().expect("it has one").encode_to_vec();
    let pair = |values: &[&[u8]]| {
        let values = values.iter().flat_map(|v| field(2, v));
        field(9, &[field(1, b"k"), values.collect(), field(1, b"l")].concat())
    };
    let text = field(1, b"text");
    let array = field(5, &field(1, &text));
    let attributes = [
        pair(&[]),
        pair(&[&text, &[3 << 3, 7]]),
        pair(&[&array, &array]),
        pair(&[&array, &text]),
        pair(&[&[text.as_slice(), &[2 << 3, 1]].concat()]),
        pair(&[&[array.clone(), text.clone(), field(9, b"unknown")].concat()]),
        pair(&[&[8 << 3, 1]]),
    ];
    for twice in
        [attributes.concat(), field(5, b"again"), field(15, &field(2, b"once more")), vec![6 << 3, 3]]
    {
        let span = [twice.clone(), span.clone(), twice].concat();
        let scopes = [field(2, &span), field(1, &scope_name), field(1, &scope_name)].concat();
        let resources =
            [field(2, &scopes), field(1, &resource), field(1, &resource), field(77, b"?")].concat();
        let body = Bytes::from([field(1, &resources), whole.clone(), field(1, &resources)].concat());
        let taken = walk::walk(&body, WINDOW).expect("it is valid");
        assert_eq!(taken.tally.accepted, 3);
        compare(&body);
    }
}

#[test]
fn what_a_shop_sends_is_read_alike_both_ways() {
    let mut shop = Shop::new(5, 1_000_000_000, 1000.0);
    let spans: Vec<_> = (0..300).flat_map(|_| shop.trace()).collect();
    for request in exported(spans, 100) {
        compare(&davy_fixtures::otlp::traces(&request).encode_to_vec().into());
    }
}

#[test]
fn limits_are_the_same_both_ways() {
    let mut request: ExportTraceServiceRequest =
        decode(Format::Json, Bytes::from_static(TRACES.as_bytes())).expect("valid");
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    let (attribute, event) =
        (spans[0].attributes.first().cloned().unwrap_or_default(), spans[0].events[0].clone());
    let mut large = spans[0].clone();
    large.name = "n".repeat(9000);
    large.attributes = vec![attribute; 200];
    large.events = vec![event; 200];
    large.links = vec![large.links[0].clone(); 200];
    let mut refused = large.clone();
    refused.trace_id = vec![1];
    spans.extend([large, refused]);
    let small = spans[0].clone();
    compare(&request.encode_to_vec().into());
    request.resource_spans[0].scope_spans[0].spans = vec![small; spans::SPANS_MAX as usize + 3];
    compare(&request.encode_to_vec().into());
    let field = |content: Vec<u8>| {
        let mut out = vec![10];
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        [out, content].concat()
    };
    // Empty spans that would unfold to far more than they are.
    let bomb = field([18, 0].repeat(4 << 20));
    compare(&bomb.into());
}

#[test]
fn the_unmutated_documents_are_taken_whole() {
    let traces: ExportTraceServiceRequest =
        decode(Format::Json, Bytes::from_static(TRACES.as_bytes())).expect("valid");
    assert_eq!(spans::convert(&traces, WINDOW).tally.rejected, 0);
    let metrics: ExportMetricsServiceRequest =
        decode(Format::Json, Bytes::from_static(METRICS.as_bytes())).expect("valid");
    let converted = metrics::convert(&metrics, &mut Streams::new(), WINDOW, NOW);
    assert_eq!((converted.points.len(), converted.tally.rejected), (5, 0));
}
