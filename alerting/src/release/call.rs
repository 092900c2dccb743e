//! The rollback of a release: whether it may be called, its intent, its call, its retries.
//!
//! What cannot be asked (level C) is called at once, and never again once the call may have been delivered. What can
//! be asked is read first; [`read`](super::read) says what follows.

use std::time::Duration;

use davy_model::Timestamp;

use super::act::{Act, ActState, decided_mark};
use super::alerts::Kind;
use super::look::Streaks;
use super::machine::{DAVY, EVIDENCE_AGE_MAX};
use super::read::Purpose;
use super::{ActRequest, CallOutcome, Command, Desired, Level, Phase, ReleaseMachine, Subject};
use crate::config::{Hand, OnFail};
use crate::words::Said;

/// Why an act is not taken against a human.
pub(super) const DECIDED_FOR: &str = "an operator decided for this version";
/// Calls of one act.
pub(super) const ATTEMPTS_MAX: u32 = 8;
/// Waiting time after the first failure; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// An act that cannot be carried out, or must not be, for this long goes to a human.
pub(super) const WAITING_MAX: Duration = Duration::from_secs(15 * 60);
/// A call or a read whose result nobody reported for this long counts as unknown.
pub(super) const RESULT_LOST_AFTER: Duration = Duration::from_secs(5 * 60);

impl ReleaseMachine {
    /// The actuator to call, or why Davy may not act on its own now.
    pub(super) fn may_roll_back(&self, now: Timestamp) -> Result<Hand, String> {
        let hand = self.may_be_ordered()?;
        if self.policy.on_fail != OnFail::Rollback {
            return Err("on_fail is not rollback".into());
        }
        match self.rollback.as_ref().map(|r| r.state) {
            Some(ActState::Undelivered) => {
                return Err("the rollback was withdrawn; only an operator may order it again".into());
            }
            Some(ActState::Recorded) => return Err("this is a dry run, and it has been recorded".into()),
            _ => {}
        }
        if self.held_by.is_some() {
            return Err("the release is on hold".into());
        }
        if let Some(why) = &self.gates.blocked {
            return Err(why.clone());
        }
        if self.overridden_by.is_some() {
            return Err(DECIDED_FOR.into());
        }
        let fresh = |at: Timestamp| now.since(at) <= EVIDENCE_AGE_MAX;
        let Some(look) = self.look.filter(|l| fresh(l.at)) else {
            return Err("the live versions have not been looked at lately".into());
        };
        if look.blind {
            return Err("Davy does not see the versions, and being blind is no evidence".into());
        }
        if !look.baseline_seen {
            return Err("the baseline is not seen, so there is nothing to roll back to".into());
        }
        if !self.failed_at.is_some_and(fresh) {
            return Err("the newest verdict is not a fail".into());
        }
        Ok(hand)
    }

    /// The same for an operator's order, which needs no evidence.
    pub(super) fn may_be_ordered(&self) -> Result<Hand, String> {
        let Some(hand) = &self.policy.rollback else { return Err("no rollback action is configured".into()) };
        if let Some(by) = &self.gates.hold {
            return Err(format!("held by {by}"));
        }
        // A canary that is down is not seen either.
        let down = self.look.is_some_and(|l| l.down);
        if self.look.is_some_and(|l| !l.blind && !l.canary_seen) && !down {
            return Err("the canary is gone".into());
        }
        if self.superseded_by.is_some() {
            return Err("the release has been superseded".into());
        }
        match self.rollback.as_ref().map(|r| r.state) {
            None
            | Some(ActState::Undelivered | ActState::Waiting(_) | ActState::Reading | ActState::Recorded) => {
                Ok(hand.clone())
            }
            // Read to be as it was judged, it may be called again.
            Some(ActState::Unknown) if self.phase == Phase::RollingBack && self.can_be_asked() => {
                Ok(hand.clone())
            }
            Some(
                ActState::Calling
                | ActState::Accepted
                | ActState::Rejected
                | ActState::Unknown
                | ActState::Verified
                | ActState::Unverified
                | ActState::Adopted,
            ) => Err("the rollback has been called already".into()),
        }
    }

    /// Writes the intent down and asks for the call, or for what must be known before it. The caller has asked
    /// whether it may.
    pub(super) fn intend(
        &mut self,
        now: Timestamp,
        hand: Hand,
        reason: String,
        ordered_by: Option<String>,
        out: &mut Vec<Command>,
    ) {
        self.approval = None;
        self.resolve(Kind::ApprovalNeeded, &Said::new("done.under_way"), out);
        self.resolve(Kind::RollbackBlocked, &Said::new("done.under_way"), out);
        self.abandon_step();
        self.share_at_call = self.verdict.as_ref().map(|v| v.traffic_share).filter(|s| s.is_finite());
        let actor = ordered_by.clone().unwrap_or_else(|| DAVY.to_owned());
        let withdrawn = self.rollback.take();
        match withdrawn {
            // The same intent: it was certainly never delivered.
            Some(act) if act.expect.is_none() => {
                self.rollback = Some(Act {
                    attempts: 0,
                    failures: 0,
                    intended_at: now,
                    ordered_by,
                    actuator: hand.name,
                    level: hand.level,
                    ..act
                });
            }
            other => {
                self.done.extend(other);
                let id = self.act_id(Desired::Baseline);
                self.rollback = Some(Act::new(id, Desired::Baseline, hand, reason.clone(), ordered_by, now));
            }
        }
        self.enter(now, Phase::RollingBack, &actor, "rollback", reason, out);
        self.start_rollback(now, out);
    }

    /// Reads what can be asked, calls what cannot.
    fn start_rollback(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let level = self.rollback.as_ref().map_or(Level::C, |r| r.level);
        if level == Level::C {
            self.send(now, out);
        } else {
            self.set_rollback(ActState::Reading, "reading the target".to_owned());
            self.read_for(now, Purpose::Rollback, out);
        }
    }

    /// The last step before the request leaves: from here on it may have been carried out.
    pub(super) fn send(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.policy.dry_run {
            return self.record_only(now, out);
        }
        self.since = now;
        let request = self.request(Desired::Baseline);
        let rollback = self.rollback.as_mut().expect("a call is sent only after its intent");
        rollback.attempts += 1;
        rollback.state = ActState::Calling;
        let (reason, attempt) = (rollback.reason.clone(), rollback.attempts);
        let outcome = format!("intended, attempt {attempt} of {ATTEMPTS_MAX}");
        self.audit(now, DAVY, "call", &reason, &outcome, out);
        out.push(Command::Call(request));
    }

    fn record_only(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let rollback = self.rollback.as_ref().expect("a call is sent only after its intent");
        let what = format!("dry run: {} would have been called to roll back", rollback.actuator);
        let done = Said::new("done.dry_run").with("action", &rollback.actuator);
        self.set_rollback(ActState::Recorded, what.clone());
        self.enter(now, Phase::Watching, DAVY, "call", what.clone(), out);
        self.raise(Kind::CanaryRegression, now, &done, out);
    }

    /// The call for the act that wants this state.
    pub(super) fn request(&self, desired: Desired) -> ActRequest {
        let act = self.act(desired).expect("a call is made only after its intent");
        let key = act.key(&self.canary);
        // Another Davy reads no audit of this one: the target tells it.
        let decided = desired != Desired::Baseline && self.overridden_by.is_some() && act.expect.is_some();
        ActRequest {
            actuator: act.actuator.clone(),
            marker: if decided { decided_mark(&key, &self.canary) } else { key.clone() },
            key,
            desired: act.desired,
            release_id: self.id.clone(),
            release: self.generation,
            subject: self.subject(),
            expect: act.expect.clone(),
            reason: act.reason.clone(),
            evidence: self.verdict.clone(),
        }
    }

    pub(super) fn subject(&self) -> Subject {
        Subject {
            service: self.service.clone(),
            baseline: self.baseline.clone(),
            canary: self.canary.clone(),
        }
    }

    /// The act that is under way towards this state: the rollback, or the ramp's step.
    pub(super) fn act(&self, desired: Desired) -> Option<&Act> {
        match desired {
            Desired::Baseline => self.rollback.as_ref(),
            Desired::Share(_) | Desired::Canary => self.ramp.act.as_ref(),
        }
    }

    /// A row id for a new intent.
    pub(super) fn act_id(&mut self, desired: Desired) -> String {
        self.acts += 1;
        let kind = match desired {
            Desired::Baseline => "rollback".to_owned(),
            Desired::Share(percent) => format!("share-{percent}"),
            Desired::Canary => "promote".to_owned(),
        };
        // The first rollback of a release has the plain name: it is the key at receivers that cannot be asked.
        let known = self.done.iter().any(|a| a.desired == desired);
        if known { format!("{}-{kind}-{}", self.id, self.acts) } else { format!("{}-{kind}", self.id) }
    }

    /// What Davy is doing, for the alert.
    pub(super) fn calling(&self) -> Said {
        let action = self.rollback.as_ref().map_or("", |r| &r.actuator);
        Said::new("done.rolling_back")
            .with("canary", &self.canary)
            .with("baseline", &self.baseline)
            .with("action", action)
    }

    pub(super) fn called(&mut self, now: Timestamp, outcome: CallOutcome, out: &mut Vec<Command>) {
        let in_flight = self.rollback.as_ref().filter(|r| r.state == ActState::Calling);
        let Some(level) = in_flight.map(|r| r.level) else {
            let text = describe(&outcome);
            self.audit(now, DAVY, "call", &text, "ignored: no call of this release is in flight", out);
            return;
        };
        match outcome {
            CallOutcome::Accepted { detail, .. } => {
                self.set_rollback(ActState::Accepted, format!("accepted: {detail}"));
                self.verify(now, "the call was accepted", out);
            }
            CallOutcome::Unknown { detail } => self.unknown(now, detail, out),
            CallOutcome::Conflict { detail } if level != Level::C => {
                let detail = format!("conflict: {detail}");
                self.audit(now, DAVY, "call", &detail, "refused by the target: it is read again", out);
                self.set_rollback(ActState::Reading, detail);
                self.read_for(now, Purpose::Rollback, out);
            }
            CallOutcome::Rejected { detail } | CallOutcome::Conflict { detail } => {
                self.set_rollback(ActState::Rejected, format!("rejected: {detail}"));
                self.page(now, "the rollback call was rejected", out);
            }
            CallOutcome::NotSent { detail } => self.not_sent(now, detail, out),
        }
    }

    /// The call may have been carried out. What can be asked is asked; of what cannot, the live versions tell.
    pub(super) fn unknown(&mut self, now: Timestamp, detail: String, out: &mut Vec<Command>) {
        let level = self.rollback.as_ref().map_or(Level::C, |r| r.level);
        if level == Level::C {
            self.set_rollback(ActState::Unknown, detail);
            self.verify(now, "the call may or may not have been carried out", out);
        } else {
            self.audit(now, DAVY, "call", &detail, "unknown: the target is read", out);
            self.set_rollback(ActState::Unknown, detail);
            self.since = now;
            self.read_for(now, Purpose::Rollback, out);
        }
    }

    fn not_sent(&mut self, now: Timestamp, detail: String, out: &mut Vec<Command>) {
        let attempts = self.rollback.as_ref().map_or(0, |r| r.attempts);
        let outcome = format!("not sent, attempt {attempts} of {ATTEMPTS_MAX}");
        self.audit(now, DAVY, "call", &detail, &outcome, out);
        self.set_rollback(ActState::Undelivered, detail);
        if let Some(by) = self.superseded_by.clone() {
            self.enter(now, Phase::Closed, DAVY, "close", format!("superseded by {by}"), out);
        } else if let Some(by) = self.held_by.clone() {
            self.enter(now, Phase::Holding, DAVY, "hold", format!("held by {by} before it was sent"), out);
        } else if attempts >= ATTEMPTS_MAX {
            self.page(now, "the rollback call could not be delivered", out);
        } else {
            self.wait_for(now, attempts);
        }
    }

    /// Tries the rollback again after a while that grows with `failures`.
    pub(super) fn wait_for(&mut self, now: Timestamp, failures: u32) {
        let detail = self.rollback.as_ref().map_or_else(String::new, |r| r.detail.clone());
        self.set_rollback(ActState::Waiting(now + backoff(failures)), detail);
    }

    /// Goes on with what is due and still right; gives up in time.
    pub(super) fn retry(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.phase != Phase::RollingBack {
            return;
        }
        let Some(rollback) = &self.rollback else { return };
        match rollback.state {
            ActState::Waiting(until) => {
                // An order outlives a restart, but what it is about must have been seen since.
                let allowed = match rollback.ordered_by {
                    Some(_) if self.look.is_none() => false,
                    Some(_) => self.may_be_ordered().is_ok(),
                    None => self.may_roll_back(now).is_ok(),
                };
                if now.since(rollback.intended_at) >= WAITING_MAX {
                    self.undelivered();
                    self.page(now, "the rollback call was not delivered in time", out);
                } else if now >= until && allowed {
                    self.start_rollback(now, out);
                }
            }
            ActState::Calling if now.since(self.since) >= RESULT_LOST_AFTER => {
                self.unknown(now, "no result of the call was reported".to_owned(), out);
            }
            ActState::Reading | ActState::Unknown => self.read_again(now, Purpose::Rollback, out),
            ActState::Calling
            | ActState::Undelivered
            | ActState::Accepted
            | ActState::Rejected
            | ActState::Verified
            | ActState::Unverified
            | ActState::Adopted
            | ActState::Recorded => {}
        }
    }

    pub(super) fn verify(&mut self, now: Timestamp, why: &str, out: &mut Vec<Command>) {
        self.verified_for = Duration::ZERO;
        self.read_back = false;
        self.streaks = Streaks { at: Some(now), ..Streaks::default() };
        let detail = self.rollback.as_ref().map_or("", |r| &r.detail);
        let reason = format!("{why} ({detail}); looking whether it worked");
        self.enter(now, Phase::Verifying, DAVY, "verify", reason, out);
        if self.can_be_asked() {
            self.read_for(now, Purpose::Rollback, out);
        }
    }

    /// Whether the rollback's actuator can be asked.
    pub(super) fn can_be_asked(&self) -> bool {
        self.rollback.as_ref().is_some_and(|r| r.level != Level::C)
    }

    /// Nothing more will be tried.
    pub(super) fn page(&mut self, now: Timestamp, why: &str, out: &mut Vec<Command>) {
        self.reading = None;
        let detail = self.rollback.as_ref().map_or("", |r| &r.detail);
        let reason = if detail.is_empty() { why.to_owned() } else { format!("{why}: {detail}") };
        self.enter(now, Phase::NeedsHuman, DAVY, "page", reason, out);
        self.raise(Kind::RollbackNeedsHuman, now, &Said::new("done.needs_human"), out);
    }

    /// Withdraws a call that certainly was not sent.
    pub(super) fn undelivered(&mut self) {
        let detail = self.rollback.as_ref().map_or_else(String::new, |r| r.detail.clone());
        self.set_rollback(ActState::Undelivered, detail);
        self.reading = None;
    }

    pub(super) fn set_rollback(&mut self, state: ActState, detail: String) {
        let rollback = self.rollback.as_mut().expect("a call has a state only after its intent");
        rollback.state = state;
        rollback.detail = detail;
    }
}

impl Act {
    pub(super) fn new(
        id: String,
        desired: Desired,
        hand: Hand,
        reason: String,
        ordered_by: Option<String>,
        now: Timestamp,
    ) -> Self {
        let state = if hand.level == Level::C { ActState::Calling } else { ActState::Reading };
        Self {
            id,
            desired,
            actuator: hand.name,
            level: hand.level,
            expect: None,
            reason,
            ordered_by,
            intended_at: now,
            attempts: 0,
            failures: 0,
            state,
            detail: String::new(),
        }
    }
}

pub(super) fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_MAX)
}

pub(super) fn describe(outcome: &CallOutcome) -> String {
    match outcome {
        CallOutcome::Accepted { detail, .. } => format!("accepted: {detail}"),
        CallOutcome::Conflict { detail } => format!("conflict: {detail}"),
        CallOutcome::Rejected { detail } => format!("rejected: {detail}"),
        CallOutcome::NotSent { detail } => format!("not sent: {detail}"),
        CallOutcome::Unknown { detail } => format!("unknown: {detail}"),
    }
}
