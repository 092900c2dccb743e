//! Bytes into OTLP requests, the same for gRPC and HTTP.
//!
//! Decoded messages can be two hundred times the size of their bytes (an empty span is two bytes on the wire), so
//! a walk over the bytes adds up what decoding would allocate before anything is allocated. Traces in protobuf are not
//! decoded at all ([`super::walk`]), but take as much of the same budget.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message;

use super::json::{self, FromJson};
use super::outcome::Refused;
use Field::{Message as Msg, Varints};

/// What the messages of one request may take in memory.
pub(crate) const DECODED_BYTES_MAX: usize = 96 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

/// A request of one of the two services.
pub(crate) trait Request: Message + Default + FromJson {
    const SHAPE: &'static Shape;
}

impl Request for ExportTraceServiceRequest {
    const SHAPE: &'static Shape = &TRACES;
}

impl Request for ExportMetricsServiceRequest {
    const SHAPE: &'static Shape = &METRICS;
}

pub(crate) fn decode<R: Request>(format: Format, body: Bytes) -> Result<R, Refused> {
    match format {
        Format::Json => json::from_slice(&body, DECODED_BYTES_MAX),
        Format::Protobuf => {
            weigh(R::SHAPE, &body, DECODED_BYTES_MAX)?;
            R::decode(body).map_err(|e| Refused::Malformed(e.to_string()))
        }
    }
}

pub(crate) fn too_large() -> Refused {
    Refused::TooLarge { limit_bytes: DECODED_BYTES_MAX, what: "when decoded" }
}

/// A message type: what one takes in memory, and its fields that hold messages or packed numbers.
pub(crate) struct Shape {
    pub(crate) bytes: usize,
    fields: &'static [(u64, Field)],
}

enum Field {
    Message(&'static Shape),
    /// Packed varints: eight bytes for each on the wire.
    Varints,
}

static TRACES: Shape = Shape { bytes: 0, fields: &[(1, Msg(&RESOURCE_SPANS))] };
pub(crate) static RESOURCE_SPANS: Shape = Shape {
    bytes: size_of::<trace::ResourceSpans>(),
    fields: &[(1, Msg(&RESOURCE)), (2, Msg(&SCOPE_SPANS))],
};
pub(crate) static SCOPE_SPANS: Shape =
    Shape { bytes: size_of::<trace::ScopeSpans>(), fields: &[(1, Msg(&SCOPE)), (2, Msg(&SPAN))] };
pub(crate) static SPAN: Shape = Shape {
    bytes: size_of::<trace::Span>(),
    fields: &[(9, Msg(&KEY_VALUE)), (11, Msg(&EVENT)), (13, Msg(&LINK))],
};
pub(crate) static EVENT: Shape =
    Shape { bytes: size_of::<trace::span::Event>(), fields: &[(3, Msg(&KEY_VALUE))] };
pub(crate) static LINK: Shape =
    Shape { bytes: size_of::<trace::span::Link>(), fields: &[(4, Msg(&KEY_VALUE))] };

static METRICS: Shape = Shape { bytes: 0, fields: &[(1, Msg(&RESOURCE_METRICS))] };
static RESOURCE_METRICS: Shape = Shape {
    bytes: size_of::<metrics::ResourceMetrics>(),
    fields: &[(1, Msg(&RESOURCE)), (2, Msg(&SCOPE_METRICS))],
};
static SCOPE_METRICS: Shape =
    Shape { bytes: size_of::<metrics::ScopeMetrics>(), fields: &[(1, Msg(&SCOPE)), (2, Msg(&METRIC))] };
static METRIC: Shape = Shape {
    bytes: size_of::<metrics::Metric>(),
    fields: &[
        (5, Msg(&NUMBERS)),
        (7, Msg(&NUMBERS)),
        (9, Msg(&HISTOGRAMS)),
        (10, Msg(&EXPONENTIALS)),
        (11, Msg(&SUMMARIES)),
        (12, Msg(&KEY_VALUE)),
    ],
};
static NUMBERS: Shape = Shape { bytes: 0, fields: &[(1, Msg(&NUMBER))] };
static HISTOGRAMS: Shape = Shape { bytes: 0, fields: &[(1, Msg(&HISTOGRAM))] };
static EXPONENTIALS: Shape = Shape { bytes: 0, fields: &[(1, Msg(&EXPONENTIAL))] };
static SUMMARIES: Shape = Shape { bytes: 0, fields: &[(1, Msg(&SUMMARY))] };
static NUMBER: Shape = Shape {
    bytes: size_of::<metrics::NumberDataPoint>(),
    fields: &[(5, Msg(&EXEMPLAR)), (7, Msg(&KEY_VALUE))],
};
static HISTOGRAM: Shape = Shape {
    bytes: size_of::<metrics::HistogramDataPoint>(),
    fields: &[(8, Msg(&EXEMPLAR)), (9, Msg(&KEY_VALUE))],
};
static EXPONENTIAL: Shape = Shape {
    bytes: size_of::<metrics::ExponentialHistogramDataPoint>(),
    fields: &[(1, Msg(&KEY_VALUE)), (8, Msg(&BUCKETS)), (9, Msg(&BUCKETS)), (11, Msg(&EXEMPLAR))],
};
static BUCKETS: Shape = Shape { bytes: 0, fields: &[(2, Varints)] };
static SUMMARY: Shape = Shape {
    bytes: size_of::<metrics::SummaryDataPoint>(),
    fields: &[(6, Msg(&QUANTILE)), (7, Msg(&KEY_VALUE))],
};
static QUANTILE: Shape =
    Shape { bytes: size_of::<metrics::summary_data_point::ValueAtQuantile>(), fields: &[] };
static EXEMPLAR: Shape = Shape { bytes: size_of::<metrics::Exemplar>(), fields: &[(7, Msg(&KEY_VALUE))] };

pub(crate) static RESOURCE: Shape = Shape { bytes: 0, fields: &[(1, Msg(&KEY_VALUE)), (3, Msg(&ENTITY))] };
static ENTITY: Shape =
    Shape { bytes: size_of::<common::EntityRef>(), fields: &[(3, Msg(&TEXT)), (4, Msg(&TEXT))] };
static TEXT: Shape = Shape { bytes: size_of::<String>(), fields: &[] };
pub(crate) static SCOPE: Shape = Shape { bytes: 0, fields: &[(3, Msg(&KEY_VALUE))] };
pub(crate) static KEY_VALUE: Shape =
    Shape { bytes: size_of::<common::KeyValue>(), fields: &[(2, Msg(&ANY))] };
pub(crate) static ANY: Shape =
    Shape { bytes: size_of::<common::AnyValue>(), fields: &[(5, Msg(&ARRAY)), (6, Msg(&KEY_VALUES))] };
static ARRAY: Shape = Shape { bytes: 0, fields: &[(1, Msg(&ANY))] };
static KEY_VALUES: Shape = Shape { bytes: 0, fields: &[(1, Msg(&KEY_VALUE))] };

/// prost's own limit on nesting.
pub(crate) const DEPTH_MAX: usize = 100;

/// `Err` if decoding would take more than `bytes_max`, or if the bytes are no protobuf at all.
fn weigh(shape: &Shape, body: &[u8], bytes_max: usize) -> Result<(), Refused> {
    let mut left = bytes_max;
    weigh_below(shape, body, &mut left, DEPTH_MAX)
}

/// Takes from `left` what decoding a message would allocate; `depth` is how deep others may still lie in it.
pub(crate) fn weigh_below(
    shape: &Shape,
    mut body: &[u8],
    left: &mut usize,
    depth: usize,
) -> Result<(), Refused> {
    let malformed = |what: &str| Refused::Malformed(format!("not an OTLP protobuf message: {what}"));
    if depth == 0 {
        return Err(malformed("nested too deeply"));
    }
    while !body.is_empty() {
        let tag = varint(&mut body).ok_or_else(|| malformed("truncated field number"))?;
        let length = match tag & 7 {
            0 => {
                varint(&mut body).ok_or_else(|| malformed("truncated number"))?;
                0
            }
            1 => 8,
            2 => varint(&mut body).ok_or_else(|| malformed("truncated length"))?,
            5 => 4,
            other => return Err(malformed(&format!("unknown wire type {other}"))),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (content, rest) = body.split_at_checked(length).ok_or_else(|| malformed("truncated field"))?;
        body = rest;
        if tag & 7 != 2 {
            continue;
        }
        let (cost, inner) = match shape.fields.iter().find(|(number, _)| *number == tag >> 3) {
            Some((_, Field::Message(inner))) => (inner.bytes, Some(inner)),
            Some((_, Varints)) => (content.len() * 8, None),
            None => (content.len(), None),
        };
        *left = left.checked_sub(cost).ok_or_else(too_large)?;
        if let Some(inner) = inner {
            weigh_below(inner, content, left, depth - 1)?;
        }
    }
    Ok(())
}

fn varint(body: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, byte) in body.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i as u32);
        if byte & 0x80 == 0 {
            *body = &body[i + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` empty spans: two bytes each.
    fn empty_spans(count: usize) -> Bytes {
        let field = |number: u8, content: &[u8]| {
            let mut out = vec![number << 3 | 2];
            prost::encoding::encode_varint(content.len() as u64, &mut out);
            out.extend(content);
            out
        };
        field(1, &field(2, &[2 << 3 | 2, 0].repeat(count))).into()
    }

    #[test]
    fn messages_that_unfold_are_refused_before_they_do() {
        let decoded: ExportTraceServiceRequest =
            decode(Format::Protobuf, empty_spans(3)).expect("three empty spans");
        assert_eq!(decoded.resource_spans[0].scope_spans[0].spans.len(), 3);
        let bomb = empty_spans(4 << 20);
        assert_eq!(decode::<ExportTraceServiceRequest>(Format::Protobuf, bomb), Err(too_large()));
        let json = format!(r#"{{"resourceSpans":[{}{{}}]}}"#, "{},".repeat(2 << 20));
        assert_eq!(decode::<ExportTraceServiceRequest>(Format::Json, json.into()), Err(too_large()));
    }

    #[test]
    fn what_the_walk_weighs_covers_what_decoding_takes() {
        // Every repeated message of the two trees, empty: none may be free.
        for shape in [&SPAN, &EVENT, &LINK, &KEY_VALUE, &ANY, &METRIC, &NUMBER, &HISTOGRAM, &EXPONENTIAL] {
            assert!(shape.bytes > 0);
        }
        let anys: Vec<u8> = [1 << 3 | 2, 0].repeat(1000);
        assert_eq!(weigh(&ARRAY, &anys, 999 * size_of::<common::AnyValue>()), Err(too_large()));
        assert_eq!(weigh(&BUCKETS, &[2 << 3 | 2, 3, 1, 1, 1], 23), Err(too_large()));
        assert_eq!(weigh(&BUCKETS, &[2 << 3 | 2, 3, 1, 1, 1], 24), Ok(()));
    }

    #[test]
    fn bytes_that_are_no_protobuf_are_malformed() {
        for bytes in [&b"hello, world"[..], b"{}", &[0x0a], &[0x0a, 5, 1], &[0xff; 20], &[0x0b]] {
            let got = decode::<ExportMetricsServiceRequest>(Format::Protobuf, Bytes::from(bytes.to_vec()));
            assert!(matches!(got, Err(Refused::Malformed(_))), "{bytes:?}: {got:?}");
        }
        let empty = decode::<ExportMetricsServiceRequest>(Format::Protobuf, Bytes::new());
        assert_eq!(empty, Ok(ExportMetricsServiceRequest::default()));
    }

    #[test]
    fn values_nested_without_end_are_refused() {
        let mut value = vec![];
        for _ in 0..5000 {
            // AnyValue.array_value = { values: [ value ] }
            for number in [1u8, 5] {
                let mut outer = vec![number << 3 | 2];
                prost::encoding::encode_varint(value.len() as u64, &mut outer);
                outer.extend(&value);
                value = outer;
            }
        }
        assert!(
            matches!(weigh(&ANY, &value, usize::MAX), Err(Refused::Malformed(m)) if m.contains("nested"))
        );
        let deep = format!(r#"{{"resourceSpans":{}"#, "[".repeat(100_000));
        let got = decode::<ExportTraceServiceRequest>(Format::Json, deep.into());
        assert!(matches!(got, Err(Refused::Malformed(_))));
    }
}
