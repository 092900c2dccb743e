//! Metrics of spans: a TraceQL query with `rate()` and its like, over steps or as one number.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use davy_query::traceql::{MetricSeries, MetricSteps};
use serde_json::{Value, json};

use super::json::key_value;
use super::search::parsed;
use super::{Params, TraceError, Traces, params};

/// Steps of a query that names none.
const STEPS_USUAL: u32 = 100;

/// `GET /api/metrics/query_range`
pub(crate) async fn range(State(traces): State<Traces>, params: Params) -> Result<Json<Value>, TraceError> {
    let range = asked_range(&traces, &params)?;
    let step = params.parsed("step", "a duration such as 60s, or seconds", |text| {
        let seconds = || text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        params::duration(text).or_else(seconds).filter(|d| !d.is_zero())
    })?;
    let usual = || (range.1.since(range.0) / STEPS_USUAL).max(Duration::from_secs(1));
    let steps = MetricSteps::aligned(range.0, range.1, step.unwrap_or_else(usual))?;
    let series = series(&traces, &params, steps).await?;
    let series: Vec<Value> = series.iter().map(range_series).collect();
    Ok(Json(json!({"series": series, "metrics": {}})))
}

/// `GET /api/metrics/query`
pub(crate) async fn instant(State(traces): State<Traces>, params: Params) -> Result<Json<Value>, TraceError> {
    let range = asked_range(&traces, &params)?;
    let series = series(&traces, &params, MetricSteps::whole(range.0, range.1)).await?;
    let one = |s: &MetricSeries| {
        let value = s.samples.last().map_or(0.0, |(_, value)| *value);
        json!({"labels": labels(s), "promLabels": prom_labels(s), "value": value})
    };
    Ok(Json(json!({"series": series.iter().map(one).collect::<Vec<_>>(), "metrics": {}})))
}

fn asked_range(
    traces: &Traces,
    params: &Params,
) -> Result<(davy_model::Timestamp, davy_model::Timestamp), TraceError> {
    let since = params.duration("since")?;
    let end = params.seconds("end")?.unwrap_or_else(|| traces.now());
    let start = params.seconds("start")?.unwrap_or_else(|| end - since.unwrap_or(super::LOOKBACK));
    if start > end {
        return Err(TraceError::Bad("start is after end".to_owned()));
    }
    Ok((start, end))
}

async fn series(
    traces: &Traces,
    params: &Params,
    steps: MetricSteps,
) -> Result<Vec<MetricSeries>, TraceError> {
    let text = params.get("q").or_else(|| params.get("query")).unwrap_or("");
    let query = parsed(text)?;
    traces.run(move |snapshot, cancel| Ok(query.metrics(&snapshot, steps, cancel)?)).await
}

fn range_series(series: &MetricSeries) -> Value {
    let sample = |(at, value): &(davy_model::Timestamp, f64)| json!({"timestampMs": at.as_millis().to_string(), "value": value});
    json!({
        "labels": labels(series),
        "promLabels": prom_labels(series),
        "samples": series.samples.iter().map(sample).collect::<Vec<_>>(),
        "exemplars": [],
    })
}

fn labels(series: &MetricSeries) -> Vec<Value> {
    series.labels.iter().map(|(key, value)| key_value(key, value)).collect()
}

/// `{resource.service.name="cart"}`: which series it is, in one text.
fn prom_labels(series: &MetricSeries) -> String {
    let label = |(key, value): &(String, davy_query::traceql::Value)| {
        let is_plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_plain { format!("{key}={:?}", value.label()) } else { format!("{key:?}={:?}", value.label()) }
    };
    format!("{{{}}}", series.labels.iter().map(label).collect::<Vec<_>>().join(", "))
}
