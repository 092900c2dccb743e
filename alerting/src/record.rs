//! Alerts and messages as they stand in the control database: JSON in the `detail` columns.
//!
//! An edge: the serde shapes are private. What a newer version wrote is refused, never guessed at.

use std::collections::BTreeMap;

use davy_model::{Labels, Timestamp};
use davy_store::control::{AlertRecord, OutboxRecord};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AlertState};
use crate::book::{AlertBook, Entry, Told};

/// Number of the shapes below; grows when an older version could misread them.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("{what} {id} is in format {got}, written by a newer version; this one reads up to {max}")]
    Newer { what: &'static str, id: String, got: u32, max: u32 },
    #[error("{what} {id} has the unknown {field} {got:?}, written by a newer version")]
    Unknown { what: &'static str, id: String, field: &'static str, got: String },
    #[error("{what} {id} cannot be read: {detail}")]
    Unreadable { what: &'static str, id: String, detail: String },
}

/// Reads `text` after looking at its format number alone, so that a newer shape is named as such.
pub(crate) fn read<'a, T: Deserialize<'a>>(
    what: &'static str,
    id: &str,
    text: &'a str,
    format_max: u32,
) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable =
        |e: serde_json::Error| RecordError::Unreadable { what, id: id.to_owned(), detail: e.to_string() };
    let Format { format } = serde_json::from_str(text).map_err(unreadable)?;
    if format > format_max {
        return Err(RecordError::Newer { what, id: id.to_owned(), got: format, max: format_max });
    }
    serde_json::from_str(text).map_err(unreadable)
}

pub(crate) fn write(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the shapes have string keys and no failing serializers")
}

#[derive(Serialize, Deserialize)]
struct AlertShape {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: i64,
    ends_at: Option<i64>,
}

impl AlertShape {
    fn of(alert: &Alert) -> Self {
        Self {
            labels: alert.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            annotations: alert.annotations.clone(),
            starts_at: alert.starts_at.as_millis(),
            ends_at: alert.ends_at.map(Timestamp::as_millis),
        }
    }

    fn alert(self) -> Alert {
        Alert {
            labels: Labels::from_pairs(self.labels),
            annotations: self.annotations,
            starts_at: Timestamp::from_millis(self.starts_at),
            ends_at: self.ends_at.map(Timestamp::from_millis),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct AlertDetail {
    format: u32,
    #[serde(flatten)]
    alert: AlertShape,
    /// When each receiver was last told, and how often.
    told: BTreeMap<String, (i64, u32)>,
}

pub(crate) fn alert_record(fingerprint: &str, entry: &Entry) -> AlertRecord {
    let told = entry.told.iter().map(|(k, t)| (k.clone(), (t.at.as_millis(), t.times))).collect();
    AlertRecord {
        id: format!("{fingerprint}-{}", entry.alert.starts_at.as_millis()),
        fingerprint: fingerprint.to_owned(),
        starts_at: entry.alert.starts_at,
        // An end that is only announced stays in the detail: the row is open until the alert is over.
        ends_at: entry.alert.ends_at.filter(|_| entry.resolved),
        detail: write(&AlertDetail { format: FORMAT, alert: AlertShape::of(&entry.alert), told }),
    }
}

/// The alert of a row, for showing.
pub fn alert_of(record: &AlertRecord) -> Result<Alert, RecordError> {
    Ok(read::<AlertDetail>("alert", &record.id, &record.detail, FORMAT)?.alert.alert())
}

impl AlertBook {
    /// From the rows of open alerts. Rows that cannot be read are named and left out; they stay open in the
    /// database.
    pub fn load(records: &[AlertRecord]) -> (Self, Vec<RecordError>) {
        let (mut book, mut errors) = (Self::default(), Vec::new());
        for record in records {
            match read::<AlertDetail>("alert", &record.id, &record.detail, FORMAT) {
                Ok(detail) => {
                    let told = |(at, times)| Told { at: Timestamp::from_millis(at), times };
                    let entry = Entry {
                        told: detail.told.into_iter().map(|(k, t)| (k, told(t))).collect(),
                        alert: detail.alert.alert(),
                        resolved: false,
                        changed: false,
                    };
                    book.entries.insert(entry.alert.fingerprint(), entry);
                }
                Err(e) => errors.push(e),
            }
        }
        (book, errors)
    }
}

/// What an outbox row says, to one integration of a receiver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) alert: Alert,
    pub(crate) state: AlertState,
    /// `webhook`, `slack` or `email`; a reload may have put another one at the same place.
    pub(crate) kind: String,
    /// Which of the receiver's integrations.
    pub(crate) integration: usize,
}

#[derive(Serialize, Deserialize)]
struct MessageDetail {
    format: u32,
    kind: String,
    integration: usize,
    status: String,
    alert: AlertShape,
}

pub(crate) fn message_detail(message: &Message) -> String {
    write(&MessageDetail {
        format: FORMAT,
        kind: message.kind.clone(),
        integration: message.integration,
        status: message.state.as_str().to_owned(),
        alert: AlertShape::of(&message.alert),
    })
}

pub(crate) fn message_of(record: &OutboxRecord) -> Result<Message, RecordError> {
    let detail: MessageDetail = read("message", &record.id, &record.detail, FORMAT)?;
    let state = match detail.status.as_str() {
        "firing" => AlertState::Firing,
        "resolved" => AlertState::Resolved,
        _ => {
            return Err(RecordError::Unknown {
                what: "message",
                id: record.id.clone(),
                field: "status",
                got: detail.status,
            });
        }
    };
    Ok(Message { alert: detail.alert.alert(), state, kind: detail.kind, integration: detail.integration })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(detail: &str) -> OutboxRecord {
        let at = Timestamp::from_millis(1);
        OutboxRecord {
            id: "msg_1".into(),
            receiver: "ops".into(),
            created_at: at,
            next_attempt_at: at,
            attempts: 0,
            state: "pending".into(),
            last_error: String::new(),
            detail: detail.into(),
        }
    }

    #[test]
    fn a_message_from_a_newer_version_is_named_as_such() {
        let newer = record(r#"{"format":2,"colour":"mauve"}"#);
        assert_eq!(
            message_of(&newer).unwrap_err().to_string(),
            "message msg_1 is in format 2, written by a newer version; this one reads up to 1"
        );
    }

    proptest! {
        #[test]
        fn no_text_in_a_row_panics(text in ".{0,200}") {
            let _ = message_of(&record(&text));
        }

        #[test]
        fn messages_read_back_as_written(
            labels in proptest::collection::btree_map(".{0,20}", ".{1,20}", 0..5),
            annotations in proptest::collection::btree_map(".{0,20}", ".{0,20}", 0..5),
            starts_at: i64, ends_at: Option<i64>, integration: usize, resolved: bool,
        ) {
            let message = Message {
                alert: Alert {
                    labels: Labels::from_pairs(labels),
                    annotations,
                    starts_at: Timestamp::from_millis(starts_at),
                    ends_at: ends_at.map(Timestamp::from_millis),
                },
                state: if resolved { AlertState::Resolved } else { AlertState::Firing },
                kind: "slack".into(),
                integration,
            };
            prop_assert_eq!(message_of(&record(&message_detail(&message))).unwrap(), message);
        }
    }
}
