//! Embedded storage on SQLite: the telemetry database (samples and spans) and the control database
//! (releases, verdicts, actions, alerts, outbox, audit).
//!
//! Hop 3 of the pipeline: an [`Appender`] turns a batch into a log record and then into the head; a
//! [`Snapshot`] is what every reader works on, and never changes under it.

pub mod control;

mod appender;
pub mod audit;
mod backup;
mod bitpack;
mod chunk;
mod codec;
mod column;
mod columns;
mod compact;
mod compress;
mod control_rows;
mod error;
mod frame;
mod group;
mod head;
mod histogram;
mod histogram_column;
mod import;
mod index;
mod limits;
mod log;
mod maintain;
mod meta;
mod options;
mod packed_row;
mod pages;
mod partition;
mod partitions;
mod record;
mod recovery;
mod refusal;
#[cfg(test)]
mod rot;
mod row;
mod snapshot;
mod spans;
mod sqlite;
mod stats;
mod store;
mod table;
mod tail;
mod writer;

pub use appender::Appender;
pub use backup::{FolderSummary, backup_stopped, summary};
pub use columns::{Columns, SeriesColumns};
pub use error::Error;
pub use import::{Import, Imported};
pub use options::{Limits, Options};
pub use refusal::{Refusal, Refused};
pub use snapshot::{SeriesSamples, Snapshot};
pub use spans::{
    BatchValue, FieldValue, NotUtf8, ResourceId, SpanBatch, SpanBlock, SpanField, SpanFilter, SpanNames,
    SpanNamesWanted, SpanParts, SpanQuery, SpanRow, SpanSearch, SpanTest, TextId, TraceStart, Visited,
};
pub use stats::{Recovery, Stats};
pub use store::Store;
pub use tail::{LogRecord, LogTail};

/// Names a series for as long as it has samples in the head; found by [`Appender::series`].
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
