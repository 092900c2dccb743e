//! `Plan`: which metrics of a release are judged, how each is read, and what is tolerated of it.
//!
//! Presets and the file's own metrics both end here; the judge knows nothing of where a metric came from.

use std::sync::Arc;

use davy_model::{Matcher, name};
use davy_query::Expr;

use crate::config::{Direction, Margin, MetricKind, MetricSpec};
use crate::verdict::MetricClass;

/// Baseline or canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arm {
    Baseline,
    Canary,
}

/// What an [`crate::AnalysisRun`] judges. The order of `metrics` is that of the measurements in an
/// [`crate::Interval`].
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub metrics: Vec<Metric>,
    /// The counter of requests that CPU is divided by, where one is known.
    pub requests: Option<Vec<Matcher>>,
}

#[derive(Debug, Clone)]
pub struct Metric {
    pub name: String,
    pub class: MetricClass,
    pub direction: Direction,
    pub margins: Margins,
    /// Only a critical metric can fail the release, and only these must pass.
    pub critical: bool,
    /// What it was read from, as a selector.
    pub source: Arc<str>,
    pub reading: Reading,
}

/// Differences that are tolerated, and differences within which the canary counts as no worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margins {
    pub worse: Margin,
    pub no_worse: Margin,
}

/// How a metric is read from the series of one instance.
#[derive(Debug, Clone)]
pub enum Reading {
    /// Increments of counters.
    Proportion { events: Vec<Matcher>, trials: Vec<Matcher> },
    /// Increments of a classic histogram's `_bucket` series, `seconds_per_unit` in each unit of `le`.
    Buckets { series: Vec<Matcher>, seconds_per_unit: f64 },
    /// Increments of a native histogram, exponential or with custom bounds, `seconds_per_unit` in each unit.
    NativeHistogram { series: Vec<Matcher>, seconds_per_unit: f64 },
    /// A counter of CPU time, `seconds_per_unit` in each unit: cores over the time between the samples.
    CpuSeconds { series: Vec<Matcher>, seconds_per_unit: f64 },
    /// The newest value.
    Value { series: Vec<Matcher> },
    /// One value an instance, or one an arm.
    Query(Expr),
    /// Whatever brings the intervals knows.
    Given,
}

/// Defaults of the study (`judge.md`, section 2).
impl Margins {
    pub const ERRORS: Self = Self::new((0.10, 0.0002), (0.50, 0.001));
    pub const LATENCY: Self = Self::new((0.05, 0.0), (0.15, 0.0));
    pub const CPU: Self = Self::new((0.05, 0.0), (0.20, 0.0));
    pub const MEMORY: Self = Self::new((0.10, 0.0), (0.25, 0.0));

    const fn new(worse: (f64, f64), no_worse: (f64, f64)) -> Self {
        Self {
            worse: Margin { relative: worse.0, absolute: worse.1 },
            no_worse: Margin { relative: no_worse.0, absolute: no_worse.1 },
        }
    }

    /// For a margin from the file: "no worse" is shown at as many times it as the class's defaults have.
    pub fn custom(class: MetricClass, worse: Margin) -> Self {
        let times = match class {
            MetricClass::Errors | MetricClass::Proportion => 5.0,
            MetricClass::Latency => 3.0,
            MetricClass::Cpu | MetricClass::Gauge => 4.0,
            MetricClass::Memory => 2.5,
        };
        let no_worse = Margin { relative: worse.relative * times, absolute: worse.absolute * times };
        Self { worse, no_worse }
    }
}

impl Metric {
    /// A metric that the file names.
    pub fn from_spec(spec: &MetricSpec) -> Self {
        let (class, reading, source) = match &spec.kind {
            MetricKind::Proportion { events, trials } => {
                let reading = Reading::Proportion { events: events.clone(), trials: trials.clone() };
                (MetricClass::Proportion, reading, format!("{} / {}", selector(events), selector(trials)))
            }
            MetricKind::Latency { histogram } => {
                let (series, seconds_per_unit) = (histogram.clone(), 1.0);
                let classic =
                    histogram.iter().any(|m| m.name() == name::METRIC && m.value().ends_with("_bucket"));
                let reading = if classic {
                    Reading::Buckets { series, seconds_per_unit }
                } else {
                    Reading::NativeHistogram { series, seconds_per_unit }
                };
                (MetricClass::Latency, reading, selector(histogram))
            }
            MetricKind::Gauge { query } => {
                (MetricClass::Gauge, Reading::Query(query.clone()), query.to_string())
            }
        };
        Self {
            name: spec.name.clone(),
            class,
            direction: spec.direction,
            margins: Margins::custom(class, spec.margin),
            critical: spec.critical,
            source: source.into(),
            reading,
        }
    }
}

/// Matchers as a selector: `http_requests_total{code=~"5.."}`.
pub fn selector(matchers: &[Matcher]) -> String {
    use davy_model::MatchOp;
    let is_name = |m: &&Matcher| m.name() == name::METRIC && m.op() == MatchOp::Equal;
    let metric = matchers.iter().find(is_name).map_or("", Matcher::value);
    let rest: Vec<String> = matchers.iter().filter(|m| !is_name(m)).map(ToString::to_string).collect();
    if rest.is_empty() && !metric.is_empty() {
        metric.to_owned()
    } else {
        format!("{metric}{{{}}}", rest.join(", "))
    }
}
