//! What Grafana's Tempo data source asks: traces by id, TraceQL searches, tags, metrics of spans.
//!
//! Names and shapes are those of Tempo's HTTP API; docs/api.md lists them. The plugin refuses fields that it does not
//! know, so nothing is added to an answer.

mod json;
mod metrics;
mod otlp;
mod params;
mod search;
mod tags;
#[cfg(test)]
mod tests;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use davy_model::{Clock, Timestamp};
use davy_query::Cancel;
use davy_query::traceql::{Range, SearchError};
use davy_store::{Snapshot, Store};
use serde_json::json;
use tokio::sync::Semaphore;

pub(crate) use otlp::attribute_json;
pub(crate) use params::Params;

/// Searches that run at the same time; more wait, so that judging keeps its share of the processor.
const SEARCHES_MAX: usize = 2;
/// Searches that wait; more are turned away.
const WAITING_MAX: usize = 32;
/// How long a search may wait and run.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(30);
/// How far back a search without a beginning looks.
const LOOKBACK: Duration = Duration::from_secs(3600);

/// What the handlers of traces answer from.
#[derive(Clone)]
pub(crate) struct Traces {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    version: &'static str,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Errors as Tempo writes them: text.
#[derive(Debug)]
pub(crate) enum TraceError {
    Bad(String),
    NotFound(String),
    Busy(String),
    Internal(String),
}

impl Traces {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, version: &'static str) -> Self {
        let [running, waiting] = [SEARCHES_MAX, WAITING_MAX].map(|n| Arc::new(Semaphore::new(n)));
        Self { store, clock, version, running, waiting }
    }

    /// Runs on a thread of its own, one of few, and is told to stop when it takes too long or nobody waits any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Snapshot, &Cancel) -> Result<T, TraceError> + Send + 'static,
    ) -> Result<T, TraceError> {
        let busy = |e: &str| TraceError::Busy(e.to_owned());
        let place = self.waiting.clone().try_acquire_owned();
        let place = place.map_err(|_| busy("too many searches wait already: try again later"))?;
        let cancel = Cancel::default();
        let raised = RaisedOnDrop(cancel.clone());
        let running = async {
            let turn = self.running.clone().acquire_owned().await.map_err(|_| busy("davy is stopping"))?;
            let snapshot = self.store.snapshot();
            let work = move || {
                let _held = (turn, place);
                work(snapshot, &cancel)
            };
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|e| TraceError::Internal(e.to_string()))?
        };
        let done = tokio::time::timeout(SEARCH_TIME_MAX, running).await;
        drop(raised);
        done.unwrap_or_else(|_| Err(SearchError::Canceled.into()))
    }

    /// `start` and `end` in seconds; without a beginning so far back.
    pub(crate) fn range(&self, params: &Params, lookback: Duration) -> Result<Range, TraceError> {
        let now = self.clock.now();
        let to = params.seconds("end")?.unwrap_or(now);
        let from = params.seconds("start")?.unwrap_or_else(|| to - lookback);
        if from > to {
            return Err(TraceError::Bad("start is after end".to_owned()));
        }
        // The end is written in whole seconds: what started within that second is meant as well.
        Ok(Range { from, to: to + Duration::from_millis(999) })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Whoever hangs up drops the future, and so this.
struct RaisedOnDrop(Cancel);

impl Drop for RaisedOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl From<SearchError> for TraceError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Canceled => Self::Busy(error.to_string()),
            SearchError::TooMany
            | SearchError::TooLarge { .. }
            | SearchError::IsMetrics
            | SearchError::NoMetrics => Self::Bad(error.to_string()),
        }
    }
}

impl IntoResponse for TraceError {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Bad(e) => (StatusCode::BAD_REQUEST, e),
            Self::NotFound(e) => (StatusCode::NOT_FOUND, e),
            Self::Busy(e) => (StatusCode::SERVICE_UNAVAILABLE, e),
            Self::Internal(e) => (StatusCode::INTERNAL_SERVER_ERROR, e),
        };
        (status, text).into_response()
    }
}

pub(crate) fn router(traces: Traces) -> Router {
    Router::new()
        .route("/api/echo", get(|| async { "echo" }))
        .route("/api/status/buildinfo", get(buildinfo))
        .route("/api/v2/traces/{id}", get(trace::by_id))
        .route("/api/traces/{id}", get(trace::by_id_v1))
        .route("/api/search", get(search::search))
        .route("/api/search/tags", get(tags::names_v1))
        .route("/api/v2/search/tags", get(tags::names))
        .route("/api/search/tag/{tag}/values", get(tags::values_v1))
        .route("/api/v2/search/tag/{tag}/values", get(tags::values))
        .route("/api/metrics/query_range", get(metrics::range))
        .route("/api/metrics/query", get(metrics::instant))
        .merge(crate::jaeger::routes())
        .with_state(traces)
}

async fn buildinfo(state: axum::extract::State<Traces>) -> Json<serde_json::Value> {
    Json(json!({"version": state.version, "revision": "", "branch": "", "buildUser": "", "buildDate": "",
                "goVersion": ""}))
}
