//! Davy's own metrics, and those that speak about releases: what dashboards are drawn from.
//!
//! `/metrics` shows them, and every tick they are appended to Davy's own store ([`super::own`]).

mod families;
mod release;
mod story;
mod threshold;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use davy_api::wire::rules::{Rule, RuleGroup};
use davy_api::{QueryGate, View};
use davy_collector::otlp::OtlpStats;
use davy_collector::remote_write;
use davy_collector::remote_write_out::Forwarder;
use davy_collector::scrape::TargetStatus;
use davy_model::Timestamp;
use davy_store::Stats;
use davy_store::control::DrillRecord;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use self::families::{Copied, Families, Float, Point, copy};
use self::story::Story;
use crate::app::forward_metrics::ForwardMetrics;
use crate::app::rules::RuleMetrics;
use crate::process::ProcessCollector;
use crate::sources::SourceStates;

const CALIBRATIONS: &[(&str, &str)] = &[
    ("judge_calibration_releases", "Earlier releases that taught the service's noise"),
    ("judge_aa_runs", "Times that the service's baseline was judged against itself"),
    ("judge_aa_alarms", "Of these, those called worse: false alarms by construction"),
];
const ABOUT: &[(&str, &str)] = &[
    ("build_info", "This Davy: its version, and where people reach it"),
    ("targets", "Scrape targets by health"),
    ("storage_bytes", "Bytes on disk, by what they hold"),
];

/// What the view says of groups; the rest is counted where they are evaluated: `RuleMetrics`.
const RULES: &[(&str, &str)] = &[
    ("rule_group_last_duration_seconds", "Time that the group's last evaluation took"),
    ("rule_group_interval_seconds", "Time from one evaluation of the group to the next"),
    ("rule_group_health", "Rules of the group, by health"),
];
const SOURCES: &[(&str, &str)] = &[
    ("source_behind_seconds", "How far the samples of a service that come from a source lie back"),
    ("source_up", "1 if the source answered in full when it was last asked"),
];
/// Groups that are told of; a file may have more.
const RULE_GROUPS_MAX: usize = 500;

/// What does not change while Davy runs.
#[derive(Debug, Clone)]
pub struct About {
    pub version: &'static str,
    /// Where people reach the API: boards link there.
    pub external_url: String,
}

/// Everything that `/metrics` shows.
pub struct Metrics {
    releases: Families,
    thresholds: Families,
    calibrations: Families,
    drills: Families,
    about: Families,
    rules: Families,
    sources: Families,
    forward: ForwardMetrics,
    pub(super) rule_metrics: RuleMetrics,
    story: Mutex<Story>,
    alerts_firing: Gauge,
    series: Gauge,
    samples: Counter,
    samples_refused: Copied,
    spans: Counter,
    quarantined: Gauge,
    partitions: Gauge,
    partitions_compacted: Counter,
    write_errors: Counter,
    backlog: Gauge,
    disk_low: Gauge,
    maintenance_seconds: Histogram,
    maintenance_failed: Counter,
    otlp_spans: Copied,
    service_graph_dropped: Counter,
    otlp_points: Copied,
    otlp_requests: Copied,
    remote_write_samples: Copied,
    remote_write_exemplars: Copied,
    remote_write_requests: Copied,
    remote_write_series: Gauge,
    ticks: Counter,
    tick_seconds: Float,
    tick_duration: Histogram,
    tick_lag: Histogram,
    /// Rows that wait to be written because the control database cannot be.
    pub(super) unwritten: Gauge,
    pub(super) outbox_pending: Gauge,
    pub(super) messages_delivered: Counter,
    pub(super) messages_failed: Counter,
    pub(super) messages_dead: Counter,
    pub(super) receivers_down: Gauge,
    config_reloads_failed: Counter,
    config_good: Gauge,
    own_failed: Counter,
}

const DRILLS: &[(&str, &str)] = &[
    ("drill_last_timestamp_seconds", "When the service's path was last drilled"),
    ("drill_last_success_timestamp_seconds", "When a drill of the service last passed every hop"),
];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            releases: Families::new(release::TABLE),
            thresholds: Families::new(threshold::TABLE),
            calibrations: Families::new(CALIBRATIONS),
            drills: Families::new(DRILLS),
            about: Families::new(ABOUT),
            rules: Families::new(RULES),
            sources: Families::new(SOURCES),
            forward: ForwardMetrics::default(),
            rule_metrics: RuleMetrics::default(),
            story: Mutex::default(),
            alerts_firing: Gauge::default(),
            series: Gauge::default(),
            samples: Counter::default(),
            samples_refused: Copied::default(),
            spans: Counter::default(),
            quarantined: Gauge::default(),
            partitions: Gauge::default(),
            partitions_compacted: Counter::default(),
            write_errors: Counter::default(),
            backlog: Gauge::default(),
            disk_low: Gauge::default(),
            // 1 ms to some 17 minutes.
            maintenance_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            maintenance_failed: Counter::default(),
            otlp_spans: Copied::default(),
            service_graph_dropped: Counter::default(),
            otlp_points: Copied::default(),
            otlp_requests: Copied::default(),
            remote_write_samples: Copied::default(),
            remote_write_exemplars: Copied::default(),
            remote_write_requests: Copied::default(),
            remote_write_series: Gauge::default(),
            ticks: Counter::default(),
            tick_seconds: Float::default(),
            // 100 µs to 52 s.
            tick_duration: Histogram::new(exponential_buckets(0.0001, 2.0, 20)),
            tick_lag: Histogram::new(exponential_buckets(0.0001, 2.0, 20)),
            unwritten: Gauge::default(),
            outbox_pending: Gauge::default(),
            messages_delivered: Counter::default(),
            messages_failed: Counter::default(),
            messages_dead: Counter::default(),
            receivers_down: Gauge::default(),
            config_reloads_failed: Counter::default(),
            config_good: Gauge::default(),
            own_failed: Counter::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, about: &About, queries: &QueryGate) -> Arc<Registry> {
        let mut root = Registry::default();
        root.register_collector(Box::new(ProcessCollector));
        let r = root.sub_registry_with_prefix("davy");
        self.releases.register(release::TABLE, r);
        self.thresholds.register(threshold::TABLE, r);
        self.calibrations.register(CALIBRATIONS, r);
        self.drills.register(DRILLS, r);
        self.about.register(ABOUT, r);
        self.rules.register(RULES, r);
        self.rule_metrics.register(r);
        self.sources.register(SOURCES, r);
        self.forward.register(r);
        queries.register(r);
        self.register_judging(r);
        self.register_storage(r);
        self.register_received(r);
        self.register_sent(r);
        self.config_good.set(1);
        self.about.replace(vec![build_info(about)]);
        Arc::new(root)
    }

    /// The age of the last good drill is `time()` less its time.
    pub fn publish_drills(&self, drills: &[DrillRecord]) {
        let seconds = |at: Timestamp| at.as_millis() as f64 / 1000.0;
        let mut points = Vec::new();
        for drill in drills {
            let labels = vec![("service", drill.service.clone())];
            points.push(("drill_last_timestamp_seconds", labels.clone(), seconds(drill.at)));
            if let Some(good) = drill.good_at {
                points.push(("drill_last_success_timestamp_seconds", labels, seconds(good)));
            }
        }
        self.drills.replace(points);
    }

    fn register_judging(&self, r: &mut Registry) {
        r.register("alerts_firing", "Alerts that fire", self.alerts_firing.clone());
        r.register("ticks", "Evaluations", self.ticks.clone());
        r.register("tick_seconds", "Time that the last evaluation took", self.tick_seconds.clone());
        r.register("tick_duration_seconds", "Time that evaluations take", self.tick_duration.clone());
        r.register(
            "tick_lag_seconds",
            "From when an evaluation was due to its end: what queries and scrapes hold up shows here",
            self.tick_lag.clone(),
        );
        r.register(
            "control_rows_unwritten",
            "Decisions that wait for their database",
            self.unwritten.clone(),
        );
        r.register(
            "config_reloads_failed",
            "Reloads refused; the old rules stayed",
            self.config_reloads_failed.clone(),
        );
        r.register(
            "config_last_reload_successful",
            "1 if the file was right when it was last read",
            self.config_good.clone(),
        );
        r.register(
            "own_metrics_failed",
            "Times that these metrics could not be stored",
            self.own_failed.clone(),
        );
    }

    fn register_storage(&self, r: &mut Registry) {
        r.register("storage_series", "Series in the head", self.series.clone());
        r.register("storage_samples_appended", "Samples appended", self.samples.clone());
        self.samples_refused.register(r, "storage_samples_refused", "Samples refused, by reason");
        r.register("storage_spans_appended", "Spans appended", self.spans.clone());
        r.register(
            "storage_quarantined_chunks",
            "Chunks that failed their checksum",
            self.quarantined.clone(),
        );
        r.register("storage_partitions", "Partitions of sealed samples", self.partitions.clone());
        r.register("storage_partitions_compacted", "Partitions compacted", self.partitions_compacted.clone());
        r.register("storage_write_errors", "Transactions that failed", self.write_errors.clone());
        r.register("storage_backlog", "Samples and spans that wait for the disk", self.backlog.clone());
        r.register("storage_disk_low", "1 while free disk space is below the floor", self.disk_low.clone());
        r.register(
            "storage_maintenance_duration_seconds",
            "Time that sealing, compaction and retention take, a minute's worth at a time",
            self.maintenance_seconds.clone(),
        );
        r.register(
            "storage_maintenance_failed",
            "Times that maintenance failed; it is tried again",
            self.maintenance_failed.clone(),
        );
    }

    fn register_received(&self, r: &mut Registry) {
        self.otlp_spans.register(r, "otlp_spans", "Spans received over OTLP, by outcome");
        r.register(
            "service_graph_dropped",
            "Spans and calls left out of the service graph: too many waited, or too many edges",
            self.service_graph_dropped.clone(),
        );
        self.otlp_points.register(r, "otlp_points", "Metric points received over OTLP, by outcome");
        self.otlp_requests.register(r, "otlp_requests", "OTLP requests, by how they ended");
        self.remote_write_samples.register(
            r,
            "remote_write_samples",
            "Samples received by remote write, by outcome",
        );
        self.remote_write_exemplars.register(
            r,
            "remote_write_exemplars",
            "Exemplars received by remote write, by outcome",
        );
        self.remote_write_requests.register(
            r,
            "remote_write_requests",
            "Remote write requests, by how they ended",
        );
        r.register(
            "remote_write_series",
            "Series that remote write finds by their bytes",
            self.remote_write_series.clone(),
        );
    }

    fn register_sent(&self, r: &mut Registry) {
        r.register("outbox_pending", "Messages that wait to be delivered", self.outbox_pending.clone());
        r.register("messages_delivered", "Messages that a receiver took", self.messages_delivered.clone());
        r.register("messages_dead", "Messages given up", self.messages_dead.clone());
        r.register(
            "receivers_down",
            "Receivers that are asked with one message at a time",
            self.receivers_down.clone(),
        );
        r.register("messages_failed", "Attempts that a receiver did not take", self.messages_failed.clone());
    }

    /// Sets every gauge from what the app just published; what is gone disappears.
    pub fn publish(&self, view: &View, targets: &[Arc<TargetStatus>], stats: &Stats, about: &About) {
        {
            let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
            story.hear(&view.releases, view.at);
            self.releases.replace(release::points(&view.releases, &story));
        }
        self.thresholds.replace(threshold::points(&view.watched));
        let calibrations = view.calibrations.iter().flat_map(|c| {
            let of = vec![("service", c.service.clone())];
            let values = [c.releases, c.aa_runs, c.aa_alarms];
            CALIBRATIONS.iter().zip(values).map(move |((name, _), n)| (*name, of.clone(), n as f64))
        });
        self.calibrations.replace(calibrations.collect());
        self.publish_about(targets, stats, about);
        self.rules.replace(view.rules.iter().take(RULE_GROUPS_MAX).flat_map(rule_group).collect());
        self.alerts_firing.set(signed(view.alerts.len() as u64));
        self.publish_storage(stats);
    }

    fn publish_about(&self, targets: &[Arc<TargetStatus>], stats: &Stats, about: &About) {
        let mut points = vec![build_info(about)];
        for health in ["up", "down", "unknown"] {
            let n = targets.iter().filter(|t| t.health.as_str() == health).count();
            points.push(("targets", vec![("health", health.to_owned())], n as f64));
        }
        let other = stats.bytes_on_disk.saturating_sub(stats.telemetry_bytes + stats.partition_bytes);
        let parts =
            [("telemetry", stats.telemetry_bytes), ("partitions", stats.partition_bytes), ("other", other)];
        for (part, bytes) in parts {
            points.push(("storage_bytes", vec![("part", part.to_owned())], bytes as f64));
        }
        self.about.replace(points);
    }

    fn publish_storage(&self, stats: &Stats) {
        self.series.set(signed(stats.series_active as u64));
        copy(&self.samples, stats.samples_appended);
        for (reason, n) in stats.refused.by_reason() {
            self.samples_refused.set("reason", reason, n);
        }
        // Refused at commit, because another batch had a different sample of the same time.
        let conflicts = stats.samples_refused.saturating_sub(stats.refused.total());
        self.samples_refused.set("reason", "conflict", conflicts);
        copy(&self.spans, stats.spans_appended);
        self.quarantined.set(signed(stats.quarantined_chunks));
        self.partitions.set(signed(stats.partitions as u64));
        copy(&self.partitions_compacted, stats.partitions_compacted);
        copy(&self.write_errors, stats.write_errors);
        self.backlog.set(signed(stats.backlog as u64));
        self.disk_low.set(i64::from(stats.disk_low));
    }

    pub fn publish_otlp(&self, stats: &OtlpStats) {
        self.otlp_spans.outcome("accepted", &stats.spans_accepted);
        self.otlp_spans.outcome("refused", &stats.spans_refused);
        copy(&self.service_graph_dropped, stats.graph_dropped.load(Ordering::Relaxed));
        self.otlp_points.outcome("accepted", &stats.points_accepted);
        self.otlp_points.outcome("refused", &stats.points_refused);
        let requests = &self.otlp_requests;
        requests.outcome("ok", &stats.requests_ok);
        requests.outcome("partial", &stats.requests_partial);
        requests.outcome("malformed", &stats.requests_malformed);
        requests.outcome("too_large", &stats.requests_too_large);
        requests.outcome("unsupported", &stats.requests_unsupported);
        requests.outcome("too_slow", &stats.requests_too_slow);
        requests.outcome("overloaded", &stats.requests_overloaded);
        requests.outcome("unavailable", &stats.requests_unavailable);
    }

    pub fn publish_remote_write(&self, receiver: &remote_write::Receiver) {
        let stats = receiver.stats();
        self.remote_write_samples.outcome("accepted", &stats.samples_accepted);
        self.remote_write_samples.outcome("refused", &stats.samples_refused);
        self.remote_write_exemplars.outcome("accepted", &stats.exemplars_accepted);
        self.remote_write_exemplars.outcome("refused", &stats.exemplars_refused);
        let requests = &self.remote_write_requests;
        requests.outcome("ok", &stats.requests_ok);
        requests.outcome("partial", &stats.requests_partial);
        requests.outcome("malformed", &stats.requests_malformed);
        requests.outcome("too_large", &stats.requests_too_large);
        requests.outcome("unsupported", &stats.requests_unsupported);
        requests.outcome("too_slow", &stats.requests_too_slow);
        requests.outcome("overloaded", &stats.requests_overloaded);
        requests.outcome("unavailable", &stats.requests_unavailable);
        self.remote_write_series.set(signed(receiver.series_known() as u64));
    }

    /// `lag` is from when it was due to its end.
    pub fn ticked(&self, took: Duration, lag: Duration) {
        self.ticks.inc();
        self.tick_lag.observe(lag.as_secs_f64());
        self.tick_seconds.set(took.as_secs_f64());
        self.tick_duration.observe(took.as_secs_f64());
    }

    pub fn maintained(&self, took: Duration, worked: bool) {
        self.maintenance_seconds.observe(took.as_secs_f64());
        if !worked {
            self.maintenance_failed.inc();
        }
    }

    pub(super) fn reloaded(&self, worked: bool) {
        self.config_good.set(i64::from(worked));
        if !worked {
            self.config_reloads_failed.inc();
        }
    }

    pub(super) fn publish_sources(&self, states: &SourceStates, now: Timestamp) {
        let of = states.all().into_iter().flat_map(|(service, fed)| {
            let labels = vec![("source", fed.source), ("service", service)];
            let behind = now.since(fed.complete_until).as_secs_f64();
            let up = f64::from(u8::from(fed.error.is_none()));
            [("source_behind_seconds", labels.clone(), behind), ("source_up", labels, up)]
        });
        self.sources.replace(of.collect());
    }

    pub(super) fn publish_forwards(&self, forwarder: &Forwarder) {
        self.forward.publish(forwarder);
    }

    pub(super) fn own_series_failed(&self) {
        self.own_failed.inc();
    }
}

fn build_info(about: &About) -> Point {
    let labels = vec![("version", about.version.to_owned()), ("external_url", about.external_url.clone())];
    ("build_info", labels, 1.0)
}

fn rule_group(group: &RuleGroup) -> Vec<Point> {
    let of = vec![("rule_group", format!("{};{}", group.file, group.name))];
    let mut points = vec![
        ("rule_group_last_duration_seconds", of.clone(), group.evaluation_time),
        ("rule_group_interval_seconds", of.clone(), group.interval),
    ];
    for health in ["ok", "err", "unknown"] {
        let n = group.rules.iter().filter(|r| self::health(r) == health).count();
        let labels = of.iter().cloned().chain([("health", health.to_owned())]).collect();
        points.push(("rule_group_health", labels, n as f64));
    }
    points
}

fn health(rule: &Rule) -> &str {
    match rule {
        Rule::Alerting(r) => &r.health,
        Rule::Recording(r) => &r.health,
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
