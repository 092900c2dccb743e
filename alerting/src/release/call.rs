//! The one rollback of a generation: whether it may be called, its intent, its result, its retries.
//!
//! Level C of reliability: the actuator cannot be asked whether a call arrived, so a call that may have been
//! delivered is never repeated. Only one that certainly was not (no connection) is, a bounded number of times.

use std::time::Duration;

use davy_model::Timestamp;

use super::alerts::Kind;
use super::look::Streaks;
use super::machine::{DAVY, EVIDENCE_AGE_MAX};
use super::{
    ActRequest, CallOutcome, Command, Desired, Phase, ReleaseMachine, Rollback, RollbackState, Subject,
};
use crate::config::OnFail;

/// Attempts to deliver one call, all but the last certainly not delivered.
pub(super) const ATTEMPTS_MAX: u32 = 8;
/// Waiting time after the first; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A call that cannot be delivered, or must not be, for this long goes to a human.
const WAITING_MAX: Duration = Duration::from_secs(15 * 60);
/// A call whose result nobody reported for this long counts as unknown.
const RESULT_LOST_AFTER: Duration = Duration::from_secs(5 * 60);

impl ReleaseMachine {
    /// The actuator to call, or why Davy may not act on its own now.
    pub(super) fn may_roll_back(&self, now: Timestamp) -> Result<String, &'static str> {
        let actuator = self.may_be_ordered()?;
        if self.policy.on_fail != OnFail::Rollback {
            return Err("on_fail is not rollback");
        }
        if self.rollback.as_ref().is_some_and(|r| r.state == RollbackState::Undelivered) {
            return Err("the rollback of this generation was withdrawn; only an operator may order it again");
        }
        if self.held_by.is_some() {
            return Err("the release is on hold");
        }
        if self.overridden_by.is_some() {
            return Err("an operator decided for this version");
        }
        let fresh = |at: Timestamp| now.since(at) <= EVIDENCE_AGE_MAX;
        let Some(look) = self.look.filter(|l| fresh(l.at)) else {
            return Err("the live versions have not been looked at lately");
        };
        if look.blind {
            return Err("Davy does not see the versions, and being blind is no evidence");
        }
        if !look.baseline_seen {
            return Err("the baseline is not seen, so there is nothing to roll back to");
        }
        if !self.failed_at.is_some_and(fresh) {
            return Err("the newest verdict is not a fail");
        }
        Ok(actuator)
    }

    /// The same for an operator's order, which needs no evidence.
    pub(super) fn may_be_ordered(&self) -> Result<String, &'static str> {
        let Some(actuator) = &self.policy.rollback else { return Err("no rollback action is configured") };
        if self.look.is_some_and(|l| !l.blind && !l.canary_seen) {
            return Err("the canary is gone");
        }
        if self.superseded_by.is_some() {
            return Err("the release has been superseded");
        }
        match self.rollback.as_ref().map(|r| r.state) {
            None | Some(RollbackState::Undelivered | RollbackState::Waiting(_)) => Ok(actuator.clone()),
            Some(
                RollbackState::Calling
                | RollbackState::Accepted
                | RollbackState::Rejected
                | RollbackState::Unknown
                | RollbackState::Verified
                | RollbackState::Unverified,
            ) => Err("the rollback of this generation has been called already"),
        }
    }

    /// Writes the intent down and asks for the call. The caller has asked whether it may.
    pub(super) fn intend(
        &mut self,
        now: Timestamp,
        actuator: String,
        reason: String,
        ordered_by: Option<String>,
        out: &mut Vec<Command>,
    ) {
        let share = self.verdict.as_ref().map(|v| v.traffic_share).filter(|s| s.is_finite());
        self.share_at_call = share;
        let actor = ordered_by.clone().unwrap_or_else(|| DAVY.to_owned());
        match &mut self.rollback {
            Some(rollback) => {
                // The same intent under the same key: it was certainly never delivered.
                rollback.attempts = 0;
                rollback.intended_at = now;
                rollback.ordered_by = ordered_by;
                rollback.actuator = actuator;
            }
            None => {
                self.rollback = Some(Rollback {
                    key: format!("{}-rollback", self.id),
                    actuator,
                    reason: reason.clone(),
                    ordered_by,
                    intended_at: now,
                    attempts: 0,
                    state: RollbackState::Calling,
                    detail: String::new(),
                });
            }
        }
        self.enter(now, Phase::RollingBack, &actor, "rollback", reason, out);
        self.send(now, out);
    }

    fn send(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let rollback = self.rollback.as_mut().expect("a call is sent only after its intent");
        rollback.attempts += 1;
        rollback.state = RollbackState::Calling;
        self.since = now;
        let request = ActRequest {
            actuator: rollback.actuator.clone(),
            key: rollback.key.clone(),
            marker: rollback.key.clone(),
            desired: Desired::Baseline,
            release_id: self.id.clone(),
            release: self.generation,
            subject: Subject {
                service: self.service.clone(),
                baseline: self.baseline.clone(),
                canary: self.canary.clone(),
            },
            expect: None,
            reason: rollback.reason.clone(),
            evidence: self.verdict.clone(),
        };
        let (reason, attempt) = (rollback.reason.clone(), rollback.attempts);
        let outcome = format!("intended, attempt {attempt} of {ATTEMPTS_MAX}");
        self.audit(now, DAVY, "call", &reason, &outcome, out);
        out.push(Command::Call(request));
    }

    /// What Davy is doing, for the alert.
    pub(super) fn calling(&self) -> String {
        let actuator = self.rollback.as_ref().map_or("", |r| &r.actuator);
        format!("Rolling back from {} to {} by the action {actuator}.", self.canary, self.baseline)
    }

    pub(super) fn called(&mut self, now: Timestamp, outcome: CallOutcome, out: &mut Vec<Command>) {
        let in_flight = self.rollback.as_ref().is_some_and(|r| r.state == RollbackState::Calling);
        if !in_flight {
            let text = describe(&outcome);
            self.audit(now, DAVY, "call", &text, "ignored: no call of this release is in flight", out);
            return;
        }
        match outcome {
            CallOutcome::Accepted { detail, .. } => {
                self.set_rollback(RollbackState::Accepted, format!("accepted: {detail}"));
                self.verify(now, "the call was accepted", out);
            }
            CallOutcome::Unknown { detail } => self.unknown(now, detail, out),
            CallOutcome::Rejected { detail } | CallOutcome::Conflict { detail } => {
                self.set_rollback(RollbackState::Rejected, format!("rejected: {detail}"));
                self.page(now, "the rollback call was rejected", out);
            }
            CallOutcome::NotSent { detail } => self.not_sent(now, detail, out),
        }
    }

    /// The call may have been carried out: never again, and the live versions will tell.
    pub(super) fn unknown(&mut self, now: Timestamp, detail: String, out: &mut Vec<Command>) {
        self.set_rollback(RollbackState::Unknown, detail);
        self.verify(now, "the call may or may not have been carried out", out);
    }

    fn not_sent(&mut self, now: Timestamp, detail: String, out: &mut Vec<Command>) {
        let attempts = self.rollback.as_ref().map_or(0, |r| r.attempts);
        self.audit(
            now,
            DAVY,
            "call",
            &detail,
            &format!("not sent, attempt {attempts} of {ATTEMPTS_MAX}"),
            out,
        );
        self.set_rollback(RollbackState::Undelivered, detail);
        if let Some(by) = self.superseded_by.clone() {
            self.enter(now, Phase::Closed, DAVY, "close", format!("superseded by {by}"), out);
        } else if let Some(by) = self.held_by.clone() {
            self.enter(now, Phase::Holding, DAVY, "hold", format!("held by {by} before it was sent"), out);
        } else if attempts >= ATTEMPTS_MAX {
            self.page(now, "the rollback call could not be delivered", out);
        } else {
            let wait = BACKOFF_MIN.saturating_mul(1 << (attempts - 1).min(16)).min(BACKOFF_MAX);
            let detail = self.rollback.as_ref().map_or_else(String::new, |r| r.detail.clone());
            self.set_rollback(RollbackState::Waiting(now + wait), detail);
        }
    }

    /// Sends again what certainly was not sent, if that is due and still right; gives up in time.
    pub(super) fn retry(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.phase != Phase::RollingBack {
            return;
        }
        let Some(rollback) = &self.rollback else { return };
        match rollback.state {
            RollbackState::Waiting(until) => {
                // An order outlives a restart, but what it is about must have been seen since.
                let allowed = match rollback.ordered_by {
                    Some(_) if self.look.is_none() => Err("the live versions have not been looked at"),
                    Some(_) => self.may_be_ordered(),
                    None => self.may_roll_back(now),
                };
                if now.since(rollback.intended_at) >= WAITING_MAX {
                    self.undelivered();
                    self.page(now, "the rollback call was not delivered in time", out);
                } else if now >= until && allowed.is_ok() {
                    self.send(now, out);
                }
            }
            RollbackState::Calling if now.since(self.since) >= RESULT_LOST_AFTER => {
                self.unknown(now, "no result of the call was reported".to_owned(), out);
            }
            RollbackState::Calling
            | RollbackState::Undelivered
            | RollbackState::Accepted
            | RollbackState::Rejected
            | RollbackState::Unknown
            | RollbackState::Verified
            | RollbackState::Unverified => {}
        }
    }

    fn verify(&mut self, now: Timestamp, why: &str, out: &mut Vec<Command>) {
        self.verified_for = Duration::ZERO;
        self.streaks = Streaks { at: Some(now), ..Streaks::default() };
        let detail = self.rollback.as_ref().map_or("", |r| &r.detail);
        let reason = format!("{why} ({detail}); looking whether it worked");
        self.enter(now, Phase::Verifying, DAVY, "verify", reason, out);
    }

    /// Nothing more will be tried.
    pub(super) fn page(&mut self, now: Timestamp, why: &str, out: &mut Vec<Command>) {
        let detail = self.rollback.as_ref().map_or("", |r| &r.detail);
        let reason = if detail.is_empty() { why.to_owned() } else { format!("{why}: {detail}") };
        self.enter(now, Phase::NeedsHuman, DAVY, "page", reason, out);
        self.raise(Kind::RollbackNeedsHuman, now, "Nothing more is tried: a human must look.", out);
    }

    /// Withdraws a call that certainly was not sent.
    pub(super) fn undelivered(&mut self) {
        let detail = self.rollback.as_ref().map_or_else(String::new, |r| r.detail.clone());
        self.set_rollback(RollbackState::Undelivered, detail);
    }

    pub(super) fn set_rollback(&mut self, state: RollbackState, detail: String) {
        let rollback = self.rollback.as_mut().expect("a call has a state only after its intent");
        rollback.state = state;
        rollback.detail = detail;
    }
}

fn describe(outcome: &CallOutcome) -> String {
    match outcome {
        CallOutcome::Accepted { detail, .. } => format!("accepted: {detail}"),
        CallOutcome::Conflict { detail } => format!("conflict: {detail}"),
        CallOutcome::Rejected { detail } => format!("rejected: {detail}"),
        CallOutcome::NotSent { detail } => format!("not sent: {detail}"),
        CallOutcome::Unknown { detail } => format!("unknown: {detail}"),
    }
}
