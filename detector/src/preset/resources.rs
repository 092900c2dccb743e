//! Resources: CPU and memory of the process, or of its container.

use davy_model::{MatchOp, Matcher};

use crate::config::Preset;
use crate::plan::{Margins, Metric, Reading, selector};
use crate::verdict::MetricClass;

use super::{Inventory, metric, named};

const CPU: &[(Preset, &str)] = &[
    (Preset::Process, "process_cpu_seconds_total"),
    // OpenTelemetry's process.cpu.time.
    (Preset::Otel, "process_cpu_time_seconds_total"),
    (Preset::Container, "container_cpu_usage_seconds_total"),
];
const MEMORY: &[(Preset, &str)] = &[
    (Preset::Process, "process_resident_memory_bytes"),
    // OpenTelemetry's process.memory.usage.
    (Preset::Otel, "process_memory_usage_bytes"),
    (Preset::Container, "container_memory_working_set_bytes"),
];

pub(super) fn cpu(inventory: &Inventory, wanted: impl Fn(Preset) -> bool) -> Option<Metric> {
    let series = found(inventory, CPU, wanted)?;
    let source = selector(&series);
    Some(metric("cpu", MetricClass::Cpu, Margins::CPU, source, Reading::CpuSeconds { series }))
}

pub(super) fn memory(inventory: &Inventory, wanted: impl Fn(Preset) -> bool) -> Option<Metric> {
    let series = found(inventory, MEMORY, wanted)?;
    let source = selector(&series);
    Some(metric("memory", MetricClass::Memory, Margins::MEMORY, source, Reading::Value { series }))
}

fn found(
    inventory: &Inventory,
    candidates: &[(Preset, &str)],
    wanted: impl Fn(Preset) -> bool,
) -> Option<Vec<Matcher>> {
    let candidates: Vec<_> = candidates.iter().filter(|(p, _)| wanted(*p)).collect();
    let (preset, metric) = candidates[inventory.first(&candidates, |(_, m)| m)?];
    let mut series = vec![named(metric)];
    if *preset == Preset::Container {
        // cAdvisor also has a series for the pod as a whole, without this label.
        series.push(Matcher::new("container", MatchOp::NotEqual, "").expect("not a regex"));
        series.push(Matcher::new("container", MatchOp::NotEqual, "POD").expect("not a regex"));
    }
    Some(series)
}
