//! The ramp: the canary's share grows step by step, each step after a pass at its own traffic, or by a human's word.
//!
//! A step fails safe: what stands in its way leaves the share where it is and tells someone. A fail of the judge goes
//! before everything here, in every state.

use davy_model::Timestamp;

use super::act::{Act, ActState, marks_rollback};
use super::alerts::Kind;
use super::call::{ATTEMPTS_MAX, RESULT_LOST_AFTER, WAITING_MAX, backoff, describe};
use super::machine::DAVY;
use super::read::{Known, Purpose, expect_of, words};
use super::{CallOutcome, Command, Desired, Level, Live, Phase, ReadError, ReleaseMachine, TargetState};
use crate::config::Ramp;
use crate::words::Said;

/// How far a ramp has come.
#[derive(Debug, Clone, Default)]
pub(super) struct RampRun {
    /// Whether the share in force is known to be that of `step`.
    pub(super) started: bool,
    /// Index into the policy's steps.
    pub(super) step: usize,
    /// Since when the step is in force: evidence from before is not its own.
    pub(super) since: Timestamp,
    pub(super) act: Option<Act>,
    /// Why nothing more is done until an operator resumes.
    pub(super) paused: Option<String>,
}

impl ReleaseMachine {
    /// Where the ramp stands when its target is first read; below the first step, that is taken.
    pub(super) fn start_ramp(&mut self, now: Timestamp, state: &TargetState, out: &mut Vec<Command>) {
        if let Some(why) = self.barred(state) {
            return self.pause(now, why, out);
        }
        self.place_ramp(now, &state.live);
        if !self.ramp.started && self.phase == Phase::Watching {
            self.intend_step(now, 0, "the ramp begins".to_owned(), None, out);
        }
    }

    /// Why no step is taken of what was rolled back before and no operator has resumed since.
    fn barred(&self, state: &TargetState) -> Option<String> {
        let theirs = self.overridden_by.is_some() && marks_rollback(state.marker.as_deref(), &self.canary);
        theirs.then(|| format!("{} was rolled back before; only an operator may promote it", self.canary))
    }

    /// The step that the share in force belongs to.
    pub(super) fn place_ramp(&mut self, now: Timestamp, live: &Live) {
        let Some(ramp) = &self.policy.ramp else { return };
        let Live::Share(share) = live else {
            self.ramp.started = false;
            return;
        };
        let reached = |p: &u8| f64::from(*p) <= share * 100.0 + 0.5;
        let step = ramp.steps.iter().rposition(reached);
        self.ramp.started = step.is_some();
        self.ramp.step = step.unwrap_or(0);
        self.ramp.since = now;
    }

    /// What cannot be asked is believed to be at the first step.
    pub(super) fn assume_ramp(&mut self, now: Timestamp) {
        if !self.ramp.started && self.policy.ramp.as_ref().is_some_and(|r| r.hand.level == Level::C) {
            self.ramp.started = true;
            self.ramp.since = now;
        }
    }

    /// A pass at the step's own traffic: the next one, or a question.
    pub(super) fn advance(&mut self, now: Timestamp, reason: &str, out: &mut Vec<Command>) {
        let waits = self.ramp.act.is_some() || self.ramp.paused.is_some() || self.approval.is_some();
        let own = self.verdict.as_ref().is_some_and(|v| v.at > self.ramp.since);
        if self.phase != Phase::Watching || !self.ramp.started || waits || !own {
            return;
        }
        let Some(next) = self.step_after() else { return };
        let percent = self.percent(next);
        if self.policy.approval.promote {
            return self.ask(now, Desired::of_percent(percent), reason, out);
        }
        self.intend_step(now, next, reason.to_owned(), None, out);
    }

    pub(super) fn step_after(&self) -> Option<usize> {
        let ramp = self.policy.ramp.as_ref()?;
        let next = self.ramp.step + 1;
        (next < ramp.steps.len()).then_some(next)
    }

    fn percent(&self, step: usize) -> u8 {
        self.policy.ramp.as_ref().and_then(|r| r.steps.get(step).copied()).unwrap_or(100)
    }

    /// Whether the share in force is the last of the ramp.
    pub(super) fn is_at_last_step(&self) -> bool {
        self.ramp.started && self.step_after().is_none()
    }

    fn may_step(&self) -> Result<(), String> {
        if let Some(by) = self.held_by.as_ref().or(self.gates.hold.as_ref()) {
            return Err(format!("held by {by}"));
        }
        if self.failing {
            return Err("the canary is called worse".to_owned());
        }
        if let Some(why) = &self.gates.alarm {
            return Err(why.clone());
        }
        Ok(())
    }

    /// Writes the step's intent down and asks for what must be known before the call.
    pub(super) fn intend_step(
        &mut self,
        now: Timestamp,
        step: usize,
        reason: String,
        ordered_by: Option<String>,
        out: &mut Vec<Command>,
    ) {
        let Some(Ramp { hand, .. }) = self.policy.ramp.clone() else { return };
        if ordered_by.is_none() && self.may_step().is_err() {
            return;
        }
        let wanted = Desired::of_percent(self.percent(step));
        let actor = ordered_by.clone().unwrap_or_else(|| DAVY.to_owned());
        self.audit(now, &actor, wanted.as_str(), &reason, &format!("{} %: intended", wanted.percent()), out);
        let id = self.act_id(wanted);
        let level = hand.level;
        self.ramp.act = Some(Act::new(id, wanted, hand, reason, ordered_by, now));
        if level == Level::C {
            self.call_step(now, None, out);
        } else {
            self.read_for(now, Purpose::Step, out);
        }
    }

    fn call_step(&mut self, now: Timestamp, state: Option<&TargetState>, out: &mut Vec<Command>) {
        let Some(act) = self.ramp.act.as_mut() else { return };
        act.expect = state.map(expect_of);
        if self.policy.dry_run {
            act.state = ActState::Recorded;
            let what =
                format!("dry run: {} would have been called for {} %", act.actuator, act.desired.percent());
            return self.pause(now, what, out);
        }
        act.attempts += 1;
        act.state = ActState::Calling;
        act.intended_at = now;
        let outcome =
            format!("{} %: called, attempt {} of {ATTEMPTS_MAX}", act.desired.percent(), act.attempts);
        let (reason, wanted) = (act.reason.clone(), act.desired);
        self.audit(now, DAVY, "call", &reason, &outcome, out);
        out.push(Command::Call(self.request(wanted)));
    }

    /// Before the call, after one whose result is not known, and to see that it worked: the target decides.
    pub(super) fn read_step(
        &mut self,
        now: Timestamp,
        state: Result<TargetState, ReadError>,
        out: &mut Vec<Command>,
    ) {
        let Some(act) = self.ramp.act.as_mut() else { return };
        let state = match state {
            Ok(state) => state,
            Err(ReadError::Unreachable(why)) => {
                act.failures += 1;
                act.detail = format!("the target cannot be read: {why}");
                self.read_due = now + backoff(act.failures);
                return;
            }
            Err(ReadError::Unusable(why)) => {
                return self.pause(now, format!("the target cannot be used: {why}"), out);
            }
        };
        if state.live.is(act.desired) {
            return self.step_done(now, Some(&state), out);
        }
        let (ordered, called) = (act.ordered_by.is_some(), act.state);
        let hand = self.policy.ramp.as_ref().map(|r| r.hand.clone());
        let unchanged = self.known.get(&act.actuator).is_some_and(|k| k.is(&state));
        match &state.live {
            Live::Other(by) => {
                let reason = format!("superseded by {by}");
                self.abandon_step();
                return self.enter(now, Phase::Closed, DAVY, "close", reason, out);
            }
            Live::Baseline if self.ramp.started && !unchanged => {
                self.abandon_step();
                if let Some(hand) = hand {
                    self.adopt(now, hand, out);
                }
                return;
            }
            Live::Baseline | Live::Share(_) => {}
        }
        if !ordered {
            self.heed_mark(now, &state, out);
            if let Some(why) = self.barred(&state) {
                return self.pause(now, why, out);
            }
        }
        if !unchanged && !ordered {
            return self.step_again(now, &state, out);
        }
        if let Some(why) = &state.refusal {
            return self.pause(now, why.clone(), out);
        }
        let act = self.ramp.act.as_mut().expect("looked at above");
        match called {
            // Accepted, and nothing was done so far.
            ActState::Accepted if now.since(act.intended_at) < self.policy.verify_timeout => {
                act.failures += 1;
                self.read_due = now + backoff(act.failures);
            }
            ActState::Accepted => {
                let why = format!("accepted, and the target still says: {}", words(&state.live));
                self.pause(now, why, out);
            }
            _ if act.attempts >= ATTEMPTS_MAX => {
                self.pause(now, format!("{ATTEMPTS_MAX} attempts changed nothing"), out);
            }
            _ => match if ordered { Ok(()) } else { self.may_step() } {
                Ok(()) => self.call_step(now, Some(&state), out),
                Err(why) => self.withdraw_step(now, &why, out),
            },
        }
    }

    /// Someone else changed the target: what is there now is judged at its own traffic.
    fn step_again(&mut self, now: Timestamp, state: &TargetState, out: &mut Vec<Command>) {
        if let Some(act) = &self.ramp.act {
            self.known.insert(act.actuator.clone(), Known::of(state));
        }
        self.failed_at = None;
        let why = format!("someone else changed the target to generation {}", state.generation);
        self.withdraw_step(now, &why, out);
        self.place_ramp(now, &state.live);
    }

    fn withdraw_step(&mut self, now: Timestamp, why: &str, out: &mut Vec<Command>) {
        self.audit(now, DAVY, "withdraw", why, "the step was not taken", out);
        self.abandon_step();
    }

    pub(super) fn step_called(
        &mut self,
        now: Timestamp,
        wanted: Desired,
        outcome: CallOutcome,
        out: &mut Vec<Command>,
    ) {
        let in_flight =
            self.ramp.act.as_mut().filter(|a| a.desired == wanted && a.state == ActState::Calling);
        let Some(act) = in_flight else {
            let text = describe(&outcome);
            self.audit(now, DAVY, "call", &text, "ignored: no such step of this release is in flight", out);
            return;
        };
        act.detail = describe(&outcome);
        match outcome {
            CallOutcome::Accepted { .. } if act.level == Level::C => self.step_done(now, None, out),
            CallOutcome::Accepted { state: Some(state), .. } if state.live.is(wanted) => {
                self.step_done(now, Some(&state), out);
            }
            CallOutcome::Accepted { .. } => {
                act.state = ActState::Accepted;
                self.read_for(now, Purpose::Step, out);
            }
            CallOutcome::Unknown { detail } if act.level == Level::C => {
                self.pause(now, format!("the call may or may not have been carried out: {detail}"), out);
            }
            CallOutcome::Unknown { .. } => {
                act.state = ActState::Unknown;
                self.read_for(now, Purpose::Step, out);
            }
            CallOutcome::Conflict { .. } if act.level != Level::C => {
                act.state = ActState::Reading;
                self.read_for(now, Purpose::Step, out);
            }
            CallOutcome::Conflict { detail } | CallOutcome::Rejected { detail } => {
                self.pause(now, format!("the call was rejected: {detail}"), out);
            }
            CallOutcome::NotSent { detail } => {
                act.failures += 1;
                if act.failures >= ATTEMPTS_MAX {
                    return self.pause(now, format!("the call could not be delivered: {detail}"), out);
                }
                act.state = ActState::Waiting(now + backoff(act.failures));
            }
        }
    }

    fn step_done(&mut self, now: Timestamp, state: Option<&TargetState>, out: &mut Vec<Command>) {
        let Some(mut act) = self.ramp.act.take() else { return };
        act.state = ActState::Verified;
        let wanted = act.desired;
        if let Some(state) = state {
            self.known.insert(act.actuator.clone(), Known::of(state));
            act.detail = format!("read back at generation {}", state.generation);
        }
        self.done.push(act);
        let steps = self.policy.ramp.as_ref().map_or(&[][..], |r| &r.steps);
        self.ramp.step = steps.iter().position(|p| *p >= wanted.percent()).unwrap_or(self.ramp.step);
        self.ramp.started = true;
        self.ramp.since = now;
        self.resolve(Kind::RampPaused, &Said::new("done.ramp_goes_on"), out);
        let done = Said::new("done.step").with("canary", &self.canary).with("percent", wanted.percent());
        let reached = format!("{} has {} % of the requests", self.canary, wanted.percent());
        if wanted == Desired::Canary && self.phase == Phase::Watching {
            self.enter(now, Phase::Promoted, DAVY, "promote", reached.clone(), out);
        } else {
            self.audit(now, DAVY, wanted.as_str(), &reached, "done", out);
        }
        self.raise(Kind::RampStep, now, &done, out);
    }

    /// Leaves the share where it is and tells someone.
    pub(super) fn pause(&mut self, now: Timestamp, why: String, out: &mut Vec<Command>) {
        if let Some(act) = self.ramp.act.as_mut() {
            act.detail = why.clone();
        }
        self.abandon_step();
        self.audit(now, DAVY, "pause", &why, "the ramp waits for an operator", out);
        self.raise(Kind::RampPaused, now, &Said::new("done.share_stays").with("why", &why), out);
        self.ramp.paused = Some(why);
    }

    /// Takes the step's act from the table. One that may have been carried out stays on record as unknown.
    pub(super) fn abandon_step(&mut self) {
        let Some(mut act) = self.ramp.act.take() else { return };
        act.state = match act.state {
            ActState::Reading | ActState::Waiting(_) => ActState::Undelivered,
            ActState::Calling | ActState::Accepted => ActState::Unknown,
            other => other,
        };
        self.done.push(act);
        if self.reading.is_some_and(|r| r.purpose == Purpose::Step) {
            self.reading = None;
        }
    }

    /// Goes on with a step that is due; gives up in time.
    pub(super) fn retry_step(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let Some(act) = &self.ramp.act else { return };
        let (level, state) = (act.level, act.state);
        let too_long = act.failures > 0 && now.since(act.intended_at) >= WAITING_MAX;
        match state {
            _ if too_long => {
                let why = format!("the step could not be taken in time: {}", act.detail);
                self.pause(now, why, out);
            }
            ActState::Waiting(until)
                if now >= until
                    && level == Level::C
                    && (act.ordered_by.is_some() || self.may_step().is_ok()) =>
            {
                self.call_step(now, None, out);
            }
            ActState::Waiting(until) if now >= until && level != Level::C => {
                self.ramp.act.as_mut().expect("looked at above").state = ActState::Reading;
                self.read_for(now, Purpose::Step, out);
            }
            ActState::Calling if now.since(act.intended_at) >= RESULT_LOST_AFTER => {
                let wanted = act.desired;
                let detail = "no result of the call was reported".to_owned();
                self.step_called(now, wanted, CallOutcome::Unknown { detail }, out);
            }
            ActState::Reading | ActState::Unknown | ActState::Accepted if level != Level::C => {
                self.read_again(now, Purpose::Step, out);
            }
            _ => {}
        }
    }
}
