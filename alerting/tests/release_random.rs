//! Random events, crashes at every point, lost and late results: what must hold of a release machine whatever
//! happens. The shell is played as the contract asks: write the batch, then perform the commands.

mod common;

use std::time::Duration;

use common::verdicts::verdict;
use davy_alerting::config::{Hand, OnFail, Policy};
use davy_alerting::release::{
    ActState, CallOutcome, Command, Desired, Event, Level, Liveness, OperatorAct, Phase, ReleaseMachine,
};
use davy_detector::{Contract, Outcome};
use davy_model::Timestamp;
use davy_store::control::ReleaseRecord;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    Judge { outcome: Outcome, contract: Contract, age_s: u64 },
    Look(Liveness),
    Result(CallOutcome),
    Order(OperatorAct),
    Superseded,
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Crash {
    No,
    BeforeWrite,
    AfterWrite,
    AfterCall,
}

fn act() -> impl Strategy<Value = Act> {
    let outcome =
        prop_oneof![4 => Just(Outcome::Fail), 1 => Just(Outcome::Pass), 1 => Just(Outcome::Insufficient)];
    let contract =
        prop_oneof![6 => Just(Contract::Ok), 1 => Just(Contract::Blind), 1 => Just(Contract::CanaryMissing)];
    let age = prop_oneof![8 => Just(0_u64), 1 => Just(3600)];
    let requests = prop_oneof![Just(None), Just(Some(0.0)), Just(Some(1.0)), Just(Some(100.0))];
    let look = (any::<bool>(), any::<bool>(), requests.clone(), requests, prop::bool::weighted(0.2))
        .prop_map(|(baseline_down, canary_down, baseline_requests, canary_requests, blind)| Liveness {
            baseline_seen: !baseline_down || baseline_requests.is_some(),
            canary_seen: !canary_down,
            baseline_requests,
            canary_requests: canary_requests.filter(|_| !canary_down),
            blind,
            ..Liveness::default()
        });
    let healthy = Liveness {
        baseline_seen: true,
        canary_seen: true,
        baseline_requests: Some(900.0),
        canary_requests: Some(100.0),
        blind: false,
        ..Liveness::default()
    };
    let result = prop_oneof![
        Just(CallOutcome::Accepted { detail: String::new(), state: None }),
        Just(CallOutcome::Rejected { detail: String::new() }),
        Just(CallOutcome::NotSent { detail: String::new() }),
        Just(CallOutcome::NotSent { detail: String::new() }),
        Just(CallOutcome::Unknown { detail: String::new() }),
    ];
    let order = prop_oneof![
        Just(OperatorAct::Hold),
        Just(OperatorAct::Resume),
        Just(OperatorAct::Rollback),
        Just(OperatorAct::Promote),
    ];
    prop_oneof![
        8 => (outcome, contract, age).prop_map(|(outcome, contract, age_s)| Act::Judge { outcome, contract, age_s }),
        4 => Just(Act::Look(healthy)),
        4 => look.prop_map(Act::Look),
        6 => result.prop_map(Act::Result),
        1 => order.prop_map(Act::Order),
        1 => Just(Act::Tick),
        1 => prop::bool::weighted(0.1).prop_map(|yes| if yes { Act::Superseded } else { Act::Tick }),
    ]
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        20 => Just(Crash::No),
        1 => Just(Crash::BeforeWrite),
        1 => Just(Crash::AfterWrite),
        1 => Just(Crash::AfterCall),
    ]
}

/// The world around the machine, and what it knows to be true.
struct World {
    machine: ReleaseMachine,
    policy: Policy,
    disk: ReleaseRecord,
    now: Timestamp,
    /// Whether one more call cannot be a second one.
    may_call: bool,
    in_flight: bool,
    sees: bool,
    failed: bool,
    held: bool,
    /// Looks in a row since the last call that showed the canary without traffic.
    settled: u32,
    intents_by_davy: u32,
}

impl World {
    fn new(policy: Policy) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let name = |s: &str| s.to_owned();
        let machine = ReleaseMachine::new(
            7,
            name("checkout-v2-7"),
            name("checkout"),
            name("v1"),
            name("v2"),
            policy.clone(),
            now,
        );
        Self {
            disk: machine.to_record(),
            machine,
            policy,
            now,
            may_call: true,
            in_flight: false,
            sees: false,
            failed: false,
            held: false,
            settled: 0,
            intents_by_davy: 0,
        }
    }

    fn play(&mut self, act: &Act, wait_s: u64, crash: Crash) {
        self.now = self.now + Duration::from_secs(wait_s);
        let (before, was_held) = (self.machine.phase(), self.held);
        let ordered = self.learn(act);
        let commands = self.machine.step(self.now, self.event(act, &mut None));
        if crash == Crash::BeforeWrite {
            self.held = was_held; // the order was never acknowledged
            return self.restart();
        }
        let batch = self.machine.batch(&commands);
        self.disk = batch.releases[0].clone();
        self.intents_by_davy +=
            batch.audit.iter().filter(|a| a.actor == "davy" && a.action == "rollback").count() as u32;
        for command in &commands {
            let Command::Call(request) = command else { continue };
            // Written before it is made: intent, key and audit row.
            assert_eq!((batch.actions[0].state.as_str(), &batch.actions[0].id), ("calling", &request.key));
            assert!(batch.audit.iter().any(|a| a.action == "call" && a.outcome.starts_with("intended")));
            assert_eq!((request.release, request.subject.canary.as_str()), (7, "v2"));
            assert!(self.may_call, "a second call");
            let by_operator = ordered || self.machine.rollback().expect("called").ordered_by.is_some();
            if !by_operator {
                assert!(self.sees, "called blind, or without a look");
                assert!(self.failed, "called without a usable fail");
                assert!(!self.held, "called while on hold");
                assert_eq!(self.policy.on_fail, OnFail::Rollback);
            }
            if crash != Crash::AfterWrite {
                // From here on it may have been carried out.
                self.may_call = false;
                self.in_flight = true;
            }
            self.settled = 0;
        }
        if self.machine.phase() == Phase::RolledBack && before != Phase::RolledBack {
            assert!(self.settled >= 2, "rolled back without two looks that show it");
            assert!(!self.may_call, "rolled back without a call that may have arrived");
        }
        assert!(self.intents_by_davy <= 1, "Davy intended twice");
        if matches!(crash, Crash::AfterWrite | Crash::AfterCall) {
            self.restart();
        }
    }

    /// Notes what the act makes true; says whether an operator ordered a rollback.
    fn learn(&mut self, act: &Act) -> bool {
        let before = self.machine.phase();
        match act {
            Act::Judge { outcome, contract, age_s } => {
                self.failed = *outcome == Outcome::Fail && *contract == Contract::Ok && *age_s == 0;
            }
            Act::Look(l) => {
                self.sees = !l.blind && l.baseline_seen && l.canary_seen;
                let drained = l.baseline_requests > Some(0.0) && l.canary_requests == Some(0.0);
                if !l.blind && (l.baseline_seen || l.canary_seen) {
                    let without = l.baseline_seen && (!l.canary_seen || drained);
                    self.settled = if without { self.settled + 1 } else { 0 };
                }
            }
            Act::Result(outcome) => {
                // A result that comes after Davy gave it up changes nothing.
                if before == Phase::RollingBack {
                    self.may_call |= self.in_flight && matches!(outcome, CallOutcome::NotSent { .. });
                    self.settled = 0; // what was seen before the result proves nothing
                }
                self.in_flight = false;
            }
            Act::Order(OperatorAct::Hold) => self.held |= before != Phase::Closed,
            Act::Order(OperatorAct::Resume) => self.held = false,
            Act::Order(OperatorAct::Promote | OperatorAct::Approve | OperatorAct::Deny)
            | Act::Superseded
            | Act::Tick => {}
            Act::Order(OperatorAct::Rollback) => {
                self.held = false;
                return true;
            }
        }
        false
    }

    fn event<'a>(&self, act: &Act, slot: &'a mut Option<davy_detector::Verdict>) -> Event<'a> {
        match act {
            Act::Judge { outcome, contract, age_s } => {
                let at = self.now - Duration::from_secs(*age_s);
                Event::Judged(slot.insert(verdict(*outcome, *contract, at)))
            }
            Act::Look(look) => Event::Live(*look),
            Act::Result(outcome) => Event::Called(Desired::Baseline, outcome.clone()),
            Act::Order(act) => Event::Operator(*act, "ana".into(), "because".into()),
            Act::Superseded => Event::Superseded { by: "v3".into() },
            Act::Tick => Event::Tick,
        }
    }

    /// Only what was on disk comes back. A call that was written may have been made.
    fn restart(&mut self) {
        let machine = ReleaseMachine::from_record(&self.disk, self.policy.clone());
        self.machine = machine.expect("a row of this version reads back");
        if self.machine.rollback().is_some_and(|r| r.state == ActState::Calling) {
            self.may_call = false;
        }
        self.in_flight = false;
        self.settled = 0;
        (self.sees, self.failed) = (false, false);
        let commands = self.machine.step(self.now, Event::Restarted);
        assert!(!commands.iter().any(|c| matches!(c, Command::Call(_))), "called on nothing but a restart");
        self.disk = self.machine.to_record();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn one_rollback_at_most_intended_first_and_never_blind_or_on_hold(
        acts in prop::collection::vec((act(), 0_u64..40, crash()), 1..80),
        on_fail in prop_oneof![4 => Just(OnFail::Rollback), 1 => Just(OnFail::Hold), 1 => Just(OnFail::Record)],
    ) {
        let mut world = World::new(Policy {
            on_fail,
            watch: Duration::from_secs(60),
            verify_timeout: Duration::from_secs(60),
            rollback: Some(Hand { name: "to-stable".into(), level: Level::C }),
            ..Policy::default()
        });
        for (act, wait_s, crash) in &acts {
            world.play(act, *wait_s, *crash);
        }
    }
}
