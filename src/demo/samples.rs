//! Stories that were once played, for the tests of what is made of them.

use std::time::Duration;

use davy_api::wire::{Metric, Needed, Release};
use tokio::time::Instant;

use super::Scenario;
use super::inbox::{Channel, Letter};
use super::load::LoadCounts;
use super::record::{Arrival, Call, Injection, Look, Record, Tone};
use super::splitter::{ArmCounts, RollbackAnswer, RollbackCall};

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

fn look(at: u64, requests: u64, release: Option<Release>) -> Look {
    Look {
        at: Duration::from_secs(at),
        release,
        stable: ArmCounts { requests: 2 * requests, errors: requests / 500 },
        canary: ArmCounts { requests, errors: requests / 40 },
        load: LoadCounts { sent: 3 * requests, good: 3 * requests - 40, errors: 40, shed: 0 },
    }
}

fn base(scenario: Scenario) -> Record {
    let mut record = Record::new(scenario, 7, 50);
    record.say(Duration::ZERO, Tone::Plain, "v1 serves: 3 instances, all of the traffic");
    record.deployed(Duration::from_secs(6), 3);
    record.look(look(8, 240, Some(release("watching", 0.001, 0.0))), vec![], vec![]);
    record
}

pub(super) fn healthy() -> Record {
    let mut record = base(Scenario::Healthy);
    record.look(look(60, 6_000, Some(release("watching", 0.001, 0.01))), vec![], vec![]);
    record
}

pub(super) fn rolled_back() -> Record {
    let mut record = base(Scenario::Errors);
    let at = Duration::from_secs(20);
    record.injected(Injection { at, canary_requests: 1_700 }, "5 % of the requests fail");
    let body = serde_json::json!({"action": "rollback", "release_id": "checkout-v2-1",
        "service": "checkout", "from_version": "v2", "to_version": "v1",
        "expect": {"revision": "v2", "generation": 1}});
    let call = RollbackCall {
        at: Instant::now(),
        key: "checkout-v2-1-rollback".to_owned(),
        body: serde_json::from_value(body).ok(),
        answer: RollbackAnswer::Applied,
        canary_requests: 2_190,
    };
    let calls = vec![Call { at: Duration::from_millis(24_100), call }];
    let arrivals = Channel::ALL
        .map(|channel| Arrival {
            at: Duration::from_millis(24_400),
            letter: Letter {
                at: Instant::now(),
                channel,
                title: "firing CanaryRegression".to_owned(),
                text: "checkout: version v2 is worse than v1".to_owned(),
            },
        })
        .to_vec();
    let seen = look(25, 2_190, Some(release("rolling_back", 0.049, 1.3)));
    record.look(seen, calls.clone(), arrivals.clone());
    let mut end = look(31, 2_190, Some(release("rolled_back", 0.049, 1.3)));
    end.stable.requests = 9_000;
    record.look(end, calls, arrivals);
    record
}
