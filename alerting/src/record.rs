//! Alerts and messages as they stand in the control database: JSON in the `detail` columns.
//!
//! An edge: the serde shapes are private. What a newer version wrote is refused, never guessed at.

use std::collections::BTreeMap;

use davy_model::{Labels, MatchOp, Matcher, Timestamp};
use davy_store::control::{AlertRecord, OutboxRecord, SilenceRecord};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AlertState, SUMMARY};
use crate::book::{AlertBook, Entry, Told};
use crate::group::DIGEST;
use crate::silence::Silence;

/// Number of the shapes below; grows when an older version could misread them.
const FORMAT: u32 = 2;

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
    /// Those that were told in a digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    digested: Vec<String>,
    /// Over, though someone may still have to be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resolved: bool,
}

pub(crate) fn alert_record(fingerprint: &str, entry: &Entry) -> AlertRecord {
    let told = entry.told.iter().map(|(k, t)| (k.clone(), (t.at.as_millis(), t.times))).collect();
    let digested = entry.told.iter().filter(|(_, t)| t.digest).map(|(k, _)| k.clone()).collect();
    AlertRecord {
        id: format!("{fingerprint}-{}", entry.opened_at.as_millis()),
        fingerprint: fingerprint.to_owned(),
        starts_at: entry.opened_at,
        // An end that is only announced, or that someone is still to be told of, stays in the detail: the row is open
        // until that is over.
        ends_at: entry.alert.ends_at.filter(|_| entry.resolved && entry.over),
        detail: write(&AlertDetail {
            format: FORMAT,
            alert: AlertShape::of(&entry.alert),
            told,
            digested,
            resolved: entry.resolved,
        }),
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
                    let digested = detail.digested;
                    let told = |(target, (at, times)): (String, (i64, u32))| {
                        let digest = digested.contains(&target);
                        (target, Told { at: Timestamp::from_millis(at), times, digest })
                    };
                    let entry = Entry {
                        told: detail.told.into_iter().map(told).collect(),
                        alert: detail.alert.alert(),
                        opened_at: record.starts_at,
                        resolved: detail.resolved,
                        over: false,
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
    /// At least one; those that fire come first.
    pub(crate) alerts: Vec<(Alert, AlertState)>,
    /// As Alertmanager names the group.
    pub(crate) group_key: String,
    pub(crate) group_labels: Labels,
    /// `webhook`, `slack`, `email` or `alertmanager`; a reload may have put another one at the same place.
    pub(crate) kind: String,
    /// Which of the receiver's integrations.
    pub(crate) integration: usize,
}

impl Message {
    pub(crate) fn is_digest(&self) -> bool {
        self.group_key.starts_with(DIGEST)
    }

    /// Firing while any of its alerts is.
    pub(crate) fn state(&self) -> AlertState {
        self.alerts.first().map_or(AlertState::Resolved, |(_, state)| *state)
    }
}

/// What all of them have with the same value.
pub(crate) fn common<'a>(
    mut all: impl Iterator<Item = BTreeMap<&'a str, &'a str>>,
) -> BTreeMap<&'a str, &'a str> {
    let mut shared = all.next().unwrap_or_default();
    for one in all {
        shared.retain(|name, value| one.get(name) == Some(value));
    }
    shared
}

#[derive(Serialize, Deserialize)]
struct MessageDetail {
    format: u32,
    kind: String,
    integration: usize,
    /// The first format had one alert, with its status here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alert: Option<AlertShape>,
    #[serde(default)]
    group_key: String,
    #[serde(default)]
    group_labels: BTreeMap<String, String>,
    #[serde(default)]
    alerts: Vec<(String, AlertShape)>,
}

pub(crate) fn message_detail(message: &Message) -> String {
    let shape = |(alert, state): &(Alert, AlertState)| (state.as_str().to_owned(), AlertShape::of(alert));
    write(&MessageDetail {
        format: FORMAT,
        kind: message.kind.clone(),
        integration: message.integration,
        status: None,
        alert: None,
        group_key: message.group_key.clone(),
        group_labels: message.group_labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        alerts: message.alerts.iter().map(shape).collect(),
    })
}

/// Whom a message is for, as the book and the breakers name it: `<receiver>/<index of the integration>`.
pub fn target_of(record: &OutboxRecord) -> String {
    let integration = message_of(record).map_or(0, |m| m.integration);
    format!("{}/{integration}", record.receiver)
}

/// What a message is about, for a list: the name and the summary of its first alert, and how many more there are.
pub fn about(record: &OutboxRecord) -> String {
    let message = match message_of(record) {
        Ok(message) => message,
        Err(e) => return e.to_string(),
    };
    let Some((alert, state)) = message.alerts.first() else { return String::new() };
    let more = message.alerts.len() - 1;
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{} {}: {}{more}", alert.name(), state.as_str(), alert.annotation(SUMMARY))
}

pub(crate) fn message_of(record: &OutboxRecord) -> Result<Message, RecordError> {
    let detail: MessageDetail = read("message", &record.id, &record.detail, FORMAT)?;
    let state = |text: &str| match text {
        "firing" => Ok(AlertState::Firing),
        "resolved" => Ok(AlertState::Resolved),
        _ => Err(RecordError::Unknown {
            what: "message",
            id: record.id.clone(),
            field: "status",
            got: text.to_owned(),
        }),
    };
    let first = detail.status.zip(detail.alert);
    let alerts = first.into_iter().chain(detail.alerts);
    let alerts: Vec<_> = alerts
        .map(|(status, shape)| Ok((shape.alert(), state(&status)?)))
        .collect::<Result<_, RecordError>>()?;
    let Some((alert, _)) = alerts.first() else {
        return Err(RecordError::Unreadable {
            what: "message",
            id: record.id.clone(),
            detail: "it has no alert".to_owned(),
        });
    };
    let (group_key, group_labels) = if detail.group_key.is_empty() {
        (format!("{{}}:{}", alert.labels), alert.labels.clone())
    } else {
        (detail.group_key, Labels::from_pairs(detail.group_labels))
    };
    Ok(Message { alerts, group_key, group_labels, kind: detail.kind, integration: detail.integration })
}

#[derive(Serialize, Deserialize)]
struct SilenceDetail {
    format: u32,
    /// Name, operator, value.
    matchers: Vec<(String, String, String)>,
    starts_at: i64,
    created_by: String,
    comment: String,
}

pub fn silence_record(silence: &Silence) -> SilenceRecord {
    let matcher = |m: &Matcher| (m.name().to_owned(), m.op().as_str().to_owned(), m.value().to_owned());
    SilenceRecord {
        id: silence.id.clone(),
        ends_at: silence.ends_at,
        detail: write(&SilenceDetail {
            format: FORMAT,
            matchers: silence.matchers.iter().map(matcher).collect(),
            starts_at: silence.starts_at.as_millis(),
            created_by: silence.created_by.clone(),
            comment: silence.comment.clone(),
        }),
    }
}

pub fn silence_of(record: &SilenceRecord) -> Result<Silence, RecordError> {
    let detail: SilenceDetail = read("silence", &record.id, &record.detail, FORMAT)?;
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let matcher = |(name, op, value): (String, String, String)| {
        let unreadable =
            |detail: String| RecordError::Unreadable { what: "silence", id: record.id.clone(), detail };
        let known = ops.into_iter().find(|o| o.as_str() == op);
        let op = known.ok_or_else(|| unreadable(format!("no operator {op:?}")))?;
        Matcher::new(&name, op, &value).map_err(|e| unreadable(e.to_string()))
    };
    Ok(Silence {
        id: record.id.clone(),
        matchers: detail.matchers.into_iter().map(matcher).collect::<Result<_, _>>()?,
        starts_at: Timestamp::from_millis(detail.starts_at),
        ends_at: record.ends_at,
        created_by: detail.created_by,
        comment: detail.comment,
    })
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
        let newer = record(r#"{"format":3,"colour":"mauve"}"#);
        assert_eq!(
            message_of(&newer).unwrap_err().to_string(),
            "message msg_1 is in format 3, written by a newer version; this one reads up to 2"
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
            let alert = Alert {
                labels: Labels::from_pairs(labels),
                annotations,
                starts_at: Timestamp::from_millis(starts_at),
                ends_at: ends_at.map(Timestamp::from_millis),
            };
            let message = Message {
                group_key: "{}:{}".into(),
                group_labels: alert.labels.clone(),
                alerts: vec![(alert, if resolved { AlertState::Resolved } else { AlertState::Firing })],
                kind: "slack".into(),
                integration,
            };
            prop_assert_eq!(message_of(&record(&message_detail(&message))).unwrap(), message);
        }
    }
}
