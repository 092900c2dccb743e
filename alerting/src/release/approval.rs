//! What stands between a decision and its act: holds, budgets, safety rules, and the question to a human.

use std::time::Duration;

use davy_model::Timestamp;

use super::alerts::Kind;
use super::machine::DAVY;
use super::{Command, Desired, Phase, ReleaseMachine};
use crate::words::Said;

/// A question that nobody answered for this long is withdrawn; nothing is done without an answer.
const ASKED_MAX: Duration = Duration::from_secs(4 * 3600);
/// A canary that was seen down this long ago still counts as down.
const DOWN_FOR: Duration = Duration::from_secs(60);

/// An act that waits for a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) desired: Desired,
    pub(super) since: Timestamp,
    pub(super) reason: String,
}

impl ReleaseMachine {
    /// A safety rule that fires, once the live versions have been looked at.
    pub(super) fn is_alarmed(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let Some(alarm) = self.gates.alarm.clone().filter(|_| self.phase.is_judged()) else { return };
        self.failed_at = Some(now);
        if self.phase != Phase::RollingBack {
            self.failed(now, &alarm, out);
        }
    }

    /// When something other than the judge last called the canary bad, if it still does.
    pub(super) fn alarmed_at(&self, now: Timestamp) -> Option<Timestamp> {
        let down = self.down_at.filter(|at| now.since(*at) <= DOWN_FOR);
        down.or(self.gates.alarm.is_some().then_some(now))
    }

    /// Why a human must approve a rollback, if one must.
    pub(super) fn needs_approval(&self) -> Option<String> {
        let policy = self.policy.approval.rollback.then(|| "the policy asks for it".to_owned());
        self.gates.approval.clone().or(policy)
    }

    /// Says once that what should be rolled back may not be.
    pub(super) fn blocked(&mut self, now: Timestamp, why: &str, out: &mut Vec<Command>) {
        let stands = self.gates.blocked.is_some() || self.gates.hold.is_some();
        if stands && self.rollback.is_none() && !self.raised.contains(&Kind::RollbackBlocked) {
            self.audit(now, DAVY, "rollback", why, "blocked", out);
            self.raise(Kind::RollbackBlocked, now, &Said::new("done.waits").with("why", why), out);
        }
    }

    pub(super) fn ask(&mut self, now: Timestamp, desired: Desired, reason: &str, out: &mut Vec<Command>) {
        if self.approval.as_ref().is_some_and(|a| a.desired == desired) {
            return;
        }
        self.approval = Some(Asked { desired, since: now, reason: reason.to_owned() });
        self.audit(now, DAVY, desired.as_str(), reason, "waits for approval", out);
        self.raise(Kind::ApprovalNeeded, now, &Said::new("done.asked"), out);
    }

    pub(super) fn withdraw_question(&mut self, how: &Said, out: &mut Vec<Command>) {
        self.approval = None;
        self.resolve(Kind::ApprovalNeeded, how, out);
    }

    pub(super) fn expire_question(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let Some(asked) = self.approval.as_ref().filter(|a| now.since(a.since) >= ASKED_MAX) else { return };
        let (desired, waited) = (asked.desired, ASKED_MAX.as_secs() / 3600);
        let reason = format!("nobody answered for {waited} h");
        self.audit(now, DAVY, desired.as_str(), &reason, "withdrawn", out);
        self.withdraw_question(&Said::new("done.unanswered"), out);
        if desired == Desired::Baseline {
            // Asking again every few hours would be noise; the alert on the canary stays.
            self.overridden_by = Some("silence".to_owned());
        } else {
            self.pause(now, reason, out);
        }
    }

    pub(super) fn approve(
        &mut self,
        now: Timestamp,
        actor: &str,
        reason: &str,
        out: &mut Vec<Command>,
    ) -> Result<(), String> {
        let Some(asked) = self.approval.clone() else { return Err(self.nothing_asked()) };
        let ordered_by = Some(actor.to_owned());
        if asked.desired == Desired::Baseline {
            let hand = self.may_be_ordered()?;
            self.withdraw_question(
                &Said::new("done.approved_by").with("actor", actor).with("reason", reason),
                out,
            );
            let why = format!("{}; approved: {reason}", asked.reason);
            self.intend(now, hand, why, ordered_by, out);
            return Ok(());
        }
        let Some(next) = self.step_after() else { return Err("the ramp has no further step".into()) };
        self.withdraw_question(
            &Said::new("done.approved_by").with("actor", actor).with("reason", reason),
            out,
        );
        self.intend_step(now, next, format!("{}; approved: {reason}", asked.reason), ordered_by, out);
        Ok(())
    }

    pub(super) fn deny(
        &mut self,
        now: Timestamp,
        actor: &str,
        reason: &str,
        out: &mut Vec<Command>,
    ) -> Result<(), String> {
        let Some(asked) = self.approval.clone() else { return Err(self.nothing_asked()) };
        let outcome = format!("{} denied", asked.desired.as_str());
        self.audit(now, actor, "deny", reason, &outcome, out);
        self.withdraw_question(&Said::new("done.denied_by").with("actor", actor).with("reason", reason), out);
        if asked.desired == Desired::Baseline {
            self.overridden_by = Some(actor.to_owned());
        } else {
            self.pause(now, format!("{actor} denied the step: {reason}"), out);
        }
        Ok(())
    }

    fn nothing_asked(&self) -> String {
        match self.phase {
            Phase::Closed | Phase::RolledBack => "the release is over".to_owned(),
            _ => "nothing waits for an approval".to_owned(),
        }
    }
}
