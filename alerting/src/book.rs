//! `AlertBook`: the alerts that are open, each once, and who has already been told.
//!
//! Between hops 5 and 6: releases, thresholds and Davy's own trouble raise and resolve here, and the
//! [`Dispatcher`](crate::dispatch::Dispatcher) turns what changed into messages. What must survive a restart
//! is in each alert's record.

use std::collections::BTreeMap;

use davy_model::Timestamp;

use crate::alert::Alert;
use crate::release::Command;
use crate::silence::Silence;

/// Open alerts beyond this are refused and counted: a flood of labels must not eat the memory.
pub const OPEN_ALERTS_MAX: usize = 10_000;

/// When a receiver was last told of an alert, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) at: Timestamp,
    pub(crate) times: u32,
    /// Among others, in a digest.
    pub(crate) digest: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) alert: Alert,
    /// When its record was opened. It began anew since then if it ended and came back before all had heard of the end.
    pub(crate) opened_at: Timestamp,
    /// Over, and kept until the next poll has told those who must hear of it.
    pub(crate) resolved: bool,
    /// Everyone who must hear of the end has.
    pub(crate) over: bool,
    /// Whether it differs from its record.
    pub(crate) changed: bool,
    /// By `<receiver>/<index of the integration>`.
    pub(crate) told: BTreeMap<String, Told>,
}

#[derive(Debug, Clone, Default)]
pub struct AlertBook {
    /// By fingerprint.
    pub(crate) entries: BTreeMap<String, Entry>,
    silences: Vec<Silence>,
    refused: u64,
}

impl AlertBook {
    /// Opens the alert. One that is already open keeps its start and takes the new annotations and end; one that
    /// ended, and whose end not everyone has heard of, begins anew.
    /// Says whether it is newly open.
    pub fn raise(&mut self, alert: Alert, now: Timestamp) -> bool {
        let fingerprint = alert.fingerprint();
        if let Some(entry) = self.entries.get_mut(&fingerprint) {
            let ended_at = entry.alert.ends_at.filter(|_| entry.resolved);
            if let Some(ended_at) = ended_at {
                // Whoever heard of the end must not take this for what it heard before.
                entry.alert.starts_at = alert.starts_at.min(now).max(ended_at);
            }
            entry.changed |= ended_at.is_some()
                || entry.alert.annotations != alert.annotations
                || entry.alert.ends_at != alert.ends_at;
            entry.resolved = false;
            entry.alert.annotations = alert.annotations;
            entry.alert.ends_at = alert.ends_at;
            return false;
        }
        if self.entries.len() >= OPEN_ALERTS_MAX {
            self.refused += 1;
            return false;
        }
        let opened_at = alert.starts_at.min(now);
        let alert = Alert { starts_at: opened_at, ..alert };
        let told = BTreeMap::new();
        let entry = Entry { alert, opened_at, resolved: false, over: false, changed: true, told };
        self.entries.insert(fingerprint, entry);
        true
    }

    /// Ends the alert. Says whether it was open.
    pub fn resolve(&mut self, fingerprint: &str, now: Timestamp) -> bool {
        self.resolve_saying(fingerprint, &BTreeMap::new(), now)
    }

    /// Ends the alert with annotations that say how; those that are not named stay.
    pub fn resolve_saying(
        &mut self,
        fingerprint: &str,
        annotations: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> bool {
        match self.entries.get_mut(fingerprint) {
            Some(entry) if !entry.resolved => {
                entry.alert.annotations.extend(annotations.iter().map(|(k, v)| (k.clone(), v.clone())));
                entry.alert.ends_at = Some(now);
                entry.resolved = true;
                entry.changed = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Does what a release machine's commands say of alerts; the others are left to the caller.
    pub fn apply(&mut self, commands: &[Command], now: Timestamp) {
        for command in commands {
            match command {
                Command::Raise(alert) => {
                    self.raise(alert.clone(), now);
                }
                Command::Resolve { fingerprint, annotations } => {
                    self.resolve_saying(fingerprint, annotations, now);
                }
                Command::Read(_) | Command::Call(_) | Command::Audit(_) => {}
            }
        }
    }

    /// Silences that have not ended.
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    pub fn set_silences(&mut self, silences: Vec<Silence>) {
        self.silences = silences;
    }

    /// Ends what has outlived its announced end.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        for entry in self.entries.values_mut().filter(|e| !e.resolved) {
            if entry.alert.ends_at.is_some_and(|end| end <= now) {
                entry.resolved = true;
                entry.changed = true;
            }
        }
    }

    /// Alerts that fire, by fingerprint.
    pub fn open(&self) -> impl Iterator<Item = (&str, &Alert)> {
        self.entries.iter().filter(|(_, e)| !e.resolved).map(|(f, e)| (f.as_str(), &e.alert))
    }

    /// Whether an alert began, changed or ended since the last poll.
    pub fn has_changed(&self) -> bool {
        self.entries.values().any(|e| e.changed)
    }

    /// Alerts refused since the start because [`OPEN_ALERTS_MAX`] were open.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use davy_model::Labels;

    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    fn alert(name: &str, summary: &str, start: Timestamp) -> Alert {
        let annotations = BTreeMap::from([("summary".to_owned(), summary.to_owned())]);
        Alert::new(Labels::from_pairs([("alertname", name)]), annotations, start)
    }

    #[test]
    fn raising_twice_is_one_alert_with_the_first_start_and_the_last_words() {
        let mut book = AlertBook::default();
        assert!(book.raise(alert("A", "first", at(1)), at(1)));
        assert!(!book.raise(alert("A", "second", at(9)), at(9)));
        let (_, open) = book.open().next().unwrap();
        assert_eq!((open.starts_at, open.annotation("summary")), (at(1), "second"));
        assert_eq!(book.open().count(), 1);
    }

    #[test]
    fn resolving_is_once_and_only_for_what_is_open() {
        let mut book = AlertBook::default();
        let a = alert("A", "", at(1));
        assert!(!book.resolve(&a.fingerprint(), at(2)));
        book.raise(a.clone(), at(1));
        assert!(book.resolve(&a.fingerprint(), at(2)));
        assert!(!book.resolve(&a.fingerprint(), at(3)));
        assert_eq!(book.open().count(), 0);
    }

    #[test]
    fn an_alert_ends_at_its_announced_end_unless_raised_again() {
        let mut book = AlertBook::default();
        let until = |s| Alert { ends_at: Some(at(s)), ..alert("A", "", at(1)) };
        book.raise(until(10), at(1));
        book.raise(until(20), at(9));
        book.expire(at(10));
        assert_eq!(book.open().count(), 1);
        book.expire(at(20));
        assert_eq!(book.open().count(), 0);
    }

    #[test]
    fn a_flood_is_refused_and_counted() {
        let mut book = AlertBook::default();
        for i in 0..OPEN_ALERTS_MAX + 5 {
            book.raise(alert(&format!("A{i}"), "", at(0)), at(0));
        }
        assert_eq!((book.open().count(), book.refused()), (OPEN_ALERTS_MAX, 5));
    }
}
