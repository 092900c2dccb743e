//! One Davy: the real machine, what it has on disk, and what a judge would have told it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_alerting::config::{Approval, Hand, OnFail, Policy, Ramp};
use davy_alerting::release::{ActState, Command, Desired, Event, Level, Phase, ReleaseMachine};
use davy_model::Timestamp;
use davy_store::control::ReleaseRecord;

use crate::judge::Judge;
use crate::post::{Post, Shape};
use crate::target::{BASELINE, CANARY};
use crate::{Outcome, Variant};

/// What is on disk: nothing else comes back after a crash.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) release: Option<ReleaseRecord>,
    /// Keys of calls with their audit row.
    pub(crate) intents: BTreeSet<String>,
    /// Whether this Davy rolled the canary back before.
    pub(crate) rolled_back: bool,
    pub(crate) releases: i64,
}

pub(crate) struct Replica {
    pub(crate) machine: Option<ReleaseMachine>,
    pub(crate) disk: Disk,
    pub(crate) policy: Policy,
    pub(crate) up: bool,
    /// Answers to another life of this process are not for this one.
    pub(crate) life: u32,
    pub(crate) paused_until: i64,
    pub(crate) blind_until: i64,
    /// Calls that were sent and not answered, by their number.
    pub(crate) calls: BTreeMap<u64, Desired>,
    /// Intervals in which the canary was seen to serve, since the release or its step began.
    pub(crate) evidence: u32,
    pub(crate) step_evidence: u32,
    pub(crate) step: Option<(u8, Timestamp)>,
    /// Newest fail of the judge.
    pub(crate) failed_at: Option<i64>,
    /// The real judge of the release, where it is not played.
    pub(crate) judge: Option<Judge>,
    /// When an operator last gave the release back to Davy.
    pub(crate) resumed_at: Option<i64>,
    pub(crate) post: Post,
    /// Releases of which it rolled back the canary, by itself.
    pub(crate) must_tell: BTreeSet<String>,
    phase: Phase,
}

/// The time of the world, for the machine.
pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

impl Replica {
    pub(crate) fn new(level: Level, ramped: bool, approval: Approval, shape: Shape, judged: bool) -> Self {
        let hand = Hand { name: "split".to_owned(), level };
        let ramp = ramped.then(|| Ramp { hand: hand.clone(), steps: vec![5, 25, 50, 100] });
        Self {
            machine: None,
            disk: Disk::default(),
            policy: Policy {
                on_fail: OnFail::Rollback,
                watch: Duration::from_secs(3600),
                verify_timeout: Duration::from_secs(120),
                rollback: Some(hand),
                ramp,
                approval,
                ..Policy::default()
            },
            up: true,
            life: 0,
            paused_until: 0,
            blind_until: 0,
            calls: BTreeMap::new(),
            evidence: 0,
            step_evidence: 0,
            step: None,
            failed_at: None,
            resumed_at: None,
            judge: judged.then(|| Judge::new(0)),
            post: Post::new(shape),
            must_tell: BTreeSet::new(),
            phase: Phase::Watching,
        }
    }

    /// As the app's loop: a version that this Davy rolled back and that is there again is on record only.
    fn policy_now(&self) -> Policy {
        if self.disk.rolled_back {
            Policy { on_fail: OnFail::Record, ramp: None, ..self.policy.clone() }
        } else {
            self.policy.clone()
        }
    }

    /// Whether an operator asked for the act that wants this state.
    pub(crate) fn ordered(&self, desired: Desired) -> bool {
        let machine = self.machine.as_ref();
        let act = match desired {
            Desired::Baseline => machine.and_then(ReleaseMachine::rollback),
            Desired::Share(_) | Desired::Canary => machine.and_then(ReleaseMachine::step_under_way),
        };
        act.is_some_and(|a| a.ordered_by.is_some())
    }

    pub(crate) fn open(&mut self, now: i64) {
        self.disk.releases += 1;
        let number = self.disk.releases;
        let id = format!("checkout-{CANARY}-{number}");
        let policy = self.policy_now();
        let (service, baseline, canary) = ("checkout".into(), BASELINE.into(), CANARY.into());
        let machine = ReleaseMachine::new(number, id, service, baseline, canary, policy, at(now));
        self.disk.release = Some(machine.to_record());
        self.phase = machine.phase();
        self.machine = Some(machine);
        self.judge = self.judge.take().map(|_| Judge::new(now));
        (self.evidence, self.step_evidence, self.step, self.failed_at) = (0, 0, None, None);
    }

    /// One event. What comes back is not on disk yet.
    pub(crate) fn hear(&mut self, now: i64, event: Event<'_>, out: &mut Outcome) -> Vec<Command> {
        let Some(machine) = &mut self.machine else { return Vec::new() };
        let commands = machine.step(at(now), event);
        if machine.phase() != self.phase {
            out.edges.insert((self.phase.as_str(), machine.phase().as_str()));
            self.phase = machine.phase();
        }
        commands
    }

    /// One transaction.
    pub(crate) fn write(&mut self, commands: &[Command]) {
        let Some(machine) = &self.machine else { return };
        if commands.is_empty() {
            return;
        }
        let batch = machine.batch(commands);
        let called = batch.audit.iter().any(|a| a.action == "call");
        for command in commands {
            match command {
                Command::Call(request) if called => {
                    self.disk.intents.insert(request.key.clone());
                }
                _ => {}
            }
        }
        self.disk.rolled_back |=
            batch.actions.iter().any(|a| a.kind == "rollback" && a.state == ActState::Verified.as_str());
        self.disk.release = batch.releases.into_iter().next();
        if machine.phase() == Phase::Closed {
            self.machine = None;
        }
    }

    pub(crate) fn crash(&mut self, variant: Variant) {
        self.up = false;
        self.life += 1;
        self.machine = None;
        self.calls.clear();
        self.post.crash();
        if variant == Variant::NoDurableIntent {
            self.disk.intents.clear();
            self.disk.rolled_back = false;
            self.disk.release = None;
        }
    }

    /// Only what was on disk comes back.
    pub(crate) fn restart(&mut self, now: i64, out: &mut Outcome) -> Vec<Command> {
        self.up = true;
        self.post.restart();
        (self.evidence, self.step_evidence, self.failed_at) = (0, 0, None);
        let Some(record) = self.disk.release.clone().filter(|r| r.phase != Phase::Closed.as_str()) else {
            return Vec::new();
        };
        let machine = ReleaseMachine::from_record(&record, self.policy_now());
        let machine = machine.expect("a row of this version reads back");
        self.phase = machine.phase();
        self.step = machine.step_in_force();
        self.machine = Some(machine);
        self.hear(now, Event::Restarted, out)
    }
}
