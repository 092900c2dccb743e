//! `Options`: what a user may set about the store, with defaults that bound everything.

use std::time::Duration;

use crate::Error;

#[derive(Debug, Clone)]
pub struct Options {
    /// Longest time a batch committed with [`Durability::Group`](crate::Durability::Group) waits for its fsync.
    pub commit_interval: Duration,
    /// Partitions that end longer ago than this are deleted.
    pub retention: Duration,
    /// The oldest partitions are deleted while the telemetry is larger than this; `None` is no such bound.
    pub retention_bytes_max: Option<u64>,
    /// Span of one sealed chunk, sealed half of it after its end: samples must not come later than that.
    pub head_range: Duration,
    /// Span of one partition file; a multiple of `head_range`.
    pub partition_range: Duration,
    /// How much older than the newest of its series a sample may be.
    pub out_of_order_window: Duration,
    pub limits: Limits,
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (head, partition) = (self.head_range.as_millis(), self.partition_range.as_millis());
        if head < 1000 || partition < head || partition % head != 0 || i64::try_from(partition).is_err() {
            return Err(Error::Ranges { head: self.head_range, partition: self.partition_range });
        }
        Ok(())
    }

    pub(crate) fn head_range_millis(&self) -> i64 {
        self.head_range.as_millis() as i64
    }

    pub(crate) fn partition_range_millis(&self) -> i64 {
        self.partition_range.as_millis() as i64
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(1),
            retention: Duration::from_secs(15 * 24 * 3600),
            retention_bytes_max: None,
            head_range: Duration::from_secs(2 * 3600),
            partition_range: Duration::from_secs(24 * 3600),
            out_of_order_window: Duration::from_secs(10 * 60),
            limits: Limits::default(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Active series: those with a sample in the head.
    pub series_max: usize,
    /// Active series of one service (label `service`, else `job`).
    pub series_per_service_max: usize,
    /// Active series of one target (labels `job` and `instance`).
    pub series_per_target_max: usize,
    /// Series that one target may bring within an hour.
    pub series_new_per_hour_max: usize,
    /// Free space on the data folder's file system below which telemetry is refused; control is unaffected.
    pub free_disk_bytes_min: u64,
    /// Samples older than now - past or newer than now + future are refused and counted.
    pub timestamp_past_max: Duration,
    pub timestamp_future_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series_max: 1_000_000,
            series_per_service_max: 200_000,
            series_per_target_max: 50_000,
            series_new_per_hour_max: 100_000,
            free_disk_bytes_min: 256 << 20,
            timestamp_past_max: Duration::from_secs(3600),
            timestamp_future_max: Duration::from_secs(600),
        }
    }
}
