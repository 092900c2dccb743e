//! The outbox over HTTP: what waits, what arrived, what was given up; and sending the latter again.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use davy_alerting::dispatch::{DEAD, DELIVERED, PENDING, again};
use davy_alerting::record::about;
use davy_store::control::{AuditRecord, ControlBatch, OutboxRecord};
use serde::Deserialize;

use crate::blocking::blocking;
use crate::error::ApiError;
use crate::router::ApiState;
use crate::wire::{self, rfc3339};

/// Messages of one answer.
const MESSAGES_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 4_096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    state: Option<String>,
}

/// `GET /api/davy/v1/outbox[?state=dead|pending|delivered]`: messages, newest first; the dead ones unless said.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Query(params): Query<Params>,
) -> Result<Json<Vec<wire::Message>>, ApiError> {
    let wanted = params.state.unwrap_or_else(|| DEAD.to_owned());
    if ![DEAD, PENDING, DELIVERED].contains(&wanted.as_str()) {
        return Err(ApiError::BadData(format!(
            "`state`: expected dead, pending or delivered, got {wanted:?}"
        )));
    }
    let rows = blocking(move || state.control.outbox(&wanted, MESSAGES_MAX)).await?;
    Ok(Json(rows.iter().map(message).collect()))
}

/// Which of the messages that were given up, and who says so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resend {
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    receiver: Option<String>,
    #[serde(default)]
    all: bool,
    actor: String,
    reason: String,
}

impl Resend {
    fn check(&self) -> Result<(), String> {
        let ways = [!self.ids.is_empty(), self.receiver.is_some(), self.all];
        if ways.into_iter().filter(|given| *given).count() != 1 {
            return Err("give one of `ids`, `receiver` and `all`".to_owned());
        }
        for (name, text) in [("actor", &self.actor), ("reason", &self.reason)] {
            if text.is_empty() || text.len() > TEXT_BYTES_MAX {
                return Err(format!("`{name}`: expected 1 to {TEXT_BYTES_MAX} bytes"));
            }
        }
        Ok(())
    }

    fn takes(&self, record: &OutboxRecord) -> bool {
        self.all || self.receiver.as_ref() == Some(&record.receiver) || self.ids.contains(&record.id)
    }

    /// As the audit names them.
    fn target(&self) -> String {
        match &self.receiver {
            Some(receiver) => format!("messages of {receiver}"),
            None if self.all => "all messages".to_owned(),
            None => format!("messages {}", self.ids.join(", ")),
        }
    }
}

/// `POST /api/davy/v1/outbox/resend`: sends messages again that were given up, under the ids that they have; at most
/// the thousand newest at a time. A message that is not dead is not sent again, and nothing is where one is unknown.
pub(crate) async fn resend(
    State(state): State<ApiState>,
    body: Result<Json<Resend>, JsonRejection>,
) -> Result<Json<wire::Resent>, ApiError> {
    let Json(asked) = body.map_err(|e| ApiError::BadData(e.body_text()))?;
    asked.check().map_err(ApiError::BadData)?;
    let (control, now) = (state.control.clone(), state.clock.now());
    let dead = blocking(move || control.outbox(DEAD, MESSAGES_MAX)).await?;
    let rows: Vec<OutboxRecord> =
        dead.into_iter().filter(|r| asked.takes(r)).map(|r| again(r, now)).collect();
    let ids: Vec<String> = rows.iter().map(|r| r.id.clone()).collect();
    let found: BTreeSet<&String> = ids.iter().collect();
    if let Some(unknown) = asked.ids.iter().find(|id| !found.contains(id)) {
        return Err(ApiError::NotFound(format!("no message {unknown:?} was given up")));
    }
    let audit = AuditRecord {
        at: now,
        actor: asked.actor.clone(),
        action: "resend".to_owned(),
        target: asked.target(),
        reason: asked.reason.clone(),
        outcome: format!("{} messages", ids.len()),
    };
    let batch = ControlBatch { outbox: rows, audit: vec![audit], ..ControlBatch::default() };
    blocking(move || state.control.write(&batch)).await?;
    state.outbox_bell.notify_one();
    Ok(Json(wire::Resent { ids }))
}

fn message(r: &OutboxRecord) -> wire::Message {
    wire::Message {
        id: r.id.clone(),
        receiver: r.receiver.clone(),
        state: r.state.clone(),
        attempts: r.attempts,
        created_at: rfc3339(r.created_at),
        next_attempt_at: rfc3339(r.next_attempt_at),
        last_error: r.last_error.clone(),
        about: about(r),
    }
}
