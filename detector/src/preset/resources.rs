//! Resources: CPU and memory of the process, of its runtime, or of its container.

use davy_model::{MatchOp, Matcher};

use crate::config::Preset;
use crate::plan::{Margins, Metric, Reading, selector};
use crate::verdict::MetricClass;

use super::conventions::{self, Resource, Use};
use super::{Inventory, Survey, metric, named};

pub(super) fn cpu(
    inventory: &Inventory,
    wanted: impl Fn(Preset) -> bool,
    survey: &mut Survey,
) -> Option<Metric> {
    found(inventory, wanted, conventions::cpu(), survey, |source, reading| {
        metric("cpu", MetricClass::Cpu, Margins::CPU, source, reading)
    })
}

pub(super) fn memory(
    inventory: &Inventory,
    wanted: impl Fn(Preset) -> bool,
    survey: &mut Survey,
) -> Option<Metric> {
    found(inventory, wanted, conventions::memory(), survey, |source, reading| {
        metric("memory", MetricClass::Memory, Margins::MEMORY, source, reading)
    })
}

fn found(
    inventory: &Inventory,
    wanted: impl Fn(Preset) -> bool,
    mut candidates: Vec<Resource>,
    survey: &mut Survey,
    judged: impl Fn(String, Reading) -> Metric,
) -> Option<Metric> {
    // A label that must have a value does not always exist: then this row is not the one.
    candidates.retain(|c| {
        let has = |(label, value): &(&str, &str)| {
            value.starts_with('!') || inventory.values(&c.metric, label).any(|v| v == *value)
        };
        wanted(c.preset) && c.only.iter().all(has)
    });
    let i = inventory.first(&candidates, |c| &c.metric)?;
    for other in candidates.iter().filter(|c| c.metric != candidates[i].metric && inventory.both(&c.metric)) {
        survey.also_seen(&other.metric, other.by);
    }
    let chosen = &candidates[i];
    let only = chosen.only.iter().map(|(label, value)| match value.strip_prefix('!') {
        Some(not) => Matcher::new(label, MatchOp::NotEqual, not).expect("not a regex"),
        None => Matcher::equal(label, value),
    });
    let series: Vec<Matcher> = std::iter::once(named(&chosen.metric)).chain(only).collect();
    let source = selector(&series);
    let reading = match chosen.reading {
        Use::Counter(seconds_per_unit) => Reading::CpuSeconds { series, seconds_per_unit },
        Use::Gauge => Reading::Value { series },
    };
    let metric = Metric { critical: !chosen.is_heap, ..judged(source, reading) };
    survey.found(&metric.name, chosen.by);
    Some(metric)
}
