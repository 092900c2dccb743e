//! Embedded storage on SQLite: the telemetry database (samples and spans) and the control database
//! (releases, verdicts, actions, alerts, outbox, audit).
//!
//! Hop 3 of the pipeline: an [`Appender`] turns a batch into a log record and then into the head; a
//! [`Snapshot`] is what every reader works on, and never changes under it.

use std::path::Path;
use std::time::Duration;

use davy_model::{Exemplar, Labels, Matcher, Metadata, Sample, Span, Timestamp, TraceId, Value};

pub mod control;
mod options;

pub use options::{Limits, Options};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Todo(String),
}

/// Names a series for the life of the process; found by [`Appender::series`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u64);

/// When `commit` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Visible to snapshots on return; on disk within `commit_interval`. For scrapes.
    Group,
    /// On disk (fsynced) and visible on return. For whatever is acknowledged to a sender.
    Sync,
}

/// Why one sample was not taken; the rest of the batch is unaffected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("series limit of {max} reached ({scope})")]
    SeriesLimit { scope: String, max: usize },
    #[error("sample at {got} is not newer than the newest of its series at {newest}")]
    OutOfOrder { got: Timestamp, newest: Timestamp },
    #[error("a different value is already stored at {at}")]
    Duplicate { at: Timestamp },
    #[error("timestamp {got} is outside the accepted window {from} to {to}")]
    OutOfBounds { got: Timestamp, from: Timestamp, to: Timestamp },
    #[error("free disk space is below the floor of {floor_bytes} bytes")]
    DiskFull { floor_bytes: u64 },
}

/// Handle to the telemetry database; cheap to clone.
#[derive(Clone)]
pub struct Store;

/// What opening found.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    pub series: usize,
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
    pub samples_refused: u64,
    pub quarantined_chunks: u64,
    pub bytes_on_disk: u64,
}

impl Store {
    /// Opens or creates `dir`; replays the log into the head.
    pub fn open(_dir: &Path, _now: Timestamp, _options: Options) -> Result<(Self, Recovery), Error> {
        todo!()
    }

    /// A batch in the making. `now` bounds the timestamps it accepts.
    pub fn appender(&self, _now: Timestamp) -> Appender {
        todo!()
    }

    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }

    /// Seals full chunks and drops what retention says. The shell calls it about once a minute.
    pub fn maintain(&self, _now: Timestamp) -> Result<(), Error> {
        todo!()
    }

    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// Writes and fsyncs everything pending. The store stays usable.
    pub fn flush(&self) -> Result<(), Error> {
        todo!()
    }
}

/// Collects samples and spans, then commits them as one. Dropping it without a commit discards the batch.
pub struct Appender;

impl Appender {
    /// Finds or creates a series. `Err` when a limit is reached: existing series keep working.
    pub fn series(&mut self, _labels: &Labels) -> Result<SeriesRef, Refusal> {
        todo!()
    }

    pub fn append(&mut self, _series: SeriesRef, _at: Timestamp, _value: Value) -> Result<(), Refusal> {
        todo!()
    }

    pub fn exemplar(&mut self, _series: SeriesRef, _exemplar: Exemplar) {
        todo!()
    }

    /// Says what a metric family is; last one wins.
    pub fn metadata(&mut self, _metric: &str, _metadata: &Metadata) {
        todo!()
    }

    pub fn spans(&mut self, _spans: Vec<Span>) {
        todo!()
    }

    /// Blocking. On `Err` nothing of the batch was stored or will be.
    pub fn commit(self, _durability: Durability) -> Result<(), Error> {
        todo!()
    }
}

/// An immutable view of everything committed before it was taken.
#[derive(Clone)]
pub struct Snapshot;

/// One series and its samples within the asked range, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSamples {
    pub labels: Labels,
    pub samples: Vec<Sample>,
}

/// Which spans to find; every condition that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct SpanQuery {
    pub service: Option<String>,
    pub version: Option<String>,
    pub operation: Option<String>,
    pub errors_only: bool,
    pub duration_min: Option<Duration>,
    pub limit: usize,
}

impl Snapshot {
    /// Series that satisfy every matcher and have a sample in `from..=to`, sorted by labels.
    pub fn select(
        &self,
        _matchers: &[Matcher],
        _from: Timestamp,
        _to: Timestamp,
    ) -> Result<Vec<SeriesSamples>, Error> {
        todo!()
    }

    /// The same without reading samples; may name series whose samples lie just outside the range.
    pub fn series(
        &self,
        _matchers: &[Matcher],
        _from: Timestamp,
        _to: Timestamp,
    ) -> Result<Vec<Labels>, Error> {
        todo!()
    }

    pub fn label_values(
        &self,
        _name: &str,
        _matchers: &[Matcher],
        _from: Timestamp,
        _to: Timestamp,
    ) -> Result<Vec<String>, Error> {
        todo!()
    }

    pub fn metadata(&self, _metric: &str) -> Option<Metadata> {
        todo!()
    }

    /// Spans of one trace, by start time.
    pub fn trace(&self, _id: TraceId) -> Result<Vec<Span>, Error> {
        todo!()
    }

    /// Newest first.
    pub fn spans(&self, _query: &SpanQuery, _from: Timestamp, _to: Timestamp) -> Result<Vec<Span>, Error> {
        todo!()
    }
}
