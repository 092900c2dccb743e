//! An alerting rule: inactive, pending for as long as `for` says, firing, and on for `keep_firing_for` after its
//! condition is over. Each set of labels that the expression gives is an alert of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_model::{Labels, Timestamp, Value, name};

use super::template::{Expansions, Templates};
use super::{
    ALERTS_PER_RULE_MAX, AlertUpdate, Evaluate, EvaluateError, Outside, RESEND_DELAY, RESOLVED_RETENTION,
    Row, RuleSpec,
};
use crate::alert::{ALERTNAME, Alert};

const ALERTS: &str = "ALERTS";
pub(super) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
const ALERTSTATE: &str = "alertstate";
/// A firing alert outlives so many evaluations, or sendings, that did not happen.
const MISSED_MAX: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleAlertState {
    /// Over; kept for a while.
    Inactive,
    Pending,
    Firing,
}

impl RuleAlertState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ActiveAlert {
    pub state: RuleAlertState,
    /// Its identity, the alert's name among them.
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    /// Of the last evaluation; zero where the expression gives a histogram.
    pub value: f64,
    /// Since when the condition holds.
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub last_sent_at: Option<Timestamp>,
    /// Since when the condition no longer holds.
    pub keep_firing_since: Option<Timestamp>,
}

impl ActiveAlert {
    /// Pending alerts are nobody's business yet; a resolved one is said once; a firing one again and again.
    fn needs_sending(&self, now: Timestamp) -> bool {
        match (self.state, self.resolved_at, self.last_sent_at) {
            (RuleAlertState::Pending, ..) => false,
            (_, Some(resolved), sent) => sent.is_none_or(|sent| resolved > sent),
            (_, None, Some(sent)) => sent + RESEND_DELAY < now,
            (_, None, None) => true,
        }
    }
}

/// The state of one rule.
#[derive(Debug, Clone)]
pub struct AlertingRule {
    hold: Duration,
    keep_firing_for: Duration,
    templates: Templates,
    pub(super) active: BTreeMap<Labels, ActiveAlert>,
    /// Until what was before a restart is read back, its series must not be written over.
    pub(super) restored: bool,
}

impl AlertingRule {
    pub(super) fn new(
        rule: &RuleSpec,
        hold: Duration,
        keep_firing_for: Duration,
        annotations: &BTreeMap<String, String>,
        restored: bool,
    ) -> Self {
        let templates = Templates::new(&rule.name, &rule.labels, annotations);
        Self { hold, keep_firing_for, templates, active: BTreeMap::new(), restored }
    }

    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// Pending and firing ones, and those that are over but still kept.
    pub fn alerts(&self) -> impl Iterator<Item = &ActiveAlert> {
        self.active.values()
    }

    /// Of its alerts the one that matters most.
    pub fn state(&self) -> RuleAlertState {
        self.active.values().map(|a| a.state).max().unwrap_or(RuleAlertState::Inactive)
    }

    /// The rows of `ALERTS` and `ALERTS_FOR_STATE`. On `Err` nothing has changed, but for the limit, beyond which
    /// all of the rule's alerts are dropped.
    pub(super) fn evaluate(
        &mut self,
        rule: &RuleSpec,
        timing: Timing,
        limit: usize,
        source: &impl Evaluate,
        outside: &Outside,
        expansions: &mut Expansions,
    ) -> Result<Vec<Row>, EvaluateError> {
        let found = source.instant(&rule.expr, timing.queried())?;
        let mut seen = BTreeSet::new();
        let mut fresh = Vec::with_capacity(found.len());
        for (labels, value) in &found {
            let expanded = self.templates.expand(labels, value, timing.at, source, outside, expansions);
            let mut builder = labels.builder();
            builder.remove(name::METRIC);
            for (name, value) in &expanded.labels {
                builder.set(name, value);
            }
            builder.set(ALERTNAME, &rule.name);
            let labels = builder.build();
            if !seen.insert(labels.clone()) {
                let text = "vector contains metrics with the same labelset after applying alert labels";
                return Err(EvaluateError(text.to_owned()));
            }
            fresh.push(ActiveAlert {
                state: RuleAlertState::Pending,
                labels,
                annotations: expanded.annotations,
                value: value.as_float().unwrap_or(0.0),
                active_at: timing.at,
                fired_at: None,
                resolved_at: None,
                last_sent_at: None,
                keep_firing_since: None,
            });
        }
        for alert in fresh {
            match self.active.get_mut(&alert.labels) {
                Some(known) if known.state != RuleAlertState::Inactive => {
                    known.value = alert.value;
                    known.annotations = alert.annotations;
                }
                _ => {
                    self.active.insert(alert.labels.clone(), alert);
                }
            }
        }
        self.advance(timing.at, &seen);
        let alive = self.active.values().filter(|a| a.state != RuleAlertState::Inactive).count();
        let limit = if limit > 0 { limit.min(ALERTS_PER_RULE_MAX) } else { ALERTS_PER_RULE_MAX };
        if alive > limit {
            self.active.clear();
            return Err(EvaluateError(format!("exceeded limit of {limit} with {alive} alerts")));
        }
        Ok(if self.restored { self.rows(rule, timing.queried()) } else { Vec::new() })
    }

    /// One step of every alert's state.
    fn advance(&mut self, at: Timestamp, seen: &BTreeSet<Labels>) {
        let (hold, keep_firing_for) = (self.hold, self.keep_firing_for);
        self.active.retain(|labels, alert| {
            if seen.contains(labels) {
                alert.keep_firing_since = None;
            } else {
                if alert.state == RuleAlertState::Firing && !keep_firing_for.is_zero() {
                    let since = *alert.keep_firing_since.get_or_insert(at);
                    if at.since(since) < keep_firing_for {
                        return true;
                    }
                }
                let forgotten = alert.resolved_at.is_some_and(|r| at.since(r) > RESOLVED_RETENTION);
                if alert.state == RuleAlertState::Pending || forgotten {
                    return false;
                }
                if alert.state != RuleAlertState::Inactive {
                    alert.state = RuleAlertState::Inactive;
                    alert.resolved_at = Some(at);
                }
                return true;
            }
            if alert.state == RuleAlertState::Pending && at >= alert.active_at + hold {
                alert.state = RuleAlertState::Firing;
                alert.fired_at = Some(at);
            }
            true
        });
    }

    fn rows(&self, rule: &RuleSpec, at: Timestamp) -> Vec<Row> {
        let alive = self.active.values().filter(|a| a.state != RuleAlertState::Inactive);
        alive
            .flat_map(|alert| {
                let mut labels = series_labels(rule, Some(alert));
                labels.set(name::METRIC, ALERTS).set(ALERTSTATE, alert.state.as_str());
                let mut for_state = series_labels(rule, Some(alert));
                for_state.set(name::METRIC, ALERTS_FOR_STATE);
                let since = alert.active_at.as_millis().div_euclid(1000) as f64;
                [
                    Row { labels: labels.build(), at, value: Value::Float(1.0) },
                    Row { labels: for_state.build(), at, value: Value::Float(since) },
                ]
            })
            .collect()
    }

    /// What others must hear now.
    pub(super) fn send(&mut self, now: Timestamp, interval: Duration) -> Vec<AlertUpdate> {
        let valid_for = RESEND_DELAY.max(interval).saturating_mul(MISSED_MAX);
        let mut updates = Vec::new();
        for alert in self.active.values_mut().filter(|a| a.needs_sending(now)) {
            alert.last_sent_at = Some(now);
            updates.push(AlertUpdate {
                alert: Alert {
                    labels: alert.labels.clone(),
                    annotations: alert.annotations.clone(),
                    starts_at: alert.fired_at.unwrap_or(now),
                    ends_at: Some(alert.resolved_at.unwrap_or(now + valid_for)),
                },
                resolved: alert.resolved_at.is_some(),
            });
        }
        updates
    }

    /// Ends what fires, since the rule is gone: what others must hear.
    pub(super) fn withdraw(&mut self, now: Timestamp) -> Vec<AlertUpdate> {
        let firing = std::mem::take(&mut self.active).into_values();
        let firing = firing.filter(|a| a.state == RuleAlertState::Firing);
        let end = |a: ActiveAlert| AlertUpdate {
            alert: Alert {
                labels: a.labels,
                annotations: a.annotations,
                starts_at: a.fired_at.unwrap_or(now),
                ends_at: Some(now),
            },
            resolved: true,
        };
        firing.map(end).collect()
    }
}

/// The time of an evaluation, and how far back from it is queried and stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) at: Timestamp,
    pub(super) offset: Duration,
}

impl Timing {
    pub(super) fn queried(self) -> Timestamp {
        self.at - self.offset
    }
}

/// The rule's labels as they are written, then the alert's, then its name.
pub(super) fn series_labels(rule: &RuleSpec, alert: Option<&ActiveAlert>) -> davy_model::LabelsBuilder {
    let mut builder = davy_model::LabelsBuilder::default();
    for (name, value) in &rule.labels {
        builder.set(name, value);
    }
    for (name, value) in alert.iter().flat_map(|a| a.labels.iter()) {
        builder.set(name, value);
    }
    builder.set(ALERTNAME, &rule.name);
    builder
}
