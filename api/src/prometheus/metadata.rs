//! What metrics say about themselves: `/api/v1/metadata` and `/api/v1/query_exemplars`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use davy_model::Metadata;
use serde::Serialize;

use super::envelope::{list, success, written};
use super::params::Params;
use super::samples;
use crate::error::ApiError;
use crate::router::ApiState;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    kind: &'static str,
    help: String,
    unit: String,
}

impl From<&Metadata> for Entry {
    fn from(m: &Metadata) -> Self {
        Self { kind: m.metric_type.as_str(), help: m.help.clone(), unit: m.unit.clone() }
    }
}

/// `GET /api/v1/metadata[?metric=&limit=&limit_per_metric=]`. Davy keeps one entry a metric.
pub(super) async fn metadata(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let limit = limit(&params, "limit")?;
    limit_per_metric(&params)?;
    let metric = params.get("metric").map(str::to_owned);
    let store = state.store.clone();
    let work = move |_: &_| {
        let snapshot = store.snapshot();
        let mut found: BTreeMap<&str, [Entry; 1]> = match &metric {
            Some(metric) => snapshot.metadata(metric).iter().map(|m| (metric.as_str(), [m.into()])).collect(),
            None => snapshot.all_metadata().map(|(name, m)| (name, [m.into()])).collect(),
        };
        if let Some(first_out) = limit.and_then(|n| found.keys().nth(n).copied()) {
            found.split_off(first_out);
        }
        Ok(success(&found))
    };
    Ok(state.queries.run(None, work).await?.value)
}

/// `None` for absent, negative, or nothing to limit.
pub(super) fn limit(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    Ok(params.integer(name)?.and_then(|n| usize::try_from(n).ok()))
}

fn limit_per_metric(params: &Params) -> Result<(), ApiError> {
    // There is one; checked for its form only.
    params.integer("limit_per_metric").map(drop)
}

/// `GET /api/v1/query_exemplars?query=[&start=&end=]`: of the series of every selector in the query.
pub(super) async fn exemplars(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let (from, to) = params.range()?;
    if to < from {
        return Err(ApiError::BadData("end timestamp must not be before start timestamp".into()));
    }
    let store = state.store.clone();
    let work = move |_: &_| {
        let expr = params.expr()?;
        let snapshot = store.snapshot();
        let mut found = Vec::new();
        for matchers in expr.selectors() {
            found.extend(snapshot.exemplars(matchers, from, to));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found.dedup_by(|a, b| a.0 == b.0);
        Ok(written(
            |out| {
                list(out, &found, |out, (labels, exemplars)| {
                    out.extend_from_slice(br#"{"seriesLabels":"#);
                    samples::labels(out, labels);
                    out.extend_from_slice(br#","exemplars":"#);
                    list(out, exemplars, samples::exemplar);
                    out.push(b'}');
                });
            },
            &[],
        ))
    };
    Ok(state.queries.run(None, work).await?.value)
}
