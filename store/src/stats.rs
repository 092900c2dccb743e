//! What the store says about itself.

use crate::Refused;

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    pub series: usize,
    /// Samples and spans replayed from the log; what is sealed in partitions is not counted.
    pub samples: u64,
    pub spans: u64,
    /// Log records or chunks that failed their checksum and were set aside.
    pub quarantined: u64,
}

/// Figures for Davy's own metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    pub series_active: usize,
    pub samples_appended: u64,
    pub spans_appended: u64,
    /// All refusals: those of [`Self::refused`], and samples that lost against another batch's at commit.
    pub samples_refused: u64,
    pub refused: Refused,
    pub quarantined_chunks: u64,
    /// Transactions that failed.
    pub write_errors: u64,
    /// Samples and spans that wait for the disk.
    pub backlog: usize,
    /// Free disk space is below the floor.
    pub disk_low: bool,
    pub bytes_on_disk: u64,
    /// Of these, the log, the catalogue and the spans.
    pub telemetry_bytes: u64,
    /// Of these, sealed samples, and how many partitions they are in.
    pub partition_bytes: u64,
    pub partitions: usize,
    /// Partitions compacted since the start.
    pub partitions_compacted: u64,
}
