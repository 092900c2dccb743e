//! `Notice`: what a person should read of an alert, before it takes the form of Slack or mail.
//!
//! What is worse, by how much, how certain, since when, what Davy did, and one link. Text from outside is
//! already on one line or bounded here; each sink still escapes for its own markup.

use davy_model::name;

use crate::alert::{ACTION, AlertState, CERTAINTY, DESCRIPTION, RELEASE, SEVERITY, SUMMARY, WORSE};
use crate::record::Message;
use crate::text::{lines, one_line, release_url};
use crate::time::for_people;
use crate::words::{Language, Said};

const TITLE_CHARS_MAX: usize = 140;
const FACT_CHARS_MAX: usize = 1500;
const LABEL_CHARS_MAX: usize = 200;
/// Annotations and labels beyond these many are left to the link.
const FACTS_MAX: usize = 12;
const LABELS_MAX: usize = 24;
/// Further alerts of a group that are told by name.
const OTHERS_MAX: usize = 10;

/// Annotations with a heading of their own in messages, in the order of reading.
const KNOWN: [&str; 4] = [WORSE, CERTAINTY, ACTION, DESCRIPTION];
/// Those that hold for the release whatever is said next.
const LASTING: usize = 2;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    pub(super) state: AlertState,
    pub(super) severity: String,
    /// `[FIRING] checkout: version v2 is worse than v1`.
    pub(super) title: String,
    /// Heading and text, which may have several lines.
    pub(super) facts: Vec<(String, String)>,
    pub(super) labels: Vec<(String, String)>,
    /// Davy's own; safe in any markup once escaped.
    pub(super) link: String,
    pub(super) link_text: String,
    /// What its messages have in common: the release, or the group.
    pub(super) thread: String,
    /// How many of the facts, from the first on, hold whatever is said next of the release.
    pub(super) lasting: usize,
}

impl Notice {
    pub(super) fn of(message: &Message, external_url: &str, language: Language) -> Self {
        let (alert, state) = message.alerts.first().expect("a message has an alert");
        let state = *state;
        let summary = match alert.annotation(SUMMARY) {
            "" => alert.name(),
            summary => summary,
        };
        let summary = if message.is_digest() {
            let said = Said::new("title.digest").with("count", message.alerts.len()).with("first", summary);
            said.text(language)
        } else {
            summary.to_owned()
        };
        let mut facts = Vec::new();
        let heading = |key: &str| Said::new(format!("heading.{key}")).text(language);
        let mut lasting = 0;
        for (i, key) in KNOWN.iter().enumerate() {
            push_fact(&mut facts, &heading(key), alert.annotation(key));
            if i < LASTING {
                lasting = facts.len();
            }
        }
        let mut when = for_people(alert.starts_at);
        if let (AlertState::Resolved, Some(end)) = (state, alert.ends_at) {
            when = Said::new("since.until").with("start", &when).with("end", for_people(end)).text(language);
        }
        push_fact(&mut facts, &heading("since"), &when);
        for (key, text) in &alert.annotations {
            let known = key == SUMMARY || KNOWN.contains(&key.as_str());
            if !known && facts.len() < FACTS_MAX {
                push_fact(&mut facts, key, text);
            }
        }
        push_fact(&mut facts, &heading("also"), &others(message, language));
        let labels = alert.labels.iter().filter(|(n, _)| *n != name::METRIC).take(LABELS_MAX);
        Self {
            state,
            severity: alert.labels.get(SEVERITY).unwrap_or("none").to_owned(),
            title: titled(state, &summary, language),
            facts,
            labels: labels
                .map(|(n, v)| (one_line(n, LABEL_CHARS_MAX), one_line(v, LABEL_CHARS_MAX)))
                .collect(),
            link: release_url(external_url, alert.labels.get(RELEASE).unwrap_or("")),
            link_text: Said::new("link").text(language),
            lasting,
            thread: alert
                .labels
                .get(RELEASE)
                .filter(|_| !message.is_digest())
                .unwrap_or(&message.group_key)
                .to_owned(),
        }
    }
}

fn titled(state: AlertState, summary: &str, language: Language) -> String {
    let state = Said::new(format!("state.{}", state.as_str())).text(language);
    one_line(&format!("[{state}] {summary}"), TITLE_CHARS_MAX)
}

impl Notice {
    pub(super) fn lasting(&self) -> Vec<(String, String)> {
        self.facts[..self.lasting].to_vec()
    }

    /// Why the message is not in the file's form.
    pub(super) fn template_failed(&mut self, error: &str, language: Language) {
        let heading = Said::new("heading.template").text(language);
        push_fact(&mut self.facts, &heading, error);
    }
}

/// One line for each further alert of the group.
fn others(message: &Message, language: Language) -> String {
    let more = message.alerts.iter().skip(1);
    let mut said: Vec<String> = more
        .take(OTHERS_MAX)
        .map(|(alert, state)| {
            let summary = Some(alert.annotation(SUMMARY)).filter(|s| !s.is_empty());
            titled(*state, summary.unwrap_or(alert.name()), language)
        })
        .collect();
    let left = message.alerts.len().saturating_sub(1 + OTHERS_MAX);
    if left > 0 {
        said.push(Said::new("also.more").with("count", left).text(language));
    }
    said.join("\n")
}

fn push_fact(facts: &mut Vec<(String, String)>, heading: &str, text: &str) {
    if !text.trim().is_empty() {
        facts.push((one_line(heading, LABEL_CHARS_MAX), lines(text.trim(), FACT_CHARS_MAX)));
    }
}
