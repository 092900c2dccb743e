//! `RecentSpans`: the blocks that are not sealed into a partition yet.

use std::sync::Arc;

use davy_model::{Span, Timestamp, TraceId};

use super::block::SpanBlock;
use super::open::OpenBlock;
use super::query::SpanQuery;
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

    /// Spans of one trace.
    pub(crate) fn trace(&self, id: TraceId) -> Vec<Span> {
        self.read(|_| true, |open| open.trace(id))
    }

    /// The newest spans that the query asks for.
    pub(crate) fn find(&self, query: &SpanQuery, from: Timestamp, to: Timestamp) -> Vec<Span> {
        let overlaps = |block: &SpanBlock| {
            let (oldest, newest) = block.starts();
            Timestamp::from_nanos(oldest) <= to && from <= Timestamp::from_nanos(newest)
        };
        let mut found = self.read(overlaps, |open| open.find(query, from, to));
        query.keep_newest(&mut found);
        found
    }

    fn read(
        &self,
        is_wanted: impl Fn(&SpanBlock) -> bool,
        read: impl Fn(&OpenBlock) -> Result<Vec<Span>, Corrupt>,
    ) -> Vec<Span> {
        let mut found = Vec::new();
        for (record, block) in self.iter().filter(|(_, b)| is_wanted(b)) {
            match block.open().and_then(|open| read(&open)) {
                Ok(spans) => found.extend(spans),
                // This process encoded it: broken memory or a bug, and its spans are missing rather than wrong.
                Err(why) => tracing::error!(record, %why, "a block of spans in memory cannot be read"),
            }
        }
        found
    }
}
