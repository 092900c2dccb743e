//! Davy's release API as its user sees it: the answer of `GET /api/davy/v1/releases`, read leniently.

use serde::{Deserialize, Serialize};

pub(super) const PATH: &str = "/api/davy/v1/releases";

/// The list, newest first.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Releases {
    Wrapped { releases: Vec<Release> },
    Bare(Vec<Release>),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Release {
    pub(super) id: String,
    pub(super) service: String,
    pub(super) baseline: String,
    pub(super) canary: String,
    pub(super) phase: String,
    pub(super) verdict: String,
    #[serde(default)]
    pub(super) reason: String,
    pub(super) traffic_share: Option<f64>,
    #[serde(default)]
    pub(super) metrics: Vec<Metric>,
    #[serde(default)]
    pub(super) actions: Vec<Action>,
}

/// One metric's part of the verdict; numbers are absent where nothing can be said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) class: String,
    pub(super) verdict: String,
    pub(super) baseline: Option<f64>,
    pub(super) canary: Option<f64>,
    pub(super) estimate: Option<f64>,
    pub(super) lower: Option<f64>,
    pub(super) upper: Option<f64>,
    pub(super) margin: Option<f64>,
    pub(super) evidence: Option<f64>,
    pub(super) baseline_n: Option<f64>,
    pub(super) canary_n: Option<f64>,
    pub(super) needed: Option<Needed>,
    #[serde(default)]
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Needed {
    pub(super) requests: Option<u64>,
    pub(super) seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Action {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) state: String,
}

impl Releases {
    /// The newest release of the service.
    pub(super) fn of_service(self, service: &str) -> Option<Release> {
        let (Self::Wrapped { releases } | Self::Bare(releases)) = self;
        releases.into_iter().find(|release| release.service == service)
    }
}

impl Release {
    pub(super) fn is_failed(&self) -> bool {
        self.verdict == "fail"
    }

    /// The metric that speaks loudest against the canary, failing ones first.
    pub(super) fn deciding(&self) -> Option<&Metric> {
        let loudness = |m: &Metric| (m.verdict == "fail", m.evidence.unwrap_or(0.0));
        self.metrics.iter().max_by(|a, b| {
            let (a, b) = (loudness(a), loudness(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_bare_or_wrapped_and_the_loudest_metric_decides() {
        let metric = |name: &str, verdict: &str, evidence: Option<f64>| {
            serde_json::json!({"name": name, "class": "gauge", "verdict": verdict, "evidence": evidence,
                "baseline": null, "canary": 2.0, "needed": {"requests": 10, "seconds": null}})
        };
        let metrics = [
            metric("quiet", "fail", Some(0.2)),
            metric("loud", "fail", Some(1.4)),
            metric("louder", "pass", Some(9.0)),
            metric("unknown", "insufficient", None),
        ];
        let of = |service: &str| {
            serde_json::json!({"id": "r", "service": service, "baseline": "v1", "canary": "v2",
                "phase": "watching", "verdict": "fail", "reason": "", "started_at": "2026-01-01T00:00:00Z",
                "decided_at": null, "traffic_share": 0.5, "metrics": metrics, "actions": [], "traces": []})
        };
        let list = serde_json::json!([of("other"), of("checkout")]);
        let wrapped = serde_json::json!({ "releases": list });
        for body in [list, wrapped] {
            let list: Releases = serde_json::from_value(body).unwrap();
            let release = list.of_service("checkout").unwrap();
            assert!(release.is_failed());
            assert_eq!(release.deciding().unwrap().name, "loud");
        }
    }
}
