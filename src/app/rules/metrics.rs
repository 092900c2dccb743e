//! `davy_rule_*`: Prometheus' metrics of rules under Davy's prefix, so that its dashboards and alerts need one word
//! changed.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use davy_alerting::rule::{GroupSpec, Iteration, RuleGroup};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Float = Gauge<f64, AtomicU64>;

/// Seconds; a rule that takes longer than the last is ended.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    /// `<file>;<name>`, as Prometheus has it.
    rule_group: String,
}

#[derive(Clone)]
pub(in crate::app) struct RuleMetrics {
    evaluations: Family<Of, Counter>,
    failures: Family<Of, Counter>,
    iterations: Family<Of, Counter>,
    missed: Family<Of, Counter>,
    last_evaluation: Family<Of, Float>,
    last_rule_duration_sum: Family<Of, Float>,
    last_restore_duration: Family<Of, Float>,
    rules: Family<Of, Gauge>,
    last_samples: Family<Of, Gauge>,
    evaluation_duration: Histogram,
    group_duration: Histogram,
    expansions: Counter,
    expansion_failures: Counter,
}

impl Default for RuleMetrics {
    fn default() -> Self {
        Self {
            evaluations: Family::default(),
            failures: Family::default(),
            iterations: Family::default(),
            missed: Family::default(),
            last_evaluation: Family::default(),
            last_rule_duration_sum: Family::default(),
            last_restore_duration: Family::default(),
            rules: Family::default(),
            last_samples: Family::default(),
            evaluation_duration: Histogram::new(BUCKETS),
            group_duration: Histogram::new(BUCKETS),
            expansions: Counter::default(),
            expansion_failures: Counter::default(),
        }
    }
}

impl RuleMetrics {
    pub(in crate::app) fn register(&self, r: &mut Registry) {
        r.register("rule_evaluations", "Rules evaluated", self.evaluations.clone());
        r.register("rule_evaluation_failures", "Rules whose evaluation failed", self.failures.clone());
        r.register(
            "rule_group_iterations",
            "Evaluations of groups that were due, missed ones included",
            self.iterations.clone(),
        );
        r.register(
            "rule_group_iterations_missed",
            "Evaluations of groups that were missed because one before took too long",
            self.missed.clone(),
        );
        r.register(
            "rule_group_last_evaluation_timestamp_seconds",
            "When a group was last evaluated",
            self.last_evaluation.clone(),
        );
        r.register(
            "rule_group_last_rule_duration_sum_seconds",
            "Time that the rules of a group took in its last evaluation",
            self.last_rule_duration_sum.clone(),
        );
        r.register(
            "rule_group_last_restore_duration_seconds",
            "Time that reading back the `for` state of a group took",
            self.last_restore_duration.clone(),
        );
        r.register("rule_group_rules", "Rules of a group", self.rules.clone());
        r.register(
            "rule_group_last_evaluation_samples",
            "Samples that the last evaluation of a group gave",
            self.last_samples.clone(),
        );
        r.register(
            "rule_evaluation_duration_seconds",
            "Time that evaluating a rule takes",
            self.evaluation_duration.clone(),
        );
        r.register(
            "rule_group_duration_seconds",
            "Time that evaluating a group takes",
            self.group_duration.clone(),
        );
        r.register("template_text_expansions", "Texts of alerts expanded", self.expansions.clone());
        r.register(
            "template_text_expansion_failures",
            "Texts of alerts whose template failed",
            self.expansion_failures.clone(),
        );
    }

    /// Everything is there from the start, at zero.
    pub(super) fn begin(&self, key: &str, spec: &GroupSpec) {
        let of = of(key);
        for counter in [&self.evaluations, &self.failures, &self.iterations, &self.missed] {
            drop(counter.get_or_create(&of));
        }
        self.rules.get_or_create(&of).set(i64::try_from(spec.rules.len()).unwrap_or(i64::MAX));
    }

    pub(super) fn evaluated(&self, key: &str, group: &RuleGroup, iteration: &Iteration, took: Duration) {
        let of = of(key);
        self.iterations.get_or_create(&of).inc();
        self.evaluations.get_or_create(&of).inc_by(iteration.evaluations as u64);
        let failed = iteration.problems.iter().filter(|p| p.failed).count();
        self.failures.get_or_create(&of).inc_by(failed as u64);
        if let Some(at) = group.last_evaluation {
            self.last_evaluation.get_or_create(&of).set(at.as_secs_f64());
        }
        let sum: Duration = iteration.durations.iter().sum();
        self.last_rule_duration_sum.get_or_create(&of).set(sum.as_secs_f64());
        self.last_samples.get_or_create(&of).set(i64::try_from(iteration.samples).unwrap_or(i64::MAX));
        self.group_duration.observe(took.as_secs_f64());
        iteration.durations.iter().for_each(|d| self.evaluation_duration.observe(d.as_secs_f64()));
        self.expansions.inc_by(iteration.expansions as u64);
        self.expansion_failures.inc_by(iteration.expansion_failures as u64);
    }

    pub(super) fn missed(&self, key: &str, missed: u64) {
        if missed > 0 {
            self.missed.get_or_create(&of(key)).inc_by(missed);
            self.iterations.get_or_create(&of(key)).inc_by(missed);
        }
    }

    pub(super) fn restored(&self, key: &str, took: Duration) {
        self.last_restore_duration.get_or_create(&of(key)).set(took.as_secs_f64());
    }

    /// The group is gone.
    pub(super) fn forget(&self, key: &str) {
        let of = of(key);
        for counter in [&self.evaluations, &self.failures, &self.iterations, &self.missed] {
            counter.remove(&of);
        }
        for gauge in [&self.last_evaluation, &self.last_rule_duration_sum, &self.last_restore_duration] {
            gauge.remove(&of);
        }
        self.rules.remove(&of);
        self.last_samples.remove(&of);
    }
}

fn of(key: &str) -> Of {
    Of { rule_group: key.to_owned() }
}
