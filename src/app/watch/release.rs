//! `Running`: one release that is watched: its machine, what observes it, and what judges it.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use davy_alerting::config::{OnFail, Policy};
use davy_alerting::record::RecordError;
use davy_alerting::release::quorum::Sight;
use davy_alerting::release::{Command, Event, Gates, Liveness, Phase, ReleaseMachine};
use davy_api::wire;
use davy_detector::config::ReleaseSpec;
use davy_detector::{Arm, Arms, Broken, Calibration, Contract, Interval, Observer, Plan, Verdict, survey};
use davy_model::Timestamp;
use davy_store::control::{ActionRecord, AuditRecord, Control, ControlBatch, ReleaseRecord};
use davy_store::{Snapshot, SpanQuery, Store};
use tracing::{error, info, warn};

use super::pace::{LOOK_AGAIN, Pace, SETTLE_MAX};
use super::recovery::Recovery;
use super::sight::Eyes;
use super::step;
use super::step::StepRun;
use super::targets::Targets;
use super::versions::Found;
use super::view::TRACES_MAX;
use crate::analysis::{self, Analysis};
use crate::sources::Reach;

/// How often a machine that waits for something is asked again.
const WAKE_AGAIN: Duration = Duration::from_secs(1);
/// Intervals judged in one tick at most: after a long sleep, or when a restart replays the past.
const CATCH_UP_MAX: u32 = 4 * 60 * 24;
/// A release's metrics are looked for again after each of its first intervals, then now and then: a series
/// exists only once something has happened.
const PLAN_EVERY_INTERVAL: u64 = 40;
const PLAN_EVERY: u64 = 20;
/// Series seen within this time before now are the release's.
const PLAN_WINDOW: Duration = Duration::from_secs(300);
/// Evidence from which on failed traces are looked for.
const TRACES_EVIDENCE_MIN: f64 = 0.1;
/// Failed traces are looked for this far back.
const TRACES_AGE_MAX: Duration = Duration::from_secs(15 * 60);

pub(super) struct Running {
    machine: ReleaseMachine,
    spec: ReleaseSpec,
    arms: Arms,
    plan: Plan,
    observer: Observer,
    run: Analysis,
    started_at: Timestamp,
    next_end: Timestamp,
    /// Intervals stepped through, warm-up included.
    stepped: u64,
    verdict: Option<Verdict>,
    /// The step of the ramp that is judged by itself.
    step: Option<StepRun>,
    pace: Pace,
    /// Not before this time, where the scrapes of the interval are not in yet.
    look_again: Timestamp,
    stepped_at: Timestamp,
    eyes: Eyes,
    recovery: Option<Recovery>,
    /// Failed traces of the canary as of the last interval.
    traces: Vec<String>,
    /// As it is shown; made anew after a change.
    shown: OnceLock<Arc<wire::Release>>,
}

/// What one tick sees of the surroundings.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) targets: &'a Targets<'a>,
}

/// What one tick did.
#[derive(Default)]
pub(super) struct Stepped {
    pub(super) commands: Vec<Command>,
    /// Rows for the history of verdicts.
    pub(super) verdicts: Vec<(i64, Timestamp, String)>,
}

impl Stepped {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.verdicts.is_empty()
    }
}

impl Running {
    /// Writes the new release down and starts to watch it.
    pub(super) fn create(
        control: &Control,
        (spec, policy): (ReleaseSpec, Policy),
        found: &Found,
        now: Timestamp,
    ) -> Result<Self, davy_store::Error> {
        let policy = found.policy(policy);
        let arms = found.arms.clone();
        // The machine that gives the row its shape; the number comes from the database.
        let draft = ReleaseMachine::new(
            0,
            String::new(),
            arms.service.clone(),
            arms.baseline.clone(),
            arms.canary.clone(),
            policy.clone(),
            now,
        );
        let audit = AuditRecord {
            at: now,
            actor: "davy".to_owned(),
            action: "watch".to_owned(),
            target: format!("{} {} → {}", arms.service, arms.baseline, arms.canary),
            reason: found.reason.clone(),
            outcome: format!("on_fail: {}", policy.on_fail.as_str()),
        };
        let record = control.create_release(draft.to_record(), audit)?;
        let machine = ReleaseMachine::new(
            record.generation,
            record.id,
            arms.service.clone(),
            arms.baseline.clone(),
            arms.canary.clone(),
            policy,
            now,
        );
        let known = analysis::load(control, &arms.service, now);
        Ok(Self::watch(machine, arms, spec, now, &known))
    }

    fn watch(
        machine: ReleaseMachine,
        arms: Arms,
        spec: ReleaseSpec,
        started_at: Timestamp,
        known: &Calibration,
    ) -> Self {
        let plan = Plan::default();
        let judged = step::whole(&spec, machine.policy());
        Self {
            step: None,
            pace: Pace::default(),
            look_again: started_at,
            stepped_at: started_at,
            eyes: Eyes::default(),
            recovery: None,
            traces: Vec::new(),
            shown: OnceLock::new(),
            machine,
            observer: Observer::new(plan.clone(), arms.clone()),
            run: Analysis::new(&judged, &plan, started_at, known),
            arms,
            plan,
            started_at,
            next_end: started_at + spec.judge.interval,
            spec,
            stepped: 0,
            verdict: None,
        }
    }

    /// From its row after a restart, with the analysis replayed from the store. `None` for one that is over.
    pub(super) fn resume(
        record: &ReleaseRecord,
        (spec, policy): (ReleaseSpec, Policy),
        store: &Store,
        control: &Control,
        now: Timestamp,
    ) -> Result<Option<(Self, Vec<Command>)>, RecordError> {
        if Phase::parse(&record.phase) == Some(Phase::Closed) {
            return Ok(None);
        }
        let mut machine = ReleaseMachine::from_record(record, policy)?;
        let commands = machine.step(now, Event::Restarted);
        let arms = Arms::of(&spec, &record.service, &record.baseline, &record.canary);
        // What the release began with, so that it is judged again as it was.
        let known = analysis::load(control, &record.service, record.started_at);
        let mut running = Self::watch(machine, arms, spec, record.started_at, &known);
        let snapshot = store.snapshot();
        running.replan(&snapshot, now);
        running.replay(&snapshot, now);
        Ok(Some((running, commands)))
    }

    /// Looks for metrics that were not there before. With new ones the analysis starts over from what is stored,
    /// so that every metric is judged from the same beginning.
    fn replan(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let survey = match survey(&self.spec, &self.arms, snapshot, now - PLAN_WINDOW, now) {
            Ok(survey) => survey,
            Err(error) => {
                warn!(release = self.id(), %error, "the release's metrics cannot be looked for");
                return;
            }
        };
        let found = &survey.plan;
        let known: BTreeSet<&str> = self.plan.metrics.iter().map(|m| m.name.as_str()).collect();
        let is_more = found.metrics.iter().any(|m| !known.contains(m.name.as_str()))
            && known.iter().all(|name| found.metrics.iter().any(|m| m.name == *name));
        if !is_more {
            return;
        }
        let until = self.next_end;
        let (found, also_seen, refused) = (&survey.found, &survey.also_seen, &survey.refused);
        info!(release = self.id(), ?found, ?also_seen, ?refused, "what the release is judged by");
        self.plan = survey.plan;
        self.observer = Observer::new(self.plan.clone(), self.arms.clone());
        let whole = step::whole(&self.spec, self.machine.policy());
        self.run = Analysis::new(&whole, &self.plan, self.started_at, self.run.known());
        // What the step has seen so far was of fewer metrics.
        self.step = None;
        self.next_end = self.started_at + self.spec.judge.interval;
        while self.next_end < until
            && let Some(interval) = self.next_interval(snapshot, now, SETTLE_MAX)
        {
            self.run.step(&interval, self.observer.broken());
        }
    }

    /// Judges again what was judged before a restart; the machine hears nothing of it.
    fn replay(&mut self, snapshot: &Snapshot, now: Timestamp) {
        while let Some(interval) = self.next_interval(snapshot, now, SETTLE_MAX) {
            self.stepped += 1;
            self.verdict = Some(self.run.step(&interval, self.observer.broken()));
            self.follow_ramp();
        }
    }

    /// The next interval that has ended and settled.
    fn next_interval(&mut self, snapshot: &Snapshot, now: Timestamp, settle: Duration) -> Option<Interval> {
        let (end, interval) = (self.next_end, self.spec.judge.interval);
        if now < end + interval.min(settle) {
            return None;
        }
        // After a long pause only the newest intervals are worth judging one by one.
        let oldest = now - interval.saturating_mul(CATCH_UP_MAX);
        let end = if end < oldest { oldest } else { end };
        self.next_end = end + interval;
        match self.observer.observe(snapshot, end - interval, end) {
            Ok(interval) => Some(interval),
            Err(error) => {
                warn!(release = self.id(), %error, "the release's series cannot be read");
                None
            }
        }
    }

    /// Judges the intervals that have ended and tells the machine what was judged and seen. Of a release whose samples
    /// come from another server, no further than they reach.
    pub(super) fn step(
        &mut self,
        now: Timestamp,
        around: Surroundings<'_>,
        gates: Gates,
        reach: Option<&Reach>,
    ) -> Stepped {
        let mut out = Stepped::default();
        let Surroundings { snapshot, targets } = around;
        out.commands.extend(self.machine.step(now, Event::Gates(gates)));
        let until = reach.map_or(now, |r| r.until);
        let complete = reach.is_none() && self.pace.is_complete(now, self.next_end, targets);
        let settle = if complete { Duration::ZERO } else { SETTLE_MAX.min(self.spec.judge.interval) };
        self.stepped_at = now;
        if !complete && now >= self.next_end {
            let may_come = self.pace.can_tell(targets) && reach.is_none();
            self.look_again = if may_come { now + LOOK_AGAIN } else { self.next_end + settle };
        }
        if until >= self.next_end + settle
            && (self.stepped < PLAN_EVERY_INTERVAL || self.stepped.is_multiple_of(PLAN_EVERY))
        {
            self.replan(snapshot, until);
        }
        while let Some(interval) = self.next_interval(snapshot, until, settle) {
            self.stepped += 1;
            if reach.is_none()
                && let Some(end) =
                    self.pace.learn(&interval, targets, self.next_end, self.spec.judge.interval)
            {
                self.next_end = end;
            }
            let missing = reach.filter(|r| interval.end > r.complete_until);
            let missing = missing.map(|r| Broken { contract: Contract::Blind, why: r.why.clone() });
            let unseen = targets.blind.then(|| Broken {
                contract: Contract::Blind,
                why: "more than half of all targets do not answer, so the trouble is Davy's own".to_owned(),
            });
            let missing = missing.or(unseen);
            let blind = missing.is_some();
            // A call's answer comes between two intervals: what the step before has shown says nothing of this one.
            self.follow_ramp();
            let verdict = self.judge(&interval, missing.as_ref());
            let sight = self.eyes.see(now, &interval, targets, snapshot, blind);
            let live = Liveness {
                down: sight.down(),
                recovered: self.recovered(&interval),
                ..liveness(&interval, blind)
            };
            out.commands.extend(self.machine.step(now, Event::Live(live)));
            out.commands.extend(self.machine.step(now, Event::Judged(&verdict)));
            self.follow_ramp();
            match serde_json::to_string(&wire::Evidence::new(&verdict)) {
                Ok(text) => out.verdicts.push((self.generation(), verdict.at, text)),
                Err(error) => error!(release = self.id(), %error, "a verdict cannot be written as JSON"),
            }
            self.verdict = Some(verdict);
        }
        if self.machine.wake_at().is_some_and(|at| at <= now) {
            out.commands.extend(self.machine.step(now, Event::Tick));
        }
        if !out.is_empty() {
            self.shown.take();
        }
        if !out.verdicts.is_empty() {
            self.traces = self.failed_traces(snapshot, now);
            // Now, while it is this release's turn: whoever publishes shows all of them at once.
            self.shown();
        }
        out
    }

    /// The release as a whole, and the ramp's step by itself: either may fail it, and only the step's own pass counts.
    fn judge(&mut self, interval: &Interval, missing: Option<&Broken>) -> Verdict {
        let broken = missing.or(self.observer.broken());
        let whole = self.run.step(interval, broken);
        match &mut self.step {
            Some(step) => step.judge(whole, interval, broken),
            None => whole,
        }
    }

    /// A share that is in force since is judged from there on.
    fn follow_ramp(&mut self) {
        let in_force = self.machine.step_in_force();
        if self.step.as_ref().map(StepRun::in_force) != in_force {
            let (spec, known) = (&self.spec, self.run.known());
            self.step = in_force.map(|at| StepRun::new(at, spec, self.machine.policy(), &self.plan, known));
        }
    }

    /// As far as the baseline can tell while a rollback is verified.
    fn recovered(&mut self, interval: &Interval) -> Option<bool> {
        if !matches!(self.machine.phase(), Phase::Verifying | Phase::NeedsHuman) {
            self.recovery = None;
            return None;
        }
        let verdict = self.machine.verdict()?;
        self.recovery.get_or_insert_default().see(interval, &self.plan, verdict)
    }

    pub(super) fn machine(&self) -> &ReleaseMachine {
        &self.machine
    }

    pub(super) fn shown(&self) -> Arc<wire::Release> {
        Arc::clone(self.shown.get_or_init(|| Arc::new(self.view(&self.traces))))
    }

    pub(super) fn sight(&self) -> Option<Sight> {
        self.eyes.sight
    }

    pub(super) fn hear(&mut self, now: Timestamp, event: Event<'_>) -> Vec<Command> {
        self.shown.take();
        self.machine.step(now, event)
    }

    pub(super) fn batch(&self, commands: &[Command]) -> ControlBatch {
        self.machine.batch(commands)
    }

    pub(super) fn record(&self) -> ReleaseRecord {
        self.machine.to_record()
    }

    pub(super) fn actions(&self) -> Vec<ActionRecord> {
        self.machine.action_records()
    }

    pub(super) fn verdict(&self) -> Option<&Verdict> {
        // From the call on the verdict that led to it stays on show.
        self.machine.verdict().or(self.verdict.as_ref())
    }

    /// What the service's noise is known to be once this release is over.
    pub(super) fn learned(&self) -> Calibration {
        self.run.learned()
    }

    pub(super) fn is_over(&self) -> bool {
        self.machine.phase() == Phase::Closed
    }

    /// When it is to be stepped next, whatever the ticks do.
    pub(super) fn due_at(&self, now: Timestamp) -> Timestamp {
        let judged = self.next_end.max(self.look_again);
        // What is due and waits for something else is not asked more often than this.
        let waked = self.machine.wake_at().map(|at| if at > now { at } else { self.stepped_at + WAKE_AGAIN });
        waked.map_or(judged, |at| at.min(judged))
    }

    pub(super) fn interval(&self) -> Duration {
        self.spec.judge.interval
    }

    pub(super) fn service(&self) -> &str {
        &self.arms.service
    }

    /// Whether these are the two versions that it compares.
    pub(super) fn compares(&self, arms: &Arms) -> bool {
        (&self.arms.baseline, &self.arms.canary) == (&arms.baseline, &arms.canary)
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn generation(&self) -> i64 {
        self.machine.generation()
    }

    pub(super) fn id(&self) -> &str {
        self.machine.id()
    }

    /// `checkout v1 → v2`.
    pub(super) fn headline(&self) -> String {
        format!("{} {} → {}", self.arms.service, self.arms.baseline, self.arms.canary)
    }

    /// Ids of the canary's newest failed traces, once there is something to explain.
    fn failed_traces(&self, snapshot: &Snapshot, now: Timestamp) -> Vec<String> {
        if self.verdict.as_ref().is_none_or(|v| v.evidence < TRACES_EVIDENCE_MIN) {
            return Vec::new();
        }
        let query = SpanQuery {
            service: Some(self.arms.service.clone()),
            version: Some(self.arms.canary.clone()),
            errors_only: true,
            limit: TRACES_MAX,
            ..SpanQuery::default()
        };
        let spans = snapshot.spans(&query, now - TRACES_AGE_MAX, now).unwrap_or_else(|error| {
            warn!(release = self.id(), %error, "traces cannot be read");
            Vec::new()
        });
        let mut ids: Vec<String> = spans.iter().map(|s| s.trace_id.to_string()).collect();
        ids.dedup();
        ids
    }
}

impl Found {
    /// A version that was rolled back before and is there again was brought back by someone: Davy says what it
    /// sees and does not fight them.
    fn policy(&self, policy: Policy) -> Policy {
        if self.rolled_back_before {
            Policy { on_fail: OnFail::Record, ramp: None, ..policy }
        } else {
            policy
        }
    }
}

fn liveness(interval: &Interval, blind: bool) -> Liveness {
    let of = |arm: Arm| interval.instances.iter().filter(move |i| i.arm == arm);
    let requests = |arm: Arm| {
        let mut counted = of(arm).filter_map(|i| i.requests).peekable();
        counted.peek().is_some().then(|| counted.sum())
    };
    Liveness {
        baseline_seen: of(Arm::Baseline).next().is_some(),
        canary_seen: of(Arm::Canary).next().is_some(),
        baseline_requests: requests(Arm::Baseline),
        canary_requests: requests(Arm::Canary),
        blind,
        ..Liveness::default()
    }
}
