//! Reading the target: before a rollback is called, after one whose result is not known, and to see that it worked.
//!
//! What was judged is a generation of the target. A target that moved on since, whoever moved it, is judged again
//! before anything is done to it; one that is where a rollback would take it is adopted; one that carries the mark of
//! a rollback of this version and serves it all the same was set so by a human, and is left alone.

use std::time::Duration;

use davy_model::Timestamp;

use super::act::{Act, ActState, marks_decision, marks_rollback};
use super::alerts::Kind;
use super::call::{ATTEMPTS_MAX, DECIDED_FOR, RESULT_LOST_AFTER, WAITING_MAX, backoff};
use super::machine::DAVY;
use super::{
    Command, Desired, Expect, Level, Live, Phase, ReadError, ReadRequest, ReleaseMachine, TargetState,
};
use crate::config::Hand;
use crate::words::Said;

/// What a read is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To know which generation is judged.
    Begin,
    Rollback,
    Step,
}

/// A read that was asked for and not answered yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    ticket: u64,
    pub(super) purpose: Purpose,
    since: Timestamp,
}

/// The generation of a target that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) uid: String,
    pub(super) generation: String,
}

impl Known {
    pub(super) fn of(state: &TargetState) -> Self {
        Self { uid: state.uid.clone(), generation: state.generation.clone() }
    }

    pub(super) fn is(&self, state: &TargetState) -> bool {
        (&self.uid, &self.generation) == (&state.uid, &state.generation)
    }
}

pub(super) fn expect_of(state: &TargetState) -> Expect {
    Expect { uid: state.uid.clone(), generation: state.generation.clone(), token: state.token.clone() }
}

impl ReleaseMachine {
    pub(super) fn read_for(&mut self, now: Timestamp, purpose: Purpose, out: &mut Vec<Command>) {
        let actuator = match purpose {
            Purpose::Begin => self.unread_hand().map(|h| h.name),
            Purpose::Rollback => self.rollback.as_ref().map(|r| r.actuator.clone()),
            Purpose::Step => self.ramp.act.as_ref().map(|a| a.actuator.clone()),
        };
        let Some(actuator) = actuator else { return };
        self.ticket += 1;
        self.reading = Some(Reading { ticket: self.ticket, purpose, since: now });
        let (release, ticket, subject) = (self.generation, self.ticket, self.subject());
        out.push(Command::Read(ReadRequest { actuator, release, ticket, subject }));
    }

    /// The same unless an answer is still to come, or it is too early.
    pub(super) fn read_again(&mut self, now: Timestamp, purpose: Purpose, out: &mut Vec<Command>) {
        let waits =
            self.reading.is_some_and(|r| r.purpose == purpose && now.since(r.since) < RESULT_LOST_AFTER);
        if !waits && now >= self.read_due {
            self.read_for(now, purpose, out);
        }
    }

    /// An actuator of the policy whose target has not been read yet.
    pub(super) fn unread_hand(&self) -> Option<Hand> {
        let ramp = self.policy.ramp.as_ref().map(|r| &r.hand);
        let hands = self.policy.rollback.iter().chain(ramp);
        hands.filter(|h| h.level != Level::C).find(|h| !self.known.contains_key(&h.name)).cloned()
    }

    pub(super) fn heard(
        &mut self,
        now: Timestamp,
        ticket: u64,
        state: Result<TargetState, ReadError>,
        out: &mut Vec<Command>,
    ) {
        let Some(reading) = self.reading.take_if(|r| r.ticket == ticket) else { return };
        match (reading.purpose, self.phase) {
            (Purpose::Begin, _) => self.begun(now, state, out),
            (Purpose::Rollback, Phase::RollingBack) => self.read_before(now, state, out),
            (Purpose::Rollback, Phase::Verifying) => self.read_after(now, state, out),
            (Purpose::Rollback, _) => {}
            (Purpose::Step, _) => self.read_step(now, state, out),
        }
    }

    /// Which generation is judged from now on, and where the ramp stands.
    fn begun(&mut self, now: Timestamp, state: Result<TargetState, ReadError>, out: &mut Vec<Command>) {
        let Some(hand) = self.unread_hand() else { return };
        let state = match state {
            Ok(state) => state,
            Err(ReadError::Unreachable(_)) => {
                self.begin_failures += 1;
                self.read_due = now + backoff(self.begin_failures);
                return;
            }
            Err(ReadError::Unusable(why)) => {
                self.read_due = now + Duration::from_secs(60);
                if !self.raised.contains(&Kind::RollbackBlocked) {
                    let done = Said::new("done.target_unusable").with("action", &hand.name).with("why", &why);
                    let why = format!("the target of {} cannot be used: {why}", hand.name);
                    self.audit(now, DAVY, "read", &why, "nothing can be changed until it can", out);
                    self.raise(Kind::RollbackBlocked, now, &done, out);
                }
                return;
            }
        };
        self.begin_failures = 0;
        self.resolve(Kind::RollbackBlocked, &Said::new("done.target_readable"), out);
        let reason =
            format!("target {} at generation {}: {}", state.uid, state.generation, words(&state.live));
        self.audit(now, DAVY, "read", &reason, "judged from here on", out);
        self.known.insert(hand.name.clone(), Known::of(&state));
        self.heed_mark(now, &state, out);
        if self.policy.ramp.as_ref().is_some_and(|r| r.hand == hand) {
            self.start_ramp(now, &state, out);
        }
        if self.unread_hand().is_some() {
            self.read_for(now, Purpose::Begin, out);
        }
    }

    /// The intent is on disk: does the target still carry what was judged?
    fn read_before(&mut self, now: Timestamp, state: Result<TargetState, ReadError>, out: &mut Vec<Command>) {
        let Some(act) = self.rollback.as_ref() else { return };
        let unsure = act.state == ActState::Unknown;
        let state = match state {
            Ok(state) => state,
            Err(ReadError::Unreachable(why)) => return self.unreachable(now, unsure, &why, out),
            Err(ReadError::Unusable(why)) => {
                let state = if unsure { ActState::Unverified } else { ActState::Undelivered };
                self.set_rollback(state, why);
                return self.page(now, "the target of the rollback cannot be used", out);
            }
        };
        let marker = state.marker.as_deref();
        let ours = marker == Some(&act.key(&self.canary));
        // An order, and a resumption since the mark was seen, are for what was brought back.
        let wanted = act.ordered_by.is_some() || self.is_heeded(&state);
        if marks_rollback(marker, &self.canary) && state.live != Live::Baseline && (ours || !wanted) {
            return self.brought_back(now, out);
        }
        match &state.live {
            Live::Baseline => {
                let (done, why) = if ours || unsure {
                    (ActState::Accepted, "the target is at the baseline")
                } else {
                    (ActState::Adopted, "someone else has rolled back")
                };
                self.set_rollback(done, format!("read back at generation {}", state.generation));
                self.verify(now, why, out);
            }
            Live::Other(revision) => {
                let by = revision.clone();
                self.undelivered();
                self.enter(now, Phase::Closed, DAVY, "close", format!("superseded by {by}"), out);
            }
            Live::Share(_) => {
                if let Some(why) = &state.refusal {
                    self.set_rollback(ActState::Undelivered, why.clone());
                    return self.page(now, "the target must not be changed by Davy", out);
                }
                let known = self.known.get(&act.actuator);
                if act.ordered_by.is_none() && known.is_none_or(|k| !k.is(&state)) {
                    return self.judge_again(now, &state, out);
                }
                self.send_expecting(now, &state, out);
            }
        }
    }

    fn unreachable(&mut self, now: Timestamp, unsure: bool, why: &str, out: &mut Vec<Command>) {
        let act = self.rollback.as_mut().expect("only asked about an act");
        act.failures += 1;
        let (failures, too_long) = (act.failures, now.since(act.intended_at) >= WAITING_MAX);
        act.detail = format!("the target cannot be read: {why}");
        if unsure && too_long {
            self.verify(now, "the call may have been carried out, and the target cannot be asked", out);
        } else if unsure {
            self.read_due = now + backoff(failures);
        } else {
            self.wait_for(now, failures);
        }
    }

    /// What is there is not what was judged: it must be called worse anew. Nothing was called.
    fn judge_again(&mut self, now: Timestamp, state: &TargetState, out: &mut Vec<Command>) {
        let Some(mut act) = self.rollback.take() else { return };
        let was_known = self.known.contains_key(&act.actuator);
        self.known.insert(act.actuator.clone(), Known::of(state));
        act.state = ActState::Undelivered;
        act.detail = "withdrawn: the target changed since it was judged".to_owned();
        self.done.push(act);
        self.failed_at = None;
        let reason = if was_known {
            format!("the target changed to generation {} since it was judged", state.generation)
        } else {
            format!("which generation was judged is not known: {} is, from now on", state.generation)
        };
        self.enter(now, Phase::Watching, DAVY, "withdraw", reason, out);
        self.heed_mark(now, state, out);
        if self.overridden_by.is_some() {
            let done = Said::new("done.not_rolled_back").with("why", DECIDED_FOR);
            self.raise(Kind::CanaryRegression, now, &done, out);
        }
        if self.policy.ramp.is_some() {
            self.place_ramp(now, &state.live);
        }
    }

    /// Someone brought the version back after a rollback, or decided for it at another Davy, as the mark on the target
    /// says: theirs it is until an operator gives it back. That is said once of each generation.
    pub(super) fn heed_mark(&mut self, now: Timestamp, state: &TargetState, out: &mut Vec<Command>) {
        let marker = state.marker.as_deref();
        if self.is_heeded(state) {
            return;
        }
        let (reason, by) = if marks_rollback(marker, &self.canary) {
            (
                format!("{} was rolled back before and has been brought back", self.canary),
                "whoever brought it back",
            )
        } else if marks_decision(marker, &self.canary) {
            (
                format!("an operator decided for {}, as the target's mark says", self.canary),
                "whoever promoted it",
            )
        } else {
            return;
        };
        // Of one that has no share yet there is nothing to say.
        if state.live != Live::Baseline {
            self.audit(now, DAVY, "look", &reason, "not rolled back until an operator resumes", out);
        }
        self.overridden_by = Some(by.to_owned());
        self.heeded = Some(state.generation.clone());
    }

    fn is_heeded(&self, state: &TargetState) -> bool {
        self.heeded.as_deref() == Some(&state.generation)
    }

    fn send_expecting(&mut self, now: Timestamp, state: &TargetState, out: &mut Vec<Command>) {
        let act = self.rollback.as_ref().expect("only asked about an act");
        let allowed = match act.ordered_by {
            Some(_) => self.may_be_sent(),
            None => self.may_roll_back(now).map(|_| ()),
        };
        if act.attempts >= ATTEMPTS_MAX {
            self.set_rollback(ActState::Undelivered, format!("{ATTEMPTS_MAX} attempts changed nothing"));
            return self.page(now, "the rollback could not be carried out", out);
        }
        if let Err(why) = allowed {
            let (failures, unsure, said) =
                (act.failures + 1, act.state == ActState::Unknown, act.detail == why);
            if !said {
                self.audit(now, DAVY, "call", &why, "not called: tried again later", out);
            }
            let act = self.rollback.as_mut().expect("asked above");
            (act.failures, act.detail) = (failures, why);
            let too_long = now.since(act.intended_at) >= WAITING_MAX;
            if unsure && too_long {
                // A call that is still on its way may come yet; then the versions show it.
                self.set_rollback(ActState::Unverified, "what was called did not arrive".to_owned());
                self.page(now, "the rollback was not carried out in time", out);
            } else if unsure {
                self.read_due = now + backoff(failures);
            } else {
                self.wait_for(now, failures);
            }
            return;
        }
        self.rollback.as_mut().expect("asked above").expect = Some(expect_of(state));
        self.send(now, out);
    }

    /// An operator's order needs no evidence, and no hold.
    fn may_be_sent(&self) -> Result<(), String> {
        match &self.gates.hold {
            Some(by) => Err(format!("held by {by}")),
            None => Ok(()),
        }
    }

    /// A version that was rolled back serves again: said once, never acted on.
    fn brought_back(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        self.set_rollback(ActState::Adopted, "the target carries the mark of a rollback".to_owned());
        let reason = format!("{} was rolled back before and has been brought back", self.canary);
        self.enter(now, Phase::RolledBack, DAVY, "look", reason, out);
        self.raise(Kind::RolledBackCanaryServes, now, &Said::new("done.serves_again"), out);
    }

    /// Was the rollback carried out?
    fn read_after(&mut self, now: Timestamp, state: Result<TargetState, ReadError>, out: &mut Vec<Command>) {
        let Ok(state) = state else { return };
        let act = self.rollback.as_ref().expect("a rollback is verified");
        match &state.live {
            Live::Baseline => self.read_back = true,
            Live::Other(by) => {
                let reason = format!("superseded by {by} while the rollback was verified");
                self.enter(now, Phase::Closed, DAVY, "close", reason, out);
            }
            Live::Share(_) if state.marker.as_deref() == Some(&act.key(&self.canary)) => {
                self.brought_back(now, out);
            }
            // Accepted, and nothing was done so far; the verification's time runs.
            Live::Share(_) => {
                self.read_back = false;
                let detail = format!("{}; the target still says: {}", first(&act.detail), words(&state.live));
                let state = act.state;
                self.set_rollback(state, detail);
            }
        }
    }

    /// What someone else did is taken for this release's rollback.
    pub(super) fn adopt(&mut self, now: Timestamp, actuator: Hand, out: &mut Vec<Command>) {
        let id = self.act_id(Desired::Baseline);
        let reason = "someone else has rolled back".to_owned();
        let mut act = Act::new(id, Desired::Baseline, actuator, reason, None, now);
        act.state = ActState::Adopted;
        self.done.extend(self.rollback.replace(act));
        self.verify(now, "someone else has rolled back", out);
    }
}

/// The part of a detail before what was added to it.
fn first(detail: &str) -> &str {
    detail.split("; the target still says").next().unwrap_or(detail)
}

pub(super) fn words(live: &Live) -> String {
    match live {
        Live::Baseline => "the baseline alone".to_owned(),
        Live::Share(share) => format!("{} % for the canary", (share * 1000.0).round() / 10.0),
        Live::Other(revision) => format!("another version, {revision}"),
    }
}
