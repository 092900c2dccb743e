//! `ReleaseMachine`: one release's state, and what each event does to it.
//!
//! Verdicts are handled here; calls in [`call`](super::call), looks in [`look`](super::look), people in
//! [`operator`](super::operator).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_detector::{Contract, Outcome, Verdict};
use davy_model::Timestamp;
use davy_store::control::AuditRecord;

use super::act::{Act, ActState};
use super::alerts::Kind;
use super::approval::Asked;
use super::look::{Look, Streaks};
use super::ramp::RampRun;
use super::read::{Known, Purpose, Reading};
use super::{Command, Desired, Event, Gates, Level, Phase, Taken};
use crate::config::{OnFail, Policy};
use crate::words::Said;

/// Older evidence, verdict or look, moves nothing: the process may have been asleep.
pub(super) const EVIDENCE_AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// Undecided for this many times the policy's watch: someone is told.
const WATCH_PAGE_TIMES: u32 = 2;
const HOLD_PAGE_AFTER: Duration = Duration::from_secs(4 * 3600);
const PROMOTING_PAGE_AFTER: Duration = Duration::from_secs(4 * 3600);
const PROMOTED_PAGE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// No usable look at the live versions for this long: Davy says that it is blind.
const BLIND_PAGE_AFTER: Duration = Duration::from_secs(5 * 60);

/// Davy's own name in the audit log.
pub(super) const DAVY: &str = "davy";

#[derive(Debug, Clone)]
pub struct ReleaseMachine {
    pub(super) generation: i64,
    pub(super) id: String,
    pub(super) service: String,
    pub(super) baseline: String,
    pub(super) canary: String,
    pub(super) policy: Policy,
    pub(super) started_at: Timestamp,

    pub(super) phase: Phase,
    /// When the phase was entered, and why.
    pub(super) since: Timestamp,
    pub(super) reason: String,

    /// The last verdict; from the call on, the one that led to it.
    pub(super) verdict: Option<Verdict>,
    pub(super) decided: Option<(Outcome, Timestamp)>,
    /// A fail was reported and no pass has come since.
    pub(super) failing: bool,
    /// Time of the newest verdict if it is a usable fail. Not kept over a restart: it must be said again.
    pub(super) failed_at: Option<Timestamp>,
    /// When the canary was last seen to be down. Not kept over a restart.
    pub(super) down_at: Option<Timestamp>,

    pub(super) held_by: Option<String>,
    /// An operator decided for the canary: no automatic rollback until an operator resumes.
    pub(super) overridden_by: Option<String>,
    /// Generation of the target whose mark was heeded; what an operator resumed since is not taken back.
    pub(super) heeded: Option<String>,
    pub(super) superseded_by: Option<String>,

    pub(super) rollback: Option<Act>,
    pub(super) ramp: RampRun,
    /// Acts that are over.
    pub(super) done: Vec<Act>,
    /// Intents so far.
    pub(super) acts: u32,
    /// The generation of each actuator's target that is judged.
    pub(super) known: BTreeMap<String, Known>,
    /// The act that waits for a human.
    pub(super) approval: Option<Asked>,
    pub(super) gates: Gates,

    /// Not kept over a restart: it is asked again.
    pub(super) reading: Option<Reading>,
    pub(super) ticket: u64,
    pub(super) read_due: Timestamp,
    pub(super) begin_failures: u32,
    /// Whether the target was seen at the baseline since the rollback was called.
    pub(super) read_back: bool,

    /// The canary's share of the requests when the rollback was intended.
    pub(super) share_at_call: Option<f64>,
    /// Time spent looking, not blind, since the call.
    pub(super) verified_for: Duration,

    /// Not kept over a restart: it must be looked again.
    pub(super) look: Option<Look>,
    pub(super) streaks: Streaks,
    /// Last time that either version was seen.
    pub(super) seen_at: Timestamp,

    pub(super) raised: BTreeSet<Kind>,
    /// Metrics that are worse without failing the release, and have been alerted on.
    pub(super) worse_metrics: BTreeSet<String>,
}

impl ReleaseMachine {
    pub fn new(
        generation: i64,
        id: String,
        service: String,
        baseline: String,
        canary: String,
        policy: Policy,
        now: Timestamp,
    ) -> Self {
        Self {
            generation,
            id,
            service,
            reason: format!("{canary} appeared beside {baseline}"),
            baseline,
            canary,
            policy,
            started_at: now,
            phase: Phase::Watching,
            since: now,
            verdict: None,
            decided: None,
            failing: false,
            failed_at: None,
            down_at: None,
            held_by: None,
            overridden_by: None,
            heeded: None,
            superseded_by: None,
            rollback: None,
            ramp: RampRun { since: now, ..RampRun::default() },
            done: Vec::new(),
            acts: 0,
            known: BTreeMap::new(),
            approval: None,
            gates: Gates::default(),
            reading: None,
            ticket: 0,
            read_due: now,
            begin_failures: 0,
            read_back: false,
            share_at_call: None,
            verified_for: Duration::ZERO,
            look: None,
            streaks: Streaks::default(),
            seen_at: now,
            raised: BTreeSet::new(),
            worse_metrics: BTreeSet::new(),
        }
    }

    /// What the event leads to. Write [`Self::batch`] of the answer before performing it.
    pub fn step(&mut self, now: Timestamp, event: Event<'_>) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Judged(verdict) => self.judged(now, verdict, &mut out),
            Event::Live(liveness) => self.looked(now, liveness, &mut out),
            // Nothing follows from it alone: the look of the same interval is still to come.
            Event::Gates(gates) => {
                self.gates = gates;
                return out;
            }
            Event::Read { ticket, state } => self.heard(now, ticket, state, &mut out),
            Event::Called(Desired::Baseline, outcome) => self.called(now, outcome, &mut out),
            Event::Called(wanted, outcome) => self.step_called(now, wanted, outcome, &mut out),
            Event::Operator(act, actor, reason) => self.ordered(now, act, &actor, &reason, &mut out),
            Event::Restarted => self.restarted(now, &mut out),
            Event::Superseded { by } => self.superseded(now, by, &mut out),
            Event::Tick => {}
        }
        self.time_passed(now, &mut out);
        // The target is asked and called once everything else has been taken care of.
        out.sort_by_key(|c| matches!(c, Command::Call(_) | Command::Read(_)));
        out
    }

    /// When a [`Event::Tick`] is due; `None` while only looks and verdicts can move the machine.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let acts = [self.rollback.as_ref(), self.ramp.act.as_ref()];
        let due = |act: &Act| match act.state {
            ActState::Waiting(until) => Some(until),
            ActState::Reading | ActState::Unknown if self.reading.is_none() && act.level != Level::C => {
                Some(self.read_due)
            }
            _ => None,
        };
        let unread = self.phase == Phase::Watching && self.reading.is_none() && self.unread_hand().is_some();
        acts.into_iter().flatten().filter_map(due).chain(unread.then_some(self.read_due)).min()
    }

    fn judged(&mut self, now: Timestamp, verdict: &Verdict, out: &mut Vec<Command>) {
        if !self.phase.is_judged() {
            return;
        }
        let usable = verdict.contract == Contract::Ok && now.since(verdict.at) <= EVIDENCE_AGE_MAX;
        let outcome = if usable { verdict.outcome } else { Outcome::Insufficient };
        // A safety rule or a canary that is down goes on speaking for itself.
        self.failed_at = (outcome == Outcome::Fail).then_some(verdict.at).or(self.alarmed_at(now));
        if self.phase == Phase::RollingBack {
            return; // what led to the call stays on show; `failed_at` is what a retry asks for
        }
        self.verdict = Some(verdict.clone());
        if outcome != Outcome::Insufficient && self.decided.is_none_or(|(was, _)| was != outcome) {
            self.decided = Some((outcome, now));
        }
        match outcome {
            Outcome::Pass => self.passed(now, verdict, out),
            Outcome::Fail => self.failed(now, &verdict.reason, out),
            Outcome::Insufficient => {}
        }
        if usable {
            self.alert_on_metrics(now, verdict, out);
        }
    }

    fn passed(&mut self, now: Timestamp, verdict: &Verdict, out: &mut Vec<Command>) {
        if self.alarmed_at(now).is_some() {
            return;
        }
        self.failing = false;
        let how = Said::new("done.passes").with("reason", &verdict.reason);
        self.resolve(Kind::CanaryRegression, &how, out);
        self.resolve(Kind::RollbackBlocked, &how, out);
        if self.approval.as_ref().is_some_and(|a| a.desired == Desired::Baseline) {
            self.withdraw_question(&how, out);
        }
        if self.policy.ramp.is_some() && !self.is_at_last_step() {
            return self.advance(now, &verdict.reason, out);
        }
        if self.phase == Phase::Watching && now.since(self.started_at) >= self.policy.watch {
            let reason = format!("passed its watch: {}", verdict.reason);
            self.enter(now, Phase::Promoted, DAVY, "promote", reason, out);
        }
    }

    /// What a fail leads to depends on the policy and the phase; that someone hears of it does not.
    pub(super) fn failed(&mut self, now: Timestamp, reason: &str, out: &mut Vec<Command>) {
        let onset = !std::mem::replace(&mut self.failing, true);
        if self.approval.as_ref().is_some_and(|a| a.desired != Desired::Baseline) {
            self.withdraw_question(&Said::new("done.called_worse"), out);
        }
        let done = match (self.phase, self.policy.on_fail) {
            (Phase::Watching | Phase::Promoted, OnFail::Record) => Said::new("done.record"),
            // An operator who resumed has seen this fail; only a new one holds again.
            (Phase::Watching | Phase::Promoted, OnFail::Hold) if onset => {
                self.enter(now, Phase::Holding, DAVY, "hold", reason.to_owned(), out);
                Said::new("done.holds")
            }
            (Phase::Watching | Phase::Promoted, OnFail::Hold) => Said::new("done.resumed"),
            (Phase::Watching | Phase::Promoted, OnFail::Rollback) => match self.may_roll_back(now) {
                Ok(hand) => match self.needs_approval() {
                    None => {
                        self.intend(now, hand, reason.to_owned(), None, out);
                        if self.phase != Phase::Watching {
                            self.raise(Kind::CanaryRegression, now, &self.calling(), out);
                        }
                        return;
                    }
                    Some(why) => {
                        self.ask(now, Desired::Baseline, reason, out);
                        Said::new("done.rollback_asked").with("why", why)
                    }
                },
                Err(why) => {
                    self.blocked(now, &why, out);
                    Said::new("done.not_rolled_back").with("why", why)
                }
            },
            (Phase::Holding, _) => Said::new("done.on_hold"),
            (Phase::Promoting, _) => Said::new("done.promoted"),
            (
                Phase::RollingBack | Phase::Verifying | Phase::RolledBack | Phase::NeedsHuman | Phase::Closed,
                _,
            ) => return,
        };
        if onset {
            self.audit(now, DAVY, "judge", reason, &format!("fail: {}", done.english()), out);
            self.raise(Kind::CanaryRegression, now, &done, out);
        }
    }

    fn restarted(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        self.look = None;
        self.failed_at = None;
        self.streaks = Streaks::default();
        // Not having run is not being blind.
        self.seen_at = self.seen_at.max(now);
        self.reading = None;
        self.read_due = now;
        let lost = || "Davy stopped while the call was in flight".to_owned();
        if let Some(act) = self.rollback.as_mut().filter(|r| r.state == ActState::Calling) {
            if act.level == Level::C {
                self.unknown(now, lost(), out);
            } else {
                (act.state, act.detail) = (ActState::Unknown, lost());
            }
        }
        if let Some(act) = self.ramp.act.as_mut().filter(|a| a.state == ActState::Calling) {
            if act.level == Level::C {
                self.pause(now, format!("the call may or may not have been carried out: {}", lost()), out);
            } else {
                (act.state, act.detail) = (ActState::Unknown, lost());
            }
        }
    }

    fn superseded(&mut self, now: Timestamp, by: String, out: &mut Vec<Command>) {
        let reason = format!("superseded by {by}");
        // A drill is over when its fleet is gone, whatever it had come to.
        if self.policy.drill.is_some() && self.phase != Phase::Closed {
            self.reading = None;
            return self.enter(now, Phase::Closed, DAVY, "close", reason, out);
        }
        match self.phase {
            Phase::Watching | Phase::Holding | Phase::Promoting | Phase::Promoted | Phase::NeedsHuman => {
                self.enter(now, Phase::Closed, DAVY, "close", reason, out);
            }
            Phase::RollingBack => {
                self.superseded_by = Some(by);
                if self.rollback.as_ref().is_some_and(|r| matches!(r.state, ActState::Waiting(_))) {
                    self.undelivered();
                    self.enter(now, Phase::Closed, DAVY, "close", reason, out);
                }
            }
            // The call is out: only the live versions can tell what came of it.
            Phase::Verifying => {
                if self.superseded_by.as_ref() != Some(&by) {
                    self.audit(now, DAVY, "close", &reason, "refused: the rollback is being verified", out);
                    self.superseded_by = Some(by);
                }
            }
            Phase::RolledBack => self.enter(now, Phase::Closed, DAVY, "close", reason, out),
            Phase::Closed => {}
        }
    }

    /// Retries that are due, and time-outs: each tells someone, none does anything to the release.
    fn time_passed(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.phase == Phase::Watching {
            if self.unread_hand().is_some() {
                self.read_again(now, Purpose::Begin, out);
            } else if self.look.is_some_and(|l| !l.blind) {
                self.assume_ramp(now);
            }
        }
        self.retry(now, out);
        self.retry_step(now, out);
        self.expire_question(now, out);
        let limit = match self.phase {
            Phase::Watching => Some(self.policy.watch.saturating_mul(WATCH_PAGE_TIMES)),
            Phase::Holding => Some(HOLD_PAGE_AFTER),
            Phase::Promoting => Some(PROMOTING_PAGE_AFTER),
            Phase::Promoted => Some(PROMOTED_PAGE_AFTER),
            // These end in `needs_human` by themselves, or have.
            Phase::RollingBack | Phase::Verifying | Phase::NeedsHuman | Phase::RolledBack | Phase::Closed => {
                None
            }
        };
        let since = self.since.max(self.ramp.since);
        if limit.is_some_and(|l| now.since(since) >= l) && !self.raised.contains(&Kind::ReleaseStuck) {
            let waiting = Said::new("done.stuck")
                .with("phase", self.phase.as_str())
                .with("since", crate::time::for_people(since));
            self.raise(Kind::ReleaseStuck, now, &waiting, out);
        }
        let looking = !matches!(self.phase, Phase::RolledBack | Phase::Closed);
        if looking && now.since(self.seen_at) >= BLIND_PAGE_AFTER && !self.raised.contains(&Kind::DavyBlind) {
            self.raise(Kind::DavyBlind, now, &Said::new("done.blind"), out);
        }
    }

    pub(super) fn enter(
        &mut self,
        now: Timestamp,
        to: Phase,
        actor: &str,
        action: &str,
        reason: String,
        out: &mut Vec<Command>,
    ) {
        let outcome = format!("{} -> {}", self.phase.as_str(), to.as_str());
        self.audit(now, actor, action, &reason, &outcome, out);
        let said = Said::new("done.phase").with("outcome", &outcome);
        self.resolve(Kind::ReleaseStuck, &said, out);
        (self.phase, self.since) = (to, now);
        if matches!(to, Phase::Closed | Phase::RolledBack | Phase::NeedsHuman | Phase::Holding) {
            self.abandon_step();
            self.withdraw_question(&said, out);
        }
        if to == Phase::Closed {
            self.reading = None;
            self.resolve_all(&Said::new("done.closed").with("reason", &reason), out);
        }
        self.reason = reason;
    }

    pub(super) fn audit(
        &self,
        now: Timestamp,
        actor: &str,
        action: &str,
        reason: &str,
        outcome: &str,
        out: &mut Vec<Command>,
    ) {
        out.push(Command::Audit(AuditRecord {
            at: now,
            actor: actor.to_owned(),
            action: action.to_owned(),
            target: self.id.clone(),
            reason: reason.to_owned(),
            outcome: outcome.to_owned(),
        }));
    }
}

/// For showing.
impl ReleaseMachine {
    pub fn generation(&self) -> i64 {
        self.generation
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn service(&self) -> &str {
        &self.service
    }

    pub fn baseline(&self) -> &str {
        &self.baseline
    }

    pub fn canary(&self) -> &str {
        &self.canary
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why the phase was entered.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    pub fn rollback(&self) -> Option<&Act> {
        self.rollback.as_ref()
    }

    /// The rollbacks that count against the budgets.
    pub fn taken(&self) -> impl Iterator<Item = Taken> {
        let real = self.policy.drill.is_none();
        self.done.iter().chain(&self.rollback).filter(move |a| real && a.is_taken()).map(|a| Taken {
            at: a.intended_at,
            service: self.service.clone(),
            canary: self.canary.clone(),
            open: a.state.is_open(),
        })
    }

    /// Whether the judge, a safety rule or the versions themselves call the canary bad.
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// The step of the ramp that is under way.
    pub fn step_under_way(&self) -> Option<&Act> {
        self.ramp.act.as_ref()
    }

    /// The canary's share that the ramp has reached, in percent, and since when; `None` without a ramp, or before
    /// its first step.
    pub fn step_in_force(&self) -> Option<(u8, Timestamp)> {
        let ramp = self.policy.ramp.as_ref().filter(|_| self.ramp.started)?;
        Some((*ramp.steps.get(self.ramp.step)?, self.ramp.since))
    }

    /// How many reads were asked for since the start: the ticket of the newest.
    pub fn reads(&self) -> u64 {
        self.ticket
    }

    /// Why the ramp waits for an operator.
    pub fn ramp_paused(&self) -> Option<&str> {
        self.ramp.paused.as_deref()
    }

    /// What waits for a human's approval, and why.
    pub fn awaits(&self) -> Option<(Desired, &str)> {
        self.approval.as_ref().map(|a| (a.desired, a.reason.as_str()))
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// After a reload of the file. What has been intended stays intended.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }
}
