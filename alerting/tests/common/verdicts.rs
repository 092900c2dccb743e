//! Verdicts as a judge would give them.

use davy_detector::{Contract, MetricClass, MetricVerdict, Needed, Outcome, Verdict};
use davy_model::Timestamp;

pub(crate) fn verdict(outcome: Outcome, contract: Contract, at: Timestamp) -> Verdict {
    let reason = match outcome {
        Outcome::Pass => "errors and latency are no worse than tolerated",
        Outcome::Fail => "errors are worse than tolerated",
        Outcome::Insufficient => "1,200 more canary requests are needed",
    };
    Verdict {
        outcome,
        contract,
        at,
        intervals: 12,
        evidence: if outcome == Outcome::Fail { 1.25 } else { 0.1 },
        traffic_share: 0.1,
        metrics: [errors(outcome), latency()].into(),
        reason: reason.to_owned(),
    }
}

pub(crate) fn errors(outcome: Outcome) -> MetricVerdict {
    MetricVerdict {
        name: "errors".into(),
        class: MetricClass::Errors,
        outcome,
        baseline: 0.001,
        canary: 0.0512,
        estimate: 50.2,
        lower: 12.1,
        upper: 98.7,
        margin: 0.2,
        evidence: 1.25,
        baseline_n: 17_550.0,
        canary_n: 1_950.0,
        needed: None,
        source: "http_requests_total{service=\"checkout\"}".into(),
        reason: "the share of errors is at least 12 times higher".into(),
    }
}

fn latency() -> MetricVerdict {
    MetricVerdict {
        name: "latency_p99".into(),
        class: MetricClass::Latency,
        outcome: Outcome::Insufficient,
        baseline: 0.25,
        canary: 0.26,
        estimate: 0.04,
        lower: -0.05,
        upper: f64::NAN,
        margin: 0.1,
        evidence: 0.2,
        baseline_n: 17_550.0,
        canary_n: 1_950.0,
        needed: Some(Needed { requests: 1_200, seconds: Some(90) }),
        source: "http_request_duration_seconds_bucket{service=\"checkout\"}".into(),
        reason: "no slower so far".into(),
    }
}
