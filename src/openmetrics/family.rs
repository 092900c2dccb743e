//! To which family of OpenMetrics a series belongs: its name without the suffix that its type gives it.

use std::collections::HashMap;

use davy_model::{Metadata, MetricType};

/// A family under OpenMetrics' name, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Family {
    pub(super) name: String,
    /// `Unknown` wherever the series' names do not keep the rules of the type that the metric claims.
    pub(super) metric_type: MetricType,
    /// Under which name the metadata is known.
    pub(super) key: Option<String>,
}

/// Metadata by the names that series have.
pub(super) struct Families<'a>(pub(super) HashMap<&'a str, &'a Metadata>);

impl Families<'_> {
    pub(super) fn of(&self, metric: &str) -> Family {
        use MetricType as T;
        if let Some(metadata) = self.0.get(metric) {
            let suffix = match metadata.metric_type {
                T::Counter => "_total",
                T::Info => "_info",
                T::Gauge | T::Histogram | T::GaugeHistogram | T::Summary | T::StateSet | T::Unknown => "",
            };
            let base = metric.strip_suffix(suffix).filter(|base| !base.is_empty());
            // Two families must not share a name.
            let base = base.filter(|base| suffix.is_empty() || !self.0.contains_key(*base));
            return match base {
                Some(base) => family(base, metadata.metric_type, metric),
                None => family(metric, T::Unknown, metric),
            };
        }
        for (suffix, types) in [
            ("_bucket", &[T::Histogram, T::GaugeHistogram][..]),
            ("_count", &[T::Histogram, T::Summary]),
            ("_sum", &[T::Histogram, T::Summary]),
            ("_gcount", &[T::GaugeHistogram]),
            ("_gsum", &[T::GaugeHistogram]),
            ("_created", &[T::Histogram, T::Summary]),
        ] {
            let Some(base) = metric.strip_suffix(suffix) else { continue };
            if let Some(m) = self.0.get(base).filter(|m| types.contains(&m.metric_type)) {
                return family(base, m.metric_type, base);
            }
        }
        if let Some(base) = metric.strip_suffix("_created") {
            let counter = format!("{base}_total");
            if self.0.contains_key(counter.as_str()) && self.of(&counter).name == base {
                return family(base, T::Counter, &counter);
            }
        }
        Family { name: metric.to_owned(), metric_type: T::Unknown, key: None }
    }
}

fn family(name: &str, metric_type: MetricType, key: &str) -> Family {
    Family { name: name.to_owned(), metric_type, key: Some(key.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_follow_the_type() {
        let metadata = |metric_type| Metadata { metric_type, ..Metadata::default() };
        let all = [
            ("requests_total", metadata(MetricType::Counter)),
            ("errors", metadata(MetricType::Counter)),
            ("taken_total", metadata(MetricType::Counter)),
            ("taken", metadata(MetricType::Gauge)),
            ("latency", metadata(MetricType::Histogram)),
            ("size", metadata(MetricType::Summary)),
            ("build_info", metadata(MetricType::Info)),
        ];
        let families = Families(all.iter().map(|(n, m)| (*n, m)).collect());
        for (metric, name, metric_type) in [
            ("requests_total", "requests", MetricType::Counter),
            ("requests_created", "requests", MetricType::Counter),
            ("errors", "errors", MetricType::Unknown),
            ("taken_total", "taken_total", MetricType::Unknown),
            ("taken", "taken", MetricType::Gauge),
            ("latency_bucket", "latency", MetricType::Histogram),
            ("latency_sum", "latency", MetricType::Histogram),
            ("latency", "latency", MetricType::Histogram),
            ("size_bucket", "size_bucket", MetricType::Unknown),
            ("size_count", "size", MetricType::Summary),
            ("build_info", "build", MetricType::Info),
            ("nobody_said_total", "nobody_said_total", MetricType::Unknown),
        ] {
            let family = families.of(metric);
            assert_eq!((family.name.as_str(), family.metric_type), (name, metric_type), "{metric}");
        }
    }
}
