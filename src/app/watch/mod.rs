//! `Watch`: everything that Davy decides, tick by tick. No sockets, no sleeping, no clock: it is handed `now`, reads
//! a snapshot, writes one transaction, and gives back the calls to make.
//!
//! One tick: which versions live → which releases run → one verdict each for every interval that has ended → what
//! the release machines make of verdicts and looks → thresholds → alerts → one [`ControlBatch`] → calls.

mod gates;
mod pace;
mod recovery;
mod release;
mod sight;
mod silences;
mod step;
mod targets;
mod thresholds;
mod versions;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use davy_alerting::book::AlertBook;
use davy_alerting::config::{Policy, Route};
use davy_alerting::dispatch::Dispatcher;
use davy_alerting::release::{
    ActRequest, ActState, CallOutcome, Command, Desired, Event, Guard, OperatorAct, ReadError, ReadRequest,
    Taken, TargetState,
};
use davy_alerting::rule::AlertUpdate;
use davy_api::{Event as Happening, OperationError, OperationKind, wire};
use davy_collector::scrape::TargetStatus;
use davy_detector::Calibration;
use davy_detector::config::ReleaseSpec;
use davy_model::Timestamp;
use davy_store::control::{ActionRecord, Control, ControlBatch, ReleaseRecord};
use davy_store::{Snapshot, Store};
use tracing::{error, info};

pub(crate) use self::gates::{HOLD_FILE, hold_file};
use self::release::{Running, Surroundings};
use self::targets::Targets;
use self::thresholds::Thresholds;
use self::versions::Versions;
use super::drill::Drills;
use crate::analysis;
use crate::config::Config;
use crate::sources::SourceStates;

/// Verdicts that decide nothing wait this long for others, to be written together.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Thresholds evaluated in one go between ticks: a few milliseconds.
const THRESHOLDS_TOGETHER_MAX: usize = 50;
/// Releases that are due within this time are stepped together.
const DUE_TOGETHER: Duration = Duration::from_millis(20);
/// Events kept for the terminal view.
const EVENTS_MAX: usize = 200;
/// Ended releases kept for the API; all of them stay in the control database.
const ENDED_MAX: usize = 100;
/// Rows that wait while the control database cannot be written; beyond it nothing new is decided.
const UNWRITTEN_MAX: usize = 10_000;
/// Spreads retries; any number will do.
const RETRY_SEED: u64 = 0x000d_a5e1;

/// Something to ask or to tell a target; its intent is on disk.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few at a time, and never kept")]
pub enum Errand {
    /// Report with [`Watch::read`].
    Read(ReadRequest),
    /// Report with [`Watch::called`].
    Call(ActRequest),
}

pub struct Watch {
    config: Config,
    store: Store,
    control: Control,
    dispatcher: Dispatcher,
    /// By generation.
    running: BTreeMap<i64, Running>,
    /// Newest last.
    ended: VecDeque<Arc<wire::Release>>,
    versions: Versions,
    thresholds: Thresholds,
    book: AlertBook,
    /// What could not be written yet; it goes first.
    unwritten: ControlBatch,
    /// The control database did not take them.
    refused: bool,
    written_at: Timestamp,
    events: VecDeque<Happening>,
    /// Releases whose rows cannot be read: reported, and not opened again under a new number.
    unreadable: Vec<ReleaseRecord>,
    /// Services that are seen but not judged, and why.
    unjudged: Vec<(String, String)>,
    /// What is known of each service's noise.
    calibrations: BTreeMap<String, Calibration>,
    at: Timestamp,
    /// Services whose samples come from another server, and how far those reach.
    sources: SourceStates,
    /// Bounds over all releases.
    guard: Guard,
    /// What releases that were read back asked for; done with the first tick.
    resumed: Vec<Errand>,
    drills: Drills,
    /// Where holds are looked for.
    folder: Option<PathBuf>,
    hold: Option<String>,
}

impl Watch {
    /// Reads back what the control database holds: running releases go on, with their analysis replayed from the
    /// store; a call that was in flight counts as perhaps made.
    pub fn new(config: Config, store: Store, control: Control, now: Timestamp) -> Self {
        let dispatcher = dispatcher(&config);
        let mut guard = Guard::default();
        guard.set_limits(config.rollback_limits);
        let mut watch = Self {
            thresholds: Thresholds::new(&config),
            config,
            store,
            versions: Versions::default(),
            dispatcher,
            control,
            running: BTreeMap::new(),
            ended: VecDeque::new(),
            book: AlertBook::default(),
            unwritten: ControlBatch::default(),
            refused: false,
            written_at: Timestamp::MIN,
            events: VecDeque::new(),
            unreadable: Vec::new(),
            unjudged: Vec::new(),
            calibrations: BTreeMap::new(),
            at: now,
            sources: SourceStates::default(),
            guard,
            resumed: Vec::new(),
            drills: Drills::default(),
            folder: None,
            hold: None,
        };
        if let Err(error) = watch.read_back(now) {
            error!(%error, "what was decided before cannot be read back; running releases are seen as new");
        }
        watch
    }

    /// Releases of these services are judged no further than their samples reach.
    pub fn with_sources(self, sources: SourceStates) -> Self {
        Self { sources, ..self }
    }

    fn read_back(&mut self, now: Timestamp) -> Result<(), davy_store::Error> {
        self.versions = Versions::load(&self.control.versions()?);
        let (book, errors) = AlertBook::load(&self.control.open_alerts()?);
        self.book = book;
        for error in errors {
            error!(%error, "an open alert cannot be read back");
        }
        self.read_silences(now)?;
        for record in self.control.calibrations()? {
            let known = analysis::read(&record);
            self.calibrations.insert(record.service, known);
        }
        let mut records = self.control.releases(ENDED_MAX)?;
        records.reverse();
        for record in &records {
            self.resume(record, now)?;
        }
        Ok(())
    }

    fn resume(&mut self, record: &ReleaseRecord, now: Timestamp) -> Result<(), davy_store::Error> {
        let rules = self.rules(&record.service);
        match Running::resume(record, rules, &self.store, &self.control, now) {
            Ok(Some((running, commands))) => {
                info!(release = record.id, phase = record.phase, "release goes on");
                self.running.insert(record.generation, running);
                let errands = self.carry_out(now, record.generation, &commands);
                self.resumed.extend(errands);
            }
            Ok(None) => {
                let actions = self.control.actions(record.generation)?;
                let rolled_back = actions.iter().any(is_verified_rollback);
                for action in actions.iter().filter(|a| counts(a)) {
                    self.guard.remember(now, taken(record, action));
                }
                self.end(Arc::new(view::ended(record, &actions)));
                self.versions.remember(record, rolled_back);
            }
            Err(error) => {
                error!(release = record.id, %error, "release cannot be read back: it is only reported");
                let language = self.config.language;
                self.book.raise(davy_alerting::release::record_alert(record, &error, language, now), now);
                self.unreadable.push(record.clone());
            }
        }
        Ok(())
    }

    /// The largest step by which every release and threshold is still evaluated in time.
    pub fn tick_interval(&self) -> Duration {
        let releases = self.config.releases.iter().map(|(spec, _)| spec.judge.interval);
        releases.chain([self.config.evaluation_interval]).min().unwrap_or(Duration::from_secs(15))
    }

    /// Everything that is due at `now`. The calls that come back have their intent on disk: make them, and report
    /// each with [`Self::called`].
    pub fn tick(&mut self, now: Timestamp, targets: &[Arc<TargetStatus>]) -> Vec<Errand> {
        self.at = now;
        self.look_for_hold(now);
        self.end_silences(now);
        if !self.write() && self.unwritten() > UNWRITTEN_MAX {
            return Vec::new();
        }
        let snapshot = self.store.snapshot();
        self.discover(now, &snapshot);
        let around = Surroundings { snapshot: &snapshot, targets: &Targets::of(targets) };
        let mut errands = std::mem::take(&mut self.resumed);
        self.end_drills(now);
        for generation in self.running.keys().copied().collect::<Vec<_>>() {
            errands.extend(self.step(now, generation, around));
        }
        let happened = self.thresholds.evaluate(now, &snapshot, &mut self.book, (Duration::ZERO, usize::MAX));
        for text in happened {
            self.say(now, text);
        }
        self.settle(now, errands)
    }

    fn rules(&self, service: &str) -> (ReleaseSpec, Policy) {
        self.drills.rules(service, &self.config).unwrap_or_else(|| self.config.rules(service))
    }

    /// Releases of drills whose fleets are gone.
    fn end_drills(&mut self, now: Timestamp) {
        let over = self.running.iter().filter(|(_, r)| self.drills.is_over(r.service()));
        for generation in over.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.hear(now, generation, Event::Superseded { by: "the end of the drill".to_owned() });
        }
    }

    /// When a release or a threshold is to be looked at before the next tick.
    pub fn due_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.running.values().map(|r| r.due_at(now)).chain(self.thresholds.due_at()).min()
    }

    /// Steps the releases and some of the thresholds that are due, and nothing else. Says whether anything came of it.
    pub fn step_due(&mut self, now: Timestamp, targets: &[Arc<TargetStatus>]) -> (Vec<Errand>, bool) {
        if self.unwritten() > 0 {
            // Until the disk takes what there is, ticks are enough.
            return (Vec::new(), false);
        }
        let due: Vec<i64> = self
            .running
            .iter()
            .filter(|(_, r)| r.due_at(now) <= now + DUE_TOGETHER)
            .map(|(n, _)| *n)
            .collect();
        let lapsed = self.thresholds.due_at().is_some_and(|at| at <= now + DUE_TOGETHER);
        if due.is_empty() && !lapsed {
            return (Vec::new(), false);
        }
        self.at = now;
        let snapshot = self.store.snapshot();
        let mut errands = Vec::new();
        if !due.is_empty() {
            let around = Surroundings { snapshot: &snapshot, targets: &Targets::of(targets) };
            for generation in due {
                errands.extend(self.step(now, generation, around));
            }
        }
        let slice = (DUE_TOGETHER, THRESHOLDS_TOGETHER_MAX);
        for text in self.thresholds.evaluate(now, &snapshot, &mut self.book, slice) {
            self.say(now, text);
        }
        let decided = !self.unwritten.audit.is_empty();
        if errands.is_empty() && self.may_wait(now) {
            return (Vec::new(), decided);
        }
        (self.settle(now, errands), decided)
    }

    /// New releases, and versions that came or went.
    fn discover(&mut self, now: Timestamp, snapshot: &Snapshot) {
        let seen = match self.versions.look(now, snapshot, &self.config) {
            Ok(seen) => seen,
            Err(error) => {
                error!(%error, "live versions cannot be read");
                return;
            }
        };
        self.unwritten.versions.extend(seen.records);
        self.unjudged = seen.unjudged;
        for found in seen.releases {
            if self.drills.is_over(&found.arms.service) {
                continue;
            }
            let same_service = |r: &&Running| r.service() == found.arms.service;
            let known = self.running.values().filter(same_service);
            let is_unreadable = |r: &ReleaseRecord| {
                (&r.service, &r.baseline, &r.canary)
                    == (&found.arms.service, &found.arms.baseline, &found.arms.canary)
            };
            if known.clone().any(|r| r.compares(&found.arms)) || self.unreadable.iter().any(is_unreadable) {
                continue;
            }
            let superseded: Vec<i64> = known.map(Running::generation).collect();
            let rules = self.rules(&found.arms.service);
            let running = match Running::create(&self.control, rules, &found, now) {
                Ok(running) => running,
                Err(error) => {
                    let service = &found.arms.service;
                    error!(service, %error, "a release cannot be written down, so it is not judged yet");
                    continue;
                }
            };
            for old in superseded {
                self.hear(now, old, Event::Superseded { by: found.arms.canary.clone() });
            }
            self.say(now, format!("{}: {}", running.headline(), found.reason));
            self.running.insert(running.generation(), running);
        }
    }

    /// Judges the intervals that ended and looks at the live versions.
    fn step(&mut self, now: Timestamp, generation: i64, around: Surroundings<'_>) -> Vec<Errand> {
        let gates = self.gates(now, generation);
        let Some(running) = self.running.get_mut(&generation) else { return Vec::new() };
        let fed = self.sources.get(running.service());
        let reach = fed.map(|fed| fed.reach(now, running.interval()));
        let stepped = running.step(now, around, gates, reach.as_ref());
        let failing = running.machine().is_failing() && running.machine().policy().drill.is_none();
        self.guard.judged(now, running.service(), failing);
        self.thresholds.watch_service(running.service(), running.plan(), around.snapshot, now);
        if stepped.is_empty() {
            return Vec::new();
        }
        self.unwritten.verdicts.extend(stepped.verdicts);
        let calls = self.carry_out(now, generation, &stepped.commands);
        self.retire(generation);
        calls
    }

    /// One event for one release.
    fn hear(&mut self, now: Timestamp, generation: i64, event: Event<'_>) -> Vec<Errand> {
        let Some(running) = self.running.get_mut(&generation) else { return Vec::new() };
        let commands = running.hear(now, event);
        let calls = self.carry_out(now, generation, &commands);
        self.retire(generation);
        calls
    }

    /// Puts what a machine asked for where it belongs; calls come back.
    fn carry_out(&mut self, now: Timestamp, generation: i64, commands: &[Command]) -> Vec<Errand> {
        let Some(running) = self.running.get(&generation) else { return Vec::new() };
        let batch = running.batch(commands);
        let headline = running.headline();
        merge(&mut self.unwritten, batch);
        self.book.apply(commands, now);
        let mut errands = Vec::new();
        for command in commands {
            match command {
                Command::Audit(row) => self.say(now, format!("{headline}: {} ({})", row.action, row.reason)),
                Command::Read(request) => errands.push(Errand::Read(request.clone())),
                Command::Call(request) => errands.push(Errand::Call(request.clone())),
                Command::Raise(_) | Command::Resolve { .. } => {}
            }
        }
        errands
    }

    /// Moves a release that is over to the ended ones.
    fn retire(&mut self, generation: i64) {
        let Some(running) = self.running.get(&generation).filter(|r| r.is_over()) else { return };
        let ended = Arc::new(running.view(&[]));
        let rolled_back = running.actions().iter().any(is_verified_rollback);
        for taken in running.machine().taken() {
            self.guard.remember(self.at, taken);
        }
        self.guard.judged(self.at, running.service(), false);
        self.versions.remember(&running.record(), rolled_back);
        let (service, learned) = (running.service().to_owned(), running.learned());
        self.running.remove(&generation);
        self.end(ended);
        self.unwritten.calibrations.push(analysis::record(&service, self.at, &learned));
        self.calibrations.insert(service, learned);
    }

    fn end(&mut self, release: Arc<wire::Release>) {
        self.ended.push_back(release);
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }

    /// Messages for what changed, then one transaction. Calls are only given out once it is on disk; if it is not,
    /// their machines hear that they were not sent.
    fn settle(&mut self, now: Timestamp, errands: Vec<Errand>) -> Vec<Errand> {
        let messages = self.dispatcher.poll(&mut self.book, now);
        self.unwritten.alerts.extend(messages.alerts);
        self.unwritten.outbox.extend(messages.outbox);
        if self.write() {
            return errands;
        }
        for errand in errands {
            let detail = "the intent could not be written down, so the target was not asked".to_owned();
            match errand {
                Errand::Call(call) => {
                    self.hear(
                        now,
                        call.release,
                        Event::Called(call.desired, CallOutcome::NotSent { detail }),
                    );
                }
                Errand::Read(read) => {
                    let state = Err(ReadError::Unreachable(detail));
                    self.hear(now, read.release, Event::Read { ticket: read.ticket, state });
                }
            }
        }
        Vec::new()
    }

    /// Whether nothing but verdicts came of the steps, and they were written a moment ago: each writing costs the disk
    /// a flush, and with many releases the decisions would stand in line for it. Replaying finds them again.
    fn may_wait(&self, now: Timestamp) -> bool {
        let b = &self.unwritten;
        let decided = !b.audit.is_empty() || !b.versions.is_empty() || !b.calibrations.is_empty();
        !decided && !self.book.has_changed() && now.since(self.written_at) < WRITE_INTERVAL
    }

    /// Writes what waits. Says whether it is on disk.
    pub fn write(&mut self) -> bool {
        let rows = self.rows();
        if rows > 0 {
            let written = self.control.write(&self.unwritten);
            if let Err(error) = &written {
                error!(%error, rows, "decisions cannot be written down: no action is taken until they are");
            } else {
                (self.unwritten, self.written_at) = (ControlBatch::default(), self.at);
            }
            self.refused = written.is_err();
        }
        !self.refused
    }

    /// Rows that the control database did not take.
    pub fn unwritten(&self) -> usize {
        if self.refused { self.rows() } else { 0 }
    }

    fn rows(&self) -> usize {
        let b = &self.unwritten;
        b.versions.len()
            + b.releases.len()
            + b.verdicts.len()
            + b.actions.len()
            + b.alerts.len()
            + b.outbox.len()
            + b.calibrations.len()
            + b.silences.len()
            + b.audit.len()
    }

    /// The outcome of a call.
    pub fn called(
        &mut self,
        now: Timestamp,
        generation: i64,
        desired: Desired,
        outcome: CallOutcome,
    ) -> Vec<Errand> {
        let errands = self.hear(now, generation, Event::Called(desired, outcome));
        self.settle(now, errands)
    }

    /// What a target said of itself.
    pub fn read(
        &mut self,
        now: Timestamp,
        generation: i64,
        ticket: u64,
        state: Result<TargetState, ReadError>,
    ) -> Vec<Errand> {
        let errands = self.hear(now, generation, Event::Read { ticket, state });
        self.settle(now, errands)
    }

    /// What a person asked for.
    pub fn operate(
        &mut self,
        now: Timestamp,
        release: &str,
        kind: OperationKind,
        actor: String,
        reason: String,
    ) -> Result<Vec<Errand>, OperationError> {
        let running = self.running.values().find(|r| r.id() == release);
        let Some(generation) = running.map(Running::generation) else {
            return Err(OperationError::Unknown(release.to_owned()));
        };
        let act = match kind {
            OperationKind::Hold => OperatorAct::Hold,
            OperationKind::Resume => OperatorAct::Resume,
            OperationKind::Rollback => OperatorAct::Rollback,
            OperationKind::Promote => OperatorAct::Promote,
            OperationKind::Approve => OperatorAct::Approve,
            OperationKind::Deny => OperatorAct::Deny,
        };
        self.look_for_hold(now);
        let gates = self.gates(now, generation);
        self.hear(now, generation, Event::Gates(gates));
        let calls = self.hear(now, generation, Event::Operator(act, actor, reason));
        let calls = self.settle(now, calls);
        if self.unwritten() > 0 {
            return Err(OperationError::NotRecorded("the control database cannot be written".into()));
        }
        Ok(calls)
    }

    /// Alerts of recording and alerting rules, which are evaluated elsewhere.
    pub fn hear_rules(&mut self, now: Timestamp, updates: Vec<AlertUpdate>) -> Vec<Errand> {
        for AlertUpdate { alert, resolved } in updates {
            let name = alert.name().to_owned();
            if resolved {
                if self.book.resolve_saying(&alert.fingerprint(), &alert.annotations, now) {
                    self.say(now, format!("alert {name} is over: {}", alert.labels));
                }
            } else {
                let labels = alert.labels.clone();
                if self.book.raise(alert, now) {
                    self.say(now, format!("alert {name} fires: {labels}"));
                }
            }
        }
        self.settle(now, Vec::new())
    }

    /// New rules from now on. Releases that run keep their evidence and the rules they began with; thresholds that
    /// did not change keep what they learned.
    pub fn reload(&mut self, now: Timestamp, config: Config) {
        self.dispatcher = dispatcher(&config);
        self.thresholds.reload(&config);
        self.guard.set_limits(config.rollback_limits);
        self.config = config;
        self.say(now, "configuration reloaded".to_owned());
    }

    /// What happened since it was last asked.
    pub fn take_events(&mut self) -> Vec<Happening> {
        self.events.drain(..).collect()
    }

    fn say(&mut self, at: Timestamp, text: String) {
        info!("{text}");
        self.events.push_back(Happening { at, text });
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }
}

/// Without a route alerts are shown and stored, and nobody is told.
pub(super) fn dispatcher(config: &Config) -> Dispatcher {
    let nobody = || Route { repeat_interval: Duration::MAX, ..Route::default() };
    Dispatcher::new(config.route.clone().unwrap_or_else(nobody), config.receivers.clone(), RETRY_SEED)
        .with_inhibition(config.inhibit_rules.clone())
}

fn is_verified_rollback(action: &ActionRecord) -> bool {
    action.kind == Desired::Baseline.as_str() && action.state == ActState::Verified.as_str()
}

/// Whether a rollback of a release that is over counts against the budgets. Those that an operator ordered are not
/// told apart here: counting one too many is the safe side.
fn counts(action: &ActionRecord) -> bool {
    let withdrawn = [ActState::Undelivered, ActState::Recorded, ActState::Adopted].map(ActState::as_str);
    action.kind == Desired::Baseline.as_str() && !withdrawn.contains(&action.state.as_str())
}

fn taken(record: &ReleaseRecord, action: &ActionRecord) -> Taken {
    Taken { at: action.at, service: record.service.clone(), canary: record.canary.clone(), open: false }
}

/// Later rows of the same key come after earlier ones, and so replace them.
fn merge(into: &mut ControlBatch, batch: ControlBatch) {
    into.versions.extend(batch.versions);
    into.releases.extend(batch.releases);
    into.verdicts.extend(batch.verdicts);
    into.actions.extend(batch.actions);
    into.alerts.extend(batch.alerts);
    into.outbox.extend(batch.outbox);
    into.calibrations.extend(batch.calibrations);
    into.silences.extend(batch.silences);
    into.audit.extend(batch.audit);
}
