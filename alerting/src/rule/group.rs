//! `RuleGroup`: rules that are evaluated one after the other at one time, each seeing what the ones before it wrote.

use std::collections::BTreeSet;
use std::time::Duration;

use davy_model::{Labels, Timestamp};

use super::alerting::{AlertingRule, Timing};
use super::template::Expansions;
use super::{EvaluateError, GroupSpec, Outside, Refused, Row, RuleKind, RuleSpec, Surroundings, recording};
use crate::alert::Alert;

/// Longest error kept with a rule, in characters.
const ERROR_CHARS_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Unknown,
    Good,
    Bad,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "ok",
            Self::Bad => "err",
        }
    }
}

/// What whoever tells people must know of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertUpdate {
    /// Its end is when it is over at the latest, unless it is said again.
    pub alert: Alert,
    pub resolved: bool,
}

/// One rule and what came of it.
#[derive(Debug, Clone)]
pub struct RuleState {
    pub spec: RuleSpec,
    /// Of an alerting rule.
    pub alerting: Option<AlertingRule>,
    pub health: Health,
    pub last_error: Option<String>,
    pub evaluation_time: Duration,
    pub last_evaluation: Option<Timestamp>,
    /// Series of the last evaluation: those that vanish are ended.
    series: BTreeSet<Labels>,
}

/// What one evaluation of a group came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Iteration {
    pub samples: usize,
    pub evaluations: usize,
    pub problems: Vec<Problem>,
    /// How long each rule took.
    pub durations: Vec<Duration>,
    pub expansions: usize,
    pub expansion_failures: usize,
    pub updates: Vec<AlertUpdate>,
}

/// A rule that could not be evaluated, or whose result was not taken whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub rule: String,
    pub error: String,
    /// Whether the evaluation counts as failed; a template or single rows that failed do not make it so.
    pub failed: bool,
}

#[derive(Debug, Clone)]
pub struct RuleGroup {
    spec: GroupSpec,
    rules: Vec<RuleState>,
    /// Series of rules that are gone.
    stale: BTreeSet<Labels>,
    should_restore: bool,
    pub evaluation_time: Duration,
    pub last_evaluation: Option<Timestamp>,
}

impl RuleGroup {
    /// `should_restore`: what was before a restart is to be read back once with [`Self::restore`].
    pub fn new(spec: GroupSpec, should_restore: bool) -> Self {
        let rules = spec.rules.iter().map(|rule| RuleState {
            alerting: match &rule.kind {
                RuleKind::Recording => None,
                RuleKind::Alerting { hold, keep_firing_for, annotations } => {
                    Some(AlertingRule::new(rule, *hold, *keep_firing_for, annotations, !should_restore))
                }
            },
            spec: rule.clone(),
            health: Health::Unknown,
            last_error: None,
            evaluation_time: Duration::ZERO,
            last_evaluation: None,
            series: BTreeSet::new(),
        });
        Self {
            rules: rules.collect(),
            spec,
            stale: BTreeSet::new(),
            should_restore,
            evaluation_time: Duration::ZERO,
            last_evaluation: None,
        }
    }

    pub fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    pub fn rules(&self) -> &[RuleState] {
        &self.rules
    }

    pub fn should_restore(&self) -> bool {
        self.should_restore
    }

    /// Every rule at `at`. `now` is only shown.
    pub fn evaluate(
        &mut self,
        at: Timestamp,
        now: Timestamp,
        outside: &Outside,
        surroundings: &mut impl Surroundings,
    ) -> Iteration {
        let began = surroundings.elapsed();
        let mut iteration = Iteration::default();
        let timing = Timing { at, offset: self.spec.query_offset };
        for rule in &mut self.rules {
            let rule_began = surroundings.elapsed();
            iteration.evaluations += 1;
            rule.evaluate(timing, &self.spec, outside, surroundings, &mut iteration);
            rule.evaluation_time = surroundings.elapsed().saturating_sub(rule_began);
            rule.last_evaluation = Some(now);
            iteration.durations.push(rule.evaluation_time);
        }
        if let Err(error) = self.end_stale(at, surroundings) {
            iteration.problems.push(Problem {
                rule: "series of rules that are gone".to_owned(),
                error: error.to_string(),
                failed: false,
            });
        }
        self.evaluation_time = surroundings.elapsed().saturating_sub(began);
        self.last_evaluation = Some(now);
        iteration
    }

    /// Reads back since when alerts were pending. After the second evaluation: by then there is something to
    /// evaluate. Gives what could not be read.
    pub fn restore(&mut self, now: Timestamp, surroundings: &impl Surroundings) -> Vec<Problem> {
        self.should_restore = false;
        let mut problems = Vec::new();
        for rule in &mut self.rules {
            let Some(alerting) = &mut rule.alerting else { continue };
            if let Err(error) = alerting.restore(&rule.spec, now, surroundings) {
                problems.push(Problem {
                    rule: rule.spec.name.clone(),
                    error: format!("the `for` state cannot be restored: {error}"),
                    failed: false,
                });
            }
        }
        problems
    }

    /// Goes on where `old` was: rules with the same name and labels keep alerts and series, the first with the
    /// first. Gives what others must hear of alerts whose rules are gone.
    pub fn take_state(&mut self, old: Self, now: Timestamp) -> Vec<AlertUpdate> {
        self.evaluation_time = old.evaluation_time;
        self.last_evaluation = old.last_evaluation;
        self.should_restore = old.should_restore;
        self.stale = old.stale;
        let mut left: Vec<RuleState> = old.rules;
        for rule in &mut self.rules {
            let same = |o: &RuleState| {
                o.spec.same_name_and_labels(&rule.spec) && o.alerting.is_some() == rule.alerting.is_some()
            };
            let Some(at) = left.iter().position(same) else { continue };
            let old = left.remove(at);
            rule.series = old.series;
            if let (Some(mine), Some(theirs)) = (&mut rule.alerting, old.alerting) {
                mine.active = theirs.active;
                mine.restored = theirs.restored;
            }
        }
        let mut updates = Vec::new();
        for mut rule in left {
            self.stale.extend(rule.series);
            updates.extend(rule.alerting.iter_mut().flat_map(|a| a.withdraw(now)));
        }
        updates
    }

    /// The group is gone from the file: what others must hear of its alerts. Its series end with
    /// [`Self::end_series`].
    pub fn withdraw(&mut self, now: Timestamp) -> Vec<AlertUpdate> {
        let alerting = self.rules.iter_mut().filter_map(|r| r.alerting.as_mut());
        alerting.flat_map(|a| a.withdraw(now)).collect()
    }

    /// Ends every series of the group. Some time after it is gone, so that a rule under a new name may take them over.
    pub fn end_series(
        &mut self,
        at: Timestamp,
        surroundings: &mut impl Surroundings,
    ) -> Result<(), EvaluateError> {
        for rule in &mut self.rules {
            self.stale.append(&mut rule.series);
        }
        self.end_stale(at, surroundings)
    }

    fn end_stale(
        &mut self,
        at: Timestamp,
        surroundings: &mut impl Surroundings,
    ) -> Result<(), EvaluateError> {
        if self.stale.is_empty() {
            return Ok(());
        }
        let at = at - self.spec.query_offset;
        let rows: Vec<Row> = self.stale.iter().map(|labels| recording::marker(labels, at)).collect();
        surroundings.append(&rows)?;
        self.stale.clear();
        Ok(())
    }
}

impl RuleState {
    fn evaluate(
        &mut self,
        timing: Timing,
        group: &GroupSpec,
        outside: &Outside,
        surroundings: &mut impl Surroundings,
        iteration: &mut Iteration,
    ) {
        let mut expansions = Expansions::default();
        let evaluated = match &mut self.alerting {
            None => recording::evaluate(&self.spec, timing.queried(), group.limit, surroundings),
            Some(alerting) => {
                alerting.evaluate(&self.spec, timing, group.limit, surroundings, outside, &mut expansions)
            }
        };
        iteration.expansions += expansions.total;
        iteration.expansion_failures += expansions.failed;
        let name = &self.spec.name;
        if let Some(error) = expansions.first_error {
            iteration.problems.push(Problem { rule: name.clone(), error, failed: false });
        }
        let rows = match evaluated {
            Ok(rows) => rows,
            Err(error) => return self.fail(&error.to_string(), true, iteration),
        };
        (self.health, self.last_error) = (Health::Good, None);
        iteration.samples += rows.len();
        if let Some(alerting) = &mut self.alerting {
            iteration.updates.extend(alerting.send(timing.at, group.interval));
        }
        self.write(rows, timing.queried(), surroundings, iteration);
    }

    /// The rows, and markers for the series that were there the last time and are not now.
    fn write(
        &mut self,
        mut rows: Vec<Row>,
        at: Timestamp,
        surroundings: &mut impl Surroundings,
        iteration: &mut Iteration,
    ) {
        let results = rows.len();
        let returned: BTreeSet<&Labels> = rows.iter().map(|r| &r.labels).collect();
        let gone: Vec<Labels> = self.series.iter().filter(|l| !returned.contains(l)).cloned().collect();
        rows.extend(gone.iter().map(|labels| recording::marker(labels, at)));
        if rows.is_empty() {
            return;
        }
        let outcome = match surroundings.append(&rows) {
            Ok(outcome) => outcome,
            Err(error) => {
                return self.fail(&format!("the result cannot be stored: {error}"), true, iteration);
            }
        };
        let refused = |i: usize| outcome.get(i).and_then(Option::as_ref);
        let dropped: Vec<&Refused> = (0..results).filter_map(refused).collect();
        let lost = dropped.first().map(|r| {
            format!("{} of {results} results were not stored, one because {}", dropped.len(), r.reason())
        });
        // A marker that conflicts is no loss: its series lives on under another rule.
        let unmarked = (results..rows.len()).filter_map(refused).find_map(|r| match r {
            Refused::Conflict(_) => None,
            Refused::Other(reason) => Some(format!("a series could not be ended: {reason}")),
        });
        self.series = rows
            .into_iter()
            .take(results)
            .enumerate()
            .filter(|(i, _)| refused(*i).is_none())
            .map(|(_, row)| row.labels)
            .collect();
        if let Some(error) = lost {
            self.fail(&error, false, iteration);
        }
        if let Some(error) = unmarked {
            iteration.problems.push(Problem { rule: self.spec.name.clone(), error, failed: false });
        }
    }

    fn fail(&mut self, error: &str, failed: bool, iteration: &mut Iteration) {
        let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
        self.health = Health::Bad;
        self.last_error = Some(error.clone());
        iteration.problems.push(Problem { rule: self.spec.name.clone(), error, failed });
    }
}
