//! What to judge and what to watch, after parsing: every value here is already valid.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_model::Matcher;
use davy_query::Expr;

/// How one service's releases are judged. The default judges every service by the presets.
#[derive(Debug, Clone)]
pub struct ReleaseSpec {
    /// The `service` label (or `service.name`, or `job` where there is no such label); `None` for the
    /// defaults that apply to every service the file does not name.
    pub service: Option<String>,
    /// Label that tells the versions apart.
    pub version_label: String,
    pub baseline: ArmSpec,
    pub canary: ArmSpec,
    /// Presets to look for; every known one unless the file names some.
    pub presets: Vec<Preset>,
    pub metrics: Vec<MetricSpec>,
    /// Share of the two arms' requests that the canary is meant to have; `None` where nobody says.
    pub traffic_share: Option<f64>,
    pub judge: JudgeSpec,
}

impl Default for ReleaseSpec {
    /// Every service, by the presets.
    fn default() -> Self {
        Self {
            service: None,
            version_label: davy_model::name::VERSION.to_owned(),
            baseline: ArmSpec::Auto,
            canary: ArmSpec::Auto,
            presets: Vec::new(),
            metrics: Vec::new(),
            traffic_share: None,
            judge: JudgeSpec::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ArmSpec {
    /// Who lived first is the baseline.
    #[default]
    Auto,
    /// The series that satisfy these, whatever their version.
    Matchers(Vec<Matcher>),
}

/// A family of metric names that software really exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Preset {
    /// Prometheus client libraries and their HTTP middlewares.
    Http,
    /// OpenTelemetry semantic conventions (HTTP, RPC).
    Otel,
    Grpc,
    /// Istio and Envoy.
    Istio,
    Linkerd,
    Traefik,
    /// nginx ingress controller.
    Nginx,
    Haproxy,
    /// `process_*`: CPU and memory of any client library.
    Process,
    /// What JVM, Go, Node and .NET say of themselves where nothing counts the process.
    Runtime,
    /// cAdvisor.
    Container,
}

impl Preset {
    pub const ALL: [Self; 11] = [
        Self::Http,
        Self::Otel,
        Self::Grpc,
        Self::Istio,
        Self::Linkerd,
        Self::Traefik,
        Self::Nginx,
        Self::Haproxy,
        Self::Process,
        Self::Runtime,
        Self::Container,
    ];

    /// The name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Otel => "otel",
            Self::Grpc => "grpc",
            Self::Istio => "istio",
            Self::Linkerd => "linkerd",
            Self::Traefik => "traefik",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Process => "process",
            Self::Runtime => "runtime",
            Self::Container => "container",
        }
    }
}

/// A metric that the file names.
#[derive(Debug, Clone)]
pub struct MetricSpec {
    pub name: String,
    pub kind: MetricKind,
    pub direction: Direction,
    pub margin: Margin,
    /// A critical metric that fails, fails the release; a soft one is shown and alerted on.
    pub critical: bool,
}

#[derive(Debug, Clone)]
pub enum MetricKind {
    /// Counters: how many of `trials` were `events`.
    Proportion { events: Vec<Matcher>, trials: Vec<Matcher> },
    /// A classic histogram's `_bucket` series, or a native histogram.
    Latency { histogram: Vec<Matcher> },
    /// An expression that gives one value an arm, or one an instance.
    Gauge { query: Expr },
}

/// Which way is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Increase,
    Decrease,
    Either,
}

/// What is tolerated: both the relative and the absolute difference must be exceeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// `0.05` is five per cent of the baseline.
    pub relative: f64,
    /// In the metric's own unit.
    pub absolute: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JudgeSpec {
    /// Probability that a canary at the edge of every margin, already that much worse than the baseline, is ever
    /// called worse over the whole release. Equal versions are far from that edge: what they show is measured.
    pub alpha: f64,
    pub interval: Duration,
    /// Start of a canary (cold caches, JIT) in which only what no cold start explains fails it; the rest of what it
    /// shows counts if it persists.
    pub warm_up: Duration,
}

impl Default for JudgeSpec {
    fn default() -> Self {
        Self { alpha: 0.05, interval: Duration::from_secs(15), warm_up: Duration::from_secs(180) }
    }
}

/// Dynamic thresholds on the series of one expression.
#[derive(Debug, Clone)]
pub struct ThresholdSpec {
    pub name: String,
    pub query: Expr,
    /// Width of the band in robust standard deviations.
    pub sensitivity: f64,
    pub direction: Direction,
    /// How long a value must stay outside before it is an anomaly.
    pub hold: Duration,
    /// Smallest relative distance from the expected level that counts.
    pub effect_min: f64,
    /// Length of the season that the level is learned over; `None` learns the level only.
    pub season: Option<Duration>,
    /// Whether an anomaly becomes an alert, with these labels and annotations added.
    pub alert: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}
