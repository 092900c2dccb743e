//! Unit tests of rules, in promtool's schema.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use davy_model::{Labels, Value};
use davy_query::Expr;

use super::reader::{Field, Section};
use super::rule;
use super::rule_file::matching;
use super::value::{labels, long_duration, show_duration};
use crate::rules::series;

/// promtool's default for how often rules are evaluated.
const EVALUATION_INTERVAL: Duration = Duration::from_secs(60);
/// The keys that make a file one of tests.
const KEYS: [&str; 5] = ["tests", "rule_files", "evaluation_interval", "group_eval_order", "fuzzy_compare"];

/// A file of tests.
#[derive(Debug)]
pub struct RuleTests {
    pub rule_files: Vec<PathBuf>,
    pub evaluation_interval: Duration,
    /// Groups that come before the others, by name.
    pub group_eval_order: Vec<String>,
    /// Neighbouring floating point numbers count as equal.
    pub fuzzy_compare: bool,
    pub tests: Vec<RuleTest>,
}

#[derive(Debug)]
pub struct RuleTest {
    pub name: String,
    /// Between the values of a series.
    pub interval: Duration,
    pub input_series: Vec<InputSeries>,
    pub alert_rule_test: Vec<AlertCase>,
    pub promql_expr_test: Vec<ExprCase>,
    pub external_labels: BTreeMap<String, String>,
    pub external_url: String,
}

#[derive(Debug)]
pub struct InputSeries {
    pub labels: Labels,
    /// One for each interval; `None` where there is no sample.
    pub values: Vec<Option<Value>>,
}

#[derive(Debug)]
pub struct AlertCase {
    pub eval_time: Duration,
    pub alertname: String,
    pub exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Debug)]
pub struct ExpectedAlert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug)]
pub struct ExprCase {
    pub expr: Expr,
    pub eval_time: Duration,
    pub exp_samples: Vec<ExpectedSample>,
}

#[derive(Debug)]
pub struct ExpectedSample {
    pub labels: Labels,
    pub value: Value,
}

/// Whether the file holds tests rather than rules.
pub(super) fn is_tests(s: &Section<'_>) -> bool {
    !s.has("groups") && KEYS.iter().any(|k| s.has(k))
}

pub(super) fn read(s: &mut Section<'_>) -> RuleTests {
    let rule_files = s.list("rule_files", |f| Some(matching(&f))).into_iter().flatten().collect();
    let evaluation_interval = interval(s, "evaluation_interval", EVALUATION_INTERVAL);
    let mut order = HashSet::new();
    let group_eval_order = s.list("group_eval_order", |f| {
        let name = f.name()?.to_owned();
        if !order.insert(name.clone()) {
            f.error(format!("group {name:?} is given twice"));
        }
        Some(name)
    });
    let fuzzy_compare = s.or("fuzzy_compare", false, Field::bool);
    let tests = s.list("tests", |f| f.section(|s| Some(test(s, evaluation_interval))));
    RuleTests { rule_files, evaluation_interval, group_eval_order, fuzzy_compare, tests }
}

/// A duration; zero stands for the default, as in promtool.
fn interval(s: &mut Section<'_>, key: &'static str, default: Duration) -> Duration {
    match s.or(key, Duration::ZERO, |f| f.parse(long_duration)) {
        Duration::ZERO => default,
        interval => interval,
    }
}

fn test(s: &mut Section<'_>, evaluation_interval: Duration) -> RuleTest {
    let name = s.or("name", "", Field::text).to_owned();
    let interval = interval(s, "interval", evaluation_interval);
    let input_series = s.list("input_series", |f| f.section(input_series));
    let alert_rule_test = s.list("alert_rule_test", |f| f.section(alert_case));
    let promql_expr_test = s.list("promql_expr_test", |f| f.section(expr_case));
    let external_labels = s.get("external_labels").map(|f| labels(&f, true)).unwrap_or_default();
    let external_url = s.or("external_url", "", Field::text).to_owned();
    RuleTest {
        name,
        interval,
        input_series,
        alert_rule_test,
        promql_expr_test,
        external_labels,
        external_url,
    }
}

fn input_series(s: &mut Section<'_>) -> Option<InputSeries> {
    let labels = s.required("series", "such as up{job=\"api\"}").and_then(|f| f.parse(series::labels));
    let values = s.required("values", "such as 1+1x10").and_then(|f| f.parse(series::values));
    Some(InputSeries { labels: labels?, values: values? })
}

fn alert_case(s: &mut Section<'_>) -> Option<AlertCase> {
    let eval_time = s.or("eval_time", Duration::ZERO, |f| f.parse(long_duration));
    let at = show_duration(eval_time);
    let alertname =
        s.required("alertname", &format!("the alert that is looked at, at {at}")).and_then(|f| f.name());
    let exp_alerts = s.list("exp_alerts", |f| {
        f.section(|s| {
            let labels = s.get("exp_labels").map(|f| f.strings()).unwrap_or_default();
            let annotations = s.get("exp_annotations").map(|f| f.strings()).unwrap_or_default();
            Some(ExpectedAlert { labels, annotations })
        })
    });
    Some(AlertCase { eval_time, alertname: alertname?.to_owned(), exp_alerts })
}

fn expr_case(s: &mut Section<'_>) -> Option<ExprCase> {
    let expr = s.required("expr", "the PromQL expression to evaluate").and_then(|f| rule::expr(&f));
    let eval_time = s.or("eval_time", Duration::ZERO, |f| f.parse(long_duration));
    let exp_samples = s.list("exp_samples", |f| f.section(expected_sample));
    Some(ExprCase { expr: expr?, eval_time, exp_samples })
}

fn expected_sample(s: &mut Section<'_>) -> Option<ExpectedSample> {
    let labels = s.or("labels", Labels::empty(), |f| f.parse(series::labels));
    let value = s.or("value", 0.0, |f| f.parse(series::number));
    // A histogram that is given makes the number meaningless.
    let value = match s.get("histogram") {
        Some(f) => f.parse(series::histogram)?,
        None => Value::Float(value),
    };
    Some(ExpectedSample { labels, value })
}
