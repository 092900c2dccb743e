//! Spans: built into columns, kept as blocks in memory and in the log, merged into larger ones in partitions, and
//! read a column at a time.
//!
//! ```text
//! request ─► SpanBatch ─► SpanBlock ─► log record, RecentSpans ─► sealed: SpanBatch of many ─► blocks of a partition
//! reader  ◄─ spans ◄─ rows ◄─ OpenBlock (head, then the columns that the question needs)
//! ```

mod batch;
mod block;
mod extras;
mod filter;
mod ints;
mod merge;
mod names;
mod open;
mod query;
mod recent;
mod sealed;
mod search;
mod select;
mod strings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod texts;
mod traces;

pub use batch::{BatchValue, ResourceId, SpanBatch, SpanRow, TextId};
pub use block::SpanBlock;
pub use filter::{FieldValue, SpanField, SpanFilter, SpanParts, SpanSearch, SpanTest};
pub use names::{SpanNames, SpanNamesWanted};
pub use query::SpanQuery;
pub use search::{TraceStart, Visited};
pub use strings::NotUtf8;

pub(crate) use recent::RecentSpans;
pub(crate) use sealed::Sealed;
pub(crate) use traces::set_rotten;
