//! `Act`: one change of a target that was intended, and how far it came.

use davy_model::Timestamp;

use super::{Desired, Expect, Level};

/// A rollback or a step of the ramp. Written down before anything is asked of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Its row; one for each intent.
    pub id: String,
    pub desired: Desired,
    /// Name of the actuator.
    pub actuator: String,
    pub level: Level,
    /// What the target must still be; known from the first call on, never at level C.
    pub expect: Option<Expect>,
    pub reason: String,
    /// The operator who asked for it; `None` when the verdict did.
    pub ordered_by: Option<String>,
    pub intended_at: Timestamp,
    pub attempts: u32,
    /// Tries in a row that did not reach the target.
    pub failures: u32,
    pub state: ActState,
    /// What the last attempt came to.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActState {
    /// Written down; the target is being read before anything is called.
    Reading,
    /// Written down; the call is being made, or was when Davy stopped.
    Calling,
    /// To be tried again at this time.
    Waiting(Timestamp),
    /// Certainly not carried out, and not to be tried again unless an operator says so.
    Undelivered,
    Accepted,
    Rejected,
    /// It may have been carried out. The target is read; one that cannot be asked is never called again.
    Unknown,
    /// It was seen that it worked.
    Verified,
    /// It was not seen within the policy's time.
    Unverified,
    /// Someone else had done it already.
    Adopted,
    /// A dry run: it would have been called.
    Recorded,
}

impl ActState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Calling => "calling",
            Self::Waiting(_) => "waiting",
            Self::Undelivered => "undelivered",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Adopted => "adopted",
            Self::Recorded => "recorded",
        }
    }

    /// `waiting_until` is for the state that has a time.
    pub(super) fn parse(text: &str, waiting_until: Option<Timestamp>) -> Option<Self> {
        Some(match text {
            "reading" => Self::Reading,
            "calling" => Self::Calling,
            "waiting" => Self::Waiting(waiting_until?),
            "undelivered" => Self::Undelivered,
            "accepted" => Self::Accepted,
            "rejected" => Self::Rejected,
            "unknown" => Self::Unknown,
            "verified" => Self::Verified,
            "unverified" => Self::Unverified,
            "adopted" => Self::Adopted,
            "recorded" => Self::Recorded,
            _ => return None,
        })
    }

    /// Whether more may come of it without anyone asking.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Reading | Self::Calling | Self::Waiting(_) | Self::Accepted | Self::Unknown)
    }
}

impl Act {
    /// Whether it counts against the budgets: a rollback of Davy's own that was not withdrawn.
    pub fn is_taken(&self) -> bool {
        let withdrawn = matches!(self.state, ActState::Undelivered | ActState::Recorded | ActState::Adopted);
        self.desired == Desired::Baseline && self.ordered_by.is_none() && !withdrawn
    }

    /// The same for the same change of the same generation of the target, whichever Davy asks: it is the key that a
    /// receiver deduplicates by and the mark that the target keeps.
    pub fn key(&self, canary: &str) -> String {
        match &self.expect {
            None => self.id.clone(),
            Some(Expect { uid, generation, .. }) => {
                let step = match self.desired {
                    Desired::Share(percent) => format!("set_share-{percent}"),
                    Desired::Baseline | Desired::Canary => self.desired.as_str().to_owned(),
                };
                format!("{step}/{canary}/{uid}/{generation}")
            }
        }
    }
}

/// First part of the mark that a step leaves which an operator decided on, whatever the verdict.
const DECIDED: &str = "decided";

/// The mark for a step with this key, where an operator has decided for the version.
pub(super) fn decided_mark(key: &str, canary: &str) -> String {
    format!("{DECIDED}/{canary}/{key}")
}

/// Whether an operator decided for this version, at whichever Davy.
pub(super) fn marks_decision(marker: Option<&str>, canary: &str) -> bool {
    is_of(marker, DECIDED, canary)
}

/// Whether a mark was left by a rollback of this version, whoever made it.
pub(super) fn marks_rollback(marker: Option<&str>, canary: &str) -> bool {
    is_of(marker, Desired::Baseline.as_str(), canary)
}

fn is_of(marker: Option<&str>, kind: &str, canary: &str) -> bool {
    marker
        .and_then(|m| m.strip_prefix(kind))
        .and_then(|m| m.strip_prefix('/'))
        .and_then(|m| m.strip_prefix(canary))
        .is_some_and(|m| m.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_whose_rollback_it_was() {
        let act = Act {
            id: "checkout-v2-7-rollback".into(),
            desired: Desired::Baseline,
            actuator: "split".into(),
            level: Level::A,
            expect: Some(Expect { uid: "u".into(), generation: "4".into(), token: "t".into() }),
            reason: String::new(),
            ordered_by: None,
            intended_at: Timestamp::from_millis(0),
            attempts: 1,
            failures: 0,
            state: ActState::Calling,
            detail: String::new(),
        };
        let key = act.key("v2");
        assert_eq!(key, "rollback/v2/u/4");
        assert!(marks_rollback(Some(&key), "v2"));
        assert!(!marks_rollback(Some(&key), "v"));
        assert!(!marks_rollback(Some(&key), "v22"));
        assert!(!marks_rollback(Some("set_share-5/v2/u/4"), "v2"));
        assert!(!marks_rollback(None, "v2"));
        let decided = decided_mark("promote/v2/u/4", "v2");
        assert!(marks_decision(Some(&decided), "v2"));
        assert!(!marks_decision(Some(&decided), "v"));
        assert!(!marks_decision(Some("promote/v2/u/4"), "v2"));
        assert_eq!(Act { expect: None, ..act }.key("v2"), "checkout-v2-7-rollback");
    }
}
