//! Davy's own metrics, and those that speak about releases: what dashboards are drawn from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use davy_api::View;
use davy_collector::otlp::OtlpStats;
use davy_collector::remote_write;
use davy_collector::remote_write_out::Forwarder;
use davy_collector::scrape::TargetStatus;
use davy_model::Timestamp;
use davy_store::Stats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::forward_metrics::ForwardMetrics;
use crate::sources::SourceStates;

type Float = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReleaseLabels {
    service: String,
    baseline: String,
    canary: String,
    id: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    service: String,
    canary: String,
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MetricLabels {
    service: String,
    canary: String,
    metric: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SeriesLabels {
    threshold: String,
    series: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HealthLabels {
    health: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceLabels {
    source: String,
    service: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: String,
}

/// Everything that `/metrics` shows.
#[derive(Default)]
pub(super) struct Metrics {
    aa_runs: Family<ServiceLabels, Gauge>,
    aa_alarms: Family<ServiceLabels, Gauge>,
    calibration_releases: Family<ServiceLabels, Gauge>,
    release_info: Family<ReleaseLabels, Gauge>,
    release_phase: Family<StateLabels, Gauge>,
    release_verdict: Family<StateLabels, Gauge>,
    traffic_share: Family<MetricLabels, Float>,
    estimate: Family<MetricLabels, Float>,
    lower: Family<MetricLabels, Float>,
    upper: Family<MetricLabels, Float>,
    evidence: Family<MetricLabels, Float>,
    threshold_lower: Family<SeriesLabels, Float>,
    threshold_upper: Family<SeriesLabels, Float>,
    threshold_score: Family<SeriesLabels, Float>,
    targets: Family<HealthLabels, Gauge>,
    alerts_firing: Gauge,
    series: Gauge,
    samples: Gauge,
    samples_refused: Gauge,
    spans: Gauge,
    quarantined: Gauge,
    storage_bytes: Gauge,
    otlp_spans: Family<OutcomeLabels, Gauge>,
    otlp_points: Family<OutcomeLabels, Gauge>,
    otlp_requests: Family<OutcomeLabels, Gauge>,
    remote_write_samples: Family<OutcomeLabels, Gauge>,
    remote_write_exemplars: Family<OutcomeLabels, Gauge>,
    remote_write_requests: Family<OutcomeLabels, Gauge>,
    remote_write_series: Gauge,
    forward: ForwardMetrics,
    source_behind: Family<SourceLabels, Float>,
    source_up: Family<SourceLabels, Gauge>,
    pub(super) ticks: Counter,
    /// Rows that wait to be written because the control database cannot be.
    pub(super) unwritten: Gauge,
    pub(super) tick_seconds: Float,
    pub(super) messages_delivered: Counter,
    pub(super) messages_failed: Counter,
    pub(super) config_reloads_failed: Counter,
}

impl Metrics {
    pub(super) fn register(&self) -> Arc<Registry> {
        let mut r = Registry::with_prefix("davy");
        r.register("release_info", "Releases that Davy knows", self.release_info.clone());
        r.register("release_phase", "1 for the phase that a release is in", self.release_phase.clone());
        r.register("release_verdict", "1 for the verdict that a release has", self.release_verdict.clone());
        r.register(
            "release_traffic_share",
            "Canary's share of both arms' requests",
            self.traffic_share.clone(),
        );
        r.register(
            "canary_estimate",
            "Relative difference, canary over baseline less one",
            self.estimate.clone(),
        );
        r.register("canary_lower", "Lower bound of the relative difference", self.lower.clone());
        r.register("canary_upper", "Upper bound of the relative difference", self.upper.clone());
        r.register(
            "canary_evidence",
            "Evidence that the canary is worse; 1 suffices alone",
            self.evidence.clone(),
        );
        r.register(
            "judge_calibration_releases",
            "Earlier releases that taught the service's noise",
            self.calibration_releases.clone(),
        );
        r.register(
            "judge_aa_runs",
            "Times that the service's baseline was judged against itself",
            self.aa_runs.clone(),
        );
        r.register(
            "judge_aa_alarms",
            "Of these, those called worse: false alarms by construction",
            self.aa_alarms.clone(),
        );
        r.register("threshold_lower", "Lower end of a series' band", self.threshold_lower.clone());
        r.register("threshold_upper", "Upper end of a series' band", self.threshold_upper.clone());
        r.register("threshold_score", "How far outside its band a series is", self.threshold_score.clone());
        r.register("targets", "Scrape targets by health", self.targets.clone());
        r.register("alerts_firing", "Alerts that fire", self.alerts_firing.clone());
        r.register("storage_series", "Series in the head", self.series.clone());
        r.register("storage_samples_appended", "Samples appended since the start", self.samples.clone());
        r.register(
            "storage_samples_refused",
            "Samples refused since the start",
            self.samples_refused.clone(),
        );
        r.register("storage_spans_appended", "Spans appended since the start", self.spans.clone());
        r.register(
            "storage_quarantined_chunks",
            "Chunks that failed their checksum",
            self.quarantined.clone(),
        );
        r.register("storage_bytes", "Bytes on disk", self.storage_bytes.clone());
        r.register("otlp_spans", "Spans received since the start, by outcome", self.otlp_spans.clone());
        r.register(
            "otlp_points",
            "Metric points received since the start, by outcome",
            self.otlp_points.clone(),
        );
        r.register(
            "otlp_requests",
            "OTLP requests since the start, by how they ended",
            self.otlp_requests.clone(),
        );
        r.register(
            "remote_write_samples",
            "Samples received by remote write since the start, by outcome",
            self.remote_write_samples.clone(),
        );
        r.register(
            "remote_write_exemplars",
            "Exemplars received by remote write since the start, by outcome",
            self.remote_write_exemplars.clone(),
        );
        r.register(
            "remote_write_requests",
            "Remote write requests since the start, by how they ended",
            self.remote_write_requests.clone(),
        );
        r.register(
            "remote_write_series",
            "Series that remote write finds by their bytes",
            self.remote_write_series.clone(),
        );
        r.register("ticks", "Evaluations", self.ticks.clone());
        r.register(
            "control_rows_unwritten",
            "Decisions that wait for their database",
            self.unwritten.clone(),
        );
        r.register("tick_seconds", "Time that the last evaluation took", self.tick_seconds.clone());
        r.register("messages_delivered", "Messages that a receiver took", self.messages_delivered.clone());
        r.register("messages_failed", "Attempts that a receiver did not take", self.messages_failed.clone());
        r.register(
            "config_reloads_failed",
            "Reloads refused; the old rules stayed",
            self.config_reloads_failed.clone(),
        );
        self.forward.register(&mut r);
        r.register(
            "source_behind_seconds",
            "How far the samples of a service that come from a source lie back",
            self.source_behind.clone(),
        );
        r.register(
            "source_up",
            "1 if the source answered in full when it was last asked",
            self.source_up.clone(),
        );
        Arc::new(r)
    }

    /// Sets every gauge from what the app just published; what is gone disappears.
    pub(super) fn publish(&self, view: &View, targets: &[TargetStatus], stats: &Stats) {
        self.publish_releases(view);
        for c in &view.calibrations {
            let of = ServiceLabels { service: c.service.clone() };
            self.calibration_releases.get_or_create(&of).set(c.releases as i64);
            self.aa_runs.get_or_create(&of).set(c.aa_runs as i64);
            self.aa_alarms.get_or_create(&of).set(c.aa_alarms as i64);
        }
        self.threshold_lower.clear();
        self.threshold_upper.clear();
        self.threshold_score.clear();
        for w in &view.watched {
            let labels = SeriesLabels { threshold: w.threshold.clone(), series: w.series.clone() };
            set(&self.threshold_lower, &labels, w.lower);
            set(&self.threshold_upper, &labels, w.upper);
            set(&self.threshold_score, &labels, w.score);
        }
        self.targets.clear();
        for t in targets {
            self.targets.get_or_create(&HealthLabels { health: t.health.as_str().to_owned() }).inc();
        }
        self.alerts_firing.set(view.alerts.len() as i64);
        self.series.set(stats.series_active as i64);
        self.samples.set(stats.samples_appended as i64);
        self.samples_refused.set(stats.samples_refused as i64);
        self.spans.set(stats.spans_appended as i64);
        self.quarantined.set(stats.quarantined_chunks as i64);
        self.storage_bytes.set(stats.bytes_on_disk as i64);
    }

    pub(super) fn publish_otlp(&self, stats: &OtlpStats) {
        let set = set_outcome;
        set(&self.otlp_spans, "accepted", &stats.spans_accepted);
        set(&self.otlp_spans, "refused", &stats.spans_refused);
        set(&self.otlp_points, "accepted", &stats.points_accepted);
        set(&self.otlp_points, "refused", &stats.points_refused);
        set(&self.otlp_requests, "ok", &stats.requests_ok);
        set(&self.otlp_requests, "partial", &stats.requests_partial);
        set(&self.otlp_requests, "malformed", &stats.requests_malformed);
        set(&self.otlp_requests, "too_large", &stats.requests_too_large);
        set(&self.otlp_requests, "unsupported", &stats.requests_unsupported);
        set(&self.otlp_requests, "too_slow", &stats.requests_too_slow);
        set(&self.otlp_requests, "overloaded", &stats.requests_overloaded);
        set(&self.otlp_requests, "unavailable", &stats.requests_unavailable);
    }

    pub(super) fn publish_sources(&self, states: &SourceStates, now: Timestamp) {
        self.source_behind.clear();
        self.source_up.clear();
        for (service, fed) in states.all() {
            let labels = SourceLabels { source: fed.source, service };
            self.source_behind.get_or_create(&labels).set(now.since(fed.complete_until).as_secs_f64());
            self.source_up.get_or_create(&labels).set(i64::from(fed.error.is_none()));
        }
    }

    pub(super) fn publish_forwards(&self, forwarder: &Forwarder) {
        self.forward.publish(forwarder);
    }

    pub(super) fn publish_remote_write(&self, receiver: &remote_write::Receiver) {
        let stats = receiver.stats();
        set_outcome(&self.remote_write_samples, "accepted", &stats.samples_accepted);
        set_outcome(&self.remote_write_samples, "refused", &stats.samples_refused);
        set_outcome(&self.remote_write_exemplars, "accepted", &stats.exemplars_accepted);
        set_outcome(&self.remote_write_exemplars, "refused", &stats.exemplars_refused);
        set_outcome(&self.remote_write_requests, "ok", &stats.requests_ok);
        set_outcome(&self.remote_write_requests, "partial", &stats.requests_partial);
        set_outcome(&self.remote_write_requests, "malformed", &stats.requests_malformed);
        set_outcome(&self.remote_write_requests, "too_large", &stats.requests_too_large);
        set_outcome(&self.remote_write_requests, "unsupported", &stats.requests_unsupported);
        set_outcome(&self.remote_write_requests, "too_slow", &stats.requests_too_slow);
        set_outcome(&self.remote_write_requests, "overloaded", &stats.requests_overloaded);
        set_outcome(&self.remote_write_requests, "unavailable", &stats.requests_unavailable);
        self.remote_write_series.set(i64::try_from(receiver.series_known()).unwrap_or(i64::MAX));
    }

    fn publish_releases(&self, view: &View) {
        self.release_info.clear();
        self.release_phase.clear();
        self.release_verdict.clear();
        for family in [&self.traffic_share, &self.estimate, &self.lower, &self.upper, &self.evidence] {
            family.clear();
        }
        for r in &view.releases {
            let id = ReleaseLabels {
                service: r.service.clone(),
                baseline: r.baseline.clone(),
                canary: r.canary.clone(),
                id: r.id.clone(),
            };
            self.release_info.get_or_create(&id).set(1);
            let state = |state: &str| StateLabels {
                service: r.service.clone(),
                canary: r.canary.clone(),
                state: state.to_owned(),
            };
            self.release_phase.get_or_create(&state(&r.phase)).set(1);
            self.release_verdict.get_or_create(&state(&r.verdict)).set(1);
            let metric = |metric: &str| MetricLabels {
                service: r.service.clone(),
                canary: r.canary.clone(),
                metric: metric.to_owned(),
            };
            set(&self.traffic_share, &metric("requests"), r.traffic_share);
            set(&self.evidence, &metric("release"), r.evidence);
            for m in &r.metrics {
                set(&self.estimate, &metric(&m.name), m.estimate);
                set(&self.lower, &metric(&m.name), m.lower);
                set(&self.upper, &metric(&m.name), m.upper);
                set(&self.evidence, &metric(&m.name), m.evidence);
            }
        }
    }
}

fn set_outcome(family: &Family<OutcomeLabels, Gauge>, outcome: &str, counter: &AtomicU64) {
    let value = i64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
    family.get_or_create(&OutcomeLabels { outcome: outcome.to_owned() }).set(value);
}

fn set<L>(family: &Family<L, Float>, labels: &L, value: Option<f64>)
where
    L: Clone + std::hash::Hash + Eq,
{
    if let Some(v) = value {
        family.get_or_create(labels).set(v);
    }
}
