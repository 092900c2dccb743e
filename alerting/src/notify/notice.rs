//! `Notice`: what a person should read of an alert, before it takes the form of Slack or mail.
//!
//! What is worse, by how much, how certain, since when, what Davy did, and one link. Text from outside is
//! already on one line or bounded here; each sink still escapes for its own markup.

use davy_model::name;

use crate::alert::{ACTION, AlertState, CERTAINTY, DESCRIPTION, RELEASE, SEVERITY, SUMMARY, WORSE};
use crate::record::Message;
use crate::text::{lines, one_line, release_url};
use crate::time::for_people;

const TITLE_CHARS_MAX: usize = 140;
const FACT_CHARS_MAX: usize = 1500;
const LABEL_CHARS_MAX: usize = 200;
/// Annotations and labels beyond these many are left to the link.
const FACTS_MAX: usize = 12;
const LABELS_MAX: usize = 24;
/// Further alerts of a group that are told by name.
const OTHERS_MAX: usize = 10;

/// Annotations with a name of their own in messages, in the order of reading.
const KNOWN: [(&str, &str); 4] =
    [(WORSE, "What is worse"), (CERTAINTY, "How certain"), (ACTION, "What Davy did"), (DESCRIPTION, "Why")];

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
    /// What its messages have in common: the release, or the group.
    pub(super) thread: String,
}

impl Notice {
    pub(super) fn of(message: &Message, external_url: &str) -> Self {
        let (alert, state) = message.alerts.first().expect("a message has an alert");
        let state = *state;
        let summary = match alert.annotation(SUMMARY) {
            "" => alert.name(),
            summary => summary,
        };
        let mut facts = Vec::new();
        for (key, heading) in KNOWN {
            push_fact(&mut facts, heading, alert.annotation(key));
        }
        let mut when = for_people(alert.starts_at);
        if let (AlertState::Resolved, Some(end)) = (state, alert.ends_at) {
            when += &format!(", until {}", for_people(end));
        }
        push_fact(&mut facts, "Since", &when);
        for (key, text) in &alert.annotations {
            let known = key == SUMMARY || KNOWN.iter().any(|(k, _)| k == key);
            if !known && facts.len() < FACTS_MAX {
                push_fact(&mut facts, key, text);
            }
        }
        push_fact(&mut facts, "Also", &others(message));
        let labels = alert.labels.iter().filter(|(n, _)| *n != name::METRIC).take(LABELS_MAX);
        Self {
            state,
            severity: alert.labels.get(SEVERITY).unwrap_or("none").to_owned(),
            title: one_line(&format!("[{}] {summary}", state.as_str().to_uppercase()), TITLE_CHARS_MAX),
            facts,
            labels: labels
                .map(|(n, v)| (one_line(n, LABEL_CHARS_MAX), one_line(v, LABEL_CHARS_MAX)))
                .collect(),
            link: release_url(external_url, alert.labels.get(RELEASE).unwrap_or("")),
            thread: alert.labels.get(RELEASE).unwrap_or(&message.group_key).to_owned(),
        }
    }
}

/// One line for each further alert of the group.
fn others(message: &Message) -> String {
    let more = message.alerts.iter().skip(1);
    let mut said: Vec<String> = more
        .take(OTHERS_MAX)
        .map(|(alert, state)| {
            let summary = Some(alert.annotation(SUMMARY)).filter(|s| !s.is_empty());
            one_line(&format!("[{}] {}", state.as_str(), summary.unwrap_or(alert.name())), TITLE_CHARS_MAX)
        })
        .collect();
    let left = message.alerts.len().saturating_sub(1 + OTHERS_MAX);
    if left > 0 {
        said.push(format!("and {left} more"));
    }
    said.join("\n")
}

fn push_fact(facts: &mut Vec<(String, String)>, heading: &str, text: &str) {
    if !text.trim().is_empty() {
        facts.push((one_line(heading, LABEL_CHARS_MAX), lines(text.trim(), FACT_CHARS_MAX)));
    }
}
