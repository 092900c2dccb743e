//! `Undelivered`: an alert about each receiver that a message was given up for, until that receiver takes one.
//!
//! Routed like any other, so that a route for `alertname="MessageNotDelivered"` is the second way to people.

use std::collections::BTreeSet;

use davy_model::{Labels, Timestamp};
use davy_store::control::{AlertRecord, OutboxRecord};

use crate::alert::{ALERTNAME, Alert, DESCRIPTION, SEVERITY, SEVERITY_CRITICAL, SUMMARY};
use crate::dispatch::{DEAD, DELIVERED};
use crate::record::{alert_of, target_of};
use crate::rule::AlertUpdate;
use crate::words::{Language, Said};

const NAME: &str = "MessageNotDelivered";
const RECEIVER: &str = "receiver";
const INTEGRATION: &str = "integration";

#[derive(Debug, Clone, Default)]
pub struct Undelivered {
    /// By `<receiver>/<index>`.
    open: BTreeSet<String>,
}

impl Undelivered {
    /// From the alerts that are open: a restart forgets none.
    pub fn of(open: &[AlertRecord]) -> Self {
        let labels = open.iter().filter_map(|r| alert_of(r).ok()).map(|a| a.labels);
        let target = |l: Labels| Some(format!("{}/{}", l.get(RECEIVER)?, l.get(INTEGRATION)?));
        Self { open: labels.filter(|l| l.get(ALERTNAME) == Some(NAME)).filter_map(target).collect() }
    }

    /// What a message that was just tried says of its receiver. A message about this alert that is given up in turn
    /// opens none of its own: it is open.
    pub fn heard(&mut self, tried: &OutboxRecord, language: Language, now: Timestamp) -> Option<AlertUpdate> {
        let target = target_of(tried);
        let resolved = match tried.state.as_str() {
            DEAD if self.open.insert(target.clone()) => false,
            DELIVERED if self.open.remove(&target) => true,
            _ => return None,
        };
        let integration = target.rsplit_once('/').map_or("0", |(_, n)| n);
        let labels = Labels::from_pairs([
            (ALERTNAME, NAME),
            (SEVERITY, SEVERITY_CRITICAL),
            (RECEIVER, &tried.receiver),
            (INTEGRATION, integration),
        ]);
        let said = |key| {
            let said = Said::new(key).with("receiver", &tried.receiver).with("attempts", tried.attempts);
            said.with("error", &tried.last_error).text(language)
        };
        let annotations = if resolved {
            [(DESCRIPTION.to_owned(), said("undelivered.over"))].into()
        } else {
            [
                (SUMMARY.to_owned(), said("undelivered.summary")),
                (DESCRIPTION.to_owned(), said("undelivered.description")),
            ]
            .into()
        };
        Some(AlertUpdate { alert: Alert::new(labels, annotations, now), resolved })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::AlertBook;
    use crate::config::Route;
    use crate::dispatch::{Dispatcher, PENDING};

    fn tried(receiver: &str, state: &str) -> OutboxRecord {
        let at = Timestamp::from_millis(0);
        OutboxRecord {
            id: "msg_1".into(),
            receiver: receiver.into(),
            created_at: at,
            next_attempt_at: at,
            attempts: 1,
            state: state.into(),
            last_error: "status 404".into(),
            detail: String::new(),
        }
    }

    #[test]
    fn a_receiver_is_told_of_once_and_until_it_takes_a_message() {
        let mut undelivered = Undelivered::default();
        let at = Timestamp::from_millis(1_000);
        let hear =
            |u: &mut Undelivered, receiver, state| u.heard(&tried(receiver, state), Language::English, at);
        assert_eq!(hear(&mut undelivered, "ops", PENDING), None);
        assert_eq!(hear(&mut undelivered, "ops", DELIVERED), None);

        let update = hear(&mut undelivered, "ops", DEAD).expect("it was given up");
        assert_eq!(update.alert.name(), NAME);
        assert_eq!(update.alert.annotation(SUMMARY), "A message for ops was not delivered");
        assert!(update.alert.annotation(DESCRIPTION).contains("status 404"), "{update:?}");
        assert!(!update.resolved);
        assert_eq!(hear(&mut undelivered, "ops", DEAD), None);
        assert!(hear(&mut undelivered, "team", DEAD).is_some());

        let mut book = AlertBook::default();
        book.raise(update.alert.clone(), at);
        let rows = Dispatcher::new(Route::default(), Vec::new(), 1).poll(&mut book, at).alerts;
        let mut restarted = Undelivered::of(&rows);
        assert_eq!(hear(&mut restarted, "team", DELIVERED), None, "that one was not among the open");
        let over = hear(&mut restarted, "ops", DELIVERED).expect("it takes messages again");
        assert!(over.resolved);
        assert_eq!(over.alert.fingerprint(), update.alert.fingerprint());
    }
}
