//! The JSON of the release API, version 1. Stable: fields are added, never renamed or removed.
//!
//! Times are RFC 3339 in UTC. A number that cannot be said yet (`NaN` inside) is `null`.

use std::collections::BTreeMap;

use davy_detector::{MetricVerdict, Verdict};
use davy_model::Timestamp;
use serde::{Deserialize, Serialize};

pub mod rules;

/// One release, as `GET /api/davy/v1/releases` lists it.
#[derive(Default, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    pub id: String,
    /// The release's number; grows with every release and is never used twice.
    pub generation: i64,
    pub service: String,
    pub baseline: String,
    pub canary: String,
    /// `watching`, `holding`, `promoting`, `promoted`, `rolling_back`, `verifying`, `rolled_back`,
    /// `needs_human` or `closed`.
    pub phase: String,
    /// `pass`, `fail` or `insufficient`.
    pub verdict: String,
    pub reason: String,
    pub started_at: String,
    pub decided_at: Option<String>,
    /// Canary's share of both arms' requests.
    pub traffic_share: Option<f64>,
    /// Evidence of the whole release as a share of what a rollback needs.
    pub evidence: Option<f64>,
    /// Whether the data can be judged: `ok`, or what stands in the way.
    pub contract: String,
    /// Intervals judged so far.
    pub intervals: u64,
    pub metrics: Vec<Metric>,
    pub actions: Vec<Action>,
    /// Trace ids worth looking at: the canary's newest failed spans.
    pub traces: Vec<String>,
    /// Where Davy gives the canary its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// What waits for a human's approval: `rollback`, `set_share` or `promote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<String>,
    /// What is seen of the canary: `clear`, or what stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sight: Option<String>,
}

/// How far the canary's share has grown; percent of the requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    pub steps: Vec<u8>,
    /// The step in force; `None` before the first.
    pub share: Option<u8>,
    pub since: Option<String>,
    /// Why it waits for an operator.
    pub paused: Option<String>,
}

/// One judged metric. `estimate`, `lower`, `upper` and `margin` are relative differences, canary over baseline
/// less one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub class: String,
    pub verdict: String,
    pub baseline: Option<f64>,
    pub canary: Option<f64>,
    pub estimate: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub margin: f64,
    pub evidence: Option<f64>,
    pub baseline_n: f64,
    pub canary_n: f64,
    pub needed: Option<Needed>,
    pub source: String,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Needed {
    pub requests: u64,
    /// `null`: never at this traffic.
    pub seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    pub id: String,
    pub kind: String,
    pub state: String,
    pub attempts: u32,
    pub at: String,
    pub detail: String,
}

/// One point of a release's history, as `GET /api/davy/v1/releases/{id}/evidence` lists them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub at: String,
    /// Intervals judged so far, warm-up excluded.
    #[serde(default)]
    pub intervals: u64,
    pub verdict: String,
    pub contract: String,
    pub evidence: Option<f64>,
    pub traffic_share: Option<f64>,
    pub reason: String,
    pub metrics: Vec<Metric>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub fingerprint: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub starts_at: String,
    pub ends_at: Option<String>,
}

/// A series that dynamic thresholds watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    pub threshold: String,
    pub series: String,
    pub value: Option<f64>,
    pub lower: Option<f64>,
    pub expected: Option<f64>,
    pub upper: Option<f64>,
    pub score: Option<f64>,
    /// Since when the series has been outside its band.
    pub anomaly_since: Option<String>,
}

/// What is known of a service's noise: from how many releases, and how often its baseline, split in two and judged
/// as if it were a release, was called worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub service: String,
    pub releases: u64,
    pub aa_runs: u64,
    pub aa_alarms: u64,
    /// `aa_alarms` of `aa_runs`; `null` before any.
    pub false_alarm_rate: Option<f64>,
}

impl Evidence {
    pub fn new(verdict: &Verdict) -> Self {
        Self {
            at: rfc3339(verdict.at),
            intervals: verdict.intervals,
            verdict: verdict.outcome.as_str().to_owned(),
            contract: verdict.contract.as_str().to_owned(),
            evidence: finite(verdict.evidence),
            traffic_share: finite(verdict.traffic_share),
            reason: verdict.reason.clone(),
            metrics: verdict.metrics.iter().map(Metric::new).collect(),
        }
    }
}

impl Metric {
    fn new(m: &MetricVerdict) -> Self {
        Self {
            name: m.name.clone(),
            class: m.class.as_str().to_owned(),
            verdict: m.outcome.as_str().to_owned(),
            baseline: finite(m.baseline),
            canary: finite(m.canary),
            estimate: finite(m.estimate),
            lower: finite(m.lower),
            upper: finite(m.upper),
            margin: m.margin,
            evidence: finite(m.evidence),
            baseline_n: m.baseline_n,
            canary_n: m.canary_n,
            needed: m.needed.map(|n| Needed { requests: n.requests, seconds: n.seconds }),
            source: m.source.to_string(),
            reason: m.reason.clone(),
        }
    }
}

/// `None` for NaN and the infinities, which JSON cannot say.
pub fn finite(v: f64) -> Option<f64> {
    v.is_finite().then_some(v)
}

/// 0001-01-01T00:00:00Z and 9999-01-01T00:00:00Z.
const YEAR_1_MILLIS: i64 = -62_135_596_800_000;
const YEAR_9999_MILLIS: i64 = 253_370_764_800_000;

/// A drill: a synthetic regression on the real path, with the time of each hop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    pub id: String,
    /// The service whose path was tried.
    pub service: String,
    pub actor: String,
    /// Whether the real actuator was called as well.
    pub live: bool,
    /// `running`, `passed` or `failed`.
    pub state: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    /// Hops that were passed in time.
    pub passed: usize,
    pub hops: Vec<DrillHop>,
    /// Why it could not be run.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillHop {
    /// `scrape`, `detect`, `decide`, `call`, `verify` or `notify`.
    pub name: String,
    /// Since the hop before; `None` if it was not passed.
    pub seconds: Option<f64>,
    pub limit_seconds: f64,
    pub ok: bool,
    pub detail: String,
}

/// RFC 3339 with milliseconds in UTC; times outside the years 1 to 9998 are clamped.
pub fn rfc3339(t: Timestamp) -> String {
    let clamped = t.as_millis().clamp(YEAR_1_MILLIS, YEAR_9999_MILLIS);
    jiff::Timestamp::from_millisecond(clamped).map_or_else(|_| t.to_string(), |t| format!("{t:.3}"))
}

pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use davy_detector::{Contract, MetricClass, Outcome};
    use expect_test::expect;

    use super::*;

    #[test]
    fn unknown_numbers_are_null() {
        let verdict = Verdict {
            outcome: Outcome::Insufficient,
            contract: Contract::NoTraffic,
            at: Timestamp::from_millis(1_700_000_000_500),
            intervals: 3,
            evidence: 0.0,
            traffic_share: f64::NAN,
            metrics: [MetricVerdict {
                name: "errors".into(),
                class: MetricClass::Errors,
                outcome: Outcome::Insufficient,
                baseline: f64::NAN,
                canary: f64::NAN,
                estimate: f64::NAN,
                lower: f64::NEG_INFINITY,
                upper: f64::INFINITY,
                margin: 0.1,
                evidence: 0.0,
                baseline_n: 0.0,
                canary_n: 0.0,
                needed: Some(davy_detector::Needed { requests: 120, seconds: None }),
                source: "http_requests_total".into(),
                reason: "no requests yet".into(),
            }]
            .into(),
            reason: "no traffic".into(),
        };
        let json = serde_json::to_string_pretty(&Evidence::new(&verdict)).unwrap();
        expect![[r#"
            {
              "at": "2023-11-14T22:13:20.500Z",
              "intervals": 3,
              "verdict": "insufficient",
              "contract": "no_traffic",
              "evidence": 0.0,
              "traffic_share": null,
              "reason": "no traffic",
              "metrics": [
                {
                  "name": "errors",
                  "class": "errors",
                  "verdict": "insufficient",
                  "baseline": null,
                  "canary": null,
                  "estimate": null,
                  "lower": null,
                  "upper": null,
                  "margin": 0.1,
                  "evidence": 0.0,
                  "baseline_n": 0.0,
                  "canary_n": 0.0,
                  "needed": {
                    "requests": 120,
                    "seconds": null
                  },
                  "source": "http_requests_total",
                  "reason": "no requests yet"
                }
              ]
            }"#]]
        .assert_eq(&json);
    }

    #[test]
    fn times_out_of_range_do_not_panic() {
        assert_eq!(rfc3339(Timestamp::from_millis(0)), "1970-01-01T00:00:00.000Z");
        assert!(rfc3339(Timestamp::MAX).starts_with("9999-01-01"), "{}", rfc3339(Timestamp::MAX));
        assert!(rfc3339(Timestamp::MIN).starts_with("0001-01-01"), "{}", rfc3339(Timestamp::MIN));
    }
}

/// A message of the outbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    pub id: String,
    pub receiver: String,
    pub state: String,
    pub attempts: u32,
    pub created_at: String,
    pub next_attempt_at: String,
    pub last_error: String,
    /// Its first alert.
    pub about: String,
}

/// Messages that are sent again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resent {
    pub ids: Vec<String>,
}
