//! Deterministic simulation: the real release machine, its real rows, and everything around it made up from a seed.
//!
//! One seed is one half hour of a service: a canary, good or bad, a judge that finds it out after a while, one Davy or
//! two that know nothing of each other, a target behind a network that loses and delays calls and answers, crashes
//! between any two writes, pauses between the last check and the send, blindness, holds, and people who fix, roll back
//! and redeploy at the same time; and receivers that are down, or that messages reach late, twice, or without an answer.
//! After every effect on the target and every message the invariants are looked at.
//!
//! The judge is the real one in some seeds, over counts that are made up; in the others its verdicts are, for it takes
//! most of the time. `tests/accelerated.rs` plays it with everything behind it in virtual time.
//!
//! `cargo run --release -p davy-simulation -- --seeds 1000000`; the same seed gives the same trace.

mod judge;
mod outbox;
mod post;
mod receiver;
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
    /// That someone was told is written before the message is.
    ToldWithoutRow,
    /// Messages of a group go out as they are due, not one after the other.
    NoOrder,
    /// A receiver that does not answer counts as told.
    NoAnswerIsDelivered,
    /// A message is sent, and its row written after that.
    SentBeforeWritten,
    /// Each attempt has an id of its own.
    NewIdEachAttempt,
    /// All messages of a lane have one id.
    IdOfLane,
}

impl Variant {
    pub const BROKEN: [Self; 12] = [
        Self::NoCompareAndSet,
        Self::RevisionAsGeneration,
        Self::NoMarker,
        Self::NoDurableIntent,
        Self::TimeoutIsNotSent,
        Self::BlindIsBad,
        Self::ToldWithoutRow,
        Self::NoOrder,
        Self::NoAnswerIsDelivered,
        Self::SentBeforeWritten,
        Self::NewIdEachAttempt,
        Self::IdOfLane,
    ];

    /// Whether it is the messages that something is left out of.
    pub(crate) fn is_of_messages(self) -> bool {
        matches!(
            self,
            Self::ToldWithoutRow
                | Self::NoOrder
                | Self::NoAnswerIsDelivered
                | Self::SentBeforeWritten
                | Self::NewIdEachAttempt
                | Self::IdOfLane
        )
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::NoCompareAndSet => "no compare-and-set",
            Self::RevisionAsGeneration => "revision as generation",
            Self::NoMarker => "no marker on the target",
            Self::NoDurableIntent => "no durable intent",
            Self::TimeoutIsNotSent => "time-out taken for not sent",
            Self::BlindIsBad => "blind taken for bad",
            Self::ToldWithoutRow => "told before its message is written",
            Self::NoOrder => "messages without order",
            Self::NoAnswerIsDelivered => "no answer taken for delivered",
            Self::SentBeforeWritten => "sent before its row is written",
            Self::NewIdEachAttempt => "a new id at each attempt",
            Self::IdOfLane => "one id for all of a lane",
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
    /// A message never arrived, or is given up.
    Undelivered,
    /// Two messages under one id, or one that changed.
    TwoFaced,
    /// A message arrived that is not on disk, under the id that it has.
    Unwritten,
    /// A message arrived after one of its group that was written later.
    Overtaken,
    /// Someone was told that it began and not that it ended.
    Unended,
    /// A judge that was replayed after a crash says something else.
    Forgetful,
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
            Self::Undelivered => "undelivered",
            Self::TwoFaced => "two-faced",
            Self::Unwritten => "unwritten",
            Self::Overtaken => "overtaken",
            Self::Unended => "unended",
            Self::Forgetful => "forgetful",
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
    /// Whether the real judge judged.
    pub judged: bool,
    /// Rollbacks of a canary that was not worse, which nobody ordered.
    pub wronged: u32,
    /// Messages that were written, attempts to deliver them, and those that a receiver had already.
    pub messages: u32,
    pub attempts: u32,
    pub duplicates: u32,
    /// Phases that followed each other.
    pub edges: BTreeSet<(&'static str, &'static str)>,
    /// Only from [`story`].
    pub story: Vec<String>,
}
