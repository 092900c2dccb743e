//! Which path leads where.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use davy_collector::remote_write;
use davy_collector::scrape::ScrapeManager;
use davy_model::{Clock, Timestamp};
use davy_store::Store;
use davy_store::control::Control;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::alertmanager::{self, SilenceRequest};
use crate::blocking::blocking;
use crate::drill::{self, DrillRequest};
use crate::error::ApiError;
use crate::outbox;
use crate::prometheus::{self, QueryGate};
use crate::release::{self, Operation, OperationBody, OperationKind};
use crate::storage::{self, Storage};
use crate::tempo;
use crate::view::ViewHandle;
use crate::wire::{self, rfc3339};

const BODY_BYTES_MAX: usize = 64 << 10;
/// Smaller bodies fit into a packet or two as they are.
const COMPRESS_BYTES_MIN: u16 = 1_400;

/// Asks the app to read its file again; the answer is what was wrong with it.
pub type Reload = oneshot::Sender<Result<(), String>>;

/// What the handlers answer from.
#[derive(Clone)]
pub struct ApiState {
    pub view: ViewHandle,
    pub scrapes: ScrapeManager,
    pub remote_write: remote_write::Receiver,
    pub storage: Storage,
    pub store: Store,
    pub control: Control,
    pub clock: Arc<dyn Clock>,
    pub queries: QueryGate,
    pub operations: mpsc::Sender<Operation>,
    pub drills: mpsc::Sender<DrillRequest>,
    pub silences: mpsc::Sender<SilenceRequest>,
    pub reloads: mpsc::Sender<Reload>,
    /// Rung when messages are to be sent.
    pub outbox_bell: Arc<Notify>,
    /// Davy's own metrics.
    pub registry: Arc<Registry>,
    pub version: &'static str,
    /// When Davy was started.
    pub started: Timestamp,
    /// Writes a release's report: the release, its verdicts oldest first, what is known of its service's noise.
    pub report: RenderReport,
}

pub type RenderReport =
    fn(&wire::Release, Vec<wire::Evidence>, Option<&wire::Calibration>, ReportFormat) -> Option<String>;

/// `?format=` of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportFormat {
    Html,
    Markdown,
    Text,
    Json,
}

impl ReportFormat {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Markdown => "text/markdown; charset=utf-8",
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

pub fn router(state: ApiState) -> Router {
    let remote_write = remote_write::http_router(state.remote_write.clone());
    let traces = tempo::Traces::new(state.store.clone(), state.clock.clone(), state.version);
    Router::new()
        .route("/-/healthy", get(|| async { "Davy is healthy.\n" }))
        .route("/-/ready", get(|| async { "Davy is ready.\n" }))
        .route("/-/reload", post(reload))
        .route("/metrics", get(metrics))
        .merge(prometheus::routes())
        .route("/api/davy/v1/releases", get(release::list))
        .route("/api/davy/v1/releases/{id}", get(release::get))
        .route("/api/davy/v1/releases/{id}/evidence", get(release::evidence))
        .route("/api/davy/v1/releases/{id}/report", get(release::report))
        .route("/api/davy/v1/releases/{id}/{operation}", post(operate))
        .route("/api/v2/alerts", get(alertmanager::alerts))
        .route("/api/v2/silences", get(alertmanager::list).post(alertmanager::put))
        .route("/api/v2/silence/{id}", get(alertmanager::get).delete(alertmanager::expire))
        .route("/api/davy/v1/outbox", get(outbox::list))
        .route("/api/davy/v1/outbox/resend", post(outbox::resend))
        .route("/api/davy/v1/drills", get(drill::list).post(drill::begin))
        .route("/api/davy/v1/calibrations", get(calibrations))
        .route("/api/davy/v1/thresholds", get(thresholds))
        .route("/api/davy/v1/audit", get(audit))
        .route("/api/davy/v1/storage/snapshot", post(storage::snapshot))
        .route("/api/davy/v1/storage/compact", post(storage::compact))
        .fallback(|| async { ApiError::NotFound("no such path".into()) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
        .merge(remote_write)
        .merge(tempo::router(traces))
        .layer(axum::middleware::map_response(harden))
        .layer(compression())
}

/// For whoever accepts it. Quick rather than thorough: most clients are near.
fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESS_BYTES_MIN))
}

/// Telemetry is other people's text: no browser may take it for a page or a script.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

async fn reload(State(state): State<ApiState>) -> Result<&'static str, ApiError> {
    let (reply, answer) = oneshot::channel();
    state.reloads.try_send(reply).map_err(|_| ApiError::Unavailable("a reload is already waiting".into()))?;
    match answer.await {
        Ok(Ok(())) => Ok("reloaded\n"),
        Ok(Err(errors)) => Err(ApiError::BadData(errors)),
        Err(_) => Err(ApiError::Unavailable("davy is shutting down".into())),
    }
}

async fn metrics(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &state.registry)
        .map_err(|e| ApiError::Internal(e.to_string()))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

async fn thresholds(State(state): State<ApiState>) -> Json<Vec<wire::Watched>> {
    Json(state.view.load().watched.clone())
}

async fn calibrations(State(state): State<ApiState>) -> Json<Vec<wire::Calibration>> {
    Json(state.view.load().calibrations.clone())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditParams {
    limit: Option<usize>,
}

/// `GET /api/davy/v1/audit[?limit=]`: newest first.
async fn audit(
    State(state): State<ApiState>,
    Query(params): Query<AuditParams>,
) -> Result<Json<Value>, ApiError> {
    let limit = params.limit.unwrap_or(100).min(1_000);
    let rows = blocking(move || state.control.audit(limit)).await?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|r| {
            json!({"at": rfc3339(r.at), "actor": r.actor, "action": r.action, "target": r.target,
                   "reason": r.reason, "outcome": r.outcome})
        })
        .collect();
    Ok(Json(Value::Array(rows)))
}

async fn operate(
    State(state): State<ApiState>,
    Path((id, operation)): Path<(String, String)>,
    body: Result<Json<OperationBody>, JsonRejection>,
) -> Result<Response, ApiError> {
    let kind = match operation.as_str() {
        "hold" => OperationKind::Hold,
        "resume" => OperationKind::Resume,
        "rollback" => OperationKind::Rollback,
        "promote" => OperationKind::Promote,
        "approve" => OperationKind::Approve,
        "deny" => OperationKind::Deny,
        other => {
            return Err(ApiError::NotFound(format!(
                "no operation {other:?}: expected hold, resume, rollback, promote, approve or deny"
            )));
        }
    };
    let Json(body) = body.map_err(|e| ApiError::BadData(e.body_text()))?;
    let release = release::operate(state, id, kind, body).await?;
    Ok((StatusCode::OK, release).into_response())
}
