//! `Verdict`: what the judge says of a release, with everything needed to believe it.

use std::sync::Arc;

use davy_model::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Shown to be no worse than the margin on every judged metric.
    Pass,
    /// Shown to be worse than the margin.
    Fail,
    /// Neither is shown yet; the reason says what is missing.
    Insufficient,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Insufficient => "insufficient",
        }
    }
}

/// Which kind of evidence a metric is judged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricClass {
    Errors,
    Latency,
    Cpu,
    Memory,
    Proportion,
    Gauge,
}

impl MetricClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Proportion => "proportion",
            Self::Gauge => "gauge",
        }
    }
}

/// Whether the data can be judged at all. Anything but `Ok` holds the verdict at insufficient: blindness is
/// never evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Contract {
    Ok,
    WarmingUp,
    /// The arm's instances are not being seen (scrape failed, or nothing pushed).
    CanaryMissing,
    BaselineMissing,
    /// Neither arm is seen: Davy, not the release, has the problem.
    Blind,
    /// Both arms are seen but one has no requests.
    NoTraffic,
    /// No metric of the release is recognised.
    NothingToJudge,
    /// Both arms run the same version.
    SameVersion,
    /// A selector or an expression of a critical metric finds no series in either arm.
    SelectorEmpty,
    /// It finds several values where one is meant, or series that belong to both arms.
    SelectorAmbiguous,
    /// Samples of an arm are stamped by a clock that is off.
    ClockSkew,
    /// Scrapes succeed and bring nothing new.
    StaleScrape,
    /// Counters begin anew again and again.
    CrashLoop,
    /// The canary's share of the requests is not the one that was declared.
    TrafficSplit,
}

impl Contract {
    pub const ALL: [Self; 14] = [
        Self::Ok,
        Self::WarmingUp,
        Self::CanaryMissing,
        Self::BaselineMissing,
        Self::Blind,
        Self::NoTraffic,
        Self::NothingToJudge,
        Self::SameVersion,
        Self::SelectorEmpty,
        Self::SelectorAmbiguous,
        Self::ClockSkew,
        Self::StaleScrape,
        Self::CrashLoop,
        Self::TrafficSplit,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::WarmingUp => "warming_up",
            Self::CanaryMissing => "canary_missing",
            Self::BaselineMissing => "baseline_missing",
            Self::Blind => "blind",
            Self::NoTraffic => "no_traffic",
            Self::NothingToJudge => "nothing_to_judge",
            Self::SameVersion => "same_version",
            Self::SelectorEmpty => "selector_empty",
            Self::SelectorAmbiguous => "selector_ambiguous",
            Self::ClockSkew => "clock_skew",
            Self::StaleScrape => "stale_scrape",
            Self::CrashLoop => "crash_loop",
            Self::TrafficSplit => "traffic_split",
        }
    }
}

/// How much more is needed before the metric can be decided if the versions are equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needed {
    /// Canary requests still to come.
    pub requests: u64,
    /// Seconds at the present traffic; `None` when it can never be decided at this traffic.
    pub seconds: Option<u64>,
}

/// One metric's part of a verdict. Estimates and bounds are relative differences, canary over baseline less
/// one: `0.5` is "half as much again"; `NaN` where nothing can be said yet.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricVerdict {
    /// `errors`, `latency_p99`, `cpu`, `memory`, or the name given in the file.
    pub name: String,
    pub class: MetricClass,
    pub outcome: Outcome,
    /// Level of each arm so far: a share for errors and proportions, seconds for latency, cores (or cores per
    /// request), bytes, or the gauge's own unit.
    pub baseline: f64,
    pub canary: f64,
    pub estimate: f64,
    pub lower: f64,
    pub upper: f64,
    /// Relative difference that is tolerated.
    pub margin: f64,
    /// Evidence that the canary is worse, as a share of what a rollback needs: at 1 the metric alone suffices.
    pub evidence: f64,
    /// Requests, or observations for gauges, behind each arm.
    pub baseline_n: f64,
    pub canary_n: f64,
    pub needed: Option<Needed>,
    /// The series it was read from, as a selector.
    pub source: Arc<str>,
    /// One sentence for people.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub contract: Contract,
    /// End of the last interval that was judged.
    pub at: Timestamp,
    /// Intervals judged so far, warm-up excluded.
    pub intervals: u64,
    /// Evidence of the whole release as a share of what a rollback needs; 1 is the boundary.
    pub evidence: f64,
    /// Share of the two arms' requests that went to the canary, `NaN` without requests.
    pub traffic_share: f64,
    pub metrics: Arc<[MetricVerdict]>,
    /// One sentence for people.
    pub reason: String,
}
