//! `OtlpStats`: what the receiver counts about itself, for Davy's own `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::outcome::{Outcome, Refused};

/// All only grow. Requests are counted once each, by how they ended.
#[derive(Debug, Default)]
pub struct OtlpStats {
    pub spans_accepted: AtomicU64,
    pub spans_refused: AtomicU64,
    pub points_accepted: AtomicU64,
    pub points_refused: AtomicU64,
    /// Attributes, events and links left out, and texts cut short.
    pub truncated: AtomicU64,
    /// Samples made from spans (and signs of life) that the store did not take.
    pub derived_refused: AtomicU64,
    /// Spans and calls left out of the service graph: too many waited for their other side, or too many edges.
    pub graph_dropped: AtomicU64,
    pub requests_ok: AtomicU64,
    /// Answered with success and a count of what was refused.
    pub requests_partial: AtomicU64,
    pub requests_malformed: AtomicU64,
    pub requests_too_large: AtomicU64,
    pub requests_unsupported: AtomicU64,
    pub requests_too_slow: AtomicU64,
    pub requests_overloaded: AtomicU64,
    pub requests_unavailable: AtomicU64,
}

impl OtlpStats {
    pub(crate) fn request(&self, ended: &Result<Outcome, Refused>) {
        let counter = match ended {
            Ok(Outcome { rejected: 0, .. }) => &self.requests_ok,
            Ok(_) => &self.requests_partial,
            Err(Refused::Malformed(_)) => &self.requests_malformed,
            Err(Refused::TooLarge { .. }) => &self.requests_too_large,
            Err(Refused::Unsupported { .. }) => &self.requests_unsupported,
            Err(Refused::TooSlow(_)) => &self.requests_too_slow,
            Err(Refused::Overloaded) => &self.requests_overloaded,
            Err(Refused::Unavailable(_)) => &self.requests_unavailable,
        };
        add(counter, 1);
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
