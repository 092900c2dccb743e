//! Presets: which metrics of a release can be judged, from the metric names and labels that its series show.
//!
//! One source for each of errors, latency, CPU and memory: two names for the same requests would count them
//! twice. Server-side counters come before those of sidecars, and those before what is derived from spans.
//! Errors are server faults; a client's mistake (4xx) is not the release's.

mod requests;
mod resources;

use std::collections::{BTreeMap, BTreeSet};

use davy_model::{Labels, MatchOp, Matcher, Timestamp, name};
use davy_query::Source;
use davy_store::Error;

use crate::config::{Direction, Preset, ReleaseSpec};
use crate::plan::{Arm, Margins, Metric, Plan, Reading, selector};
use crate::scope;
use crate::verdict::MetricClass;
use crate::versions::Arms;

/// What is judged of this release: the presets' metrics that its series of `from..=to` show, then the file's own.
///
/// The answer grows as series appear (an error counter may be born with the first error): ask again from time to
/// time, and begin the [`crate::AnalysisRun`] anew, replaying its intervals, when it has changed.
pub fn plan_release(
    spec: &ReleaseSpec,
    arms: &Arms,
    source: &impl Source,
    from: Timestamp,
    to: Timestamp,
) -> Result<Plan, Error> {
    let mut inventory = Inventory::default();
    for service in scope::service(&arms.service) {
        for labels in source.series(&service, from, to)? {
            match arms.arm_of(&labels) {
                Some(Arm::Baseline) => note(&mut inventory.baseline, &labels),
                Some(Arm::Canary) => note(&mut inventory.canary, &labels),
                None => {}
            }
        }
    }
    let wanted = |p: Preset| spec.presets.is_empty() || spec.presets.contains(&p);
    let mut plan = Plan::default();
    let counter = requests::counter(&inventory, wanted);
    plan.requests = counter.as_ref().map(|c| c.trials.clone());
    if let Some(c) = counter {
        plan.metrics.extend(c.errors.map(|events| {
            let source = format!("{} / {}", selector(&events), selector(&c.trials));
            let reading = Reading::Proportion { events, trials: c.trials.clone() };
            metric("errors", MetricClass::Errors, Margins::ERRORS, source, reading)
        }));
    }
    plan.metrics.extend(requests::latency(&inventory, wanted));
    plan.metrics.extend(resources::cpu(&inventory, wanted));
    plan.metrics.extend(resources::memory(&inventory, wanted));
    plan.metrics.extend(spec.metrics.iter().map(Metric::from_spec));
    Ok(plan)
}

/// Metric names with the values of their labels that presets look at.
type Names = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What the two arms show.
#[derive(Default)]
struct Inventory {
    baseline: Names,
    canary: Names,
}

impl Inventory {
    fn both(&self, metric: &str) -> bool {
        self.baseline.contains_key(metric) && self.canary.contains_key(metric)
    }

    fn either(&self, metric: &str) -> bool {
        self.baseline.contains_key(metric) || self.canary.contains_key(metric)
    }

    fn has_label(&self, metric: &str, label: &str) -> bool {
        self.values(metric, label).next().is_some()
    }

    fn values<'a>(&'a self, metric: &str, label: &str) -> impl Iterator<Item = &'a str> {
        let of = |names: &'a Names| names.get(metric).and_then(|l| l.get(label)).into_iter().flatten();
        of(&self.baseline).chain(of(&self.canary)).map(String::as_str)
    }

    fn metrics(&self) -> impl Iterator<Item = &str> {
        self.baseline.keys().chain(self.canary.keys()).map(String::as_str)
    }

    /// The first that both arms show; failing that the first that one does, as when the other is not yet used.
    fn first<T>(&self, candidates: &[T], metric: impl Fn(&T) -> &str) -> Option<usize> {
        let find = |has: &dyn Fn(&str) -> bool| candidates.iter().position(|c| has(metric(c)));
        find(&|m| self.both(m)).or_else(|| find(&|m| self.either(m)))
    }
}

/// Values of a label that are kept; presets only look at labels with few.
const VALUES_MAX: usize = 64;

fn note(names: &mut Names, labels: &Labels) {
    let known = names.entry(labels.metric_name().to_owned()).or_default();
    for (label, value) in labels.iter().filter(|(l, _)| *l != name::METRIC && *l != name::LE) {
        let values = known.entry(label.to_owned()).or_default();
        if values.len() < VALUES_MAX && !values.contains(value) {
            values.insert(value.to_owned());
        }
    }
}

fn metric(name: &str, class: MetricClass, margins: Margins, source: String, reading: Reading) -> Metric {
    Metric {
        name: name.to_owned(),
        class,
        direction: Direction::Increase,
        margins,
        critical: true,
        source,
        reading,
    }
}

fn named(metric: &str) -> Matcher {
    Matcher::equal(name::METRIC, metric)
}

fn matching(label: &str, regex: &str) -> Matcher {
    Matcher::new(label, MatchOp::Regex, regex).expect("the presets' expressions are valid")
}

#[cfg(test)]
mod tests;
