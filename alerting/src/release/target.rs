//! What passes between a release and the thing that carries it: what it is asked, what it is told to be, what came
//! of that. Plain data; [`actuate`](crate::actuate) speaks it to the outside.
//!
//! Desired states are absolute, never relative: a second "undo" would go back to the bad version.

use davy_detector::Verdict;

/// How far an actuator can be trusted with a call whose answer was lost. Declared by its kind, shown, and tested by
/// one kit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Cannot be asked: at most one call, and none after an unknown result.
    C,
    /// Can be asked, and setting the same state twice is the same; but it does not check what it is changed from.
    B,
    /// Can be asked, and refuses a change of anything but the state that was read; the marker is part of the write.
    A,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

/// What a target is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Desired {
    /// The baseline alone: a rollback.
    Baseline,
    /// This part of the requests for the canary, in percent, 1 to 99: a step of the ramp.
    Share(u8),
    /// The canary alone: the end of the ramp.
    Canary,
}

impl Desired {
    /// The action's name in bodies and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "rollback",
            Self::Share(_) => "set_share",
            Self::Canary => "promote",
        }
    }

    pub fn of_percent(percent: u8) -> Self {
        match percent {
            0 => Self::Baseline,
            1..=99 => Self::Share(percent),
            _ => Self::Canary,
        }
    }

    /// The canary's part of the requests, in percent.
    pub fn percent(self) -> u8 {
        match self {
            Self::Baseline => 0,
            Self::Share(percent) => percent,
            Self::Canary => 100,
        }
    }
}

/// The versions that a target is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub service: String,
    pub baseline: String,
    pub canary: String,
}

/// What a target says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetState {
    /// What the object is, over its whole life: one that was made again has another.
    pub uid: String,
    /// Moves with every change of the release, whoever makes it, never comes back, and does not move otherwise.
    pub generation: String,
    /// What a write must name to be refused if anything changed since this was read; opaque. Empty at level B.
    pub token: String,
    pub live: Live,
    /// What Davy wrote with its last change ([`ActRequest::marker`]).
    pub marker: Option<String>,
    /// Why it must not be changed now, such as a GitOps controller that would change it back.
    pub refusal: Option<String>,
}

/// Which of a release's versions a target is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum Live {
    Baseline,
    /// The canary has this part of the requests, above 0; 1 is the canary alone.
    Share(f64),
    /// Neither of the two.
    Other(String),
}

impl Live {
    pub fn is(&self, desired: Desired) -> bool {
        match (self, desired) {
            (Self::Baseline, Desired::Baseline) => true,
            (Self::Share(share), Desired::Share(_) | Desired::Canary) => {
                (share * 100.0 - f64::from(desired.percent())).abs() < 0.5
            }
            _ => false,
        }
    }
}

/// One question to an actuator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// Name of the actuator.
    pub actuator: String,
    /// Davy's own number of the release.
    pub release: i64,
    /// Goes back with the answer.
    pub ticket: u64,
    pub subject: Subject,
}

/// Why a target could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// No answer, or one that says "later": worth another try.
    Unreachable(String),
    /// It answered, and what it says is not what this action is for: only a human can mend that.
    Unusable(String),
}

/// What must still be true where a change is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    pub uid: String,
    pub generation: String,
    pub token: String,
}

/// One call to an actuator.
#[derive(Debug, Clone, PartialEq)]
pub struct ActRequest {
    /// Name of the actuator.
    pub actuator: String,
    /// Idempotency key: the same for the same change of the same generation of the target, whoever asks.
    pub key: String,
    /// To be written on the target with the change.
    pub marker: String,
    pub desired: Desired,
    pub release_id: String,
    /// Davy's own number of the release.
    pub release: i64,
    pub subject: Subject,
    /// `None` only at level C.
    pub expect: Option<Expect>,
    pub reason: String,
    /// The verdict behind it; `None` when an operator asked before there was one.
    pub evidence: Option<Verdict>,
}

/// How a call to an actuator ended.
#[derive(Debug, Clone, PartialEq)]
pub enum CallOutcome {
    /// Carried out, it says. With what it says of itself now, where the answer tells.
    Accepted { detail: String, state: Option<TargetState> },
    /// Certainly not carried out: the target is not what was expected any more (409, 412).
    Conflict { detail: String },
    /// Certainly not carried out, for a reason that will not go away (3xx, 4xx).
    Rejected { detail: String },
    /// Certainly not delivered: no connection was made.
    NotSent { detail: String },
    /// It may have been carried out, or may yet be: time-out, reset, 5xx.
    Unknown { detail: String },
}
