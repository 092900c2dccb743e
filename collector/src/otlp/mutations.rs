//! Mutated requests of both signals and formats through everything that reads them: nothing may panic, and what
//! comes out is what the store relies on. Tests only.

use bytes::Bytes;
use davy_model::{Timestamp, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;

use super::cumulative::Streams;
use super::decode::{Format, Request, decode};
use super::span_metrics::SpanMetrics;
use super::spans::Window;
use super::{metrics, spans};

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

fn read_traces(format: Format, body: Bytes) {
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
