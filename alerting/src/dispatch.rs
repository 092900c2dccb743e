//! `Dispatcher`: turns changed alerts into messages for the outbox, and an attempt's result into what comes next.
//!
//! Hop 6, pure. Delivery is at least once: a message is written together with the note that its receiver was
//! told, keeps one id over all attempts, and ends as `delivered` or, visibly, as `dead`.

use std::time::Duration;

use davy_model::Timestamp;
use davy_store::control::{AlertRecord, OutboxRecord};

use crate::alert::{AlertState, Fnv1a};
use crate::book::{AlertBook, Entry, Told};
use crate::config::{Integration, Receiver, Route};
use crate::record::{Message, alert_record, message_detail};
use crate::route;

pub const PENDING: &str = "pending";
pub const DELIVERED: &str = "delivered";
pub const DEAD: &str = "dead";

/// Waiting time after the first failure; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);
/// A receiver may not ask for more patience than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// A message that could not be delivered for this long is dead.
pub const MESSAGE_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest error kept with a message, in characters.
const ERROR_CHARS_MAX: usize = 500;

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DeliveryError {
    /// Whether the same message may fare better later.
    pub retryable: bool,
    /// What the receiver asked for.
    pub retry_after: Option<Duration>,
    /// Without secrets: it is stored and shown.
    pub detail: String,
}

/// Rows to write in one transaction, before any of the messages is sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dispatch {
    pub alerts: Vec<AlertRecord>,
    pub outbox: Vec<OutboxRecord>,
}

#[derive(Debug, Clone)]
pub struct Dispatcher {
    route: Route,
    receivers: Vec<Receiver>,
    seed: u64,
}

/// One integration of a receiver that a route leads to.
struct Target<'a> {
    /// `<receiver>/<index>`: whom the book notes as told.
    key: String,
    receiver: &'a str,
    index: usize,
    integration: &'a Integration,
    repeat_interval: Duration,
}

impl Dispatcher {
    /// `seed` spreads retries, so that not every message of a flood comes back at once.
    pub fn new(route: Route, receivers: Vec<Receiver>, seed: u64) -> Self {
        Self { route, receivers, seed }
    }

    /// What is to be written now. Alerts that ended leave the book. The book takes the writing for granted:
    /// if it fails, write the same rows again.
    pub fn poll(&self, book: &mut AlertBook, now: Timestamp) -> Dispatch {
        book.expire(now);
        let mut out = Dispatch::default();
        for (fingerprint, entry) in &mut book.entries {
            let before = out.outbox.len();
            self.tell(fingerprint, entry, now, &mut out.outbox);
            if entry.changed || out.outbox.len() > before {
                out.alerts.push(alert_record(fingerprint, entry));
                entry.changed = false;
            }
        }
        book.entries.retain(|_, e| !e.resolved);
        out
    }

    /// When the next repeat or announced end is due; `None` when nothing is open.
    pub fn wake_at(&self, book: &AlertBook) -> Option<Timestamp> {
        let repeats = book.entries.values().flat_map(|entry| {
            let told = |t: &Target<'_>| entry.told.get(&t.key).map(|told| told.at + t.repeat_interval);
            self.targets(entry).iter().filter_map(told).min()
        });
        let ends = book.entries.values().filter_map(|e| e.alert.ends_at);
        repeats.chain(ends).min()
    }

    fn tell(&self, fingerprint: &str, entry: &mut Entry, now: Timestamp, outbox: &mut Vec<OutboxRecord>) {
        let state = if entry.resolved { AlertState::Resolved } else { AlertState::Firing };
        for target in self.targets(entry) {
            let due = match (state, entry.told.get(&target.key)) {
                (AlertState::Firing, None) => true,
                (AlertState::Firing, Some(told)) => now >= told.at + target.repeat_interval,
                // Who never heard that it began need not hear that it ended.
                (AlertState::Resolved, told) => told.is_some() && send_resolved(target.integration),
            };
            if !due {
                continue;
            }
            let told = entry.told.entry(target.key.clone()).or_insert(Told { at: now, times: 0 });
            *told = Told { at: now, times: told.times.saturating_add(1) };
            let message = Message {
                alert: entry.alert.clone(),
                state,
                kind: kind(target.integration).to_owned(),
                integration: target.index,
            };
            let starts_at = entry.alert.starts_at.as_millis();
            let key = Fnv1a::default().write(target.key.as_bytes()).0;
            outbox.push(OutboxRecord {
                id: format!("msg_{fingerprint}_{starts_at}_{}_{}_{key:016x}", state.as_str(), told.times),
                receiver: target.receiver.to_owned(),
                created_at: now,
                next_attempt_at: now,
                attempts: 0,
                state: PENDING.to_owned(),
                last_error: String::new(),
                detail: message_detail(&message),
            });
        }
    }

    /// Everyone who hears of the alert, each once.
    fn targets(&self, entry: &Entry) -> Vec<Target<'_>> {
        let mut found: Vec<Target<'_>> = Vec::new();
        for route in route::matching(&self.route, &entry.alert.labels) {
            if found.iter().any(|t| t.receiver == route.receiver) {
                continue;
            }
            let receiver = self.receivers.iter().find(|r| r.name == route.receiver);
            for (index, integration) in receiver.iter().flat_map(|r| r.integrations.iter().enumerate()) {
                found.push(Target {
                    key: format!("{}/{index}", route.receiver),
                    receiver: &route.receiver,
                    index,
                    integration,
                    repeat_interval: route.repeat_interval,
                });
            }
        }
        found
    }

    /// The message after one attempt to deliver it.
    pub fn after_attempt(
        &self,
        record: OutboxRecord,
        result: Result<(), DeliveryError>,
        now: Timestamp,
    ) -> OutboxRecord {
        let attempts = record.attempts.saturating_add(1);
        let mut next = OutboxRecord { attempts, ..record };
        match result {
            Ok(()) => {
                next.state = DELIVERED.to_owned();
                next.last_error.clear();
            }
            Err(error) => {
                next.last_error = error.detail.chars().take(ERROR_CHARS_MAX).collect();
                next.next_attempt_at = now + self.wait(&next, error.retry_after);
                if !error.retryable || next.next_attempt_at.since(next.created_at) > MESSAGE_AGE_MAX {
                    next.state = DEAD.to_owned();
                }
            }
        }
        next
    }

    /// Doubling from one second to five minutes, a quarter more or less; never sooner than the receiver asked.
    fn wait(&self, record: &OutboxRecord, retry_after: Option<Duration>) -> Duration {
        let doublings = record.attempts.saturating_sub(1).min(16);
        let base = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        let mut hash = Fnv1a(self.seed ^ Fnv1a::default().0);
        hash.write(record.id.as_bytes()).write(&record.attempts.to_le_bytes());
        let jitter = 0.75 + 0.5 * ((hash.0 >> 11) as f64 / (1_u64 << 53) as f64);
        base.mul_f64(jitter).max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

pub(crate) fn kind(integration: &Integration) -> &'static str {
    match integration {
        Integration::Webhook(_) => "webhook",
        Integration::Slack(_) => "slack",
        Integration::Email(_) => "email",
    }
}

fn send_resolved(integration: &Integration) -> bool {
    match integration {
        Integration::Webhook(c) => c.send_resolved,
        Integration::Slack(c) => c.send_resolved,
        Integration::Email(c) => c.send_resolved,
    }
}
