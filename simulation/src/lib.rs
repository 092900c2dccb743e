//! Deterministic simulation: the real release machine, its real rows, and everything around it made up from a seed.
//!
//! One seed is one half hour of a service: a canary, good or bad, a judge that finds it out after a while, one Davy or
//! two that know nothing of each other, a target behind a network that loses and delays calls and answers, crashes
//! between any two writes, pauses between the last check and the send, blindness, holds, and people who fix, roll back
//! and redeploy at the same time. After every effect on the target the invariants of a rollback are looked at.
//!
//! `cargo run --release -p davy-simulation -- --seeds 1000000`; the same seed gives the same trace.

mod replica;
mod rng;
mod story;
mod target;
mod world;

use std::collections::BTreeSet;

pub use rng::Rng;
pub use world::{run, story};

/// What is left out on purpose, to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Nothing: as it ships.
    Whole,
    /// The target changes whatever it is told to, whatever it was.
    NoCompareAndSet,
    /// The revision serves for the generation: one that was redeployed looks like the one that was judged.
    RevisionAsGeneration,
    /// Nothing is written on the target with the change, so two Davys do not know of each other.
    NoMarker,
    /// Rows of acts are lost in a crash.
    NoDurableIntent,
    /// A call without an answer counts as not sent, at a target that cannot be asked.
    TimeoutIsNotSent,
    /// What is not seen counts as bad.
    BlindIsBad,
}

impl Variant {
    pub const BROKEN: [Self; 6] = [
        Self::NoCompareAndSet,
        Self::RevisionAsGeneration,
        Self::NoMarker,
        Self::NoDurableIntent,
        Self::TimeoutIsNotSent,
        Self::BlindIsBad,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::NoCompareAndSet => "no compare-and-set",
            Self::RevisionAsGeneration => "revision as generation",
            Self::NoMarker => "no marker on the target",
            Self::NoDurableIntent => "no durable intent",
            Self::TimeoutIsNotSent => "time-out taken for not sent",
            Self::BlindIsBad => "blind taken for bad",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violation {
    /// A second rollback of one release.
    Double,
    /// An effect on a release that was not judged, or that a human brought back after a rollback.
    NotJudged,
    /// An effect without an intent and an audit row on disk before it.
    NoIntent,
    /// A call while Davy was blind.
    Blind,
    /// A call while a hold was set.
    Held,
    /// The canary got more of the requests after its rollback, by Davy's doing.
    Revived,
    /// Davy acted, or should have, and told nobody.
    Silent,
    /// An act was still open long after the last fault.
    Stuck,
}

impl Violation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::NotJudged => "not judged",
            Self::NoIntent => "no intent",
            Self::Blind => "blind",
            Self::Held => "held",
            Self::Revived => "revived",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
        }
    }
}

/// What a seed came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub violations: Vec<Violation>,
    /// Of everything that happened, in order.
    pub trace: u64,
    /// Rollbacks that the target carried out.
    pub rollbacks: u32,
    /// Steps of the ramp that it carried out.
    pub steps: u32,
    pub crashes: u32,
    /// Phases that followed each other.
    pub edges: BTreeSet<(&'static str, &'static str)>,
    /// Only from [`story`].
    pub story: Vec<String>,
}
