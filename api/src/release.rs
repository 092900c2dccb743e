//! The release API: what runs, why Davy thinks so, and what a person tells it to do.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use davy_store::control::Control;
use serde::Deserialize;
use std::sync::Arc;
use tokio::sync::oneshot;

use crate::blocking::blocking;
use crate::error::ApiError;
use crate::router::{ApiState, ReportFormat};
use crate::wire;

/// Points of evidence in one answer at most; older ones are thinned out.
const EVIDENCE_POINTS_MAX: usize = 2_000;
const REASON_BYTES_MAX: usize = 1_024;

/// What a person asks of a release.
#[derive(Debug)]
pub struct Operation {
    /// The release's id.
    pub release: String,
    pub kind: OperationKind,
    /// Who asked: for the audit record.
    pub actor: String,
    pub reason: String,
    pub reply: oneshot::Sender<Result<(), OperationError>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    Hold,
    Resume,
    Rollback,
    Promote,
    Approve,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    #[error("no running release {0}")]
    Unknown(String),
    #[error("{0}")]
    Refused(String),
    #[error("the decision could not be written down, so it was not taken: {0}")]
    NotRecorded(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    service: Option<String>,
    phase: Option<String>,
}

/// `GET /api/davy/v1/releases[?service=&phase=]`: newest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Query(params): Query<ListParams>,
) -> Json<Vec<Arc<wire::Release>>> {
    let view = state.view.load();
    let wanted = |r: &&Arc<wire::Release>| {
        params.service.as_ref().is_none_or(|s| *s == r.service)
            && params.phase.as_ref().is_none_or(|p| *p == r.phase)
    };
    Json(view.releases.iter().filter(wanted).cloned().collect())
}

/// `GET /api/davy/v1/releases/{id}`.
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Arc<wire::Release>>, ApiError> {
    find(&state, &id).map(Json)
}

fn find(state: &ApiState, id: &str) -> Result<Arc<wire::Release>, ApiError> {
    let view = state.view.load();
    view.releases
        .iter()
        .find(|r| r.id == id)
        .cloned()
        .ok_or_else(|| ApiError::NotFound(format!("no release {id:?}")))
}

/// `GET /api/davy/v1/releases/{id}/evidence`: the verdict after every interval, oldest first.
pub(crate) async fn evidence(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Vec<wire::Evidence>>, ApiError> {
    let release = find(&state, &id)?;
    Ok(Json(blocking(move || read_evidence(&state.control, release.generation)).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportParams {
    format: Option<ReportFormat>,
}

/// `GET /api/davy/v1/releases/{id}/report[?format=html|markdown|text|json]`: the page that messages link to.
pub(crate) async fn report(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(params): Query<ReportParams>,
) -> Result<Response, ApiError> {
    let release = find(&state, &id)?;
    let calibrations = state.view.load().calibrations.clone();
    let known = calibrations.into_iter().find(|c| c.service == release.service);
    let format = params.format.unwrap_or(ReportFormat::Html);
    let write = move || {
        let verdicts = read_evidence(&state.control, release.generation)?;
        (state.report)(&release, verdicts, known.as_ref(), format)
            .ok_or_else(|| ApiError::NotFound(format!("no interval of {:?} has been judged yet", release.id)))
    };
    let text = blocking(write).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

fn read_evidence(control: &Control, generation: i64) -> Result<Vec<wire::Evidence>, ApiError> {
    let rows = control.verdicts(generation)?;
    let every = rows.len().div_ceil(EVIDENCE_POINTS_MAX).max(1);
    let last = rows.len().saturating_sub(1);
    rows.iter()
        .enumerate()
        .filter(|(i, _)| i % every == 0 || *i == last)
        .map(|(_, (at, text))| {
            serde_json::from_str(text).map_err(|e| ApiError::Internal(format!("verdict stored at {at}: {e}")))
        })
        .collect()
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OperationBody {
    actor: String,
    reason: String,
}

/// `POST /api/davy/v1/releases/{id}/{hold,resume,rollback,promote,approve,deny}` with `{"actor": "...", "reason": "..."}`.
/// Answers once the decision is on disk; the release as it then stands is at `GET .../{id}`.
pub(crate) async fn operate(
    state: ApiState,
    id: String,
    kind: OperationKind,
    body: OperationBody,
) -> Result<Json<Arc<wire::Release>>, ApiError> {
    if body.actor.is_empty() || body.reason.is_empty() {
        return Err(ApiError::BadData(
            "`actor` and `reason` are required: the audit record names both".into(),
        ));
    }
    if body.actor.len() > REASON_BYTES_MAX || body.reason.len() > REASON_BYTES_MAX {
        return Err(ApiError::BadData(format!(
            "`actor` and `reason` are limited to {REASON_BYTES_MAX} bytes"
        )));
    }
    let (reply, answer) = oneshot::channel();
    let operation = Operation { release: id.clone(), kind, actor: body.actor, reason: body.reason, reply };
    state
        .operations
        .try_send(operation)
        .map_err(|_| ApiError::Unavailable("too many operations are waiting".into()))?;
    match answer.await {
        Ok(Ok(())) => find(&state, &id).map(Json),
        Ok(Err(e @ OperationError::Unknown(_))) => Err(ApiError::NotFound(e.to_string())),
        Ok(Err(e @ OperationError::Refused(_))) => Err(ApiError::Conflict(e.to_string())),
        Ok(Err(e @ OperationError::NotRecorded(_))) => Err(ApiError::Unavailable(e.to_string())),
        Err(_) => Err(ApiError::Unavailable("davy is shutting down".into())),
    }
}
