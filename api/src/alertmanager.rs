//! Alertmanager's API, version 2, as far as silences and alerts go: `amtool` and Grafana speak it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use davy_alerting::silence::Silence;
use davy_model::{MatchOp, Matcher, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::router::ApiState;
use crate::wire::{self, parse_rfc3339, rfc3339};

const TEXT_BYTES_MAX: usize = 4_096;
const MATCHERS_MAX: usize = 64;

/// What someone asks of the silences.
#[derive(Debug)]
pub struct SilenceRequest {
    pub change: SilenceChange,
    /// The silence's id.
    pub reply: oneshot::Sender<Result<String, String>>,
}

#[derive(Debug)]
pub enum SilenceChange {
    /// One with an id that is known takes that one's place.
    Put(Silence),
    /// Ends it now.
    Expire(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMatcher {
    name: String,
    value: String,
    #[serde(default)]
    is_regex: bool,
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body {
    #[serde(default)]
    id: String,
    matchers: Vec<WireMatcher>,
    starts_at: String,
    ends_at: String,
    created_by: String,
    comment: String,
}

/// `GET /api/v2/silences`.
pub(crate) async fn list(State(state): State<ApiState>) -> Json<Vec<Value>> {
    let now = state.clock.now();
    let view = state.view.load();
    Json(view.silences.iter().map(|s| shape(s, now)).collect())
}

/// `GET /api/v2/silence/{id}`.
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let now = state.clock.now();
    let view = state.view.load();
    let found = view.silences.iter().find(|s| s.id == id);
    found.map(|s| Json(shape(s, now))).ok_or_else(|| ApiError::NotFound(format!("no silence {id:?}")))
}

/// `POST /api/v2/silences`.
pub(crate) async fn put(
    State(state): State<ApiState>,
    body: Result<Json<Body>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(body) = body.map_err(|e| ApiError::BadData(e.body_text()))?;
    let silence = silence(body).map_err(ApiError::BadData)?;
    silence.check(state.clock.now()).map_err(ApiError::BadData)?;
    let id = ask(&state, SilenceChange::Put(silence)).await?;
    Ok(Json(json!({"silenceID": id})))
}

/// `DELETE /api/v2/silence/{id}`.
pub(crate) async fn expire(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    ask(&state, SilenceChange::Expire(id)).await?;
    Ok(Json(json!({})))
}

/// `GET /api/v2/alerts`: those that fire.
pub(crate) async fn alerts(State(state): State<ApiState>) -> Json<Vec<Value>> {
    let view = state.view.load();
    let now = state.clock.now();
    let shape = |a: &wire::Alert| {
        let labels = davy_model::Labels::from_pairs(a.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let silenced: Vec<&str> =
            view.silences.iter().filter(|s| s.silences(&labels, now)).map(|s| s.id.as_str()).collect();
        json!({
            "fingerprint": a.fingerprint, "labels": a.labels, "annotations": a.annotations,
            "startsAt": a.starts_at, "endsAt": a.ends_at, "updatedAt": rfc3339(view.at),
            "receivers": [], "generatorURL": "",
            "status": {"state": if silenced.is_empty() { "active" } else { "suppressed" },
                       "silencedBy": silenced, "inhibitedBy": [], "mutedBy": []},
        })
    };
    Json(view.alerts.iter().map(shape).collect())
}

async fn ask(state: &ApiState, change: SilenceChange) -> Result<String, ApiError> {
    let (reply, answer) = oneshot::channel();
    let busy = |_| ApiError::Unavailable("too many requests are waiting".into());
    state.silences.try_send(SilenceRequest { change, reply }).map_err(busy)?;
    match answer.await {
        Ok(Ok(id)) => Ok(id),
        Ok(Err(why)) => Err(ApiError::NotFound(why)),
        Err(_) => Err(ApiError::Unavailable("davy is shutting down".into())),
    }
}

fn silence(body: Body) -> Result<Silence, String> {
    let time = |name: &str, text: &str| {
        parse_rfc3339(text).ok_or_else(|| format!("`{name}`: expected a time such as 2026-01-02T03:04:05Z"))
    };
    if body.matchers.len() > MATCHERS_MAX {
        return Err(format!("`matchers`: {MATCHERS_MAX} are the most"));
    }
    for (name, text) in [("createdBy", &body.created_by), ("comment", &body.comment)] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("`{name}`: {TEXT_BYTES_MAX} bytes are the most"));
        }
    }
    let matcher = |m: WireMatcher| {
        let op = match (m.is_regex, m.is_equal) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Regex,
            (true, false) => MatchOp::NotRegex,
        };
        Matcher::new(&m.name, op, &m.value).map_err(|e| format!("matcher {}: {e}", m.name))
    };
    Ok(Silence {
        id: body.id,
        matchers: body.matchers.into_iter().map(matcher).collect::<Result<_, _>>()?,
        starts_at: time("startsAt", &body.starts_at)?,
        ends_at: time("endsAt", &body.ends_at)?,
        created_by: body.created_by,
        comment: body.comment,
    })
}

fn shape(silence: &Silence, now: Timestamp) -> Value {
    let matcher = |m: &Matcher| WireMatcher {
        name: m.name().to_owned(),
        value: m.value().to_owned(),
        is_regex: matches!(m.op(), MatchOp::Regex | MatchOp::NotRegex),
        is_equal: matches!(m.op(), MatchOp::Equal | MatchOp::Regex),
    };
    json!({
        "id": silence.id,
        "matchers": silence.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "startsAt": rfc3339(silence.starts_at),
        "endsAt": rfc3339(silence.ends_at),
        "updatedAt": rfc3339(silence.starts_at),
        "createdBy": silence.created_by,
        "comment": silence.comment,
        "status": {"state": silence.state(now).as_str()},
    })
}
