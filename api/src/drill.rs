//! Drills over HTTP: begin one, and see how it goes.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::router::ApiState;
use crate::wire;

const NAME_BYTES_MAX: usize = 256;

/// What someone asks for.
#[derive(Debug)]
pub struct DrillRequest {
    pub service: String,
    pub actor: String,
    /// Whether the real actuator is called as well.
    pub live: bool,
    pub reply: oneshot::Sender<Result<wire::Drill, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    service: String,
    actor: String,
    #[serde(default)]
    live: bool,
}

/// `GET /api/davy/v1/drills`: newest first.
pub(crate) async fn list(State(state): State<ApiState>) -> Json<Vec<wire::Drill>> {
    Json(state.view.load().drills.clone())
}

/// `POST /api/davy/v1/drills` with `{"service": "...", "actor": "...", "live": false}`: begins a drill; 409 while one
/// runs.
pub(crate) async fn begin(
    State(state): State<ApiState>,
    body: Result<Json<Body>, JsonRejection>,
) -> Result<(StatusCode, Json<wire::Drill>), ApiError> {
    let Json(Body { service, actor, live }) = body.map_err(|e| ApiError::BadData(e.body_text()))?;
    for (what, text) in [("service", &service), ("actor", &actor)] {
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(char::is_control) {
            return Err(ApiError::BadData(format!(
                "`{what}`: expected a name of up to {NAME_BYTES_MAX} bytes"
            )));
        }
    }
    let (reply, answer) = oneshot::channel();
    let request = DrillRequest { service, actor, live, reply };
    let busy = || ApiError::Unavailable("too many requests are waiting".into());
    state.drills.try_send(request).map_err(|_| busy())?;
    match answer.await {
        Ok(Ok(drill)) => Ok((StatusCode::ACCEPTED, Json(drill))),
        Ok(Err(why)) => Err(ApiError::Conflict(why)),
        Err(_) => Err(ApiError::Unavailable("davy is shutting down".into())),
    }
}
