//! The world of one seed, happening by happening.

mod check;
mod mail;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use davy_alerting::config::Approval;
use davy_alerting::release::{
    ActRequest, CallOutcome, Command, Desired, Event, Gates, Level, Live, Liveness, OperatorAct, ReadError,
    TargetState,
};
use davy_detector::{Contract, Outcome as Judged, Verdict};
use mail::Arrival;

use crate::judge::Judge;
use crate::post::Shape;
use crate::receiver::Fate;
use crate::replica::{Replica, at};
use crate::rng::Rng;
use crate::story::show;
use crate::target::{HOT_FIX, Target};
use crate::{Outcome, Variant, Violation};

const INTERVAL: i64 = 15_000;
/// Everything that can go wrong goes wrong before this time; afterwards all must come to rest.
const FAULTS_UNTIL: i64 = 25 * 60_000;
const END: i64 = 45 * 60_000;
/// The last messages must still have time to arrive.
const LAST_TICK: i64 = END - 4 * INTERVAL;
/// An actuator that has not answered by then is not waited for.
const CALL_TIMEOUT: i64 = 10_000;

/// Faults, of a thousand.
const CRASH: u64 = 12;
const CRASH_IN_STEP: u64 = 30;
const PAUSE: u64 = 25;
const LOST: u64 = 100;
const LATE: u64 = 40;
const ANSWER_LOST: u64 = 100;
const BLIND: u64 = 30;
/// Seeds with the real judge, of a thousand.
const REALLY_JUDGED: u64 = 50;

enum Happening {
    Tick(usize),
    Restart(usize),
    /// A question or a call reaches the target.
    ReadArrives {
        from: usize,
        life: u32,
        ticket: u64,
    },
    CallArrives {
        from: usize,
        life: u32,
        number: u64,
        request: Box<ActRequest>,
        judged: Judgement,
    },
    ReadAnswer {
        to: usize,
        life: u32,
        ticket: u64,
        state: Result<TargetState, ReadError>,
    },
    CallAnswer {
        to: usize,
        life: u32,
        number: u64,
        outcome: CallOutcome,
    },
    Human(Human),
    /// One Davy looks into its outbox.
    Deliver(usize),
    /// The receiver's answer, or none in time.
    Delivered {
        to: usize,
        life: u32,
        id: String,
        fate: Fate,
    },
    MessageArrives(Box<Arrival>),
    /// Someone orders something of one Davy.
    Order(usize, OperatorAct),
}

/// What a call is founded on, as it was when it left.
#[derive(Clone, Copy)]
struct Judgement {
    failed_at: Option<i64>,
    resumed_at: Option<i64>,
    ordered: bool,
}

#[derive(Debug, Clone, Copy)]
enum Human {
    HotFix,
    RollBack,
    Redeploy,
    Hold,
    Release,
}

impl Happening {
    fn code(&self) -> u64 {
        match self {
            Self::Tick(r) => 1 + *r as u64,
            Self::Restart(r) => 11 + *r as u64,
            Self::ReadArrives { from, ticket, .. } => 100 + *from as u64 + ticket * 1000,
            Self::CallArrives { from, number, request, .. } => {
                200 + *from as u64 + number * 1000 + u64::from(request.desired.percent()) * 1_000_000
            }
            Self::ReadAnswer { to, ticket, .. } => 300 + *to as u64 + ticket * 1000,
            Self::CallAnswer { to, number, .. } => 400 + *to as u64 + number * 1000,
            Self::Human(h) => 500 + *h as u64,
            Self::Deliver(r) => 700 + *r as u64,
            Self::Delivered { to, fate, .. } => 710 + *to as u64 + 10 * u64::from(*fate == Fate::Taken),
            Self::MessageArrives(_) => 730,
            Self::Order(r, act) => 600 + *r as u64 + 10 * *act as u64,
        }
    }
}

struct World {
    now: i64,
    rng: Rng,
    variant: Variant,
    queue: BinaryHeap<Reverse<(i64, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    free: Vec<usize>,
    planned: u64,
    target: Target,
    level: Level,
    replicas: Vec<Replica>,
    held: bool,
    calls: u64,
    /// The judge's part: whether the canary is bad, and after how many intervals that is known.
    bad: bool,
    delay: u32,
    pass_after: u32,
    /// Rollbacks that were applied, by the canary's instance, and whether any Davy has rolled the canary back.
    applied: Vec<u32>,
    rolled_back_at: Option<i64>,
    out: Outcome,
    /// Kept only where someone reads it.
    told: Option<Vec<String>>,
}

/// Plays one seed.
pub fn run(seed: u64, variant: Variant) -> Outcome {
    play(seed, variant, None)
}

/// The same, with what happened in words.
pub fn story(seed: u64, variant: Variant) -> Vec<String> {
    play(seed, variant, Some(Vec::new())).story
}

fn play(seed: u64, variant: Variant, told: Option<Vec<String>>) -> Outcome {
    let mut rng = Rng::new(seed);
    let ask_nothing =
        variant == Variant::TimeoutIsNotSent || (variant == Variant::Whole && rng.per_mille(200));
    let level = if ask_nothing { Level::C } else { Level::A };
    let ramped = rng.per_mille(400);
    // Two that cannot ask the target cannot know of each other: one is all that is promised there.
    let two = variant == Variant::NoMarker || (level != Level::C && rng.per_mille(400));
    let replicas = if two { 2 } else { 1 };
    // A ramp has a judge for each step; there, and where the judge is what is broken, it is played.
    let judged = !ramped && variant != Variant::BlindIsBad && rng.per_mille(REALLY_JUDGED);
    let approval = Approval { rollback: rng.per_mille(100), promote: rng.per_mille(200) };
    let shape = match rng.range(0, 10) {
        0..6 => Shape::One,
        6..8 => Shape::Two,
        _ => Shape::Grouped,
    };
    let live = if ramped { Live::Share(0.05) } else { Live::Share(0.1) };
    let target = Target { live, generation: 4, marker: None, instance: 1, instance_since: 0, variant };
    let mut world = World {
        now: 0,
        variant,
        queue: BinaryHeap::new(),
        happenings: Vec::new(),
        free: Vec::new(),
        planned: 0,
        target,
        level,
        replicas: (0..replicas).map(|_| Replica::new(level, ramped, approval, shape, judged)).collect(),
        held: false,
        calls: 0,
        bad: rng.per_mille(750),
        delay: u32::try_from(rng.range(2, 40)).unwrap_or(2),
        pass_after: u32::try_from(rng.range(4, 20)).unwrap_or(4),
        applied: Vec::new(),
        rolled_back_at: None,
        out: Outcome { judged, ..Outcome::default() },
        told,
        rng,
    };
    world.begin();
    while let Some(Reverse((time, _, index))) = world.queue.pop() {
        if time > END {
            break;
        }
        world.now = time;
        let Some(happening) = world.happenings.get_mut(index).and_then(Option::take) else { continue };
        world.free.push(index);
        world.note(time as u64);
        world.note(happening.code());
        world.happen(happening);
    }
    world.end();
    Outcome { story: world.told.take().unwrap_or_default(), ..world.out }
}

impl World {
    fn begin(&mut self) {
        for r in 0..self.replicas.len() {
            let offset = self.rng.range(0, INTERVAL);
            self.later(offset, Happening::Tick(r));
        }
        if self.rng.per_mille(600) {
            let when = self.rng.range(60_000, FAULTS_UNTIL);
            if self.rng.per_mille(400) {
                self.later(when, Happening::Human(Human::HotFix));
            } else {
                self.later(when, Happening::Human(Human::RollBack));
                // Deliberately again, after a while or at once.
                let again = when + self.rng.range(2_000, 600_000);
                self.later(again.min(FAULTS_UNTIL), Happening::Human(Human::Redeploy));
            }
        }
        for r in 0..self.replicas.len() {
            while self.rng.per_mille(250) {
                let orders = [
                    OperatorAct::Hold,
                    OperatorAct::Resume,
                    OperatorAct::Rollback,
                    OperatorAct::Promote,
                    OperatorAct::Approve,
                    OperatorAct::Deny,
                ];
                let act = orders[self.rng.range(0, 6) as usize];
                let when = self.rng.range(0, FAULTS_UNTIL);
                self.later(when, Happening::Order(r, act));
            }
        }
        if self.rng.per_mille(150) {
            let when = self.rng.range(0, FAULTS_UNTIL);
            self.later(when, Happening::Human(Human::Hold));
            let until = when + self.rng.range(1_000, 300_000);
            self.later(until.min(FAULTS_UNTIL), Happening::Human(Human::Release));
        }
    }

    fn later(&mut self, time: i64, happening: Happening) {
        // Slots are used again: a seed plans thousands, and few at a time.
        let slot = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() - 1
        });
        self.happenings[slot] = Some(happening);
        self.planned += 1;
        self.queue.push(Reverse((time, self.planned, slot)));
    }

    fn note(&mut self, value: u64) {
        // FNV-1a over what happened and when.
        for byte in value.to_le_bytes() {
            self.out.trace = (self.out.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn tell(&mut self, words: impl FnOnce() -> String) {
        let now = self.now as f64 / 1000.0;
        if let Some(told) = &mut self.told {
            told.push(format!("{now:>9.3} {}", words()));
        }
    }

    fn faulty(&mut self, per_mille: u64) -> bool {
        self.now < FAULTS_UNTIL && self.rng.per_mille(per_mille)
    }

    fn broke(&mut self, violation: Violation) {
        self.tell(|| format!("VIOLATION {}", violation.as_str()));
        if !self.out.violations.contains(&violation) {
            self.out.violations.push(violation);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick(r) => {
                self.later(self.now + INTERVAL, Happening::Tick(r));
                let awake = self.replicas[r].up && self.replicas[r].paused_until <= self.now;
                if awake && self.now < LAST_TICK {
                    self.tick(r);
                }
            }
            Happening::Restart(r) => {
                if !self.replicas[r].judge.as_mut().is_none_or(Judge::replay) {
                    self.broke(Violation::Forgetful);
                }
                let commands = self.replicas[r].restart(self.now, &mut self.out);
                self.settle(r, commands);
                self.look_into_outbox(r);
            }
            Happening::ReadArrives { from, life, ticket } => {
                let state = Ok(self.target.read());
                if !self.faulty(ANSWER_LOST) {
                    self.answer(Happening::ReadAnswer { to: from, life, ticket, state });
                } else {
                    let state = Err(ReadError::Unreachable("timed out".to_owned()));
                    self.later(
                        self.now + CALL_TIMEOUT,
                        Happening::ReadAnswer { to: from, life, ticket, state },
                    );
                }
            }
            Happening::CallArrives { from, life, number, request, judged } => {
                let outcome = self.arrive(from, &request, judged);
                if !self.faulty(ANSWER_LOST) {
                    self.answer(Happening::CallAnswer { to: from, life, number, outcome });
                }
            }
            Happening::ReadAnswer { to, life, ticket, state } => {
                if self.reaches(to, life, |life| Happening::ReadAnswer {
                    to,
                    life,
                    ticket,
                    state: state.clone(),
                }) {
                    let commands =
                        self.replicas[to].hear(self.now, Event::Read { ticket, state }, &mut self.out);
                    self.settle(to, commands);
                }
            }
            Happening::CallAnswer { to, life, number, outcome } => {
                let again = |life| Happening::CallAnswer { to, life, number, outcome: outcome.clone() };
                if self.reaches(to, life, again)
                    && let Some(desired) = self.replicas[to].calls.remove(&number)
                {
                    let event = Event::Called(desired, outcome);
                    let commands = self.replicas[to].hear(self.now, event, &mut self.out);
                    self.settle(to, commands);
                }
            }
            Happening::Human(act) => self.human(act),
            Happening::Deliver(r) => self.deliver(r),
            Happening::Delivered { to, life, id, fate } => self.delivered(to, life, &id, fate),
            Happening::MessageArrives(arrival) => self.message_arrives(&arrival),
            Happening::Order(r, act) => {
                if self.replicas[r].up && self.replicas[r].paused_until <= self.now {
                    if act == OperatorAct::Resume {
                        self.replicas[r].resumed_at = Some(self.now);
                    }
                    let event = Event::Operator(act, "ana".to_owned(), "because".to_owned());
                    let commands = self.replicas[r].hear(self.now, event, &mut self.out);
                    self.settle(r, commands);
                }
            }
        }
    }

    /// Whether an answer finds the process that asked; one that is paused takes it later.
    fn reaches(&mut self, to: usize, life: u32, again: impl Fn(u32) -> Happening) -> bool {
        let replica = &self.replicas[to];
        if !replica.up || replica.life != life {
            return false;
        }
        if replica.paused_until > self.now {
            let until = replica.paused_until;
            self.later(until, again(life));
            return false;
        }
        true
    }

    fn answer(&mut self, happening: Happening) {
        let when = self.now + self.rng.range(2, 200);
        self.later(when, happening);
    }

    /// One interval of one Davy: gates, look, verdict.
    fn tick(&mut self, r: usize) {
        if self.faulty(CRASH) {
            return self.crash(r);
        }
        if self.faulty(BLIND) {
            self.replicas[r].blind_until = self.now + self.rng.range(INTERVAL, 8 * INTERVAL);
        }
        let share = self.target.canary_share();
        let serves = share > 0.0;
        if self.replicas[r].machine.is_none() {
            if !serves {
                // Alerts end by themselves, too.
                return self.settle(r, Vec::new());
            }
            self.replicas[r].open(self.now);
        }
        let other = matches!(self.target.live, Live::Other(_));
        let blind = self.replicas[r].blind_until > self.now;
        let hold = self.held.then(|| "the file HOLD".to_owned());
        let mut commands =
            self.replicas[r].hear(self.now, Event::Gates(Gates { hold, ..Gates::default() }), &mut self.out);
        let superseded = other && !blind;
        if superseded {
            let event = Event::Superseded { by: HOT_FIX.to_owned() };
            commands.extend(self.replicas[r].hear(self.now, event, &mut self.out));
        }
        let broken = self.variant == Variant::BlindIsBad;
        let look = Liveness {
            baseline_seen: !other,
            canary_seen: serves,
            baseline_requests: Some(1000.0 * (1.0 - share)),
            canary_requests: Some(1000.0 * share),
            blind: blind && !broken,
            ..Liveness::default()
        };
        commands.extend(self.replicas[r].hear(self.now, Event::Live(look), &mut self.out));
        if let Some(verdict) = self.judge(r, serves, blind) {
            if verdict.outcome == Judged::Fail {
                self.replicas[r].failed_at = Some(self.now);
            }
            commands.extend(self.replicas[r].hear(self.now, Event::Judged(&verdict), &mut self.out));
        }
        self.settle(r, commands);
    }

    fn judge(&mut self, r: usize, serves: bool, blind: bool) -> Option<Verdict> {
        let share = self.target.canary_share();
        let (now, bad) = (self.now, self.bad);
        let replica = &mut self.replicas[r];
        let machine = replica.machine.as_ref()?;
        if !machine.phase().is_judged() {
            return None;
        }
        if let Some(judge) = &mut replica.judge {
            return Some(judge.step(&mut self.rng, (now - INTERVAL, now), share, bad, blind));
        }
        let step = machine.step_in_force();
        if step != replica.step {
            replica.step = step;
            replica.step_evidence = 0;
        }
        let broken = self.variant == Variant::BlindIsBad;
        if serves && !blind {
            replica.evidence += 1;
            replica.step_evidence += 1;
        }
        let outcome = if blind && broken {
            Judged::Fail
        } else if blind || !serves {
            Judged::Insufficient
        } else if bad && replica.evidence >= self.delay {
            Judged::Fail
        } else if !bad && replica.step_evidence >= self.pass_after {
            Judged::Pass
        } else {
            Judged::Insufficient
        };
        Some(Verdict {
            outcome,
            contract: if blind && !broken { Contract::Blind } else { Contract::Ok },
            at: at(now),
            intervals: u64::from(replica.evidence),
            evidence: 0.0,
            traffic_share: share,
            metrics: [].into(),
            reason: String::new(),
        })
    }

    fn crash(&mut self, r: usize) {
        self.out.crashes += 1;
        self.tell(|| format!("davy {r} crashes"));
        self.replicas[r].crash(self.variant);
        let back = self.now + self.rng.range(1_000, 90_000);
        self.later(back, Happening::Restart(r));
    }

    /// Written, then performed; a crash may come before, between and after.
    fn settle(&mut self, r: usize, commands: Vec<Command>) {
        let acts = commands.iter().any(|c| matches!(c, Command::Call(_)));
        if acts && self.faulty(CRASH_IN_STEP) {
            return self.crash(r);
        }
        if self.write(r, &commands) {
            return self.crash(r);
        }
        if self.told.is_some() {
            for command in &commands {
                self.tell(|| format!("davy {r} {}", show(command)));
            }
        }
        if acts && self.faulty(CRASH_IN_STEP) {
            return self.crash(r);
        }
        for command in commands {
            match command {
                Command::Read(request) => {
                    let life = self.replicas[r].life;
                    let ticket = request.ticket;
                    let when = self.now + self.rng.range(2, 200);
                    if self.faulty(LOST) {
                        let state = Err(ReadError::Unreachable("timed out".to_owned()));
                        let when = self.now + CALL_TIMEOUT;
                        self.later(when, Happening::ReadAnswer { to: r, life, ticket, state });
                    } else {
                        self.later(when, Happening::ReadArrives { from: r, life, ticket });
                    }
                }
                Command::Call(request) => self.send(r, request),
                Command::Audit(_) | Command::Raise(_) | Command::Resolve { .. } => {}
            }
        }
        if acts && self.faulty(CRASH_IN_STEP) {
            self.crash(r);
        }
    }

    fn send(&mut self, r: usize, request: ActRequest) {
        let number = self.calls;
        self.calls += 1;
        let life = self.replicas[r].life;
        self.replicas[r].calls.insert(number, request.desired);
        // The shell looks once more right before it sends.
        if self.held {
            let outcome = CallOutcome::NotSent { detail: "held".to_owned() };
            return self.answer(Happening::CallAnswer { to: r, life, number, outcome });
        }
        let own = request.desired == Desired::Baseline && !self.replicas[r].ordered(request.desired);
        if own && self.replicas[r].blind_until > self.now {
            self.broke(Violation::Blind);
        }
        let mut leaves = self.now;
        if self.faulty(PAUSE) {
            leaves += self.rng.range(20_000, 300_000);
            self.replicas[r].paused_until = leaves;
        }
        let timeout = match self.variant {
            Variant::TimeoutIsNotSent => CallOutcome::NotSent { detail: "timed out".to_owned() },
            _ => CallOutcome::Unknown { detail: "timed out".to_owned() },
        };
        self.later(leaves + CALL_TIMEOUT, Happening::CallAnswer { to: r, life, number, outcome: timeout });
        if self.faulty(LOST) {
            if self.rng.per_mille(500) {
                let outcome = CallOutcome::NotSent { detail: "connection refused".to_owned() };
                self.later(leaves + 5, Happening::CallAnswer { to: r, life, number, outcome });
            }
            return;
        }
        let late = self.faulty(LATE);
        let arrives = leaves + if late { self.rng.range(20_000, 550_000) } else { self.rng.range(2, 300) };
        let ordered = self.replicas[r].ordered(request.desired);
        let Replica { failed_at, resumed_at, .. } = self.replicas[r];
        let judged = Judgement { failed_at, resumed_at, ordered };
        let request = Box::new(request);
        self.later(arrives, Happening::CallArrives { from: r, life, number, request, judged });
    }

    fn human(&mut self, act: Human) {
        let now = self.now;
        self.tell(|| format!("someone {act:?}"));
        match act {
            Human::HotFix => self.target.deploy(now, Live::Other(HOT_FIX.to_owned())),
            Human::RollBack => {
                if matches!(self.target.live, Live::Share(_)) {
                    self.target.deploy(now, Live::Baseline);
                }
            }
            Human::Redeploy => {
                if self.target.live == Live::Baseline {
                    self.target.deploy(now, Live::Share(0.1));
                }
            }
            Human::Hold => self.held = true,
            Human::Release => self.held = false,
        }
    }
}
