//! What remote write out counts, under the names that Prometheus gave them: `davy_remote_storage_*`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use davy_collector::remote_write_out::{DestinationStats, Forwarder};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RemoteLabels {
    remote_name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DroppedLabels {
    remote_name: String,
    reason: &'static str,
}

type Counters = Family<RemoteLabels, Counter>;
type Gauges = Family<RemoteLabels, Gauge<f64, AtomicU64>>;

/// Where a figure is.
type Of<T> = fn(&DestinationStats) -> &T;
/// Name, help, and where the figure is.
type Counted = (&'static str, &'static str, Of<AtomicU64>);

const COUNTERS: [Counted; 10] = [
    ("samples", "Samples sent, failures and repetitions among them", |s| &s.samples),
    ("histograms", "Native histograms sent", |s| &s.histograms),
    ("exemplars", "Exemplars sent", |s| &s.exemplars),
    ("metadata", "Metadata entries sent", |s| &s.metadata),
    ("samples_failed", "Samples that the destination refused for good", |s| &s.samples_failed),
    ("samples_retried", "Samples sent again", |s| &s.samples_retried),
    ("gaps", "Times that the log did not reach back to where the destination was", |s| &s.gaps),
    ("requests", "Requests made", |s| &s.requests),
    ("requests_failed", "Requests that were not answered with success", |s| &s.requests_failed),
    ("bytes", "Bytes sent, compressed", |s| &s.bytes),
];

const DROPPED: [(&str, Of<AtomicU64>); 4] = [
    ("dropped_series", |s| &s.samples_dropped_relabelled),
    ("too_old", |s| &s.samples_dropped_too_old),
    ("unknown_series", |s| &s.samples_dropped_unknown_series),
    ("damaged_record", |s| &s.records_damaged),
];

const GAUGES: [Counted; 3] = [
    ("samples_pending", "Samples of the round that is being sent", |s| &s.pending),
    ("shards", "Requests at the same time in the last round", |s| &s.shards),
    ("log_records_behind", "Records of the log that are not acknowledged yet", |s| &s.records_behind),
];

const TIMES: [(&str, &str, Of<AtomicI64>); 2] = [
    ("queue_highest_sent_timestamp_seconds", "Newest sample that was acknowledged", |s| &s.highest_sent),
    ("highest_timestamp_in_seconds", "Newest sample that was read from the log", |s| &s.highest_read),
];

#[derive(Default)]
pub(super) struct ForwardMetrics {
    counters: [Counters; COUNTERS.len()],
    dropped: Family<DroppedLabels, Counter>,
    gauges: [Gauges; GAUGES.len()],
    times: [Gauges; TIMES.len()],
}

impl ForwardMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("remote_storage");
        for ((name, help, _), family) in COUNTERS.iter().zip(&self.counters) {
            r.register(*name, *help, family.clone());
        }
        r.register("samples_dropped", "Samples that are not sent, by reason", self.dropped.clone());
        for ((name, help, _), family) in GAUGES.iter().zip(&self.gauges) {
            r.register(*name, *help, family.clone());
        }
        for ((name, help, _), family) in TIMES.iter().zip(&self.times) {
            r.register(*name, *help, family.clone());
        }
    }

    /// Sets everything; a destination that is gone disappears.
    pub(super) fn publish(&self, forwarder: &Forwarder) {
        self.counters.iter().for_each(Family::clear);
        self.dropped.clear();
        self.gauges.iter().chain(&self.times).for_each(Family::clear);
        for (name, stats) in forwarder.stats() {
            let labels = RemoteLabels { remote_name: name.clone() };
            let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
            for ((_, _, of), family) in COUNTERS.iter().zip(&self.counters) {
                family.get_or_create(&labels).inner().store(read(of(&stats)), Ordering::Relaxed);
            }
            for (reason, of) in &DROPPED {
                let labels = DroppedLabels { remote_name: name.clone(), reason };
                self.dropped.get_or_create(&labels).inner().store(read(of(&stats)), Ordering::Relaxed);
            }
            for ((_, _, of), family) in GAUGES.iter().zip(&self.gauges) {
                family.get_or_create(&labels).set(read(of(&stats)) as f64);
            }
            for ((_, _, of), family) in TIMES.iter().zip(&self.times) {
                family.get_or_create(&labels).set(of(&stats).load(Ordering::Relaxed) as f64 / 1000.0);
            }
        }
    }
}
