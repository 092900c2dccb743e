//! `Dispatcher`: turns changed alerts into messages for the outbox, and an attempt's result into what comes next.
//!
//! Hop 6, pure. Delivery is at least once: a message is written together with the note that its receiver was
//! told, keeps one id over all attempts, and ends as `delivered` or, visibly, as `dead`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_model::{Labels, Timestamp};
use davy_store::control::{AlertRecord, OutboxRecord};

use crate::alert::{AlertState, Fnv1a};
use crate::book::{AlertBook, Told};
use crate::config::{InhibitRule, Integration, Receiver, Route};
use crate::group::{self, GroupKey, Member, due_at};
use crate::inhibit::is_inhibited;
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
/// Messages for a person at one time; beyond it they are one, a digest.
const MESSAGES_AT_ONCE_MAX: usize = 10;
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
    inhibit: Vec<InhibitRule>,
    seed: u64,
}

/// One integration of a receiver that a route leads to, with the alerts of one group.
struct Lane<'a> {
    /// `<receiver>/<index>`: whom the book notes as told.
    target: String,
    receiver: &'a str,
    index: usize,
    integration: &'a Integration,
    route: &'a Route,
    key: GroupKey,
    /// Fingerprints of its alerts.
    members: Vec<String>,
}

/// A lane with the alerts that its message tells, and whether of their end.
struct Ready<'a> {
    lane: Lane<'a>,
    told: Vec<(String, bool)>,
}

/// A person gets one message instead of a flood; programs get each.
fn with_digests(ready: Vec<Ready<'_>>) -> Vec<Ready<'_>> {
    let mut by_target: BTreeMap<String, usize> = BTreeMap::new();
    for Ready { lane, .. } in &ready {
        *by_target.entry(lane.target.clone()).or_default() += 1;
    }
    let mut out: Vec<Ready<'_>> = Vec::with_capacity(ready.len());
    for one in ready {
        let target = &one.lane.target;
        let flood = by_target.get(target).is_some_and(|n| *n > MESSAGES_AT_ONCE_MAX);
        if !flood || !is_read_by_people(one.lane.integration) {
            out.push(one);
            continue;
        }
        match out.iter_mut().find(|d| d.lane.target == *target && d.lane.key == GroupKey::digest()) {
            Some(digest) => {
                digest.told.extend(one.told);
                digest.lane.members.extend(one.lane.members);
            }
            None => out.push(Ready { lane: Lane { key: GroupKey::digest(), ..one.lane }, told: one.told }),
        }
    }
    out
}

fn is_read_by_people(integration: &Integration) -> bool {
    match integration {
        Integration::Slack(_) | Integration::Email(_) => true,
        Integration::Webhook(_) | Integration::Alertmanager(_) => false,
    }
}

impl Dispatcher {
    /// `seed` spreads retries, so that not every message of a flood comes back at once.
    pub fn new(route: Route, receivers: Vec<Receiver>, seed: u64) -> Self {
        Self { route, receivers, inhibit: Vec::new(), seed }
    }

    #[must_use]
    pub fn with_inhibition(self, inhibit: Vec<InhibitRule>) -> Self {
        Self { inhibit, ..self }
    }

    /// What is to be written now. Alerts that ended and of whose end everyone has been told leave the book. The book
    /// takes the writing for granted: if it fails, write the same rows again.
    pub fn poll(&self, book: &mut AlertBook, now: Timestamp) -> Dispatch {
        book.expire(now);
        let muted = self.muted(book, now);
        let mut out = Dispatch::default();
        let mut touched = BTreeSet::new();
        let mut waiting = BTreeSet::new();
        let mut ready = Vec::new();
        for lane in self.lanes(book) {
            let members = members(book, &lane, &muted);
            let due = due_at(lane.route, &members).is_some_and(|at| at <= now);
            let ends = members.iter().any(Member::tells_end);
            if !due || group::is_muted(lane.route, now) {
                if ends {
                    let ended = lane.members.iter().zip(&members).filter(|(_, m)| m.tells_end());
                    waiting.extend(ended.map(|(f, _)| f.clone()));
                }
                continue;
            }
            let told: Vec<(String, bool)> = lane
                .members
                .iter()
                .zip(&members)
                .filter(|(_, m)| m.tells_end() || (!m.entry.resolved && !m.muted))
                .map(|(f, m)| (f.clone(), m.entry.resolved))
                .collect();
            ready.push(Ready { lane, told });
        }
        for Ready { lane, told } in with_digests(ready) {
            out.outbox.push(message(book, &lane, &told, now));
            let digest = lane.key == GroupKey::digest();
            for (fingerprint, resolved) in told {
                let Some(entry) = book.entries.get_mut(&fingerprint) else { continue };
                if resolved {
                    entry.told.remove(&lane.target);
                } else {
                    let before = entry.told.get(&lane.target);
                    let times = before.map_or(0, |t| t.times).saturating_add(1);
                    let digest = digest || before.is_some_and(|t| t.digest);
                    entry.told.insert(lane.target.clone(), Told { at: now, times, digest });
                }
                touched.insert(fingerprint);
            }
        }
        for (fingerprint, entry) in &mut book.entries {
            entry.over = entry.resolved && !waiting.contains(fingerprint);
            if entry.changed || entry.over || touched.contains(fingerprint) {
                out.alerts.push(alert_record(fingerprint, entry));
                entry.changed = false;
            }
        }
        book.entries.retain(|_, e| !e.over);
        out
    }

    /// When the next message, repeat or announced end is due; `None` when nothing is open.
    pub fn wake_at(&self, book: &AlertBook) -> Option<Timestamp> {
        let nobody = BTreeSet::new();
        let lanes = self.lanes(book);
        let due = lanes.iter().filter_map(|lane| due_at(lane.route, &members(book, lane, &nobody)));
        let ends = book.entries.values().filter(|e| !e.resolved).filter_map(|e| e.alert.ends_at);
        due.chain(ends).min()
    }

    /// Fingerprints of alerts that are silenced or inhibited.
    fn muted(&self, book: &AlertBook, now: Timestamp) -> BTreeSet<String> {
        let firing = book.entries.values().filter(|e| !e.resolved).map(|e| &e.alert.labels);
        let quiet = |labels: &Labels| {
            book.silences().iter().any(|s| s.silences(labels, now))
                || is_inhibited(&self.inhibit, labels, &firing)
        };
        if self.inhibit.is_empty() && book.silences().is_empty() {
            return BTreeSet::new();
        }
        let muted = book.entries.iter().filter(|(_, e)| quiet(&e.alert.labels));
        muted.map(|(fingerprint, _)| fingerprint.clone()).collect()
    }

    /// Every group of every receiver that anyone must hear of.
    fn lanes(&self, book: &AlertBook) -> Vec<Lane<'_>> {
        let mut found: BTreeMap<(String, GroupKey), Lane<'_>> = BTreeMap::new();
        let mut order = Vec::new();
        for (fingerprint, entry) in &book.entries {
            let mut heard: Vec<&str> = Vec::new();
            for (path, route) in route::matching(&self.route, &entry.alert.labels) {
                // A receiver that several routes lead to hears once.
                if heard.contains(&route.receiver.as_str()) {
                    continue;
                }
                heard.push(&route.receiver);
                let key = GroupKey::of(&path, route, &entry.alert.labels);
                let receiver = self.receivers.iter().find(|r| r.name == route.receiver);
                for (index, integration) in receiver.iter().flat_map(|r| r.integrations.iter().enumerate()) {
                    let target = format!("{}/{index}", route.receiver);
                    let lane = found.entry((target.clone(), key.clone())).or_insert_with(|| {
                        order.push((target.clone(), key.clone()));
                        Lane {
                            target,
                            receiver: &route.receiver,
                            index,
                            integration,
                            route,
                            key: key.clone(),
                            members: Vec::new(),
                        }
                    });
                    lane.members.push(fingerprint.clone());
                }
            }
        }
        order.iter().filter_map(|k| found.remove(k)).collect()
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

/// A message that was given up, as it is sent again: under its id, and with a day of its own.
pub fn again(record: OutboxRecord, now: Timestamp) -> OutboxRecord {
    OutboxRecord { state: PENDING.to_owned(), attempts: 0, created_at: now, next_attempt_at: now, ..record }
}

fn members<'a>(book: &'a AlertBook, lane: &Lane<'_>, muted: &BTreeSet<String>) -> Vec<Member<'a>> {
    let member = |fingerprint: &String| {
        let entry = book.entries.get(fingerprint)?;
        Some(Member {
            entry,
            told: entry.told.get(&lane.target).map(|t| t.at),
            muted: muted.contains(fingerprint),
            send_resolved: send_resolved(lane.integration),
        })
    };
    lane.members.iter().filter_map(member).collect()
}

/// The row of a message about these alerts; the same from the same book.
fn message(book: &AlertBook, lane: &Lane<'_>, told: &[(String, bool)], now: Timestamp) -> OutboxRecord {
    let mut alerts = Vec::new();
    let mut said = Fnv1a::default();
    for (fingerprint, resolved) in told {
        let Some(entry) = book.entries.get(fingerprint) else { continue };
        let state = if *resolved { AlertState::Resolved } else { AlertState::Firing };
        let times = entry.told.get(&lane.target).map_or(0, |t| t.times);
        said.write(fingerprint.as_bytes())
            .write(&entry.alert.starts_at.as_millis().to_le_bytes())
            .write(state.as_str().as_bytes())
            .write(&times.to_le_bytes());
        alerts.push((entry.alert.clone(), state));
    }
    // What is shown first is what fires, the most severe before the others.
    alerts.sort_by_key(|(alert, state)| (*state == AlertState::Resolved, alert.severity_rank()));
    let message = Message {
        alerts,
        group_key: lane.key.text(),
        group_labels: lane.key.labels.clone(),
        kind: kind(lane.integration).to_owned(),
        integration: lane.index,
    };
    // What follows on a digest must not overtake it.
    let digested =
        told.iter().filter_map(|(f, _)| book.entries.get(f)?.told.get(&lane.target)).any(|t| t.digest);
    let key = if digested { &GroupKey::digest() } else { &lane.key };
    let (number, state) = (key.lane(&lane.target), message.state());
    OutboxRecord {
        // The first part is the lane: messages of one lane go in order.
        id: format!("msg_{number:016x}_{}_{:016x}", state.as_str(), said.0),
        receiver: lane.receiver.to_owned(),
        created_at: now,
        next_attempt_at: now,
        attempts: 0,
        state: PENDING.to_owned(),
        last_error: String::new(),
        detail: message_detail(&message),
    }
}

pub(crate) fn kind(integration: &Integration) -> &'static str {
    match integration {
        Integration::Webhook(_) => "webhook",
        Integration::Slack(_) => "slack",
        Integration::Email(_) => "email",
        Integration::Alertmanager(_) => "alertmanager",
    }
}

fn send_resolved(integration: &Integration) -> bool {
    match integration {
        Integration::Webhook(c) => c.send_resolved,
        Integration::Slack(c) => c.send_resolved,
        Integration::Email(c) => c.send_resolved,
        Integration::Alertmanager(c) => c.send_resolved,
    }
}
