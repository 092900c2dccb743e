//! Looking at the live versions: how a release ends by itself, and whether a rollback worked.
//!
//! The answer of an actuator is not believed; what the versions serve is. A look while blind moves nothing and
//! stops the clock of the verification.

use std::time::Duration;

use davy_model::Timestamp;

use super::alerts::Kind;
use super::machine::DAVY;
use super::{Command, Liveness, Phase, ReleaseMachine, RollbackState};

/// Looks in a row without the canary before a release that Davy did not touch counts as over.
const GONE_LOOKS: u32 = 4;
/// Looks in a row without the baseline before the canary counts as the only version.
const ALONE_LOOKS: u32 = 4;
/// Looks in a row in which the canary serves nothing before a rollback counts as worked.
pub(super) const SETTLED_LOOKS: u32 = 2;
/// Looks in a row with traffic on a canary that was rolled back before someone is told.
const BACK_LOOKS: u32 = 3;
/// A canary whose share of the requests fell below this part of its share before the call is without traffic:
/// probes and scrapes go on reaching it.
const DRAINED_SHARE: f64 = 0.05;

/// The last look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) at: Timestamp,
    pub(super) blind: bool,
    pub(super) baseline_seen: bool,
    pub(super) canary_seen: bool,
}

/// How many looks in a row showed something; blind ones count as not made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Streaks {
    /// The last look, blind or not: what the verification's clock counts from.
    pub(super) at: Option<Timestamp>,
    pub(super) looks: u32,
    pub(super) gone: u32,
    pub(super) alone: u32,
    pub(super) settled: u32,
    pub(super) back: u32,
}

impl ReleaseMachine {
    pub(super) fn looked(&mut self, now: Timestamp, live: Liveness, out: &mut Vec<Command>) {
        // Neither version seen looks the same as a dead network; Davy does not guess.
        let blind = live.blind || !(live.baseline_seen || live.canary_seen);
        self.look =
            Some(Look { at: now, blind, baseline_seen: live.baseline_seen, canary_seen: live.canary_seen });
        let before = self.streaks.at.replace(now);
        if blind {
            return;
        }
        self.seen_at = now;
        self.resolve(Kind::DavyBlind, "The versions are seen again.", out);
        self.count(live);
        match self.phase {
            Phase::Watching | Phase::Holding | Phase::Promoting | Phase::Promoted => self.ends(now, out),
            Phase::RollingBack => self.left_before_call(now, out),
            Phase::Verifying => {
                self.verified_for += before.map_or(Duration::ZERO, |b| now.since(b));
                self.verifies(now, out);
            }
            Phase::NeedsHuman => self.settles_late(now, out),
            Phase::RolledBack => self.comes_back(now, out),
            Phase::Closed => {}
        }
    }

    fn count(&mut self, live: Liveness) {
        let gone = live.baseline_seen && !live.canary_seen;
        let drained = live.baseline_seen && live.canary_seen && self.is_drained(live);
        let serves = live.canary_seen && !drained && live.canary_requests.is_some_and(|c| c > 0.0);
        let next = |streak: u32, goes_on: bool| if goes_on { streak.saturating_add(1) } else { 0 };
        let s = &mut self.streaks;
        s.looks = s.looks.saturating_add(1);
        s.gone = next(s.gone, gone);
        s.alone = next(s.alone, live.canary_seen && !live.baseline_seen);
        s.settled = next(s.settled, gone || drained);
        s.back = next(s.back, serves);
    }

    /// The baseline serves and the canary does not, on counted requests: no count is no evidence.
    fn is_drained(&self, live: Liveness) -> bool {
        let (Some(baseline), Some(canary)) = (live.baseline_requests, live.canary_requests) else {
            return false;
        };
        let share = canary / (canary + baseline);
        baseline > 0.0
            && (canary <= 0.0 || self.share_at_call.is_some_and(|before| share <= before * DRAINED_SHARE))
    }

    /// A release that Davy did not touch ends when one of its versions is gone.
    fn ends(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.streaks.gone >= GONE_LOOKS {
            let reason = format!("canary gone: {} left while {} serves", self.canary, self.baseline);
            self.enter(now, Phase::Closed, DAVY, "close", reason, out);
        } else if self.streaks.alone >= ALONE_LOOKS {
            let reason = format!("promoted: {} serves alone, {} is gone", self.canary, self.baseline);
            self.enter(now, Phase::Closed, DAVY, "close", reason, out);
        }
    }

    /// Someone was quicker than a call that could not be delivered.
    fn left_before_call(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let waiting = self.rollback.as_ref().is_some_and(|r| matches!(r.state, RollbackState::Waiting(_)));
        if waiting && self.streaks.gone >= SETTLED_LOOKS {
            self.undelivered();
            let reason = format!("canary gone: {} left before the rollback was delivered", self.canary);
            self.enter(now, Phase::Closed, DAVY, "close", reason, out);
        }
    }

    fn verifies(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.streaks.settled >= SETTLED_LOOKS {
            self.rolled_back(now, out);
        } else if self.verified_for >= self.policy.verify_timeout
            && self.streaks.settled == 0
            && self.streaks.looks >= SETTLED_LOOKS
        {
            self.set_state_only(RollbackState::Unverified);
            let why = format!(
                "{} still serves {} s after the rollback was called",
                self.canary,
                self.verified_for.as_secs()
            );
            self.page(now, &why, out);
        }
    }

    fn rolled_back(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let how = if self.streaks.gone >= SETTLED_LOOKS { "is gone" } else { "is without traffic" };
        let called_at = self.rollback.as_ref().map_or(now, |r| r.intended_at);
        let after = now.since(called_at).as_secs();
        let reason =
            format!("{} {how} while {} serves, {after} s after the call", self.canary, self.baseline);
        self.set_state_only(RollbackState::Verified);
        self.enter(now, Phase::RolledBack, DAVY, "verify", reason.clone(), out);
        let done = format!("Rolled back and verified: {reason}.");
        self.resolve_all(&done, out);
        self.raise(Kind::RollbackVerified, now, &done, out);
    }

    /// After the page: a rollback that worked late, or a human's own.
    fn settles_late(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.streaks.alone >= ALONE_LOOKS {
            let reason = format!("{} serves alone, {} is gone", self.canary, self.baseline);
            self.enter(now, Phase::Closed, DAVY, "close", reason, out);
        } else if self.streaks.settled >= SETTLED_LOOKS {
            match self.rollback.as_ref().map(|r| r.state) {
                Some(RollbackState::Unverified) => self.rolled_back(now, out),
                _ => {
                    let reason = format!("{} no longer serves, without a call of Davy's", self.canary);
                    self.enter(now, Phase::Closed, DAVY, "close", reason, out);
                }
            }
        }
    }

    /// Someone brought the version back on purpose, or the rollback was undone: said once, never acted on.
    fn comes_back(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.streaks.back >= BACK_LOOKS && !self.raised.contains(&Kind::RolledBackCanaryServes) {
            let seen = format!("{} has traffic again", self.canary);
            self.audit(now, DAVY, "look", &seen, "page; nothing else is done", out);
            self.raise(
                Kind::RolledBackCanaryServes,
                now,
                "Nothing was done: a human may have meant it.",
                out,
            );
        } else if self.streaks.settled >= BACK_LOOKS {
            self.resolve(Kind::RolledBackCanaryServes, "It is without traffic again.", out);
        }
    }

    fn set_state_only(&mut self, state: RollbackState) {
        let detail = self.rollback.as_ref().map_or_else(String::new, |r| r.detail.clone());
        self.set_rollback(state, detail);
    }
}
