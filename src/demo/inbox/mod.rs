//! Who hears of it: a local webhook receiver, one in Slack's shape, and a local SMTP server. They keep what
//! they get, so that the story can tell whether the alert arrived.

mod smtp;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(super) use smtp::Smtp;

const BODY_BYTES_MAX: usize = 1 << 20;
const LETTERS_MAX: usize = 200;

/// Where a letter came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Webhook,
    Slack,
    Email,
}

impl Channel {
    pub(super) const ALL: [Self; 3] = [Self::Webhook, Self::Slack, Self::Email];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Email => "email",
        }
    }
}

/// An alert that arrived, in a line.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) at: Instant,
    pub(super) channel: Channel,
    pub(super) title: String,
    /// Everything that came, to search in.
    pub(super) text: String,
}

/// The letters that came, in order of arrival; it only grows.
#[derive(Debug, Clone, Default)]
pub(super) struct Letters(Arc<Mutex<Vec<Letter>>>);

impl Letters {
    /// `false` when there is no more room.
    fn keep(&self, channel: Channel, title: String, text: String) -> bool {
        let mut letters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = letters.len() < LETTERS_MAX;
        if fits {
            letters.push(Letter { at: Instant::now(), channel, title, text });
        }
        fits
    }

    pub(super) fn all(&self) -> Vec<Letter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Running receivers; dropping it closes their sockets.
pub(super) struct Inbox {
    pub(super) http: SocketAddr,
    pub(super) smtp: Smtp,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

struct Shared {
    webhook: Webhook,
    letters: Letters,
    refused: Mutex<Vec<String>>,
}

impl Inbox {
    /// `POST /alerts` takes Alertmanager's body, signed with `webhook`'s secret; `POST /slack` Slack's.
    pub(super) async fn start(webhook: Webhook) -> io::Result<Self> {
        let letters = Letters::default();
        let shared = Arc::new(Shared { webhook, letters: letters.clone(), refused: Mutex::default() });
        let router = Router::new()
            .route("/alerts", post(alerts))
            .route("/slack", post(slack))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let http = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Ends only when the set is dropped: axum goes on after accept errors.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { http, smtp: Smtp::start(letters).await?, shared, _task: task })
    }

    /// Everything that was accepted, in order of arrival.
    pub(super) fn letters(&self) -> Vec<Letter> {
        self.shared.letters.all()
    }

    /// Why bodies were turned away.
    pub(super) fn refused(&self) -> Vec<String> {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn keep(&self, channel: Channel, title: String, body: &[u8]) -> StatusCode {
        match self.letters.keep(channel, title, String::from_utf8_lossy(body).into_owned()) {
            true => StatusCode::OK,
            false => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    fn refuse(&self, status: StatusCode, why: String) -> StatusCode {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < LETTERS_MAX {
            refused.push(why);
        }
        status
    }
}

/// Alertmanager's webhook body, version 4, as far as a title needs it.
#[derive(Debug, Deserialize)]
struct AlertsBody {
    version: String,
    status: String,
    alerts: Vec<AlertBody>,
}

#[derive(Debug, Deserialize)]
struct AlertBody {
    labels: std::collections::BTreeMap<String, String>,
}

async fn alerts(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if let Err(error) = shared.webhook.verify(&body, &headers) {
        return shared.refuse(StatusCode::UNAUTHORIZED, format!("webhook: {error}"));
    }
    match serde_json::from_slice::<AlertsBody>(&body) {
        Ok(parsed) if parsed.version == "4" => {
            let names: Vec<&str> =
                parsed.alerts.iter().filter_map(|a| a.labels.get("alertname").map(String::as_str)).collect();
            shared.keep(Channel::Webhook, format!("{} {}", parsed.status, names.join(", ")), &body)
        }
        Ok(parsed) => shared.refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("webhook: version must be \"4\", got {:?}", parsed.version),
        ),
        Err(error) => shared.refuse(StatusCode::UNPROCESSABLE_ENTITY, format!("webhook: {error}")),
    }
}

/// Slack's incoming webhook: `text`, or attachments or blocks that hold one.
async fn slack(
    State(shared): State<Arc<Shared>>,
    body: Result<Json<serde_json::Value>, axum::extract::rejection::JsonRejection>,
) -> (StatusCode, &'static str) {
    let Ok(Json(body)) = body else {
        return (shared.refuse(StatusCode::BAD_REQUEST, "slack: not JSON".to_owned()), "invalid_payload");
    };
    let Some(title) = slack_title(&body) else {
        return (shared.refuse(StatusCode::BAD_REQUEST, "slack: no text".to_owned()), "no_text");
    };
    (shared.keep(Channel::Slack, title, body.to_string().as_bytes()), "ok")
}

fn slack_title(body: &serde_json::Value) -> Option<String> {
    let places = ["/text", "/attachments/0/title", "/attachments/0/fallback", "/blocks/0/text/text"];
    places
        .iter()
        .filter_map(|place| body.pointer(place)?.as_str())
        .find(|text| !text.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{SIGNING_SECRET, http_client};

    async fn post(inbox: &Inbox, path: &str, body: &'static str) -> u16 {
        let url = format!("http://{}{path}", inbox.http);
        let request = http_client().unwrap().post(url).header("content-type", "application/json").body(body);
        request.send().await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn slack_bodies_are_kept_by_their_title_and_others_refused() {
        let inbox = Inbox::start(Webhook::new(SIGNING_SECRET).unwrap()).await.unwrap();
        assert_eq!(post(&inbox, "/slack", r#"{"attachments":[{"title":"checkout v2 failed"}]}"#).await, 200);
        assert_eq!(post(&inbox, "/slack", r#"{"attachments":[]}"#).await, 400);
        assert_eq!(post(&inbox, "/slack", "{").await, 400);
        let letters = inbox.letters();
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].channel, letters[0].title.as_str()), (Channel::Slack, "checkout v2 failed"));
        assert_eq!(inbox.refused(), ["slack: no text", "slack: not JSON"]);
    }

    #[tokio::test]
    async fn an_unsigned_alert_is_refused() {
        let inbox = Inbox::start(Webhook::new(SIGNING_SECRET).unwrap()).await.unwrap();
        assert_eq!(post(&inbox, "/alerts", r#"{"version":"4","status":"firing","alerts":[]}"#).await, 401);
        assert!(inbox.letters().is_empty());
        assert_eq!(inbox.refused().len(), 1);
    }
}
