//! One Davy's alerts and outbox, the real ones, and the loop that sends what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_alerting::book::AlertBook;
use davy_alerting::breaker::Breakers;
use davy_alerting::config::{GroupBy, Integration, Receiver as Named, Route, WebhookConfig};
use davy_alerting::dispatch::{DEAD, DeliveryError, Dispatch, Dispatcher};
use davy_alerting::release::Command;
use davy_store::control::{AlertRecord, OutboxRecord};

use crate::outbox::{Outbox, lane};
use crate::receiver::Receiver;
use crate::replica::at;
use crate::{Variant, Violation};

/// Messages in flight at once, as the outbox's loop has them.
const AT_ONCE: usize = 16;
/// The loop's shortest sleep.
const PAUSE_MIN: i64 = 50;
/// Longest that a group waits before it tells what changed.
const GROUP_INTERVAL: Duration = Duration::from_secs(120);

/// Who hears what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One receiver, each alert by itself.
    One,
    /// And a second integration, which is not told of ends.
    Two,
    /// And a second receiver, which is told in groups, after a while, and again.
    Grouped,
}

impl Shape {
    /// Those who are told at once.
    fn prompt(self) -> &'static [&'static str] {
        match self {
            Self::One | Self::Grouped => &["oncall/0"],
            Self::Two => &["oncall/0", "oncall/1"],
        }
    }

    fn dispatcher(self) -> Dispatcher {
        let webhook = |send_resolved| {
            Integration::Webhook(WebhookConfig {
                url: "http://127.0.0.1:9/".to_owned().into(),
                signing_secret: None,
                send_resolved,
                timeout: Duration::from_secs(10),
                max_alerts: 0,
                http: Default::default(),
            })
        };
        let named = |name: &str, integrations| Named { name: name.to_owned(), integrations };
        let mut receivers = vec![named("oncall", vec![webhook(true)])];
        let to = |name: &str| Route { receiver: name.to_owned(), ..Route::default() };
        let mut root = to("oncall");
        match self {
            Self::One => {}
            Self::Two => receivers[0].integrations.push(webhook(false)),
            Self::Grouped => {
                receivers.push(named("team", vec![webhook(true)]));
                let team = Route {
                    continue_matching: true,
                    group_by: GroupBy::Labels(vec!["service".to_owned()]),
                    group_wait: Some(Duration::from_secs(20)),
                    group_interval: Some(GROUP_INTERVAL),
                    repeat_interval: Duration::from_secs(600),
                    ..to("team")
                };
                root.routes = vec![team, to("oncall")];
            }
        }
        Dispatcher::new(root, receivers, 7)
    }
}

pub(crate) struct Post {
    shape: Shape,
    dispatcher: Dispatcher,
    /// Gone with a crash, and read back from the rows.
    book: AlertBook,
    breakers: Breakers,
    /// Messages of the round that is under way.
    in_flight: BTreeSet<String>,
    /// Until when there is nothing to tell unless something is raised or resolved.
    quiet_until: i64,
    /// When it is looked into the outbox next.
    wakes: Option<i64>,
    /// On disk: open alerts by id, and the messages that wait.
    alerts: BTreeMap<String, AlertRecord>,
    outbox: Outbox,
    given_up: bool,
    pub(crate) receiver: Receiver,
}

impl Post {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            dispatcher: shape.dispatcher(),
            book: AlertBook::default(),
            breakers: Breakers::default(),
            in_flight: BTreeSet::new(),
            quiet_until: 0,
            wakes: None,
            alerts: BTreeMap::new(),
            outbox: Outbox::default(),
            given_up: false,
            receiver: Receiver::default(),
        }
    }

    /// What the commands raise and resolve, and what ended by itself. The alerts' rows are written; the messages' come
    /// back to be.
    pub(crate) fn poll(&mut self, commands: &[Command], now: i64) -> Vec<OutboxRecord> {
        let speaks = |c: &Command| matches!(c, Command::Raise(_) | Command::Resolve { .. });
        if now < self.quiet_until && !commands.iter().any(speaks) {
            return Vec::new();
        }
        self.book.apply(commands, at(now));
        let Dispatch { alerts, outbox } = self.dispatcher.poll(&mut self.book, at(now));
        for alert in alerts {
            if alert.ends_at.is_some() {
                self.alerts.remove(&alert.id);
            } else {
                self.alerts.insert(alert.id.clone(), alert);
            }
        }
        self.quiet_until =
            self.dispatcher.wake_at(&self.book).map_or(i64::MAX, davy_model::Timestamp::as_millis);
        outbox
    }

    /// The messages' rows are on disk.
    pub(crate) fn keep(&mut self, written: Vec<OutboxRecord>, variant: Variant) -> Vec<Violation> {
        let mut broken = Vec::new();
        for mut record in written {
            if variant == Variant::IdOfLane {
                record.id = lane(&record.id).to_owned();
            }
            let (target, violation) = self.receiver.written(&record);
            broken.extend(violation);
            self.outbox.put(record, target);
        }
        broken
    }

    pub(crate) fn crash(&mut self) {
        self.book = AlertBook::default();
        self.breakers = Breakers::default();
        self.in_flight.clear();
        self.quiet_until = 0;
        self.wakes = None;
    }

    pub(crate) fn restart(&mut self) {
        let records: Vec<AlertRecord> = self.alerts.values().cloned().collect();
        let (book, errors) = AlertBook::load(&records);
        assert!(errors.is_empty(), "rows of this version read back: {errors:?}");
        self.book = book;
    }

    /// When to look next, if that is sooner than is planned. While a round is under way, its end is waited for.
    pub(crate) fn wake_at(&mut self, now: i64) -> Option<i64> {
        if !self.in_flight.is_empty() || self.outbox.is_empty() {
            return None;
        }
        let down = self.breakers.open(at(now));
        let next = self.outbox.next(&down).into_iter().chain(self.breakers.next_probe(at(now))).min()?;
        self.plan(next.as_millis().max(now + PAUSE_MIN))
    }

    /// Whom a message that waits is for.
    pub(crate) fn target(&self, id: &str) -> String {
        self.outbox.get(id).map(|(_, target)| target.to_owned()).unwrap_or_default()
    }

    /// Rung when messages were written.
    pub(crate) fn ring(&mut self, now: i64) -> Option<i64> {
        if self.in_flight.is_empty() { self.plan(now) } else { None }
    }

    pub(crate) fn plan(&mut self, next: i64) -> Option<i64> {
        if self.wakes.is_some_and(|planned| planned <= next) {
            return None;
        }
        self.wakes = Some(next);
        Some(next)
    }

    /// Whether the planned time has come; a time that another took the place of has not.
    pub(crate) fn woken(&mut self, now: i64) -> bool {
        let woken = self.wakes == Some(now);
        if woken {
            self.wakes = None;
        }
        woken && self.in_flight.is_empty()
    }

    /// The messages of one round.
    pub(crate) fn round(&mut self, now: i64, variant: Variant) -> Vec<OutboxRecord> {
        let down = self.breakers.open(at(now));
        let due = self.outbox.due(at(now), &down, AT_ONCE, variant != Variant::NoOrder);
        let admitted = self.breakers.admit(due);
        self.in_flight.extend(admitted.iter().map(|r| r.id.clone()));
        admitted
    }

    /// What came of an attempt is on disk. Says whether the round is over.
    pub(crate) fn heard(&mut self, id: &str, result: Result<(), DeliveryError>, now: i64) -> bool {
        self.in_flight.remove(id);
        if let Some((record, target)) = self.outbox.get(id) {
            let (record, target) = (record.clone(), target.to_owned());
            self.breakers.heard(&target, &result, at(now));
            let after = self.dispatcher.after_attempt(record, result, at(now));
            self.given_up |= after.state == DEAD;
            self.outbox.put(after, target);
        }
        self.in_flight.is_empty()
    }

    /// Long after the last fault: everything arrived, and everyone believes what is so.
    pub(crate) fn broken(&self, last_poll: i64) -> Vec<Violation> {
        let mut broken = Vec::new();
        if self.given_up || !self.outbox.is_empty() || self.receiver.misses_one() {
            broken.push(Violation::Undelivered);
        }
        for (fingerprint, _) in self.book.open() {
            let all_told = self.shape.prompt().iter().all(|t| self.receiver.believes(t, fingerprint));
            if !all_told {
                broken.push(Violation::Silent);
            }
        }
        for (target, fingerprint) in self.receiver.firing().filter(|(t, _)| *t != "oncall/1") {
            let open = self.book.open().any(|(f, _)| f == fingerprint);
            // A group waits before it tells of an end; until then the alert's row is open.
            let waits = target == "team/0"
                && self.alerts.values().any(|a| a.fingerprint == fingerprint)
                && self.dispatcher.wake_at(&self.book).is_some_and(|next| next > at(last_poll));
            if !open && !waits {
                broken.push(Violation::Unended);
            }
        }
        broken
    }
}
