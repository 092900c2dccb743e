//! `Alert`: a condition that someone should hear of. Prometheus' and Alertmanager's noun, their words.

use std::collections::BTreeMap;

use davy_model::{Labels, Timestamp};

/// Label of the alert's name.
pub const ALERTNAME: &str = "alertname";
/// Label of a release's id; messages link to it.
pub const RELEASE: &str = "release";
/// Label of an alert that a drill raises.
pub const DRILL: &str = "drill";
pub const SEVERITY: &str = "severity";
pub const SEVERITY_CRITICAL: &str = "critical";

/// One sentence: what is wrong.
pub const SUMMARY: &str = "summary";
/// More sentences.
pub const DESCRIPTION: &str = "description";
/// What is worse and by how much, a line for each metric.
pub const WORSE: &str = "worse";
/// How certain that is.
pub const CERTAINTY: &str = "certainty";
/// What Davy did about it.
pub const ACTION: &str = "action";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertState {
    Firing,
    Resolved,
}

impl AlertState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Its labels are its identity; annotations may change while it fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    pub starts_at: Timestamp,
    /// When it ended, or will end unless it is raised again; `None` for one that lasts until it is resolved.
    pub ends_at: Option<Timestamp>,
}

impl Alert {
    pub fn new(labels: Labels, annotations: BTreeMap<String, String>, starts_at: Timestamp) -> Self {
        Self { labels, annotations, starts_at, ends_at: None }
    }

    /// As [`fingerprint`].
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.labels)
    }

    pub fn state(&self, now: Timestamp) -> AlertState {
        match self.ends_at {
            Some(end) if end <= now => AlertState::Resolved,
            Some(_) | None => AlertState::Firing,
        }
    }

    pub fn name(&self) -> &str {
        self.labels.get(ALERTNAME).unwrap_or("alert")
    }

    /// Smaller is more severe.
    pub(crate) fn severity_rank(&self) -> u8 {
        match self.labels.get(SEVERITY) {
            Some(SEVERITY_CRITICAL) => 0,
            Some("error") => 1,
            Some("warning") => 2,
            Some("info" | "none") => 4,
            Some(_) | None => 3,
        }
    }

    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.get(name).map_or("", String::as_str)
    }
}

/// Sixteen hex digits, the same as Alertmanager's for the same labels: FNV-1a over names and values, each
/// followed by 0xff (`model/signature.go` of prometheus/common).
pub fn fingerprint(labels: &Labels) -> String {
    let mut hash = Fnv1a::default();
    for (name, value) in labels.iter() {
        hash.write(name.as_bytes()).write(&[0xff]).write(value.as_bytes()).write(&[0xff]);
    }
    format!("{:016x}", hash.0)
}

/// FNV-1a, 64 bits: stable over builds and machines, which std's hashers do not promise.
#[derive(Clone, Copy)]
pub(crate) struct Fnv1a(pub(crate) u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> &mut Self {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_fnv_1a_and_do_not_depend_on_order() {
        // The empty set is the offset basis of FNV-1a 64.
        assert_eq!(fingerprint(&Labels::empty()), "cbf29ce484222325");
        let a = Labels::from_pairs([("a", "1"), ("b", "2")]);
        let b = Labels::from_pairs([("b", "2"), ("a", "1")]);
        assert_eq!(fingerprint(&a), fingerprint(&b));
        // The separator keeps these apart.
        assert_ne!(
            fingerprint(&Labels::from_pairs([("a", "bc")])),
            fingerprint(&Labels::from_pairs([("ab", "c")]))
        );
    }

    #[test]
    fn an_alert_with_an_end_ahead_is_still_firing() {
        let at = Timestamp::from_millis;
        let mut alert = Alert::new(Labels::empty(), BTreeMap::new(), at(0));
        assert_eq!(alert.state(at(10)), AlertState::Firing);
        alert.ends_at = Some(at(10));
        assert_eq!(alert.state(at(9)), AlertState::Firing);
        assert_eq!(alert.state(at(10)), AlertState::Resolved);
    }
}
