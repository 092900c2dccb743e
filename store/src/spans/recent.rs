//! `RecentSpans`: the blocks that are not sealed into a partition yet.

use std::collections::HashSet;
use std::sync::Arc;

use davy_model::{Span, TraceId};

use super::block::SpanBlock;
use super::open::OpenBlock;
use crate::codec::Corrupt;

const PAGE: usize = 256;

type Page = Vec<(u64, SpanBlock)>;

/// Blocks and the number of the log record that holds each, in pages that snapshots share.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentSpans {
    pages: Vec<Arc<Page>>,
    spans: usize,
    bytes: usize,
}

impl RecentSpans {
    pub(crate) fn push(&mut self, record: u64, block: SpanBlock) {
        if self.pages.last().is_none_or(|p| p.len() >= PAGE) {
            self.pages.push(Arc::new(Vec::with_capacity(PAGE)));
        }
        self.spans += block.len();
        self.bytes += block.bytes();
        let page = self.pages.last_mut().expect("pushed just above if there was none");
        Arc::make_mut(page).push((record, block));
    }

    /// Without those of records up to `record`.
    pub(crate) fn after(&self, record: u64) -> Self {
        let mut kept = Self::default();
        self.iter().filter(|(r, _)| *r > record).for_each(|(r, b)| kept.push(*r, b.clone()));
        kept
    }

    pub(crate) fn spans(&self) -> usize {
        self.spans
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &(u64, SpanBlock)> {
        self.pages.iter().flat_map(|p| p.iter())
    }

    /// Adds spans of these traces, of no further block once there are `most`.
    pub(crate) fn traces(&self, ids: &HashSet<TraceId>, most: usize, found: &mut Vec<Span>) {
        for (record, block) in self.iter().filter(|(_, block)| block.trace_ids().any(|id| ids.contains(&id)))
        {
            if found.len() >= most {
                return;
            }
            found.extend(read(*record, block, |open| open.traces_among(ids)).into_iter().flatten());
        }
    }
}

/// What a block of the record says. This process encoded it: if it cannot be read, memory is broken or there is a bug,
/// and its spans are missing rather than wrong.
pub(crate) fn read<T>(
    record: u64,
    block: &SpanBlock,
    read: impl FnOnce(&OpenBlock) -> Result<T, Corrupt>,
) -> Option<T> {
    match block.open().and_then(|open| read(&open)) {
        Ok(found) => Some(found),
        Err(why) => {
            tracing::error!(record, %why, "a block of spans in memory cannot be read");
            None
        }
    }
}
