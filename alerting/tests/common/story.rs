//! Stories of a release machine: each line of a script is an event, 15 seconds apart, and the answer shows the
//! phase it leads to with everything that was asked for.

use std::fmt::Write;
use std::time::Duration;

use davy_alerting::alert::{ACTION, ALERTNAME, fingerprint};
use davy_alerting::config::{Hand, OnFail, Policy};
use davy_alerting::release::{
    CallOutcome, Command, Desired, Down, Event, Gates, Level, Live, Liveness, OperatorAct, ReadError,
    ReleaseMachine, TargetState,
};
use davy_detector::{Contract, Outcome, Verdict};
use davy_model::Timestamp;
use expect_test::Expect;

use super::verdicts::{errors, verdict};

pub(crate) fn policy(on_fail: OnFail) -> Policy {
    Policy {
        on_fail,
        watch: Duration::from_secs(60),
        verify_timeout: Duration::from_secs(60),
        rollback: Some(Hand { name: "to-stable".into(), level: Level::C }),
        ..Policy::default()
    }
}

pub(crate) fn machine(policy: Policy) -> ReleaseMachine {
    let name = |s: &str| s.to_owned();
    let now = Timestamp::from_millis(0);
    ReleaseMachine::new(7, name("checkout-v2-7"), name("checkout"), name("v1"), name("v2"), policy, now)
}

fn live(baseline: Option<f64>, canary: Option<f64>, blind: bool) -> Liveness {
    Liveness {
        baseline_seen: baseline.is_some(),
        canary_seen: canary.is_some(),
        baseline_requests: baseline,
        canary_requests: canary,
        blind,
        ..Liveness::default()
    }
}

/// Plays one line; a verdict and a look are both meant by `fail`, `pass` and `insufficient`.
pub(crate) fn play(m: &mut ReleaseMachine, now: Timestamp, line: &str) -> Vec<Command> {
    let healthy = live(Some(900.0), Some(100.0), false);
    let judge = |m: &mut ReleaseMachine, v: Verdict| {
        let mut commands = m.step(now, Event::Live(healthy));
        commands.extend(m.step(now, Event::Judged(&v)));
        commands
    };
    let order = |act| Event::Operator(act, "ana".into(), "because".into());
    match line {
        "fail" => judge(m, verdict(Outcome::Fail, Contract::Ok, now)),
        "pass" => judge(m, verdict(Outcome::Pass, Contract::Ok, now)),
        "insufficient" => judge(m, verdict(Outcome::Insufficient, Contract::Ok, now)),
        "soft fail" => {
            let soft = verdict(Outcome::Insufficient, Contract::Ok, now);
            judge(m, Verdict { metrics: [errors(Outcome::Fail)].into(), ..soft })
        }
        "fail, contract blind" => judge(m, verdict(Outcome::Fail, Contract::Blind, now)),
        "fail without a look" => m.step(now, Event::Judged(&verdict(Outcome::Fail, Contract::Ok, now))),
        "stale fail" => judge(m, verdict(Outcome::Fail, Contract::Ok, now - Duration::from_secs(3600))),
        "look" => m.step(now, Event::Live(healthy)),
        "blind" => m.step(now, Event::Live(Liveness { blind: true, ..healthy })),
        "nothing seen" => m.step(now, Event::Live(live(None, None, false))),
        "canary gone" => m.step(now, Event::Live(live(Some(1000.0), None, false))),
        "baseline gone" => m.step(now, Event::Live(live(None, Some(1000.0), false))),
        "drained" => m.step(now, Event::Live(live(Some(1000.0), Some(0.0), false))),
        "probes only" => m.step(now, Event::Live(live(Some(1000.0), Some(1.0), false))),
        "idle" => m.step(now, Event::Live(live(Some(0.0), Some(0.0), false))),
        "accepted" => call(m, now, CallOutcome::Accepted { detail: "status 200".into(), state: None }),
        "rejected" => call(m, now, CallOutcome::Rejected { detail: "status 409: not that one".into() }),
        "not sent" => call(m, now, CallOutcome::NotSent { detail: "connection refused".into() }),
        "unknown" => call(m, now, CallOutcome::Unknown { detail: "timed out".into() }),
        "hold" => m.step(now, order(OperatorAct::Hold)),
        "resume" => m.step(now, order(OperatorAct::Resume)),
        "rollback" => m.step(now, order(OperatorAct::Rollback)),
        "promote" => m.step(now, order(OperatorAct::Promote)),
        "superseded" => m.step(now, Event::Superseded { by: "v3".into() }),
        "tick" => m.step(now, Event::Tick),
        "restart" => {
            *m = ReleaseMachine::from_record(&m.to_record(), m.policy().clone()).expect("its own record");
            m.step(now, Event::Restarted)
        }
        "approve" => m.step(now, order(OperatorAct::Approve)),
        "deny" => m.step(now, order(OperatorAct::Deny)),
        "conflict" => call(m, now, CallOutcome::Conflict { detail: "status 409".into() }),
        "down" => {
            m.step(now, Event::Live(Liveness { down: Some(Down::Refused), ..live(Some(900.0), None, false) }))
        }
        "drained, not recovered" => m.step(
            now,
            Event::Live(Liveness { recovered: Some(false), ..live(Some(1000.0), Some(0.0), false) }),
        ),
        "free" => m.step(now, Event::Gates(Gates::default())),
        "unreachable" => tell(m, now, Err(ReadError::Unreachable("timed out".into()))),
        "unusable" => tell(m, now, Err(ReadError::Unusable("no such object".into()))),
        other => match other.split_once(": ") {
            // What the target says: generation, what is live, and the mark where there is one.
            Some(("target", says)) => tell(m, now, Ok(target(says))),
            Some(("gate", gate)) => {
                let (kind, why) = gate.split_once(' ').unwrap();
                let why = Some(why.to_owned());
                let gates = match kind {
                    "hold" => Gates { hold: why, ..Gates::default() },
                    "blocked" => Gates { blocked: why, ..Gates::default() },
                    "approval" => Gates { approval: why, ..Gates::default() },
                    "alarm" => Gates { alarm: why, ..Gates::default() },
                    other => panic!("no such gate: {other}"),
                };
                m.step(now, Event::Gates(gates))
            }
            _ => panic!("no such event: {other}"),
        },
    }
}

/// The answer to the call that is out: of the rollback if there is one, else of the ramp's step.
fn call(m: &mut ReleaseMachine, now: Timestamp, outcome: CallOutcome) -> Vec<Command> {
    let desired = if m.rollback().is_some() {
        Desired::Baseline
    } else {
        m.step_under_way().map_or(Desired::Baseline, |a| a.desired)
    };
    m.step(now, Event::Called(desired, outcome))
}

/// The answer to the newest read.
fn tell(m: &mut ReleaseMachine, now: Timestamp, state: Result<TargetState, ReadError>) -> Vec<Command> {
    let ticket = m.reads();
    m.step(now, Event::Read { ticket, state })
}

/// `g4 canary 5`, `g5 baseline`, `g6 other v3`, each with ` mark KEY` if it has one.
fn target(says: &str) -> TargetState {
    let (says, marker) = match says.split_once(" mark ") {
        Some((says, key)) => (says, Some(key.to_owned())),
        None => (says, None),
    };
    let words: Vec<&str> = says.split(' ').collect();
    let live = match words[1..] {
        ["baseline"] => Live::Baseline,
        ["canary", percent] => Live::Share(percent.parse::<f64>().unwrap() / 100.0),
        ["other", version] => Live::Other(version.into()),
        _ => panic!("no such target: {says}"),
    };
    TargetState {
        uid: "u1".into(),
        generation: words[0].into(),
        token: format!("t{}", words[0]),
        live,
        marker,
        refusal: None,
    }
}

/// Plays the script and compares what came of it. `5 min: look` waits first; `look x4` repeats.
pub(crate) fn check(policy: Policy, script: &str, want: &Expect) {
    let mut m = machine(policy);
    let mut now = Timestamp::from_millis(0);
    let mut told = String::new();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (wait, event) = line.split_once(" min: ").unwrap_or(("0", line));
        now = now + Duration::from_secs(60 * wait.parse::<u64>().unwrap());
        let (event, times) = event.rsplit_once(" x").unwrap_or((event, "1"));
        for _ in 0..times.parse().unwrap() {
            now = now + Duration::from_secs(15);
            let commands = play(&mut m, now, event);
            writeln!(told, "{}s {event}: {}", now.as_millis() / 1000, m.phase().as_str()).unwrap();
            for command in &commands {
                writeln!(told, "    {}", show(command)).unwrap();
            }
        }
    }
    want.assert_eq(&told);
}

fn show(command: &Command) -> String {
    match command {
        Command::Audit(a) => format!("audit {} {}: {} ({})", a.actor, a.action, a.outcome, a.reason),
        Command::Raise(a) => format!("raise {}: {}", a.name(), a.annotation(ACTION)),
        Command::Resolve { fingerprint, annotations } => {
            format!("resolve {}: {}", alert_name(fingerprint), annotations[ACTION])
        }
        Command::Read(r) => format!("READ {}", r.actuator),
        Command::Call(r) if r.desired == Desired::Baseline => {
            format!("CALL {} {} -> {} key {}", r.actuator, r.subject.canary, r.subject.baseline, r.key)
        }
        Command::Call(r) => format!("CALL {} {} % key {}", r.actuator, r.desired.percent(), r.key),
    }
}

/// Finds the alert behind a fingerprint of the test's release.
fn alert_name(wanted: &str) -> &'static str {
    for (name, severity) in [
        ("CanaryRegression", "critical"),
        ("RollbackVerified", "info"),
        ("RollbackNeedsHuman", "critical"),
        ("DavyBlind", "critical"),
        ("ReleaseStuck", "warning"),
        ("RolledBackCanaryServes", "critical"),
        ("CanaryMetricWorse", "warning"),
        ("RollbackBlocked", "critical"),
        ("ApprovalNeeded", "warning"),
        ("RampPaused", "warning"),
        ("RampStep", "info"),
    ] {
        for step in if name == "RampStep" { &["5", "25", "100"][..] } else { &[""] } {
            let labels = davy_model::Labels::from_pairs([
                (ALERTNAME, name),
                ("severity", severity),
                ("release", "checkout-v2-7"),
                ("service", "checkout"),
                ("version", "v2"),
                ("baseline", "v1"),
                ("metric", if name == "CanaryMetricWorse" { "errors" } else { "" }),
                ("step", step),
            ]);
            if fingerprint(&labels) == wanted {
                return name;
            }
        }
    }
    panic!("{wanted} is no alert of this release")
}
