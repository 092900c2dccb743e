//! What a release machine hears and what it asks for.

use std::collections::BTreeMap;

use davy_detector::Verdict;
use davy_store::control::AuditRecord;

use super::target::{ActRequest, CallOutcome, Desired, ReadError, ReadRequest, TargetState};
use crate::alert::Alert;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Both versions live, judged every interval.
    Watching,
    /// Nothing is done until an operator resumes.
    Holding,
    /// An operator decided for the canary, which does not serve alone yet; a fail is alerted on, no more.
    Promoting,
    /// Passed its watch; judged as before for as long as both versions live.
    Promoted,
    /// The rollback is intended: called, or waiting to be called again after it certainly was not sent.
    RollingBack,
    /// The call was made, or may have been; the live versions tell whether it worked.
    Verifying,
    RolledBack,
    /// Davy has done what it may; someone has been paged.
    NeedsHuman,
    /// Over without a rollback by Davy.
    Closed,
}

impl Phase {
    pub const ALL: [Self; 9] = [
        Self::Watching,
        Self::Holding,
        Self::Promoting,
        Self::Promoted,
        Self::RollingBack,
        Self::Verifying,
        Self::RolledBack,
        Self::NeedsHuman,
        Self::Closed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Holding => "holding",
            Self::Promoting => "promoting",
            Self::Promoted => "promoted",
            Self::RollingBack => "rolling_back",
            Self::Verifying => "verifying",
            Self::RolledBack => "rolled_back",
            Self::NeedsHuman => "needs_human",
            Self::Closed => "closed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }

    /// Whether verdicts are still wanted. Looks are wanted until the release is closed.
    pub fn is_judged(self) -> bool {
        match self {
            Self::Watching | Self::Holding | Self::Promoting | Self::Promoted | Self::RollingBack => true,
            Self::Verifying | Self::RolledBack | Self::NeedsHuman | Self::Closed => false,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// Send [`Event::Live`] of the same interval first: a call needs a fresh look.
    Judged(&'a Verdict),
    Live(Liveness),
    /// What stands in the way of an act, or asks for one. Send it before verdicts and looks.
    Gates(Gates),
    /// The result of a [`Command::Read`].
    Read {
        ticket: u64,
        state: Result<TargetState, ReadError>,
    },
    /// The result of a [`Command::Call`] for this state.
    Called(Desired, CallOutcome),
    /// What was ordered, by whom, and why.
    Operator(OperatorAct, String, String),
    /// The machine was read back after a restart: a call that was in flight may have been sent.
    Restarted,
    /// Another version appeared, or the canary is no longer what was judged. Keep sending looks: after a call
    /// they decide, not this.
    Superseded {
        by: String,
    },
    /// Time has passed; due at [`ReleaseMachine::wake_at`](super::ReleaseMachine::wake_at).
    Tick,
}

/// What was seen of the two versions since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Liveness {
    pub baseline_seen: bool,
    pub canary_seen: bool,
    /// Requests served since the last look; `None` where nothing counts them.
    pub baseline_requests: Option<f64>,
    pub canary_requests: Option<f64>,
    /// Davy's own sight is in doubt, so that nothing seen or missed is evidence.
    pub blind: bool,
    /// The canary does not answer, and someone independent says so too.
    pub down: Option<Down>,
    /// Whether what was worse is as it was before, as far as the baseline alone tells; `None` where nothing does.
    pub recovered: Option<bool>,
}

/// How a canary is down; see [`quorum`](super::quorum).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// Its instances refuse connections.
    Refused,
    /// They take connections and answer nothing.
    Hung,
}

/// What the surroundings say of acting on a release now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gates {
    /// Someone holds this release, its service, or everything.
    pub hold: Option<String>,
    /// Why nothing may be rolled back now: a budget that is used up, a clock in doubt.
    pub blocked: Option<String>,
    /// Why a human must approve a rollback.
    pub approval: Option<String>,
    /// A safety rule that fires for the release.
    pub alarm: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorAct {
    Hold,
    Resume,
    Rollback,
    Promote,
    /// Of the act that waits for a human.
    Approve,
    Deny,
}

impl OperatorAct {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Resume => "resume",
            Self::Rollback => "rollback",
            Self::Promote => "promote",
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }
}

/// What the caller does after the batch is on disk, in this order.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few at a time, and never kept")]
pub enum Command {
    /// A row for the audit log; part of the batch.
    Audit(AuditRecord),
    /// For the [`AlertBook`](crate::book::AlertBook), whose `apply` takes these.
    Raise(Alert),
    /// The annotations say how it ended.
    Resolve { fingerprint: String, annotations: BTreeMap<String, String> },
    /// Read the target and answer with [`Event::Read`].
    Read(ReadRequest),
    /// Call the actuator once and answer with [`Event::Called`].
    Call(ActRequest),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_read_back_as_written() {
        for phase in Phase::ALL {
            assert_eq!(Phase::parse(phase.as_str()), Some(phase));
        }
        assert_eq!(Phase::parse("ramping"), None);
    }
}
