//! `GroupSpec`: a group of rules as the file says it, defaults filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_query::Expr;

#[derive(Debug, Clone, PartialEq)]
pub struct GroupSpec {
    pub file: String,
    /// Unique within its file.
    pub name: String,
    pub interval: Duration,
    /// Rules are evaluated, and their results stored, so far in the past.
    pub query_offset: Duration,
    /// Most series or alerts of each rule; 0 is no limit of the file's.
    pub limit: usize,
    pub rules: Vec<RuleSpec>,
}

impl GroupSpec {
    /// As Prometheus names a group in metrics and logs.
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }
}

#[derive(Debug, Clone)]
pub struct RuleSpec {
    /// Of the series that is recorded, or of the alert.
    pub name: String,
    pub expr: Expr,
    /// The group's and the rule's own, which win. An empty value removes the label.
    pub labels: BTreeMap<String, String>,
    pub kind: RuleKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    Recording,
    Alerting {
        /// `for`: how long it is pending before it fires.
        hold: Duration,
        keep_firing_for: Duration,
        annotations: BTreeMap<String, String>,
    },
}

/// An expression has no equality of its own; its text says it all.
impl PartialEq for RuleSpec {
    fn eq(&self, other: &Self) -> bool {
        self.same_name_and_labels(other)
            && self.kind == other.kind
            && self.expr.to_string() == other.expr.to_string()
    }
}

impl RuleSpec {
    /// Whether the state of one may go on as the other's after a reload.
    pub fn same_name_and_labels(&self, other: &Self) -> bool {
        (&self.name, &self.labels) == (&other.name, &other.labels)
    }
}
