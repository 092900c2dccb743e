//! What Grafana's Jaeger data source and Jaeger's own UI ask: services, operations, traces, dependencies.
//!
//! The paths of Jaeger's version 1 API, beside those of Tempo; `/api/traces/{id}` is told apart by what is accepted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use davy_collector::otlp::SERVICE_GRAPH_REQUESTS;
use davy_model::{
    AttributeValue, Attributes, Matcher, Resource, Span, SpanKind, SpanStatus, Timestamp, TraceId,
};
use davy_query::counts::increase_between;
use davy_query::traceql::{Field, Intrinsic, Scope};
use davy_query::traceql::{Limits, Query, Range, search, tag_values};
use serde_json::{Map, Value, json};

use crate::tempo::{Params, TraceError, Traces, attribute_json};

const TRACES_USUAL: usize = 20;
const TRACES_MAX: usize = 1_500;
/// Spans of one answer; traces beyond are left out.
const SPANS_MAX: usize = 50_000;
/// Services or operations in one list.
const NAMES_MAX: usize = 10_000;
/// How far back lists of services and operations look.
const NAMES_LOOKBACK: Duration = Duration::from_secs(3 * 86_400);
/// How far back a search without a beginning looks, as in Jaeger.
const SEARCH_LOOKBACK: Duration = Duration::from_secs(2 * 86_400);
const DEPENDENCIES_LOOKBACK: Duration = Duration::from_secs(86_400);

pub(crate) fn routes() -> Router<Traces> {
    Router::new()
        .route("/api/services", get(services))
        .route("/api/services/{service}/operations", get(operations))
        .route("/api/operations", get(operations_with_kinds))
        .route("/api/traces", get(traces))
        .route("/api/dependencies", get(dependencies))
}

/// Errors in Jaeger's envelope.
pub(crate) struct JaegerError(TraceError);

impl From<TraceError> for JaegerError {
    fn from(error: TraceError) -> Self {
        Self(error)
    }
}

impl IntoResponse for JaegerError {
    fn into_response(self) -> Response {
        let (status, message) = match self.0 {
            TraceError::Bad(e) => (StatusCode::BAD_REQUEST, e),
            TraceError::NotFound(_) => (StatusCode::NOT_FOUND, "trace not found".to_owned()),
            TraceError::Busy(e) => (StatusCode::SERVICE_UNAVAILABLE, e),
            TraceError::Internal(e) => (StatusCode::INTERNAL_SERVER_ERROR, e),
        };
        let errors = [json!({"code": status.as_u16(), "msg": message})];
        let body = json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors});
        (status, Json(body)).into_response()
    }
}

fn envelope(data: Vec<Value>) -> Json<Value> {
    let mut body = json!({"data": null, "total": data.len(), "limit": 0, "offset": 0, "errors": null});
    body["data"] = Value::Array(data);
    Json(body)
}

fn names_range(traces: &Traces) -> Range {
    let now = traces.now();
    Range { from: now - NAMES_LOOKBACK, to: now + Duration::from_secs(3600) }
}

async fn values(traces: &Traces, field: Field, query: Option<String>) -> Result<Vec<String>, TraceError> {
    let range = names_range(traces);
    let query = query.map(|q| parsed(&q)).transpose()?;
    let listed = traces.run(move |snapshot, cancel| {
        Ok(tag_values(&snapshot, &field, query.as_ref(), range, NAMES_MAX, cancel))
    });
    Ok(listed.await?.into_iter().map(|v| v.text).collect())
}

fn parsed(query: &str) -> Result<Query, TraceError> {
    Query::parse(query).map_err(|e| TraceError::Bad(e.to_string()))
}

/// `GET /api/services`
async fn services(State(traces): State<Traces>) -> Result<Json<Value>, JaegerError> {
    let field = Field::Attribute(Scope::Resource, "service.name".to_owned());
    Ok(envelope(values(&traces, field, None).await?.into_iter().map(Value::from).collect()))
}

/// `GET /api/services/{service}/operations`
async fn operations(
    State(traces): State<Traces>,
    Path(service): Path<String>,
) -> Result<Json<Value>, JaegerError> {
    let of_service = format!("{{ resource.service.name = {} }}", quoted(&service));
    let names = values(&traces, Field::Intrinsic(Intrinsic::Name), Some(of_service)).await?;
    Ok(envelope(names.into_iter().map(Value::from).collect()))
}

/// `GET /api/operations?service=&spanKind=`
async fn operations_with_kinds(
    State(traces): State<Traces>,
    params: Params,
) -> Result<Json<Value>, JaegerError> {
    let service = required(&params, "service")?;
    let asked = params.get("spanKind");
    let mut found = Vec::new();
    for kind in ["server", "client", "producer", "consumer", "internal"] {
        if asked.is_none_or(|a| a.eq_ignore_ascii_case(kind)) {
            let query = format!("{{ resource.service.name = {} && kind = {kind} }}", quoted(&service));
            let names = values(&traces, Field::Intrinsic(Intrinsic::Name), Some(query)).await?;
            found.extend(names.into_iter().map(|name| json!({"name": name, "spanKind": kind})));
        }
    }
    Ok(envelope(found))
}

fn required(params: &Params, name: &str) -> Result<String, TraceError> {
    let missing = || TraceError::Bad(format!("parameter {name:?} is required"));
    params.get(name).map(str::to_owned).ok_or_else(missing)
}

/// A text as TraceQL reads it.
fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// `GET /api/traces?service=&operation=&tags=&minDuration=&maxDuration=&limit=&start=&end=&lookback=`, or
/// `?traceID=` once or more often.
async fn traces(State(traces): State<Traces>, params: Params) -> Result<Json<Value>, JaegerError> {
    let mut ids = HashSet::new();
    for text in params.all("traceID") {
        let id = TraceId::from_hex(&format!("{text:0>32}"));
        ids.insert(id.ok_or_else(|| TraceError::Bad(format!("invalid trace id {text:?}")))?);
    }
    let limits = Limits { traces: params.limit("limit", TRACES_USUAL, TRACES_MAX)?, spans_per_set: 0 };
    let (query, range) = match ids.is_empty() {
        true => (Some(query(&params)?), search_range(&traces, &params)?),
        false => (None, names_range(&traces)),
    };
    let found = traces.run(move |snapshot, cancel| {
        let mut order: Vec<TraceId> = ids.iter().copied().collect();
        if let Some(query) = query {
            let hits = search(&query, &snapshot, range, limits, cancel)?;
            order = hits.into_iter().map(|hit| hit.id).collect();
        }
        let mut spans = snapshot.traces(&order.iter().copied().collect());
        let mut total = 0;
        let fits = |spans: &Vec<Span>| {
            total += spans.len();
            total <= SPANS_MAX || total == spans.len()
        };
        let found = order.iter().filter_map(|id| spans.remove(id)).take_while(fits);
        Ok(found.map(|spans| trace(&spans)).collect())
    });
    Ok(envelope(found.await?))
}

pub(crate) async fn by_id(traces: &Traces, id: &str) -> Result<Json<Value>, JaegerError> {
    Ok(envelope(vec![trace(&traces.by_id(id).await?)]))
}

/// The conditions of a search as TraceQL.
fn query(params: &Params) -> Result<Query, TraceError> {
    let mut all = vec![format!("resource.service.name = {}", quoted(&required(params, "service")?))];
    if let Some(operation) = params.get("operation").filter(|o| *o != "all") {
        all.push(format!("name = {}", quoted(operation)));
    }
    for (name, op) in [("minDuration", ">="), ("maxDuration", "<=")] {
        if let Some(duration) = params.duration(name)? {
            all.push(format!("duration {op} {}ns", duration.as_nanos()));
        }
    }
    for (key, value) in tags(params)? {
        all.push(match (key.as_str(), value.as_str()) {
            ("error", "true") => "status = error".to_owned(),
            ("error", _) => "status != error".to_owned(),
            ("span.kind", kind @ ("server" | "client" | "producer" | "consumer" | "internal")) => {
                format!("kind = {kind}")
            }
            ("otel.status_code", "ERROR") => "status = error".to_owned(),
            ("otel.status_code", "OK") => "status = ok".to_owned(),
            (key, value) => any_type(key, value),
        });
    }
    parsed(&format!("{{ {} }}", all.join(" && ")))
}

/// Jaeger's tags are texts whatever the attribute is.
fn any_type(key: &str, value: &str) -> String {
    let field = format!(".{}", quoted(key));
    let mut any = vec![format!("{field} = {}", quoted(value))];
    if value.parse::<i64>().is_ok_and(|n| n >= 0)
        || value.parse::<f64>().is_ok_and(|n| n >= 0.0 && n.is_finite())
    {
        let plain =
            value.chars().all(|c| c.is_ascii_digit() || c == '.') && value.starts_with(|c: char| c != '.');
        any.extend(plain.then(|| format!("{field} = {value}")));
    } else if let Some(digits) = value.strip_prefix('-').filter(|d| d.parse::<u32>().is_ok()) {
        any.push(format!("{field} = -{digits}"));
    }
    if matches!(value, "true" | "false") {
        any.push(format!("{field} = {value}"));
    }
    format!("({})", any.join(" || "))
}

/// `tags={"key":"value"}` and `tag=key:value`.
fn tags(params: &Params) -> Result<Vec<(String, String)>, TraceError> {
    let mut tags = Vec::new();
    for text in params.all("tags").filter(|t| !t.is_empty()) {
        let read: Map<String, Value> = serde_json::from_str(text).map_err(|e| {
            TraceError::Bad(format!("invalid parameter \"tags\": expected a JSON object of texts: {e}"))
        })?;
        tags.extend(read.into_iter().map(|(key, value)| match value {
            Value::String(text) => (key, text),
            other => (key, other.to_string()),
        }));
    }
    for text in params.all("tag") {
        let wrong =
            || TraceError::Bad(format!("invalid parameter \"tag\": expected key:value, got {text:?}"));
        let (key, value) = text.split_once(':').ok_or_else(wrong)?;
        tags.push((key.to_owned(), value.to_owned()));
    }
    Ok(tags)
}

/// `start` and `end` in microseconds, or a `lookback` before the end.
fn search_range(traces: &Traces, params: &Params) -> Result<Range, TraceError> {
    let micros = |name| {
        let read = |text: &str| text.parse::<i64>().ok().map(|us| Timestamp::from_millis(us / 1000));
        params.parsed(name, "a Unix time in microseconds", read)
    };
    let to = micros("end")?.unwrap_or_else(|| traces.now());
    // `custom` says that start and end count.
    let lookback = match params.get("lookback") {
        Some("custom") | None => None,
        Some(_) => params.duration("lookback")?,
    };
    let from = micros("start")?.unwrap_or_else(|| to - lookback.unwrap_or(SEARCH_LOOKBACK));
    if from > to {
        return Err(TraceError::Bad("start is after end".to_owned()));
    }
    Ok(Range { from, to })
}

/// `GET /api/dependencies?endTs=&lookback=`, both in milliseconds: who called whom how often, as the service graph
/// counted it.
async fn dependencies(State(traces): State<Traces>, params: Params) -> Result<Json<Value>, JaegerError> {
    let millis = |name| params.parsed(name, "milliseconds", |text| text.parse::<u64>().ok());
    let end = millis("endTs")?.map(|ms| Timestamp::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)));
    let end = end.unwrap_or_else(|| traces.now());
    let lookback = millis("lookback")?.map_or(DEPENDENCIES_LOOKBACK, Duration::from_millis);
    let found = traces.run(move |snapshot, _| {
        let matchers = [Matcher::metric(SERVICE_GRAPH_REQUESTS)];
        let from = end - lookback;
        let series = snapshot.select(&matchers, from, end).map_err(|e| TraceError::Internal(e.to_string()))?;
        let mut calls: BTreeMap<(String, String), f64> = BTreeMap::new();
        for s in &series {
            let name = |label| s.labels.get(label).unwrap_or("").to_owned();
            let gained = increase_between(&s.samples, from, end).unwrap_or(0.0);
            *calls.entry((name("client"), name("server"))).or_default() += gained;
        }
        let call = |((parent, child), count): ((String, String), f64)| {
            json!({"parent": parent, "child": child, "callCount": count.round() as u64})
        };
        Ok(calls.into_iter().filter(|(_, n)| *n >= 1.0).map(call).collect())
    });
    Ok(envelope(found.await?))
}

/// Spans of one trace as Jaeger's UI reads them.
fn trace(spans: &[Span]) -> Value {
    let mut processes: Vec<&Resource> = Vec::new();
    let mut known: HashMap<*const Resource, usize> = HashMap::new();
    let mut shown = Vec::with_capacity(spans.len());
    for span in spans {
        let process = *known.entry(std::sync::Arc::as_ptr(&span.resource)).or_insert_with(|| {
            processes.iter().position(|p| **p == *span.resource).unwrap_or_else(|| {
                processes.push(&span.resource);
                processes.len() - 1
            })
        });
        shown.push(span_json(span, process));
    }
    let process = |(n, resource): (usize, &&Resource)| {
        let tags = resource.attributes.iter().filter(|(key, _)| &**key != "service.name");
        let process = json!({
            "serviceName": resource.service(),
            "tags": tags.map(|(key, value)| tag(key, value)).collect::<Vec<_>>(),
        });
        (format!("p{}", n + 1), process)
    };
    let processes: Map<String, Value> = processes.iter().enumerate().map(process).collect();
    let id = spans.first().map(|s| s.trace_id.to_string());
    json!({"traceID": id, "spans": shown, "processes": processes, "warnings": null})
}

fn span_json(span: &Span, process: usize) -> Value {
    let trace = span.trace_id.to_string();
    let mut references = Vec::new();
    if !span.parent_span_id.is_zero() {
        let parent = span.parent_span_id.to_string();
        references.push(json!({"refType": "CHILD_OF", "traceID": trace, "spanID": parent}));
    }
    references.extend(span.links.iter().map(|link| {
        json!({"refType": "FOLLOWS_FROM", "traceID": link.trace_id.to_string(), "spanID": link.span_id.to_string()})
    }));
    let mut tags = tags_of(&span.attributes);
    let mut add = |key: &str, value: &str| tags.push(json!({"key": key, "type": "string", "value": value}));
    if !span.scope.is_empty() {
        add("otel.scope.name", &span.scope);
    }
    match span.kind {
        SpanKind::Unspecified => {}
        SpanKind::Internal => add("span.kind", "internal"),
        SpanKind::Server => add("span.kind", "server"),
        SpanKind::Client => add("span.kind", "client"),
        SpanKind::Producer => add("span.kind", "producer"),
        SpanKind::Consumer => add("span.kind", "consumer"),
    }
    match span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => add("otel.status_code", "OK"),
        SpanStatus::Error => add("otel.status_code", "ERROR"),
    }
    if !span.status_message.is_empty() {
        add("otel.status_description", &span.status_message);
    }
    if span.status == SpanStatus::Error {
        tags.push(json!({"key": "error", "type": "bool", "value": true}));
    }
    let log = |event: &davy_model::SpanEvent| {
        let mut fields = vec![json!({"key": "event", "type": "string", "value": &*event.name})];
        fields.extend(tags_of(&event.attributes));
        json!({"timestamp": event.time_nanos / 1000, "fields": fields})
    };
    json!({
        "traceID": trace,
        "spanID": span.span_id.to_string(),
        "operationName": &*span.name,
        "references": references,
        "startTime": span.start_nanos / 1000,
        "duration": span.duration_nanos() / 1000,
        "tags": tags,
        "logs": span.events.iter().map(log).collect::<Vec<_>>(),
        "processID": format!("p{}", process + 1),
        "warnings": null,
    })
}

fn tags_of(attributes: &Attributes) -> Vec<Value> {
    attributes.iter().map(|(key, value)| tag(key, value)).collect()
}

fn tag(key: &str, value: &AttributeValue) -> Value {
    let (kind, value) = match value {
        AttributeValue::Bool(b) => ("bool", json!(b)),
        AttributeValue::Int(n) => ("int64", json!(n)),
        AttributeValue::Double(n) if n.is_finite() => ("float64", json!(n)),
        AttributeValue::Json(_) => ("string", json!(attribute_json(value).to_string())),
        AttributeValue::String(_) | AttributeValue::Double(_) => ("string", json!(value.to_string())),
    };
    json!({"key": key, "type": kind, "value": value})
}
