//! A verdict as JSON: in the control database, in the rollback body, in the release API. An edge; one shape.

use davy_detector::{Contract, MetricClass, MetricVerdict, Needed, Outcome, Verdict};
use serde::{Deserialize, Serialize};

use crate::time::{parse_rfc3339, rfc3339};

/// As the release API shows it: snake_case, RFC 3339, `null` where nothing can be said.
pub fn verdict_json(verdict: &Verdict) -> serde_json::Value {
    serde_json::to_value(VerdictShape::of(verdict)).expect("the shape has string keys only")
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VerdictShape {
    verdict: String,
    contract: String,
    at: String,
    intervals: u64,
    evidence: Option<f64>,
    traffic_share: Option<f64>,
    reason: String,
    metrics: Vec<MetricShape>,
}

#[derive(Debug, Serialize, Deserialize)]
struct MetricShape {
    name: String,
    class: String,
    verdict: String,
    baseline: Option<f64>,
    canary: Option<f64>,
    estimate: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    margin: Option<f64>,
    evidence: Option<f64>,
    baseline_n: Option<f64>,
    canary_n: Option<f64>,
    needed: Option<NeededShape>,
    source: String,
    reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct NeededShape {
    requests: u64,
    seconds: Option<u64>,
}

const OUTCOMES: [Outcome; 3] = [Outcome::Pass, Outcome::Fail, Outcome::Insufficient];
const CLASSES: [MetricClass; 6] = [
    MetricClass::Errors,
    MetricClass::Latency,
    MetricClass::Cpu,
    MetricClass::Memory,
    MetricClass::Proportion,
    MetricClass::Gauge,
];
pub(super) fn outcome(text: &str) -> Option<Outcome> {
    OUTCOMES.into_iter().find(|o| o.as_str() == text)
}

fn number(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

fn nan(x: Option<f64>) -> f64 {
    x.unwrap_or(f64::NAN)
}

impl VerdictShape {
    pub(crate) fn of(v: &Verdict) -> Self {
        Self {
            verdict: v.outcome.as_str().to_owned(),
            contract: v.contract.as_str().to_owned(),
            at: rfc3339(v.at),
            intervals: v.intervals,
            evidence: number(v.evidence),
            traffic_share: number(v.traffic_share),
            reason: v.reason.clone(),
            metrics: v.metrics.iter().map(MetricShape::of).collect(),
        }
    }

    /// `None` for words that a newer version wrote.
    pub(crate) fn verdict(self) -> Option<Verdict> {
        Some(Verdict {
            outcome: outcome(&self.verdict)?,
            contract: Contract::ALL.into_iter().find(|c| c.as_str() == self.contract)?,
            at: parse_rfc3339(&self.at)?,
            intervals: self.intervals,
            evidence: nan(self.evidence),
            traffic_share: nan(self.traffic_share),
            metrics: self.metrics.into_iter().map(MetricShape::metric).collect::<Option<_>>()?,
            reason: self.reason,
        })
    }
}

impl MetricShape {
    fn of(m: &MetricVerdict) -> Self {
        Self {
            name: m.name.clone(),
            class: m.class.as_str().to_owned(),
            verdict: m.outcome.as_str().to_owned(),
            baseline: number(m.baseline),
            canary: number(m.canary),
            estimate: number(m.estimate),
            lower: number(m.lower),
            upper: number(m.upper),
            margin: number(m.margin),
            evidence: number(m.evidence),
            baseline_n: number(m.baseline_n),
            canary_n: number(m.canary_n),
            needed: m.needed.map(|n| NeededShape { requests: n.requests, seconds: n.seconds }),
            source: m.source.to_string(),
            reason: m.reason.clone(),
        }
    }

    fn metric(self) -> Option<MetricVerdict> {
        Some(MetricVerdict {
            name: self.name,
            class: CLASSES.into_iter().find(|c| c.as_str() == self.class)?,
            outcome: outcome(&self.verdict)?,
            baseline: nan(self.baseline),
            canary: nan(self.canary),
            estimate: nan(self.estimate),
            lower: nan(self.lower),
            upper: nan(self.upper),
            margin: nan(self.margin),
            evidence: nan(self.evidence),
            baseline_n: nan(self.baseline_n),
            canary_n: nan(self.canary_n),
            needed: self.needed.map(|n| Needed { requests: n.requests, seconds: n.seconds }),
            source: self.source.into(),
            reason: self.reason,
        })
    }
}
