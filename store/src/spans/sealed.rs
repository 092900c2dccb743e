//! Spans in a partition: many small blocks become few large ones, whole traces together; and how they are read.

use std::collections::{BTreeSet, HashMap, HashSet};

use davy_model::{Span, Timestamp, TraceId};
use rusqlite::{Connection, Row, params};

use super::batch::SpanBatch;
use super::block::{Layout, SpanBlock};
use super::open::{Head, OpenBlock};
use super::traces;
use crate::codec::Corrupt;
use crate::column::Effort;
use crate::frame::{self, Kind};
use crate::partition::Partition;

/// Spans in one block; the last trace may exceed it by as much again.
const BLOCK_SPANS: usize = 8192;
/// Fewer where spans are so large that a block would be more than this.
const BLOCK_BYTES: usize = 4 << 20;

/// Spans of blocks as larger blocks, to be written by [`Sealed::insert`].
pub(crate) struct Sealed {
    pub(super) blocks: Vec<SpanBlock>,
    /// The traces of each.
    pub(super) traces: Vec<Vec<TraceId>>,
}

impl Sealed {
    pub(crate) fn new<'a>(blocks: impl Iterator<Item = &'a SpanBlock>) -> Self {
        let mut batch = SpanBatch::new();
        let mut bytes = 0;
        for block in blocks {
            bytes += block.bytes();
            // It was read whole when it was made or replayed: broken memory or a bug, and its spans are missing.
            if let Err(why) = block.open().and_then(|open| open.append_to(&mut batch)) {
                tracing::error!(%why, spans = block.len(), "a block of spans in memory cannot be sealed");
            }
        }
        let most = (BLOCK_BYTES / (bytes / batch.len().max(1)).max(1)).clamp(1, BLOCK_SPANS);
        let layout = Layout::of(&batch);
        let mut sealed = Self { blocks: Vec::new(), traces: Vec::new() };
        for rows in cut(&batch, most) {
            let mut traces: Vec<TraceId> = rows.iter().map(|r| batch.traces[*r as usize]).collect();
            traces.dedup();
            sealed.traces.push(traces);
            sealed.blocks.push(SpanBlock::encode(&batch, Some((&layout, &rows)), Effort::Small));
        }
        sealed
    }

    /// They came in log records up to `until`.
    pub(crate) fn insert(&self, tx: &Connection, until: u64) -> rusqlite::Result<()> {
        let mut entries = Vec::new();
        for (block, traces) in self.blocks.iter().zip(&self.traces) {
            let next = "SELECT coalesce(max(number), 0) + 1 FROM spans";
            let number: i64 = tx.prepare_cached(next)?.query_row((), |r| r.get(0))?;
            let head = frame::seal_at(super::ints::ZSTD_LEVEL, Kind::SpanHead, number as u64, block.head());
            let body = frame::seal_plain(Kind::Spans, number as u64, block.body());
            let (oldest, newest) = block.starts();
            let [oldest, newest] = [oldest, newest].map(|t| Timestamp::from_nanos(t).as_millis());
            tx.prepare_cached(
                "INSERT INTO spans(number, oldest, newest, record, head, frame) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![number, oldest, newest, until as i64, head, body])?;
            entries.extend(traces.iter().map(|id| (traces::hash(*id), number)));
        }
        traces::insert(tx, entries)
    }
}

/// Rows of each block: traces in the order in which they began, whole, each in order of time.
fn cut(batch: &SpanBatch, most: usize) -> Vec<Vec<u32>> {
    let mut numbers: HashMap<TraceId, u32, hashbrown::DefaultHashBuilder> = HashMap::default();
    let mut traces: Vec<(u64, Vec<u32>)> = Vec::new();
    for (row, (id, start)) in batch.traces.iter().zip(&batch.starts).enumerate() {
        let number = *numbers.entry(*id).or_insert_with(|| {
            traces.push((*start, Vec::new()));
            traces.len() as u32 - 1
        });
        let (began, rows) = &mut traces[number as usize];
        *began = (*began).min(*start);
        rows.push(row as u32);
    }
    traces.sort_by_key(|(began, _)| *began);
    let mut blocks: Vec<Vec<u32>> = Vec::new();
    for (_, mut rows) in traces {
        rows.sort_by_key(|row| batch.starts[*row as usize]);
        for part in rows.chunks(most) {
            match blocks.last_mut().filter(|b| b.len() < most) {
                Some(block) => block.extend_from_slice(part),
                None => blocks.push(part.to_vec()),
            }
        }
    }
    blocks
}

/// A block of a partition, before it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedBlock {
    pub(crate) number: i64,
    /// Start of its last span, in milliseconds.
    pub(crate) newest: i64,
}

impl Partition {
    /// Adds spans of these traces among those of log records up to `record`, of no further block once there are
    /// `most`.
    pub(crate) fn traces(&self, ids: &HashSet<TraceId>, record: u64, most: usize, found: &mut Vec<Span>) {
        for number in self.blocks_of(ids) {
            if found.len() >= most {
                return;
            }
            let sql = "SELECT head, frame FROM spans WHERE number = ?1 AND record <= ?2";
            let blobs = |r: &Row| Ok((r.get::<_, Vec<u8>>(0)?, r.get::<_, Vec<u8>>(1)?));
            for (head, body) in self.rows(sql, params![number, record as i64], blobs) {
                let spans = self.read_block(number, &head, &body, |open| open.traces_among(ids));
                found.extend(spans.into_iter().flatten());
            }
        }
    }

    /// Blocks that can hold spans of the range.
    pub(crate) fn span_blocks(&self, from: Timestamp, to: Timestamp, record: u64) -> Vec<SealedBlock> {
        let sql = "SELECT number, newest FROM spans
                   WHERE newest >= ?1 AND oldest <= ?2 AND record <= ?3";
        let range = params![from.as_millis(), to.as_millis(), record as i64];
        self.rows(sql, range, |r| Ok(SealedBlock { number: r.get(0)?, newest: r.get(1)? }))
    }

    /// What the head of a block says; one that is broken is set aside.
    pub(crate) fn span_head(&self, number: i64) -> Option<Head> {
        let sql = "SELECT head FROM spans WHERE number = ?1";
        let heads = self.rows(sql, params![number], |r| r.get::<_, Vec<u8>>(0));
        read_head(number, heads.first()?).map_err(|why| self.set_bad("spans", number, why)).ok()
    }

    /// Reads a block whose head was read before.
    pub(crate) fn span_block<T>(
        &self,
        number: i64,
        head: Head,
        read: impl FnOnce(&OpenBlock) -> Result<T, Corrupt>,
    ) -> Option<T> {
        let sql = "SELECT frame FROM spans WHERE number = ?1";
        let bodies = self.rows(sql, params![number], |r| r.get::<_, Vec<u8>>(0));
        let body = bodies.first()?;
        let found = || {
            let body = frame::open(Kind::Spans, number as u64, body)?;
            read(&OpenBlock::new(head, &body)?)
        };
        found().map_err(|why| self.set_bad("spans", number, why)).ok()
    }

    /// Blocks that may hold spans of the traces.
    fn blocks_of(&self, ids: &HashSet<TraceId>) -> BTreeSet<i64> {
        let mut hashes: Vec<u32> = ids.iter().map(|id| traces::hash(*id)).collect();
        hashes.sort_unstable();
        let mut blocks = BTreeSet::new();
        let (Some(first), Some(last)) = (hashes.first(), hashes.last()) else { return blocks };
        let sql = "SELECT number, first, last, oldest, newest FROM traces WHERE first <= ?2 AND last >= ?1";
        let runs = self.rows(sql, params![first, last], |r| {
            let numbers = (r.get::<_, i64>(0)?, r.get::<_, i64>(3)?, r.get::<_, i64>(4)?);
            Ok((numbers, r.get::<_, i64>(1)?, r.get::<_, i64>(2)?))
        });
        for ((number, oldest, newest), first, last) in runs {
            let begin = hashes.partition_point(|h| i64::from(*h) < first);
            let within = hashes[begin..].iter().take_while(|h| i64::from(**h) <= last).copied();
            let within: HashSet<u32> = within.collect();
            if within.is_empty() {
                continue;
            }
            let sql = "SELECT frame FROM traces WHERE number = ?1";
            let frames = self.rows(sql, params![number], |r| r.get::<_, Vec<u8>>(0));
            let Some(frame) = frames.first() else { continue };
            match traces::read(number, oldest, frame) {
                Ok(entries) => {
                    blocks.extend(entries.iter().filter(|(h, _)| within.contains(h)).map(|(_, b)| *b));
                }
                Err(why) => {
                    // An empty one was set aside and counted before.
                    if !frame.is_empty() {
                        self.set_bad("traces", number, why);
                    }
                    let sql = "SELECT number FROM spans WHERE number BETWEEN ?1 AND ?2";
                    blocks.extend(self.rows(sql, params![oldest, newest], |r| r.get::<_, i64>(0)));
                }
            }
        }
        blocks
    }

    fn read_block<T>(
        &self,
        number: i64,
        head: &[u8],
        body: &[u8],
        read: impl FnOnce(&OpenBlock) -> Result<T, Corrupt>,
    ) -> Option<T> {
        let found = || {
            let head = read_head(number, head)?;
            let body = frame::open(Kind::Spans, number as u64, body)?;
            read(&OpenBlock::new(head, &body)?)
        };
        found().map_err(|why| self.set_bad("spans", number, why)).ok()
    }
}

fn read_head(number: i64, frame: &[u8]) -> Result<Head, Corrupt> {
    Head::read(&frame::open(Kind::SpanHead, number as u64, frame)?)
}
