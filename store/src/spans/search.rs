//! Reading spans of a snapshot: blocks in memory and in partitions, the newest first, so that whoever wants the newest
//! few can stop early.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use davy_model::{Span, Timestamp, TraceId};

use super::block::SpanBlock;
use super::filter::{SpanParts, SpanSearch};
use super::open::OpenBlock;
use super::query::SpanQuery;
use super::recent;
use crate::codec::Corrupt;
use crate::partition::Partition;
use crate::{Error, Snapshot};

/// Most spans of traces that are in memory at once, but for those of the last block.
const SPANS_AT_ONCE_MAX: usize = 100_000;

/// Where a block lies.
pub(crate) enum Place<'a> {
    Recent(u64, &'a SpanBlock),
    Sealed(&'a Partition, i64),
}

/// A trace, and when in it the newest span started that was asked for, in nanoseconds.
pub type TraceStart = (TraceId, u64);

/// What a visitor is handed of each block.
#[derive(Debug)]
pub struct Visited<T> {
    pub found: T,
    /// No span of the blocks that follow started later; `None` after the last block.
    pub rest_until: Option<Timestamp>,
}

impl Snapshot {
    /// Spans of one trace, by start time.
    pub fn trace(&self, id: TraceId) -> Result<Vec<Span>, Error> {
        Ok(self.traces(&HashSet::from([id])).remove(&id).unwrap_or_default())
    }

    /// Spans of these traces, each by start time. A trace of which nothing is known is left out; beyond
    /// [`SPANS_AT_ONCE_MAX`] spans no further block is read.
    pub fn traces(&self, ids: &HashSet<TraceId>) -> HashMap<TraceId, Vec<Span>> {
        let mut spans = Vec::new();
        self.view.spans.traces(ids, SPANS_AT_ONCE_MAX, &mut spans);
        for partition in self.view.partitions.iter().rev() {
            partition.traces(ids, self.view.spans_sealed, SPANS_AT_ONCE_MAX, &mut spans);
        }
        let mut found: HashMap<TraceId, Vec<Span>> = HashMap::new();
        for span in spans {
            found.entry(span.trace_id).or_default().push(span);
        }
        found.values_mut().for_each(|spans| spans.sort_by_key(|s| s.start_nanos));
        found
    }

    /// Spans that started in `from..=to`, newest first.
    pub fn spans(&self, query: &SpanQuery, from: Timestamp, to: Timestamp) -> Result<Vec<Span>, Error> {
        let mut found: Vec<Span> = Vec::new();
        let Some(search) = query.search(from, to) else { return Ok(found) };
        let read = |open: &OpenBlock| open.find(query, &search);
        self.visit(&search, read, &mut |visited: Visited<Option<Vec<Span>>>| {
            found.extend(visited.found.into_iter().flatten());
            query.keep_newest(&mut found);
            let oldest = found.last().map(|s| Timestamp::from_nanos(s.start_nanos));
            let is_enough = found.len() >= query.limit() && visited.rest_until < oldest;
            if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        Ok(found)
    }

    /// Hands over what the search asks for in each block, the newest blocks first. Blocks without anything are
    /// handed over too: a visitor can stop there.
    pub fn visit_spans(
        &self,
        search: &SpanSearch,
        parts: &SpanParts,
        visit: &mut dyn FnMut(Visited<Vec<Span>>) -> ControlFlow<()>,
    ) {
        let read = |open: &OpenBlock| open.spans_in_part(&open.rows(search)?, parts);
        self.visit(search, read, &mut |v| {
            visit(Visited { found: v.found.unwrap_or_default(), rest_until: v.rest_until })
        });
    }

    /// The same with the traces that have such spans, each once for a block, with the start of the newest of them.
    pub fn visit_traces(
        &self,
        search: &SpanSearch,
        visit: &mut dyn FnMut(Visited<Vec<TraceStart>>) -> ControlFlow<()>,
    ) {
        let read = |open: &OpenBlock| {
            let rows = open.rows(search)?;
            if rows.is_empty() { Ok(Vec::new()) } else { open.traces_of(&rows) }
        };
        self.visit(search, read, &mut |v| {
            visit(Visited { found: v.found.unwrap_or_default(), rest_until: v.rest_until })
        });
    }

    fn visit<T>(
        &self,
        search: &SpanSearch,
        read: impl Fn(&OpenBlock) -> Result<T, Corrupt>,
        visit: &mut dyn FnMut(Visited<Option<T>>) -> ControlFlow<()>,
    ) {
        let places = self.places(search.from, search.to);
        let untils = places.iter().skip(1).map(|(newest, _)| Some(Timestamp::from_millis(*newest)));
        for ((_, place), rest_until) in places.iter().zip(untils.chain([None])) {
            let found = match place {
                Place::Recent(record, block) => recent::read(*record, block, &read),
                Place::Sealed(partition, number) => partition
                    .span_head(*number)
                    .filter(|head| head.plans(search).is_some())
                    .and_then(|head| partition.span_block(*number, head, &read)),
            };
            if visit(Visited { found, rest_until }).is_break() {
                return;
            }
        }
    }

    /// Blocks that can hold spans of the range and the start of the newest span of each, the newest first.
    pub(crate) fn places(&self, from: Timestamp, to: Timestamp) -> Vec<(i64, Place<'_>)> {
        let mut places = Vec::new();
        for (record, block) in self.view.spans.iter() {
            let (oldest, newest) = block.starts();
            let (oldest, newest) = (Timestamp::from_nanos(oldest), Timestamp::from_nanos(newest));
            if oldest <= to && from <= newest {
                places.push((newest.as_millis(), Place::Recent(*record, block)));
            }
        }
        for partition in self.view.partitions.iter() {
            for block in partition.span_blocks(from, to, self.view.spans_sealed) {
                places.push((block.newest, Place::Sealed(partition, block.number)));
            }
        }
        places.sort_by_key(|(newest, _)| Reverse(*newest));
        places
    }
}
