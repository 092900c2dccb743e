//! Runs the unit tests of one file: promtool's `test rules`.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_alerting::alert::ALERTNAME;
use davy_alerting::rule::{AlertingRule, Evaluate as _, Outside, RuleAlertState, RuleGroup};
use davy_model::{Labels, Timestamp};
use davy_query::Engine;

use super::memory::Memory;
use super::report::{self, Shown};
use crate::config::{AlertCase, ExprCase, RuleDefaults, RuleFile, RuleTest, RuleTests, show_duration};

/// Evaluations of one test; beyond it lies a slip in an interval.
const STEPS_MAX: u128 = 1_000_000;

/// What went wrong, each with its test; empty if all is well. Only tests whose name is `wanted` are run.
pub(super) fn run(tests: &RuleTests, wanted: &impl Fn(&str) -> bool) -> Vec<String> {
    let mut failures = Vec::new();
    for test in tests.tests.iter().filter(|t| wanted(&t.name)) {
        match groups(tests, test) {
            Ok(groups) => failures.extend(Run::new(tests, test, groups).run()),
            Err(error) => failures.push(error),
        }
    }
    failures
}

/// The groups of the rule files, those of `group_eval_order` first.
fn groups(tests: &RuleTests, test: &RuleTest) -> Result<Vec<RuleGroup>, String> {
    let defaults = RuleDefaults { interval: test.interval, query_offset: Duration::ZERO };
    let mut specs = Vec::new();
    for path in &tests.rule_files {
        let (found, _) = RuleFile::load_rules(path, defaults).map_err(|e| e.to_string())?;
        specs.extend(found);
    }
    let place = |name: &str| tests.group_eval_order.iter().position(|n| n == name).unwrap_or(usize::MAX);
    specs.sort_by_key(|spec| place(&spec.name));
    Ok(specs.into_iter().map(|spec| RuleGroup::new(spec, false)).collect())
}

struct Run<'a> {
    tests: &'a RuleTests,
    test: &'a RuleTest,
    groups: Vec<RuleGroup>,
    memory: Memory,
    outside: Outside,
}

impl<'a> Run<'a> {
    fn new(tests: &'a RuleTests, test: &'a RuleTest, groups: Vec<RuleGroup>) -> Self {
        let mut memory =
            Memory::new(Engine { subquery_step: tests.evaluation_interval, ..Engine::default() });
        for series in &test.input_series {
            memory.give(&series.labels, &series.values, test.interval);
        }
        let outside = Outside {
            external_labels: test.external_labels.clone(),
            external_url: test.external_url.clone(),
        };
        Self { tests, test, groups, memory, outside }
    }

    fn run(mut self) -> Vec<String> {
        let interval = self.tests.evaluation_interval;
        let alerts = self.test.alert_rule_test.iter().map(|c| c.eval_time);
        let until = alerts.chain(self.test.promql_expr_test.iter().map(|c| c.eval_time)).max();
        let until = until.unwrap_or_default();
        if until.as_millis() / interval.as_millis().max(1) > STEPS_MAX {
            let interval = show_duration(interval);
            return vec![format!(
                "{}    more than {STEPS_MAX} evaluations at an interval of {interval}",
                self.named()
            )];
        }
        let mut failures = Vec::new();
        let mut since = Duration::ZERO;
        while since <= until {
            if let Err(failed) = self.evaluate(since) {
                failures.extend(failed);
                return failures;
            }
            // What was due in this interval is compared with its one evaluation.
            let due = |c: &&AlertCase| since <= c.eval_time && c.eval_time < since + interval;
            let cases = self.test.alert_rule_test.iter().filter(due);
            failures.extend(cases.filter_map(|case| self.check_alerts(case)));
            since += interval;
        }
        self.memory.load_until(Timestamp::default() + until);
        let cases = self.test.promql_expr_test.iter();
        failures.extend(cases.filter_map(|case| self.check_expr(case)));
        failures
    }

    /// Every group at one time. A rule that cannot be evaluated ends the test.
    fn evaluate(&mut self, since: Duration) -> Result<(), Vec<String>> {
        let at = Timestamp::default() + since;
        self.memory.load_until(at);
        let mut failed = Vec::new();
        for group in &mut self.groups {
            group.evaluate(at, at, &self.outside, &mut self.memory);
            for rule in group.rules() {
                let Some(error) = &rule.last_error else { continue };
                let time = show_duration(since);
                failed.push(format!("    rule: {}, time: {time}, err: {error}", rule.spec.name));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    fn check_alerts(&self, case: &AlertCase) -> Option<String> {
        let rules = self.groups.iter().flat_map(RuleGroup::rules);
        let alerting = rules.filter(|r| r.spec.name == case.alertname).filter_map(|r| r.alerting.as_ref());
        let firing = alerting.flat_map(AlertingRule::alerts).filter(|a| a.state == RuleAlertState::Firing);
        let got = firing.map(|a| Shown::alert(&a.labels, &a.annotations));
        let expected = case.exp_alerts.iter().map(|e| {
            let mut labels = e.labels.clone();
            labels.insert(ALERTNAME.to_owned(), case.alertname.clone());
            Shown::alert(&Labels::from_pairs(labels), &without_empty(&e.annotations))
        });
        let difference = report::alerts(expected.collect(), got.collect())?;
        let (name, time) = (&case.alertname, show_duration(case.eval_time));
        Some(format!("{}    alertname: {name}, time: {time},\n{difference}", self.named()))
    }

    fn check_expr(&self, case: &ExprCase) -> Option<String> {
        let (expr, time) = (case.expr.to_string(), show_duration(case.eval_time));
        let head = format!("{}    expr: {expr:?}, time: {time},", self.named());
        let got = match self.memory.instant(&case.expr, Timestamp::default() + case.eval_time) {
            Ok(got) => got,
            Err(error) => return Some(format!("{head} err: {error}")),
        };
        let expected = case.exp_samples.iter().map(|s| (s.labels.clone(), s.value.clone())).collect();
        let difference = report::samples(expected, got, self.tests.fuzzy_compare)?;
        Some(format!("{head}\n{difference}"))
    }

    fn named(&self) -> String {
        match self.test.name.as_str() {
            "" => String::new(),
            name => format!("    name: {name},\n"),
        }
    }
}

/// An annotation that is empty is none.
fn without_empty(of: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    of.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.clone(), v.clone())).collect()
}
