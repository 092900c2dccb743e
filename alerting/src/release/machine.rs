//! `ReleaseMachine`: one release's state, and what each event does to it.
//!
//! Verdicts are handled here; calls in [`call`](super::call), looks in [`look`](super::look), people in
//! [`operator`](super::operator).

use std::collections::BTreeSet;
use std::time::Duration;

use davy_detector::{Contract, Outcome, Verdict};
use davy_model::Timestamp;
use davy_store::control::AuditRecord;

use super::alerts::Kind;
use super::look::{Look, Streaks};
use super::{Command, Event, Phase, Rollback, RollbackState};
use crate::config::{OnFail, Policy};

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

    pub(super) held_by: Option<String>,
    /// An operator decided for the canary: no automatic rollback until an operator resumes.
    pub(super) overridden_by: Option<String>,
    pub(super) superseded_by: Option<String>,

    pub(super) rollback: Option<Rollback>,
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
            held_by: None,
            overridden_by: None,
            superseded_by: None,
            rollback: None,
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
            Event::Called(outcome) => self.called(now, outcome, &mut out),
            Event::Operator(act, actor, reason) => self.ordered(now, act, &actor, &reason, &mut out),
            Event::Restarted => self.restarted(now, &mut out),
            Event::Superseded { by } => self.superseded(now, by, &mut out),
            Event::Tick => {}
        }
        self.time_passed(now, &mut out);
        // A call is only made once everything else about it has been taken care of.
        out.sort_by_key(|c| matches!(c, Command::Call(_)));
        out
    }

    /// When a [`Event::Tick`] is due; `None` while only looks and verdicts can move the machine.
    pub fn wake_at(&self) -> Option<Timestamp> {
        match self.rollback.as_ref().map(|r| r.state) {
            Some(RollbackState::Waiting(until)) => Some(until),
            _ => None,
        }
    }

    fn judged(&mut self, now: Timestamp, verdict: &Verdict, out: &mut Vec<Command>) {
        if !self.phase.is_judged() {
            return;
        }
        let usable = verdict.contract == Contract::Ok && now.since(verdict.at) <= EVIDENCE_AGE_MAX;
        let outcome = if usable { verdict.outcome } else { Outcome::Insufficient };
        self.failed_at = (outcome == Outcome::Fail).then_some(verdict.at);
        if self.phase == Phase::RollingBack {
            return; // what led to the call stays on show; `failed_at` is what a retry asks for
        }
        self.verdict = Some(verdict.clone());
        if outcome != Outcome::Insufficient && self.decided.is_none_or(|(was, _)| was != outcome) {
            self.decided = Some((outcome, now));
        }
        match outcome {
            Outcome::Pass => self.passed(now, verdict, out),
            Outcome::Fail => self.failed(now, verdict, out),
            Outcome::Insufficient => {}
        }
        if usable {
            self.alert_on_metrics(now, verdict, out);
        }
    }

    fn passed(&mut self, now: Timestamp, verdict: &Verdict, out: &mut Vec<Command>) {
        self.failing = false;
        self.resolve(Kind::CanaryRegression, &format!("The judge now says pass: {}", verdict.reason), out);
        if self.phase == Phase::Watching && now.since(self.started_at) >= self.policy.watch {
            let reason = format!("passed its watch: {}", verdict.reason);
            self.enter(now, Phase::Promoted, DAVY, "promote", reason, out);
        }
    }

    /// What a fail leads to depends on the policy and the phase; that someone hears of it does not.
    fn failed(&mut self, now: Timestamp, verdict: &Verdict, out: &mut Vec<Command>) {
        let onset = !std::mem::replace(&mut self.failing, true);
        let done = match (self.phase, self.policy.on_fail) {
            (Phase::Watching | Phase::Promoted, OnFail::Record) => {
                "Nothing was done: on_fail is record.".to_owned()
            }
            // An operator who resumed has seen this fail; only a new one holds again.
            (Phase::Watching | Phase::Promoted, OnFail::Hold) if onset => {
                self.enter(now, Phase::Holding, DAVY, "hold", verdict.reason.clone(), out);
                "The release is on hold until an operator resumes.".to_owned()
            }
            (Phase::Watching | Phase::Promoted, OnFail::Hold) => {
                "Nothing was done: an operator resumed.".to_owned()
            }
            (Phase::Watching | Phase::Promoted, OnFail::Rollback) => match self.may_roll_back(now) {
                Ok(actuator) => {
                    self.intend(now, actuator, verdict.reason.clone(), None, out);
                    self.raise(Kind::CanaryRegression, now, &self.calling(), out);
                    return;
                }
                Err(why) => format!("Nothing was rolled back: {why}."),
            },
            (Phase::Holding, _) => "Nothing was done: the release is on hold.".to_owned(),
            (Phase::Promoting, _) => "Nothing was done: an operator promoted this version.".to_owned(),
            (
                Phase::RollingBack | Phase::Verifying | Phase::RolledBack | Phase::NeedsHuman | Phase::Closed,
                _,
            ) => return,
        };
        if onset {
            self.audit(now, DAVY, "judge", &verdict.reason, &format!("fail: {done}"), out);
            self.raise(Kind::CanaryRegression, now, &done, out);
        }
    }

    fn restarted(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        self.look = None;
        self.failed_at = None;
        self.streaks = Streaks::default();
        // Not having run is not being blind.
        self.seen_at = self.seen_at.max(now);
        if self.rollback.as_ref().is_some_and(|r| r.state == RollbackState::Calling) {
            self.unknown(now, "Davy stopped while the call was in flight".to_owned(), out);
        }
    }

    fn superseded(&mut self, now: Timestamp, by: String, out: &mut Vec<Command>) {
        let reason = format!("superseded by {by}");
        match self.phase {
            Phase::Watching | Phase::Holding | Phase::Promoting | Phase::Promoted | Phase::NeedsHuman => {
                self.enter(now, Phase::Closed, DAVY, "close", reason, out);
            }
            Phase::RollingBack => {
                self.superseded_by = Some(by);
                if self.rollback.as_ref().is_some_and(|r| matches!(r.state, RollbackState::Waiting(_))) {
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
            Phase::RolledBack => self.resolve_all(&format!("The release is {reason}."), out),
            Phase::Closed => {}
        }
    }

    /// Retries that are due, and time-outs: each tells someone, none does anything to the release.
    fn time_passed(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        self.retry(now, out);
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
        if limit.is_some_and(|l| now.since(self.since) >= l) && !self.raised.contains(&Kind::ReleaseStuck) {
            let waiting = format!("{} since {}", self.phase.as_str(), crate::time::for_people(self.since));
            self.raise(Kind::ReleaseStuck, now, &waiting, out);
        }
        let looking = !matches!(self.phase, Phase::RolledBack | Phase::Closed);
        if looking && now.since(self.seen_at) >= BLIND_PAGE_AFTER && !self.raised.contains(&Kind::DavyBlind) {
            self.raise(Kind::DavyBlind, now, "Nothing is decided until the versions are seen again.", out);
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
        self.resolve(Kind::ReleaseStuck, &outcome, out);
        (self.phase, self.since) = (to, now);
        if to == Phase::Closed {
            self.resolve_all(&format!("The release is closed: {reason}."), out);
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

    pub fn rollback(&self) -> Option<&Rollback> {
        self.rollback.as_ref()
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// After a reload of the file. What has been intended stays intended.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }
}
