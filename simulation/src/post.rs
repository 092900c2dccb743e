//! One Davy's alerts and outbox, the real ones, and the receiver that its messages go to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_alerting::book::AlertBook;
use davy_alerting::breaker::Breakers;
use davy_alerting::config::{Integration, Receiver, Route, WebhookConfig};
use davy_alerting::dispatch::{DEAD, DeliveryError, Dispatch, Dispatcher, PENDING};
use davy_alerting::release::Command;
use davy_model::Timestamp;
use davy_store::control::{AlertRecord, OutboxRecord};

use crate::replica::at;
use crate::{Variant, Violation};

const RECEIVER: &str = "oncall";
/// The part of an id that says in what order messages go, as the store has it.
const LANE_CHARS: usize = 20;

pub(crate) struct Post {
    dispatcher: Dispatcher,
    /// Gone with a crash, and read back from the rows.
    book: AlertBook,
    breakers: Breakers,
    in_flight: BTreeSet<String>,
    /// Until when there is nothing to tell unless something is raised or resolved.
    quiet_until: i64,
    /// When it is looked into the outbox next.
    pub(crate) wakes: Option<i64>,
    /// On disk: open alerts by id, and the messages that wait.
    alerts: BTreeMap<String, AlertRecord>,
    outbox: BTreeMap<String, OutboxRecord>,
    given_up: u32,
    /// The receiver's.
    pub(crate) down_until: i64,
    got: BTreeMap<String, Got>,
    /// The newest message of each lane that it took.
    newest: BTreeMap<String, (i64, String)>,
}

struct Got {
    detail: String,
}

impl Post {
    pub(crate) fn new() -> Self {
        let webhook = WebhookConfig {
            url: "http://127.0.0.1:9/".to_owned().into(),
            signing_secret: None,
            send_resolved: true,
            timeout: Duration::from_secs(10),
            max_alerts: 0,
        };
        let receiver =
            Receiver { name: RECEIVER.to_owned(), integrations: vec![Integration::Webhook(webhook)] };
        let route = Route { receiver: RECEIVER.to_owned(), ..Route::default() };
        Self {
            dispatcher: Dispatcher::new(route, vec![receiver], 7),
            book: AlertBook::default(),
            breakers: Breakers::default(),
            in_flight: BTreeSet::new(),
            quiet_until: 0,
            wakes: None,
            alerts: BTreeMap::new(),
            outbox: BTreeMap::new(),
            given_up: 0,
            down_until: 0,
            got: BTreeMap::new(),
            newest: BTreeMap::new(),
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
        self.quiet_until = self.dispatcher.wake_at(&self.book).map_or(i64::MAX, Timestamp::as_millis);
        outbox
    }

    pub(crate) fn keep(&mut self, written: Vec<OutboxRecord>) {
        self.outbox.extend(written.into_iter().map(|r| (r.id.clone(), r)));
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

    /// When to look next, if that is sooner than is planned.
    pub(crate) fn wake_at(&mut self, now: i64) -> Option<i64> {
        let waiting = self.outbox.values().filter(|r| !self.in_flight.contains(&r.id));
        let next = waiting.map(|r| r.next_attempt_at.as_millis()).min()?;
        let probe = self.breakers.next_probe(at(now)).map_or(0, Timestamp::as_millis);
        let next = next.max(probe).max(now + 1);
        if self.wakes.is_some_and(|planned| planned <= next) {
            return None;
        }
        self.wakes = Some(next);
        Some(next)
    }

    pub(crate) fn woken(&mut self, now: i64) {
        if self.wakes.is_some_and(|planned| planned <= now) {
            self.wakes = None;
        }
    }

    /// As the store's: of each lane the oldest that is pending, if it is due.
    pub(crate) fn due(&mut self, now: i64, variant: Variant) -> Vec<OutboxRecord> {
        let mut pending: Vec<&OutboxRecord> = self.outbox.values().collect();
        pending.sort_by_key(|r| (r.created_at, &r.id));
        let down = !self.breakers.open(at(now)).is_empty();
        let mut lanes = BTreeSet::new();
        let first = |r: &&OutboxRecord| lanes.insert(lane(&r.id).to_owned()) || variant == Variant::NoOrder;
        let due: Vec<OutboxRecord> = pending
            .into_iter()
            .filter(first)
            .filter(|r| !down && r.next_attempt_at <= at(now) && !self.in_flight.contains(&r.id))
            .cloned()
            .collect();
        let admitted = self.breakers.admit(due);
        self.in_flight.extend(admitted.iter().map(|r| r.id.clone()));
        admitted
    }

    /// The receiver has it.
    pub(crate) fn take(&mut self, record: &OutboxRecord) -> Vec<Violation> {
        let mut broken = Vec::new();
        let got = self.got.entry(record.id.clone()).or_insert_with(|| Got { detail: record.detail.clone() });
        if got.detail != record.detail {
            broken.push(Violation::TwoFaced);
        }
        let place = (record.created_at.as_millis(), record.id.clone());
        let newest = self.newest.entry(lane(&record.id).to_owned()).or_insert_with(|| place.clone());
        if *newest > place {
            broken.push(Violation::Overtaken);
        } else {
            *newest = place;
        }
        broken
    }

    pub(crate) fn heard(&mut self, id: &str, failed: bool, now: i64) {
        self.in_flight.remove(id);
        let Some(record) = self.outbox.get(id).cloned() else { return };
        let result = if failed {
            Err(DeliveryError { retryable: true, retry_after: None, detail: "timed out".to_owned() })
        } else {
            Ok(())
        };
        self.breakers.heard(&format!("{RECEIVER}/0"), &result, at(now));
        let after = self.dispatcher.after_attempt(record, result, at(now));
        match after.state.as_str() {
            PENDING => {
                self.outbox.insert(id.to_owned(), after);
            }
            state => {
                self.outbox.remove(id);
                self.given_up += u32::from(state == DEAD || !self.got.contains_key(id));
            }
        }
    }

    /// Long after the last fault: everything arrived, and whoever heard of a beginning heard of the end.
    pub(crate) fn broken(&self, acted: bool) -> Vec<Violation> {
        let mut broken = Vec::new();
        if self.given_up > 0 || !self.outbox.is_empty() {
            broken.push(Violation::Undelivered);
        }
        let begun = self.newest.values().filter(|(_, id)| id.contains("_firing_")).count();
        if begun != self.book.open().count() {
            broken.push(Violation::Unended);
        }
        let said = self.got.values().any(|g| g.detail.contains("CanaryRegression"));
        if acted && !said {
            broken.push(Violation::Silent);
        }
        broken
    }
}

fn lane(id: &str) -> &str {
    id.get(..LANE_CHARS).unwrap_or(id)
}
