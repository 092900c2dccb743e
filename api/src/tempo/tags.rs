//! Tags and their values, for the query builder's lists.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use davy_query::traceql::{Query, TagValue, parse_field, tag_names, tag_values};
use serde_json::{Value, json};

use super::search::parsed;
use super::{Params, TraceError, Traces};

const LIST_USUAL: usize = 1_000;
const LIST_MAX: usize = 10_000;
/// How far back lists without a beginning look: heads of blocks are soon read.
const LISTS_LOOKBACK: Duration = Duration::from_secs(86_400);

type Scopes = Vec<(&'static str, Vec<String>)>;

async fn scopes(traces: &Traces, params: &Params) -> Result<Scopes, TraceError> {
    let range = traces.range(params, LISTS_LOOKBACK)?;
    let limit = params.limit("limit", LIST_USUAL, LIST_MAX)?;
    let scope = params.get("scope").filter(|s| *s != "none").map(str::to_owned);
    traces.run(move |snapshot, cancel| Ok(tag_names(&snapshot, scope.as_deref(), range, limit, cancel))).await
}

/// `GET /api/v2/search/tags`
pub(crate) async fn names(State(traces): State<Traces>, params: Params) -> Result<Json<Value>, TraceError> {
    let scopes = scopes(&traces, &params).await?;
    let scopes: Vec<Value> =
        scopes.into_iter().map(|(name, tags)| json!({"name": name, "tags": tags})).collect();
    Ok(Json(json!({"scopes": scopes, "metrics": {}})))
}

/// `GET /api/search/tags`: without scopes.
pub(crate) async fn names_v1(
    State(traces): State<Traces>,
    params: Params,
) -> Result<Json<Value>, TraceError> {
    let scopes = scopes(&traces, &params).await?;
    let of_attributes = scopes.into_iter().filter(|(name, _)| *name != "intrinsic");
    let mut names: Vec<String> = of_attributes.flat_map(|(_, names)| names).collect();
    names.sort_unstable();
    names.dedup();
    Ok(Json(json!({"tagNames": names})))
}

async fn list(traces: &Traces, tag: &str, params: &Params) -> Result<Vec<TagValue>, TraceError> {
    // Old clients name an attribute without a scope.
    let field = parse_field(tag)
        .or_else(|e| parse_field(&format!(".{tag}")).map_err(|_| e))
        .map_err(|e| TraceError::Bad(format!("invalid tag {tag:?}: {e}")))?;
    // What is being typed is often no query yet: values are then offered without it.
    let query: Option<Query> = params.get("q").and_then(|q| parsed(q).ok());
    let range = traces.range(params, LISTS_LOOKBACK)?;
    let limit = params.limit("limit", LIST_USUAL, LIST_MAX)?;
    traces
        .run(move |snapshot, cancel| {
            let query = query.as_ref().filter(|q| !q.is_everything());
            Ok(tag_values(&snapshot, &field, query, range, limit, cancel))
        })
        .await
}

/// `GET /api/v2/search/tag/{tag}/values`
pub(crate) async fn values(
    State(traces): State<Traces>,
    Path(tag): Path<String>,
    params: Params,
) -> Result<Json<Value>, TraceError> {
    let values = list(&traces, &tag, &params).await?;
    let values: Vec<Value> = values.iter().map(|v| json!({"type": v.kind, "value": v.text})).collect();
    Ok(Json(json!({"tagValues": values, "metrics": {}})))
}

/// `GET /api/search/tag/{tag}/values`: without types.
pub(crate) async fn values_v1(
    State(traces): State<Traces>,
    Path(tag): Path<String>,
    params: Params,
) -> Result<Json<Value>, TraceError> {
    let values = list(&traces, &tag, &params).await?;
    Ok(Json(json!({"tagValues": values.into_iter().map(|v| v.text).collect::<Vec<_>>()})))
}
