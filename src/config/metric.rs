//! `metrics` of a release: presets to look for, and metrics that the file names.

use std::collections::HashSet;

use davy_detector::config::{Direction, Margin, MetricKind, MetricSpec, Preset};
use davy_query::Expr;

use super::matchers::parse_selector;
use super::reader::{Field, Section};

/// A margin of more than a thousand times the baseline tolerates everything.
const RELATIVE_MAX: f64 = 1000.0;

enum Entry {
    Preset(Preset),
    Metric(Box<MetricSpec>),
}

pub(super) fn read(s: &mut Section<'_>) -> (Vec<Preset>, Vec<MetricSpec>) {
    let (mut presets, mut metrics): (Vec<Preset>, Vec<MetricSpec>) = (Vec::new(), Vec::new());
    let mut names = HashSet::new();
    let entries = s.list("metrics", |f| Some((entry(&f)?, f)));
    for (entry, field) in entries {
        match entry {
            Entry::Preset(preset) if presets.contains(&preset) => {
                field.error(format!("preset {} is given twice", preset.as_str()));
            }
            Entry::Preset(preset) => presets.push(preset),
            Entry::Metric(metric) => {
                if !names.insert(metric.name.clone()) {
                    field.error(format!("metric {:?} is given twice; give each its own name", metric.name));
                }
                metrics.push(*metric);
            }
        }
    }
    (presets, metrics)
}

fn entry(field: &Field<'_>) -> Option<Entry> {
    field.section(|s| {
        if let Some(preset) = s.get("preset") {
            return preset_entry(s, &preset).map(Entry::Preset);
        }
        metric(s).map(|m| Entry::Metric(Box::new(m)))
    })
}

fn preset_entry(s: &mut Section<'_>, field: &Field<'_>) -> Option<Preset> {
    for key in ["name", "kind", "events", "trials", "histogram", "query", "direction", "margin", "critical"] {
        if let Some(extra) = s.get(key) {
            extra.error("a preset brings its own metrics; write a metric of your own as a further entry");
        }
    }
    if matches!(field.text()?, "go" | "jvm") {
        field.error(format!("preset {} is not supported yet; `process` covers CPU and memory", field.got()));
        return None;
    }
    field.one_of(&Preset::ALL.map(|p| (p.as_str(), p)))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Proportion,
    Latency,
    Gauge,
}

fn metric(s: &mut Section<'_>) -> Option<MetricSpec> {
    let name = s.required("name", "verdicts refer to it (or write `preset`)").and_then(|f| f.name());
    let kinds = [("proportion", Kind::Proportion), ("latency", Kind::Latency), ("gauge", Kind::Gauge)];
    let kind = s.required("kind", "one of proportion, latency, gauge").and_then(|f| f.one_of(&kinds));
    let given = ["events", "trials", "histogram", "query"].map(|key| (key, s.get(key)));
    let direction = s.or("direction", Direction::Increase, direction);
    let margin = s.or("margin", Margin { relative: 0.0, absolute: 0.0 }, margin);
    let critical = s.or("critical", true, Field::bool);

    let wanted: &[&str] = match kind? {
        Kind::Proportion => &["events", "trials"],
        Kind::Latency => &["histogram"],
        Kind::Gauge => &["query"],
    };
    for (key, field) in &given {
        match field {
            None if wanted.contains(key) => {
                s.error(format!("`{key}` is missing: this kind of metric needs it"));
            }
            Some(f) if !wanted.contains(key) => {
                f.error(format!("this kind of metric has no `{key}`; it has {}", wanted.join(" and ")));
            }
            _ => {}
        }
    }
    let [events, trials, histogram, query] = given.map(|(_, field)| field);
    let selector = |field: Option<Field<'_>>| field.and_then(|f| f.parse(parse_selector));
    let (events, trials, histogram) = (selector(events), selector(trials), selector(histogram));
    let query = query.and_then(|f| f.parse(expr));
    let kind = match kind? {
        Kind::Proportion => MetricKind::Proportion { events: events?, trials: trials? },
        Kind::Latency => MetricKind::Latency { histogram: histogram? },
        Kind::Gauge => MetricKind::Gauge { query: query? },
    };
    Some(MetricSpec { name: name?.to_owned(), kind, direction, margin, critical })
}

/// A PromQL expression that Davy evaluates.
pub(super) fn expr(text: &str) -> Result<Expr, String> {
    if text.trim().is_empty() {
        return Err("expected a PromQL expression".to_owned());
    }
    Expr::parse_value(text).map_err(|e| e.to_string())
}

pub(super) fn direction(field: &Field<'_>) -> Option<Direction> {
    field.one_of(&[
        ("increase", Direction::Increase),
        ("decrease", Direction::Decrease),
        ("either", Direction::Either),
    ])
}

fn margin(field: &Field<'_>) -> Option<Margin> {
    field.section(|s| {
        let relative = s.or("relative", 0.0, |f| f.number(0.0..=RELATIVE_MAX));
        let absolute = s.or("absolute", 0.0, |f| f.number(0.0..=f64::MAX));
        Some(Margin { relative, absolute })
    })
}
