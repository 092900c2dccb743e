//! Looking at the live versions: how a release ends by itself, and whether a rollback worked.
//!
//! The answer of an actuator is not believed; what the versions serve is. A look while blind moves nothing and
//! stops the clock of the verification.

use std::time::Duration;

use davy_model::Timestamp;

use super::act::ActState;
use super::alerts::Kind;
use super::machine::DAVY;
use super::read::Purpose;
use super::{Command, Down, Liveness, Phase, ReleaseMachine};
use crate::words::Said;

/// Looks in a row without the canary before a release that Davy did not touch counts as over.
const GONE_LOOKS: u32 = 4;
/// Looks in a row without the baseline before the canary counts as the only version.
const ALONE_LOOKS: u32 = 4;
/// Looks in a row in which the canary serves nothing before a rollback counts as worked.
pub(super) const SETTLED_LOOKS: u32 = 2;
/// How long a release that was rolled back is looked at before it is over.
const COOL_DOWN: Duration = Duration::from_secs(3600);
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
    /// The canary is there and does not answer.
    pub(super) down: bool,
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
        self.look = Some(Look {
            at: now,
            blind,
            baseline_seen: live.baseline_seen,
            canary_seen: live.canary_seen,
            down: live.down.is_some(),
        });
        let before = self.streaks.at.replace(now);
        if blind {
            return;
        }
        self.seen_at = now;
        self.resolve(Kind::DavyBlind, &Said::new("done.seen"), out);
        self.count(live);
        if let Some(down) = live.down
            && self.phase.is_judged()
        {
            self.is_down(now, down, out);
        }
        self.is_alarmed(now, out);
        match self.phase {
            Phase::Watching | Phase::Holding | Phase::Promoting | Phase::Promoted => self.ends(now, out),
            Phase::RollingBack => self.left_before_call(now, out),
            Phase::Verifying => {
                self.verified_for += before.map_or(Duration::ZERO, |b| now.since(b));
                self.verifies(now, live.recovered, out);
                if self.phase == Phase::Verifying && self.can_be_asked() && !self.read_back {
                    self.read_again(now, Purpose::Rollback, out);
                }
            }
            Phase::NeedsHuman => self.settles_late(now, live.recovered, out),
            Phase::RolledBack => self.comes_back(now, out),
            Phase::Closed => {}
        }
    }

    fn count(&mut self, live: Liveness) {
        // What is down has not gone: it comes back as it was.
        let gone = live.baseline_seen && !live.canary_seen && live.down.is_none();
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
        let waiting = self
            .rollback
            .as_ref()
            .is_some_and(|r| matches!(r.state, ActState::Waiting(_) | ActState::Reading));
        if waiting && self.streaks.gone >= SETTLED_LOOKS {
            self.undelivered();
            let reason = format!("canary gone: {} left before the rollback was delivered", self.canary);
            self.enter(now, Phase::Closed, DAVY, "close", reason, out);
        }
    }

    /// Worked when the versions show it, the target says so where it can be asked, and what was worse is not so any
    /// more where the baseline can tell.
    fn verifies(&mut self, now: Timestamp, recovered: Option<bool>, out: &mut Vec<Command>) {
        let settled = self.streaks.settled >= SETTLED_LOOKS;
        let read_back = self.read_back || !self.can_be_asked();
        if settled && read_back && recovered != Some(false) {
            return self.rolled_back(now, out);
        }
        if self.verified_for < self.policy.verify_timeout || self.streaks.looks < SETTLED_LOOKS {
            return;
        }
        let after = self.verified_for.as_secs();
        let why = if self.streaks.settled == 0 {
            format!("{} still serves {after} s after the rollback was called", self.canary)
        } else if settled && !read_back {
            format!("the target is not at {} {after} s after the rollback was called", self.baseline)
        } else if settled {
            format!("{} serves alone, and what was worse is no better after {after} s", self.baseline)
        } else {
            return;
        };
        self.set_state_only(ActState::Unverified);
        self.page(now, &why, out);
    }

    fn rolled_back(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let (how, key) = if self.streaks.gone >= SETTLED_LOOKS {
            ("is gone", "done.gone")
        } else {
            ("is without traffic", "done.without_traffic")
        };
        let called_at = self.rollback.as_ref().map_or(now, |r| r.intended_at);
        let after = now.since(called_at).as_secs();
        let reason =
            format!("{} {how} while {} serves, {after} s after the call", self.canary, self.baseline);
        if self.rollback.as_ref().is_some_and(|r| r.state != ActState::Adopted) {
            self.set_state_only(ActState::Verified);
        }
        self.enter(now, Phase::RolledBack, DAVY, "verify", reason.clone(), out);
        let done = Said::new(key)
            .with("canary", &self.canary)
            .with("baseline", &self.baseline)
            .with("seconds", after);
        self.resolve_all(&done, out);
        self.raise(Kind::RollbackVerified, now, &done, out);
    }

    /// After the page: a rollback that worked late, or a human's own.
    fn settles_late(&mut self, now: Timestamp, recovered: Option<bool>, out: &mut Vec<Command>) {
        if self.streaks.alone >= ALONE_LOOKS {
            let reason = format!("{} serves alone, {} is gone", self.canary, self.baseline);
            self.enter(now, Phase::Closed, DAVY, "close", reason, out);
        } else if self.streaks.settled >= SETTLED_LOOKS {
            match self.rollback.as_ref().map(|r| r.state) {
                Some(ActState::Unverified) => {
                    if recovered != Some(false) && (self.read_back || !self.can_be_asked()) {
                        self.rolled_back(now, out);
                    }
                }
                _ => {
                    let reason = format!("{} no longer serves, without a call of Davy's", self.canary);
                    self.enter(now, Phase::Closed, DAVY, "close", reason, out);
                }
            }
        }
    }

    /// As bad as a fail of the judge, which has nothing to judge.
    fn is_down(&mut self, now: Timestamp, down: Down, out: &mut Vec<Command>) {
        self.down_at = Some(now);
        let how = match down {
            Down::Refused => "refuses connections",
            Down::Hung => "takes connections and answers nothing",
        };
        let reason = format!("{} {how} while {} serves, and others say so too", self.canary, self.baseline);
        self.failed_at = Some(now);
        if self.phase != Phase::RollingBack {
            self.failed(now, &reason, out);
        }
    }

    /// Someone brought the version back on purpose, or the rollback was undone: said once, never acted on.
    fn comes_back(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.streaks.back >= BACK_LOOKS && !self.raised.contains(&Kind::RolledBackCanaryServes) {
            let seen = format!("{} has traffic again", self.canary);
            self.audit(now, DAVY, "look", &seen, "page; nothing else is done", out);
            self.raise(Kind::RolledBackCanaryServes, now, &Said::new("done.serves_again"), out);
        } else if self.streaks.settled >= BACK_LOOKS {
            self.resolve(Kind::RolledBackCanaryServes, &Said::new("done.idle_again"), out);
            // While the version is still there, closing would open a release of the same two anew.
            if self.streaks.gone >= GONE_LOOKS && now.since(self.since) >= COOL_DOWN {
                let reason = format!("{} is gone, {} s after its rollback", self.canary, COOL_DOWN.as_secs());
                self.enter(now, Phase::Closed, DAVY, "close", reason, out);
            }
        }
    }

    fn set_state_only(&mut self, state: ActState) {
        let detail = self.rollback.as_ref().map_or_else(String::new, |r| r.detail.clone());
        self.set_rollback(state, detail);
    }
}
