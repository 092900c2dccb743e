//! Spans back into OTLP, in protobuf and in JSON: what was received, but for what was cut then.

use std::sync::Arc;

use davy_model::{AttributeValue, Attributes, Resource, Span, SpanKind, SpanStatus};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use serde_json::{Value as Json, json};

/// Spans of one resource and one scope together, in the order of their first spans.
pub(crate) fn resource_spans(spans: &[Span]) -> Vec<otlp::ResourceSpans> {
    let one = |(resource, scope, spans): (&Resource, &str, Vec<&Span>)| otlp::ResourceSpans {
        resource: Some(OtlpResource {
            attributes: key_values(&resource.attributes),
            ..OtlpResource::default()
        }),
        scope_spans: vec![otlp::ScopeSpans {
            scope: Some(InstrumentationScope { name: scope.to_owned(), ..InstrumentationScope::default() }),
            spans: spans.into_iter().map(span_message).collect(),
            ..otlp::ScopeSpans::default()
        }],
        ..otlp::ResourceSpans::default()
    };
    grouped(spans).into_iter().map(one).collect()
}

pub(crate) fn resource_spans_json(spans: &[Span]) -> Json {
    let one = |(resource, scope, spans): (&Resource, &str, Vec<&Span>)| {
        json!({
            "resource": {"attributes": attributes_json(&resource.attributes)},
            "scopeSpans": [{
                "scope": {"name": scope},
                "spans": spans.into_iter().map(span_json).collect::<Vec<_>>(),
            }],
        })
    };
    Json::Array(grouped(spans).into_iter().map(one).collect())
}

fn grouped(spans: &[Span]) -> Vec<(&Resource, &str, Vec<&Span>)> {
    let mut groups: Vec<(&Arc<Resource>, &str, Vec<&Span>)> = Vec::new();
    for span in spans {
        let is_its = |(resource, scope, _): &&mut (&Arc<Resource>, &str, Vec<&Span>)| {
            *scope == &*span.scope && (Arc::ptr_eq(resource, &span.resource) || **resource == span.resource)
        };
        match groups.iter_mut().find(is_its) {
            Some((_, _, spans)) => spans.push(span),
            None => groups.push((&span.resource, &span.scope, vec![span])),
        }
    }
    groups.into_iter().map(|(resource, scope, spans)| (&**resource, scope, spans)).collect()
}

fn span_message(span: &Span) -> otlp::Span {
    let event = |e: &davy_model::SpanEvent| otlp::span::Event {
        time_unix_nano: e.time_nanos,
        name: e.name.as_ref().to_owned(),
        attributes: key_values(&e.attributes),
        ..otlp::span::Event::default()
    };
    let link = |l: &davy_model::SpanLink| otlp::span::Link {
        trace_id: l.trace_id.0.to_vec(),
        span_id: l.span_id.0.to_vec(),
        attributes: key_values(&l.attributes),
        ..otlp::span::Link::default()
    };
    let parent = span.parent_span_id;
    otlp::Span {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        parent_span_id: if parent.is_zero() { Vec::new() } else { parent.0.to_vec() },
        trace_state: span.trace_state.as_ref().to_owned(),
        name: span.name.as_ref().to_owned(),
        kind: kind(span.kind),
        start_time_unix_nano: span.start_nanos,
        end_time_unix_nano: span.end_nanos,
        attributes: key_values(&span.attributes),
        events: span.events.iter().map(event).collect(),
        links: span.links.iter().map(link).collect(),
        status: Some(otlp::Status {
            code: status(span.status),
            message: span.status_message.as_ref().to_owned(),
        }),
        ..otlp::Span::default()
    }
}

fn kind(kind: SpanKind) -> i32 {
    match kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn status(status: SpanStatus) -> i32 {
    match status {
        SpanStatus::Unset => 0,
        SpanStatus::Ok => 1,
        SpanStatus::Error => 2,
    }
}

fn key_values(attributes: &Attributes) -> Vec<KeyValue> {
    let one = |(key, value): &(Arc<str>, AttributeValue)| KeyValue {
        key: key.as_ref().to_owned(),
        value: Some(any_value(value)),
        ..KeyValue::default()
    };
    attributes.iter().map(one).collect()
}

fn any_value(value: &AttributeValue) -> AnyValue {
    let value = match value {
        AttributeValue::String(s) => Value::StringValue(s.as_ref().to_owned()),
        AttributeValue::Bool(b) => Value::BoolValue(*b),
        AttributeValue::Int(n) => Value::IntValue(*n),
        AttributeValue::Double(n) => Value::DoubleValue(*n),
        // It was written by us: whatever cannot be read is given as the text it is.
        AttributeValue::Json(json) => serde_json::from_str(json)
            .ok()
            .and_then(|read: Json| nested(&read))
            .unwrap_or_else(|| Value::StringValue(json.as_ref().to_owned())),
    };
    AnyValue { value: Some(value) }
}

/// From OTLP's JSON. Depth is bounded by the reader's.
fn nested(json: &Json) -> Option<Value> {
    let (form, inner) = json.as_object()?.iter().next()?;
    let values = || Some(inner.get("values")?.as_array()?.iter());
    let any = |json: &Json| AnyValue { value: nested(json) };
    Some(match form.as_str() {
        "stringValue" => Value::StringValue(inner.as_str()?.to_owned()),
        "boolValue" => Value::BoolValue(inner.as_bool()?),
        "intValue" => {
            Value::IntValue(inner.as_str().and_then(|s| s.parse().ok()).or_else(|| inner.as_i64())?)
        }
        "doubleValue" => Value::DoubleValue(match inner.as_str() {
            Some("NaN") => f64::NAN,
            Some("Infinity") => f64::INFINITY,
            Some("-Infinity") => f64::NEG_INFINITY,
            _ => inner.as_f64()?,
        }),
        "bytesValue" => {
            use base64::Engine as _;
            Value::BytesValue(base64::engine::general_purpose::STANDARD.decode(inner.as_str()?).ok()?)
        }
        "arrayValue" => Value::ArrayValue(ArrayValue { values: values()?.map(any).collect() }),
        "kvlistValue" => {
            let pair = |json: &Json| {
                Some(KeyValue {
                    key: json.get("key")?.as_str()?.to_owned(),
                    value: json.get("value").map(any),
                    ..KeyValue::default()
                })
            };
            Value::KvlistValue(KeyValueList { values: values()?.filter_map(pair).collect() })
        }
        _ => return None,
    })
}

fn span_json(span: &Span) -> Json {
    let event = |e: &davy_model::SpanEvent| {
        json!({"timeUnixNano": e.time_nanos.to_string(), "name": &*e.name,
               "attributes": attributes_json(&e.attributes)})
    };
    let link = |l: &davy_model::SpanLink| {
        json!({"traceId": l.trace_id.to_string(), "spanId": l.span_id.to_string(),
               "attributes": attributes_json(&l.attributes)})
    };
    let parent = span.parent_span_id;
    let mut json = json!({
        "traceId": span.trace_id.to_string(),
        "spanId": span.span_id.to_string(),
        "name": &*span.name,
        "kind": kind(span.kind),
        "startTimeUnixNano": span.start_nanos.to_string(),
        "endTimeUnixNano": span.end_nanos.to_string(),
        "attributes": attributes_json(&span.attributes),
        "events": span.events.iter().map(event).collect::<Vec<_>>(),
        "links": span.links.iter().map(link).collect::<Vec<_>>(),
        "status": {"code": status(span.status), "message": &*span.status_message},
    });
    if !parent.is_zero() {
        json["parentSpanId"] = parent.to_string().into();
    }
    if !span.trace_state.is_empty() {
        json["traceState"] = (&*span.trace_state).into();
    }
    json
}

fn attributes_json(attributes: &Attributes) -> Vec<Json> {
    attributes.iter().map(|(key, value)| json!({"key": &**key, "value": attribute_json(value)})).collect()
}

pub(crate) fn attribute_json(value: &AttributeValue) -> Json {
    match value {
        AttributeValue::String(s) => json!({"stringValue": &**s}),
        AttributeValue::Bool(b) => json!({"boolValue": b}),
        AttributeValue::Int(n) => json!({"intValue": n.to_string()}),
        AttributeValue::Double(n) if n.is_finite() => json!({"doubleValue": n}),
        AttributeValue::Double(n) if n.is_nan() => json!({"doubleValue": "NaN"}),
        AttributeValue::Double(n) => json!({"doubleValue": if *n > 0.0 { "Infinity" } else { "-Infinity" }}),
        AttributeValue::Json(json) => {
            serde_json::from_str(json).unwrap_or_else(|_| json!({"stringValue": &**json}))
        }
    }
}
