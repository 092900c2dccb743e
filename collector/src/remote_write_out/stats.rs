//! `DestinationStats`: what a destination's sender counts, in the words of `prometheus_remote_storage_*`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use davy_model::Timestamp;

use super::round::What;

/// What grows, but for `pending`, `shards`, `records_behind` and the times.
#[derive(Debug, Default)]
pub struct DestinationStats {
    /// Sent, failures and repetitions among them.
    pub samples: AtomicU64,
    pub histograms: AtomicU64,
    pub exemplars: AtomicU64,
    pub metadata: AtomicU64,
    /// Refused for good by the destination.
    pub samples_failed: AtomicU64,
    /// Sent again because the destination could not take them at the time.
    pub samples_retried: AtomicU64,
    /// By relabelling.
    pub samples_dropped_relabelled: AtomicU64,
    pub samples_dropped_too_old: AtomicU64,
    pub samples_dropped_unknown_series: AtomicU64,
    /// Log records that failed their checksum.
    pub records_damaged: AtomicU64,
    /// Times that the log did not reach back to where the destination was.
    pub gaps: AtomicU64,
    pub requests: AtomicU64,
    pub requests_failed: AtomicU64,
    /// Compressed.
    pub bytes: AtomicU64,
    pub pending: AtomicU64,
    pub shards: AtomicU64,
    /// Records of the log that are not acknowledged yet.
    pub records_behind: AtomicU64,
    /// Milliseconds; zero before there is any.
    pub highest_sent: AtomicI64,
    pub highest_read: AtomicI64,
}

impl DestinationStats {
    pub(super) fn sent(&self, what: &What) {
        add(
            match what {
                What::Float(_) => &self.samples,
                What::Histogram(_) => &self.histograms,
                What::Exemplar(_) => &self.exemplars,
            },
            1,
        );
    }

    pub(super) fn acknowledged(&self, at: Timestamp) {
        self.highest_sent.fetch_max(at.as_millis(), Ordering::Relaxed);
    }

    pub(super) fn read(&self, at: Timestamp) {
        self.highest_read.fetch_max(at.as_millis(), Ordering::Relaxed);
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
