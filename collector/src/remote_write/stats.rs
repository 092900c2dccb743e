//! `RemoteWriteStats`: what the receiver counts about itself, for Davy's own `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::outcome::{Failed, Written};

/// All only grow. Requests are counted once each, by how they ended.
#[derive(Debug, Default)]
pub struct RemoteWriteStats {
    pub samples_accepted: AtomicU64,
    pub samples_refused: AtomicU64,
    pub exemplars_accepted: AtomicU64,
    /// Exemplars that were wrong; they fail no request, as in Prometheus.
    pub exemplars_refused: AtomicU64,
    pub metadata_accepted: AtomicU64,
    pub requests_ok: AtomicU64,
    /// Answered with 400 and what was refused; the rest is stored.
    pub requests_partial: AtomicU64,
    pub requests_malformed: AtomicU64,
    pub requests_too_large: AtomicU64,
    pub requests_unsupported: AtomicU64,
    pub requests_too_slow: AtomicU64,
    pub requests_overloaded: AtomicU64,
    pub requests_unavailable: AtomicU64,
}

impl RemoteWriteStats {
    pub(super) fn request(&self, ended: &Result<Written, Failed>) {
        if let Ok(written) = ended {
            add(&self.samples_accepted, written.samples);
            add(&self.samples_refused, written.refused.samples());
            add(&self.exemplars_accepted, written.exemplars);
            add(&self.metadata_accepted, written.metadata);
        }
        let counter = match ended {
            Ok(w) if w.refused.samples() == 0 => &self.requests_ok,
            Ok(_) => &self.requests_partial,
            Err(Failed::Malformed(_)) => &self.requests_malformed,
            Err(Failed::TooLarge { .. }) => &self.requests_too_large,
            Err(Failed::Unsupported { .. }) => &self.requests_unsupported,
            Err(Failed::TooSlow(_)) => &self.requests_too_slow,
            Err(Failed::Overloaded) => &self.requests_overloaded,
            Err(Failed::Unavailable(_)) => &self.requests_unavailable,
        };
        add(counter, 1);
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
