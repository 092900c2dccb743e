//! Stories that were once played, for the tests of what is made of them.

use std::time::Duration;

use davy_api::wire::{Metric, Needed, Release};
use tokio::time::Instant;

use super::Scenario;
use super::inbox::{Channel, Letter};
use super::load::LoadCounts;
use super::ramp::Decision;
use super::record::{Arrival, Call, Injection, Look, Record, Tone};
use super::splitter::{About, Answer, ArmCounts, CallBody, Change, Order, Wanted};

fn metric(name: &str, class: &str, levels: (f64, f64), bounds: (f64, f64, f64), evidence: f64) -> Metric {
    Metric {
        name: name.to_owned(),
        class: class.to_owned(),
        verdict: if evidence >= 1.0 { "fail" } else { "insufficient" }.to_owned(),
        baseline: Some(levels.0),
        canary: Some(levels.1),
        estimate: Some(bounds.0),
        lower: Some(bounds.1),
        upper: Some(bounds.2),
        margin: 0.1,
        evidence: Some(evidence),
        baseline_n: 2_410.0,
        canary_n: 2_390.0,
        needed: Some(Needed { requests: 1_200, seconds: Some(10) }),
        source: "http_requests_total".to_owned(),
        reason: "more errors".to_owned(),
    }
}

pub(super) fn release(phase: &str, errors: f64, evidence: f64) -> Release {
    Release {
        id: "checkout-v2-1".to_owned(),
        generation: 1,
        service: "checkout".to_owned(),
        baseline: "v1".to_owned(),
        canary: "v2".to_owned(),
        phase: phase.to_owned(),
        verdict: if evidence >= 1.0 { "fail" } else { "insufficient" }.to_owned(),
        reason: "errors: 4.9 % against 0.1 % of the baseline".to_owned(),
        traffic_share: Some(0.5),
        metrics: vec![
            metric("errors", "errors", (0.001, errors), (errors / 0.001 - 1.0, 11.2, 88.0), evidence),
            metric("latency_p99", "latency", (0.0381, 0.0389), (0.021, -0.06, 0.11), 0.02),
            metric("cpu", "cpu", (0.0011, 0.00112), (0.018, -0.1, 0.15), 0.0),
            Metric {
                estimate: None,
                lower: None,
                upper: None,
                baseline: None,
                canary: None,
                ..metric("memory", "memory", (0.0, 0.0), (0.0, 0.0, 0.0), 0.0)
            },
        ],
        actions: Vec::new(),
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        decided_at: None,
        evidence: Some(evidence),
        contract: "ok".to_owned(),
        intervals: 12,
        traces: Vec::new(),
        ..Release::default()
    }
}

fn arm(requests: u64, errors: u64) -> ArmCounts {
    ArmCounts { requests, errors }
}

fn look(at: u64, requests: u64, release: Option<Release>, share: u32) -> Look {
    let errors = requests / 40;
    Look {
        at: Duration::from_secs(at),
        release,
        stable: arm(2 * requests, requests / 500),
        canary: arm(requests, errors),
        shares: [("v1".to_owned(), 100 - share), ("v2".to_owned(), share)].into(),
        unseen: 0,
        load: LoadCounts { sent: 3 * requests, good: 3 * requests - errors, errors, shed: 0 },
    }
}

fn call(at_ms: u64, wanted: Wanted, generation: i64, baseline: ArmCounts, canary: ArmCounts) -> Call {
    let action = match wanted {
        Wanted::Rollback => "rollback".to_owned(),
        Wanted::Share(100) => "promote".to_owned(),
        Wanted::Share(percent) => format!("set_share-{percent}"),
    };
    let body = CallBody {
        service: "checkout".to_owned(),
        release_id: "checkout-v2-1".to_owned(),
        expected_revision: Some("v2".to_owned()),
        expected_generation: Some(generation),
    };
    let (v1, v2) = ("v1".to_owned(), "v2".to_owned());
    Call {
        at: Duration::from_millis(at_ms),
        change: Change {
            at: Instant::now(),
            key: format!("{action}/v2/splitter/{generation}"),
            order: Some(Order { wanted, canary: v2, baseline: v1, call: Some(body) }),
            answer: Answer::Applied,
            baseline,
            canary,
        },
    }
}

fn passed(share: u8) -> Option<Decision> {
    let reason = format!("at {share} % of the requests: no worse than the margins");
    Some(Decision { verdict: "pass".to_owned(), reason })
}

/// Two steps of the ramp are behind it; the second is in force since 16 s.
fn base(scenario: Scenario) -> (Record, Vec<Call>) {
    let splitter = About { why: "it was asked for".to_owned(), ..About::default() };
    let mut record = Record::new(scenario, 7, 50, splitter);
    record.say(Duration::ZERO, Tone::Plain, "v1 serves: 3 instances, all of the traffic");
    record.deployed(Duration::from_secs(6), 3);
    let mut calls = vec![call(8_100, Wanted::Share(25), 2, arm(1_900, 1), arm(0, 0))];
    record.look(look(8, 0, Some(release("watching", 0.001, 0.0)), 25), calls.clone(), None, vec![]);
    calls.push(call(16_000, Wanted::Share(50), 3, arm(3_600, 3), arm(190, 0)));
    let release = release("watching", 0.001, 0.0);
    record.look(look(16, 190, Some(release), 50), calls.clone(), passed(25), vec![]);
    (record, calls)
}

/// It has all of the traffic.
pub(super) fn healthy() -> Record {
    let (mut record, mut calls) = base(Scenario::Healthy);
    calls.push(call(40_000, Wanted::Share(100), 4, arm(6_500, 6), arm(3_000, 3)));
    let release = release("promoted", 0.001, 0.01);
    record.look(look(45, 6_000, Some(release), 100), calls, passed(50), vec![]);
    record
}

pub(super) fn rolled_back() -> Record {
    let (mut record, mut calls) = base(Scenario::Errors);
    let at = Duration::from_secs(20);
    let injection = Injection { at, share: 50, canary_requests: 1_700 };
    record.injected(injection, "5 % of the requests fail");
    calls.push(call(24_100, Wanted::Rollback, 4, arm(4_380, 4), arm(2_190, 54)));
    let failed = Decision { verdict: "fail".to_owned(), reason: "errors are worse".to_owned() };
    let arrivals = Channel::ALL
        .map(|channel| Arrival {
            at: Duration::from_millis(24_400),
            letter: Letter {
                at: Instant::now(),
                channel,
                title: "firing CanaryRegression".to_owned(),
                text: "CanaryRegression checkout: version v2 is worse than v1".to_owned(),
            },
        })
        .to_vec();
    let seen = look(25, 2_190, Some(release("rolling_back", 0.049, 1.3)), 0);
    record.look(seen, calls.clone(), Some(failed), arrivals.clone());
    let mut end = look(31, 2_190, Some(release("rolled_back", 0.049, 1.3)), 0);
    end.stable = arm(9_000, 9);
    record.look(end, calls, None, arrivals);
    record
}
