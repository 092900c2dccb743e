//! Recording and alerting rules, as Prometheus evaluates them; pure.
//!
//! Read in this order: [`GroupSpec`] (what the file says), [`Evaluate`] and [`Surroundings`] (what a group needs
//! from outside), [`RuleGroup`] (rules one after the other, at one time), `alerting` (inactive, pending, firing),
//! `template` and `functions` (labels and annotations are Go templates). Who evaluates when is the shell's:
//! [`slot`] says at which times.
//!
//! Reference: Prometheus 3.5, `rules/alerting.go`, `rules/recording.go`, `rules/group.go`, `template/template.go`.

mod alerting;
mod evaluate;
mod functions;
mod group;
mod recording;
mod restore;
pub mod slot;
mod spec;
mod template;

#[cfg(test)]
mod tests;

pub use alerting::{ActiveAlert, AlertingRule, RuleAlertState};
pub use evaluate::{Evaluate, EvaluateError, Outside, Refused, Row, Surroundings};
pub use group::{AlertUpdate, Health, Iteration, Problem, RuleGroup, RuleState};
pub use spec::{GroupSpec, RuleKind, RuleSpec};
pub use template::check as check_template;

/// Alerts of one rule, firing or not: a flood of labels must not eat the memory.
pub const ALERTS_PER_RULE_MAX: usize = 10_000;
/// How far back a `for` state is looked up after a restart; Prometheus' `--rules.alert.for-outage-tolerance`.
pub const OUTAGE_TOLERANCE: std::time::Duration = std::time::Duration::from_secs(60 * 60);
/// Least time that a restored alert stays pending, and least `for` that is restored at all; Prometheus'
/// `--rules.alert.for-grace-period`.
pub const FOR_GRACE_PERIOD: std::time::Duration = std::time::Duration::from_secs(10 * 60);
/// How often a firing alert is said again; Prometheus' `--rules.alert.resend-delay`.
pub const RESEND_DELAY: std::time::Duration = std::time::Duration::from_secs(60);
/// How long a resolved alert is kept, so that what happened stays visible.
pub const RESOLVED_RETENTION: std::time::Duration = std::time::Duration::from_secs(15 * 60);
