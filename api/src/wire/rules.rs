//! Rules as `/api/v1/rules` shows them, and their alerts as `/api/v1/alerts` does: Prometheus' fields and spelling.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::prometheus::exponent_text;

/// A group of a rule file, with its rules in the order of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleGroup {
    pub name: String,
    pub file: String,
    pub rules: Vec<Rule>,
    /// Seconds.
    pub interval: f64,
    /// Series or alerts that one rule may make; 0 is "no limit".
    pub limit: usize,
    /// Of the last evaluation, seconds.
    pub evaluation_time: f64,
    /// RFC 3339; [`NEVER`] before the first.
    pub last_evaluation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Rule {
    Alerting(AlertingRule),
    Recording(RecordingRule),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertingRule {
    /// `inactive`, `pending` or `firing`.
    pub state: String,
    pub name: String,
    pub query: String,
    /// `for`, seconds.
    pub duration: f64,
    /// Seconds.
    pub keep_firing_for: f64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub alerts: Vec<RuleAlert>,
    /// `ok`, `err` or `unknown`.
    pub health: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
    pub evaluation_time: f64,
    pub last_evaluation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingRule {
    /// The metric that is recorded.
    pub name: String,
    pub query: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub labels: BTreeMap<String, String>,
    pub health: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
    pub evaluation_time: f64,
    pub last_evaluation: String,
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleAlert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub state: String,
    pub active_at: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub keep_firing_since: Option<String>,
    /// [`value_text`] of what the expression gave.
    pub value: String,
}

/// Go's zero time, which stands for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// `1e+00`: a value as Prometheus writes that of an alert.
pub fn value_text(v: f64) -> String {
    exponent_text(v)
}

impl Rule {
    pub fn name(&self) -> &str {
        match self {
            Self::Alerting(r) => &r.name,
            Self::Recording(r) => &r.name,
        }
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Alerting(r) => &r.labels,
            Self::Recording(r) => &r.labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_alerts_have_an_exponent() {
        for (v, want) in [
            (1.0, "1e+00"),
            (0.0, "0e+00"),
            (-12345.678, "-1.2345678e+04"),
            (1e-7, "1e-07"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(value_text(v), want);
        }
    }
}
