//! Compaction: the chunks that a partition gathered over its time become fewer and longer, packed harder.
//!
//! A group at a time, each replaced in one transaction: a crash leaves it as it was or as it will be. Work is done
//! in slices, so that a large store is compacted while it goes on; a cursor in the partition remembers how far.
//! Chunks of seals that a living snapshot does not see yet are left alone: it must not change under its reader.

use std::sync::atomic::Ordering;

use davy_model::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::chunk::{Chunk, OpenChunk};
use crate::codec::Corrupt;
use crate::column::Effort;
use crate::error::{At, Error};
use crate::group;
use crate::meta;
use crate::partition::Partition;
use crate::partitions::{checkpoint, cut, insert_chunk};
use crate::store::Inner;
use crate::table::Table;
use crate::writer::Job;

/// Groups compacted at once, about once a minute: some 65,000 series.
const GROUPS_AT_ONCE: i64 = 512;
/// What is younger is still being scraped or awaited, and not sealed even on request.
const SETTLING_MILLIS: i64 = 60_000;
/// Groups up to this number are compacted, in the round that is under way.
const CURSOR: &str = "compacted_group";
/// Seals up to this one are compacted.
const COMPACTED: &str = "compacted_seal";

impl Inner {
    /// One slice of work on the oldest partition that is over and not compacted yet; whether there was any.
    pub(crate) fn compact_slice(&self, now: Timestamp) -> Result<bool, Error> {
        let _one = self.compaction.lock().expect("no holder of this lock panics");
        // Late samples are sealed half a range after their time.
        let over = now.as_millis().saturating_sub(2 * self.options.head_range_millis());
        let partitions = self.head().view.partitions.clone();
        for partition in partitions.iter().filter(|p| p.end <= over) {
            if self.compact_part(partition)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Seals everything that is not just coming in, and compacts every partition.
    pub(crate) fn compact_all(&self, now: Timestamp) -> Result<(), Error> {
        self.seal_all(now, now.as_millis().saturating_sub(SETTLING_MILLIS))?;
        let _one = self.compaction.lock().expect("no holder of this lock panics");
        let partitions = self.head().view.partitions.clone();
        for partition in partitions.iter() {
            while self.compact_part(partition)? {}
        }
        self.queue.run(Job::Vacuum)
    }

    /// A slice of one partition; `false` if all of it is compacted, or a snapshot still stands in the way.
    fn compact_part(&self, partition: &Partition) -> Result<bool, Error> {
        let newest = partition.seals().iter().map(|s| s.number).max().unwrap_or(0);
        if partition.read_meta(COMPACTED).unwrap_or(0) >= newest || newest > self.head().oldest_seal_in_use()
        {
            return Ok(false);
        }
        let path = &partition.path;
        let mut conn = self.folder.connect(path)?;
        let cursor = meta::read(&conn, CURSOR).at(path)?.and_then(Result::ok).unwrap_or(-1);
        let groups: Vec<u32> = numbers(&conn, cursor).at(path)?;
        for number in &groups {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).at(path)?;
            compact_group(&tx, partition, *number, newest).at(path)?;
            meta::put(&tx, CURSOR, i64::from(*number)).at(path)?;
            tx.commit().at(path)?;
        }
        if groups.is_empty() {
            tracing::info!(path = %path.display(), "partition compacted");
            conn.execute_batch("VACUUM").at(path)?;
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).at(path)?;
            meta::put(&tx, CURSOR, -1).at(path)?;
            meta::put(&tx, COMPACTED, newest).at(path)?;
            tx.commit().at(path)?;
            self.counters.partitions_compacted.fetch_add(1, Ordering::Relaxed);
        }
        checkpoint(&conn, path);
        Ok(true)
    }
}

fn numbers(conn: &Connection, after: i64) -> rusqlite::Result<Vec<u32>> {
    let sql =
        "SELECT DISTINCT group_number FROM chunks WHERE group_number > ?1 ORDER BY group_number LIMIT ?2";
    conn.prepare_cached(sql)?.query_map(params![after, GROUPS_AT_ONCE], |r| r.get(0))?.collect()
}

/// Chunks that cannot be read stay where they are, and whoever reads them next sets them aside.
fn compact_group(
    tx: &Connection,
    partition: &Partition,
    group: u32,
    newest_seal: i64,
) -> rusqlite::Result<()> {
    let sql = "SELECT number, seal, frame FROM chunks WHERE group_number = ?1 AND seal <= ?2 ORDER BY oldest";
    let mut tables: Vec<Table> = Vec::new();
    let mut replaced = Vec::new();
    let mut seal = 0;
    {
        let mut statement = tx.prepare_cached(sql)?;
        let mut rows = statement.query(params![group, newest_seal])?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            match read(group, row.get_ref(2)?.as_blob().unwrap_or(&[])) {
                Ok(table) => {
                    tables.push(table);
                    replaced.push(number);
                    seal = seal.max(row.get(1)?);
                }
                Err(why) => partition.set_bad("chunks", number, why),
            }
        }
    }
    tables.sort_by_key(|t| t.times.first().copied());
    for number in &replaced {
        tx.prepare_cached("DELETE FROM chunks WHERE number = ?1")?.execute([number])?;
    }
    let chunks: Vec<Chunk> = cut(group, group::concat(tables), Effort::Small);
    chunks.iter().try_for_each(|chunk| insert_chunk(tx, seal, group, chunk))
}

fn read(group: u32, frame: &[u8]) -> Result<Table, Corrupt> {
    OpenChunk::open(group, frame)?.table()
}
