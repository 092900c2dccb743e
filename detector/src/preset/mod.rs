//! Presets: which metrics of a release can be judged, from the metric names and labels that its series show.
//!
//! One source for each of errors, latency, CPU and memory: two names for the same requests would count them
//! twice, so the rest is listed as also seen. The table of names is `conventions.rs`; `docs/presets.md` shows it.

mod conventions;
mod requests;
mod resources;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_model::{Labels, MatchOp, Matcher, Timestamp, Value, name};
use davy_query::Source;
use davy_store::{Error, SeriesSamples};

use crate::config::{Direction, Preset, ReleaseSpec};
use crate::foreign;
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
    survey(spec, arms, source, from, to).map(|s| s.plan)
}

/// A plan, and why it is this one.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    pub plan: Plan,
    /// Of each metric that a preset found: its name in the plan, and what exports it.
    pub found: Vec<(String, &'static str)>,
    /// Counted by others as well and not judged, since the same requests would be judged twice.
    pub also_seen: Vec<String>,
    /// Sentences: what cannot be judged and why.
    pub refused: Vec<String>,
}

impl Survey {
    fn found(&mut self, metric: &str, by: &'static str) {
        self.found.push((metric.to_owned(), by));
    }

    fn also_seen(&mut self, series: &str, by: &str) {
        let seen = format!("{series} ({by})");
        if !self.also_seen.iter().any(|s| s.split(' ').next() == Some(series)) {
            self.also_seen.push(seen);
        }
    }

    fn refused(&mut self, sentence: String) {
        self.refused.push(sentence);
    }
}

/// [`plan_release`] with what it matched.
pub fn survey(
    spec: &ReleaseSpec,
    arms: &Arms,
    source: &impl Source,
    from: Timestamp,
    to: Timestamp,
) -> Result<Survey, Error> {
    let inventory = Inventory::take(arms, source, from, to)?;
    let wanted = |p: Preset| spec.presets.is_empty() || spec.presets.contains(&p);
    let mut survey = Survey::default();
    let mut metrics = Vec::new();
    let counter = requests::counter(&inventory, wanted);
    survey.plan.requests = counter.as_ref().map(|c| c.trials.clone());
    if let Some(c) = &counter {
        requests::also_counted(&inventory, wanted, c, &mut survey);
        if let Some(events) = c.errors.clone() {
            let source = format!("{} / {}", selector(&events), selector(&c.trials));
            let reading = Reading::Proportion { events, trials: c.trials.clone() };
            metrics.push(metric("errors", MetricClass::Errors, Margins::ERRORS, source, reading));
            survey.found("errors", c.by());
        }
    }
    metrics.extend(requests::latency(&inventory, wanted, counter.as_ref(), &mut survey));
    metrics.extend(resources::cpu(&inventory, wanted, &mut survey));
    metrics.extend(resources::memory(&inventory, wanted, &mut survey));
    // Two metrics of one name would be one to whoever reads a verdict: the file's own stands for the preset's.
    let is_own = |name: &str| spec.metrics.iter().any(|own| own.name == name);
    metrics.retain(|m: &Metric| !is_own(&m.name));
    survey.found.retain(|(name, _)| !is_own(name));
    metrics.extend(spec.metrics.iter().map(Metric::from_spec));
    survey.plan.metrics = metrics;
    Ok(survey)
}

/// Metric names with the values of their labels that presets look at.
type Names = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What the two arms show.
#[derive(Default)]
struct Inventory {
    baseline: Names,
    canary: Names,
    /// Names under which native histograms are stored.
    native: BTreeSet<String>,
}

impl Inventory {
    fn take(arms: &Arms, source: &impl Source, from: Timestamp, to: Timestamp) -> Result<Self, Error> {
        let mut inventory = Self::default();
        for service in scope::service(&arms.service) {
            inventory.note(arms, &source.series(&service, from, to)?);
        }
        let conventions = conventions::requests();
        let names = |c: &conventions::Convention| {
            let histogram = c.histogram.iter().flat_map(|(h, _)| [h.clone(), format!("{h}_bucket")]);
            std::iter::once(c.counter.clone()).chain(histogram).collect::<Vec<_>>()
        };
        for metric in conventions.iter().flat_map(names) {
            let Some(reporter) = foreign::reporter(&metric) else { continue };
            for near in arms.near(reporter) {
                inventory.note(arms, &source.series(&[named(&metric), near.clone()], from, to)?);
            }
        }
        let all = conventions.iter().chain(conventions::outgoing());
        let bases: BTreeSet<&str> = all.filter_map(|c| Some(c.histogram.as_ref()?.0.as_str())).collect();
        for base in bases {
            if inventory.either(base) && is_native(source, base, from, to)? {
                inventory.native.insert(base.to_owned());
            }
        }
        Ok(inventory)
    }

    fn note(&mut self, arms: &Arms, series: &[Labels]) {
        for labels in series {
            match arms.arm_of(labels) {
                Some(Arm::Baseline) => note(&mut self.baseline, labels),
                Some(Arm::Canary) => note(&mut self.canary, labels),
                None => {}
            }
        }
    }

    fn is_native(&self, metric: &str) -> bool {
        self.native.contains(metric)
    }

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

/// Samples this long before the end tell what kind a series is.
const KIND_WINDOW: Duration = Duration::from_secs(300);

/// Whether a name that could also be a summary's holds native histograms.
fn is_native(source: &impl Source, metric: &str, from: Timestamp, to: Timestamp) -> Result<bool, Error> {
    let recent = source.select(&[named(metric)], from.max(to - KIND_WINDOW), to)?;
    let newest = |s: &SeriesSamples| s.samples.last().is_some_and(|x| matches!(x.value, Value::Histogram(_)));
    Ok(recent.iter().any(newest))
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
        source: source.into(),
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
