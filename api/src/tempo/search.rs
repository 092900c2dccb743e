//! `GET /api/search`: the newest traces that a TraceQL query, or the tags of old clients, ask for.

use axum::Json;
use axum::extract::State;
use davy_query::traceql::{Limits, Query, SetHit, SpanHit, TraceHit, search as find};
use serde_json::{Value, json};

use super::json::key_value;
use super::{LOOKBACK, Params, TraceError, Traces};

const TRACES_USUAL: usize = 20;
const TRACES_MAX: usize = 1_000;
const SPANS_USUAL: usize = 3;
const SPANS_MAX: usize = 100;

pub(crate) async fn search(State(traces): State<Traces>, params: Params) -> Result<Json<Value>, TraceError> {
    let query = query(&params)?;
    let range = traces.range(&params, LOOKBACK)?;
    let limits = Limits {
        traces: params.limit("limit", TRACES_USUAL, TRACES_MAX)?,
        spans_per_set: params.limit("spss", SPANS_USUAL, SPANS_MAX)?,
    };
    let hits =
        traces.run(move |snapshot, cancel| Ok(find(&query, &snapshot, range, limits, cancel)?)).await?;
    Ok(Json(json!({"traces": hits.iter().map(trace).collect::<Vec<_>>(), "metrics": {}})))
}

/// `q`, or what it would be of `tags`, `minDuration` and `maxDuration`.
fn query(params: &Params) -> Result<Query, TraceError> {
    let text = match params.get("q") {
        Some(q) => q.to_owned(),
        None => from_tags(params)?,
    };
    parsed(&text)
}

pub(crate) fn parsed(text: &str) -> Result<Query, TraceError> {
    Query::parse(text).map_err(|e| TraceError::Bad(format!("invalid TraceQL query: {e}")))
}

fn from_tags(params: &Params) -> Result<String, TraceError> {
    let mut all = Vec::new();
    for (key, value) in logfmt(params.get("tags").unwrap_or(""))? {
        let value = format!("{value:?}");
        all.push(match key.as_str() {
            "service.name" => format!("resource.service.name = {value}"),
            "name" => format!("name = {value}"),
            "status.code" | "status" => format!("status = {}", value.trim_matches('"')),
            key => format!(".{key:?} = {value}"),
        });
    }
    for (name, op) in [("minDuration", ">="), ("maxDuration", "<=")] {
        if let Some(duration) = params.duration(name)? {
            all.push(format!("traceDuration {op} {}ns", duration.as_nanos()));
        }
    }
    Ok(format!("{{ {} }}", all.join(" && ")))
}

/// `a=b c="d e"`
fn logfmt(text: &str) -> Result<Vec<(String, String)>, TraceError> {
    let wrong = |at: &str| {
        TraceError::Bad(format!("invalid parameter \"tags\": expected key=value pairs, got {at:?}"))
    };
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| wrong(rest))?;
        let value_len = match after.strip_prefix('"') {
            Some(quoted) => quoted.find('"').ok_or_else(|| wrong(rest))? + 2,
            None => after.find(' ').unwrap_or(after.len()),
        };
        let (value, after) = after.split_at(value_len);
        if key.is_empty() || key.contains(' ') {
            return Err(wrong(rest));
        }
        pairs.push((key.to_owned(), value.trim_matches('"').to_owned()));
        rest = after.trim_start();
    }
    Ok(pairs)
}

fn trace(hit: &TraceHit) -> Value {
    let stats = |(service, stats): (&String, &davy_query::traceql::ServiceStats)| {
        let mut counts = json!({"spanCount": stats.spans});
        if stats.errors > 0 {
            counts["errorCount"] = stats.errors.into();
        }
        (service.clone(), counts)
    };
    json!({
        "traceID": hit.id.to_string(),
        "rootServiceName": if hit.root_name.is_empty() { "<root span not yet received>" } else { &hit.root_service },
        "rootTraceName": hit.root_name,
        "startTimeUnixNano": hit.start_nanos.to_string(),
        "durationMs": u32::try_from(hit.duration_nanos / 1_000_000).unwrap_or(u32::MAX),
        "spanSets": hit.sets.iter().map(span_set).collect::<Vec<_>>(),
        "serviceStats": hit.services.iter().map(stats).collect::<serde_json::Map<_, _>>(),
    })
}

fn span_set(set: &SetHit) -> Value {
    let mut json = json!({"matched": set.matched, "spans": set.spans.iter().map(span).collect::<Vec<_>>()});
    if !set.attributes.is_empty() {
        json["attributes"] = set.attributes.iter().map(|(key, value)| key_value(key, value)).collect();
    }
    json
}

fn span(span: &SpanHit) -> Value {
    json!({
        "spanID": span.id.to_string(),
        "name": span.name,
        "startTimeUnixNano": span.start_nanos.to_string(),
        "durationNanos": span.duration_nanos.to_string(),
        "attributes": span.attributes.iter().map(|(key, value)| key_value(key, value)).collect::<Vec<_>>(),
    })
}
