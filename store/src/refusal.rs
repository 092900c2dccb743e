//! `Refusal`: why one sample was not taken, and how often each reason came up.

use std::sync::atomic::{AtomicU64, Ordering};

use davy_model::Timestamp;

/// Why one sample was not taken; the rest of the batch is unaffected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("series limit of {max} reached ({scope})")]
    SeriesLimit { scope: String, max: usize },
    #[error("sample at {got} is too far behind the newest of its series at {newest}")]
    OutOfOrder { got: Timestamp, newest: Timestamp },
    #[error("a different value is already stored at {at}")]
    Duplicate { at: Timestamp },
    #[error("timestamp {got} is outside the accepted window {from} to {to}")]
    OutOfBounds { got: Timestamp, from: Timestamp, to: Timestamp },
    #[error("free disk space is below the floor of {floor_bytes} bytes")]
    DiskFull { floor_bytes: u64 },
    /// The series had no samples for so long that it was forgotten: look it up again by its labels.
    #[error("series reference is no longer known")]
    UnknownSeries,
}

/// Refused samples (for `series_limit`: refused series) by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    pub series_limit: u64,
    pub out_of_order: u64,
    pub duplicate: u64,
    pub out_of_bounds: u64,
    pub disk_full: u64,
    pub unknown_series: u64,
}

impl Refused {
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, n)| n).sum()
    }

    /// With the names that the metrics use.
    pub fn by_reason(&self) -> [(&'static str, u64); 6] {
        [
            ("series_limit", self.series_limit),
            ("out_of_order", self.out_of_order),
            ("duplicate", self.duplicate),
            ("out_of_bounds", self.out_of_bounds),
            ("disk_full", self.disk_full),
            ("unknown_series", self.unknown_series),
        ]
    }
}

#[derive(Debug, Default)]
pub(crate) struct RefusalCounters {
    series_limit: AtomicU64,
    out_of_order: AtomicU64,
    duplicate: AtomicU64,
    out_of_bounds: AtomicU64,
    disk_full: AtomicU64,
    unknown_series: AtomicU64,
}

impl RefusalCounters {
    pub(crate) fn count(&self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::SeriesLimit { .. } => &self.series_limit,
            Refusal::OutOfOrder { .. } => &self.out_of_order,
            Refusal::Duplicate { .. } => &self.duplicate,
            Refusal::OutOfBounds { .. } => &self.out_of_bounds,
            Refusal::DiskFull { .. } => &self.disk_full,
            Refusal::UnknownSeries => &self.unknown_series,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Refused {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        Refused {
            series_limit: get(&self.series_limit),
            out_of_order: get(&self.out_of_order),
            duplicate: get(&self.duplicate),
            out_of_bounds: get(&self.out_of_bounds),
            disk_full: get(&self.disk_full),
            unknown_series: get(&self.unknown_series),
        }
    }
}
