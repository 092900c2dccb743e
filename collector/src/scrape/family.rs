//! `Families`: what a target says about its metrics, and which of their series only ever grow.

use std::collections::HashMap;

use davy_model::{Metadata, MetricType};

use crate::expfmt::Format;

/// Families of one target whose metadata is kept; those beyond are treated as untyped.
const FAMILIES_MAX: usize = 20_000;
/// Longest help text that is kept.
const HELP_BYTES_MAX: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct Families {
    known: HashMap<Box<str>, Metadata>,
    changed: Vec<Box<str>>,
}

/// What a sample is to its family.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role<'a> {
    /// Grows from zero: a counter, or a part of a histogram or summary. `base` names what shares a start time.
    Cumulative {
        base: &'a str,
    },
    /// When the series of `base` started, in seconds.
    Start {
        base: &'a str,
    },
    Other,
}

impl Families {
    pub(super) fn set_type(&mut self, family: &str, metric_type: MetricType) {
        self.change(family, |m| std::mem::replace(&mut m.metric_type, metric_type) != metric_type);
    }

    pub(super) fn set_help(&mut self, family: &str, help: &str) {
        let help = &help[..help.floor_char_boundary(HELP_BYTES_MAX)];
        self.change(family, |m| replace(&mut m.help, help));
    }

    pub(super) fn set_unit(&mut self, family: &str, unit: &str) {
        self.change(family, |m| replace(&mut m.unit, unit));
    }

    fn change(&mut self, family: &str, change: impl FnOnce(&mut Metadata) -> bool) {
        if self.known.len() >= FAMILIES_MAX && !self.known.contains_key(family) {
            return;
        }
        let metadata = self.known.entry(family.into()).or_default();
        if change(metadata) && self.changed.last().is_none_or(|last| **last != *family) {
            self.changed.push(family.into());
        }
    }

    /// What changed since the last call, under the names that the series have: OpenMetrics calls the family of
    /// `http_requests_total` just `http_requests`, the text format does not.
    pub(super) fn take_changed(&mut self, format: Format) -> Vec<(String, Metadata)> {
        let changed = std::mem::take(&mut self.changed);
        let named = changed.iter().filter_map(|family| {
            let metadata = self.known.get(family)?;
            let suffix = match (format, metadata.metric_type) {
                (Format::OpenMetrics, MetricType::Counter) => "_total",
                (Format::OpenMetrics, MetricType::Info) => "_info",
                _ => "",
            };
            let name = family.strip_suffix(suffix).unwrap_or(family);
            Some((format!("{name}{suffix}"), metadata.clone()))
        });
        named.collect()
    }

    /// The type comes from the metadata; without any, `_total`, `_bucket`, `_count` and `_sum` speak for themselves.
    pub(super) fn role<'a>(&self, metric: &'a str, format: Format) -> Role<'a> {
        let type_of = |family: &str| self.known.get(family).map(|m| m.metric_type);
        let split = |suffix| metric.strip_suffix(suffix).filter(|base| !base.is_empty());
        match type_of(metric) {
            Some(MetricType::Counter) => {
                return Role::Cumulative { base: split("_total").unwrap_or(metric) };
            }
            None | Some(MetricType::Unknown) => {}
            Some(_) => return Role::Other,
        }
        for suffix in ["_total", "_bucket", "_count", "_sum", "_created"] {
            let Some(base) = split(suffix) else { continue };
            let owner = type_of(base).unwrap_or_default();
            let grows = match (owner, suffix) {
                (_, "_created") => {
                    let grows =
                        matches!(owner, MetricType::Counter | MetricType::Histogram | MetricType::Summary);
                    return if grows && format == Format::OpenMetrics {
                        Role::Start { base }
                    } else {
                        Role::Other
                    };
                }
                (MetricType::Unknown, _) => true,
                (MetricType::Counter, suffix) => suffix == "_total",
                (MetricType::Histogram, suffix) => suffix != "_total",
                (MetricType::Summary, suffix) => suffix == "_count" || suffix == "_sum",
                (
                    MetricType::Gauge | MetricType::GaugeHistogram | MetricType::Info | MetricType::StateSet,
                    _,
                ) => false,
            };
            return if grows { Role::Cumulative { base } } else { Role::Other };
        }
        Role::Other
    }
}

fn replace(old: &mut String, new: &str) -> bool {
    let changed = old != new;
    if changed {
        new.clone_into(old);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(types: &[(&str, MetricType)]) -> Families {
        let mut families = Families::default();
        types.iter().for_each(|(f, t)| families.set_type(f, *t));
        families
    }

    #[test]
    fn types_decide_which_series_grow() {
        let f = families(&[
            ("requests", MetricType::Counter),
            ("latency", MetricType::Histogram),
            ("size", MetricType::Summary),
            ("queue", MetricType::Gauge),
            ("queue_count", MetricType::Gauge),
            ("depth", MetricType::GaugeHistogram),
        ]);
        let check = |metric, want| assert_eq!(f.role(metric, Format::OpenMetrics), want, "{metric}");
        for (metric, base) in [
            ("requests_total", "requests"),
            ("latency_bucket", "latency"),
            ("latency_sum", "latency"),
            ("size_count", "size"),
            ("untold_total", "untold"),
            ("untold_bucket", "untold"),
        ] {
            check(metric, Role::Cumulative { base });
        }
        for metric in [
            "size",
            "queue",
            "queue_count",
            "queue_sum",
            "depth_bucket",
            "untold",
            "untold_created",
            "_total",
        ] {
            check(metric, Role::Other);
        }
        check("latency_created", Role::Start { base: "latency" });
        assert_eq!(f.role("latency_created", Format::Text), Role::Other, "text has no start times");
    }

    #[test]
    fn text_names_counters_in_full() {
        let f = families(&[("requests_total", MetricType::Counter), ("odd", MetricType::Counter)]);
        assert_eq!(f.role("requests_total", Format::Text), Role::Cumulative { base: "requests" });
        assert_eq!(f.role("odd", Format::Text), Role::Cumulative { base: "odd" });
    }

    #[test]
    fn metadata_is_told_once_and_by_the_name_of_the_series() {
        let mut f = families(&[("requests", MetricType::Counter)]);
        f.set_help("requests", "Served.");
        let want =
            Metadata { metric_type: MetricType::Counter, help: "Served.".to_owned(), unit: String::new() };
        assert_eq!(f.take_changed(Format::OpenMetrics), [("requests_total".to_owned(), want)]);
        f.set_help("requests", "Served.");
        assert_eq!(f.take_changed(Format::OpenMetrics), []);
    }

    #[test]
    fn endless_families_are_bounded() {
        let mut f = Families::default();
        for i in 0..FAMILIES_MAX + 10 {
            f.set_help(&format!("f{i}"), &"ü".repeat(HELP_BYTES_MAX));
        }
        assert_eq!(f.known.len(), FAMILIES_MAX);
        assert!(f.known.values().all(|m| m.help.len() <= HELP_BYTES_MAX));
    }
}
