//! The folder of partitions: opens them, and writes into one what is sealed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use davy_model::{Labels, Timestamp};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

use crate::chunk::{self, Chunk};
use crate::column::Effort;
use crate::error::{At, Error};
use crate::frame::{self, Kind};
use crate::group::Groups;
use crate::log::SERIES_BLOCK;
use crate::partition::{Bad, FORMAT, Partition, SCHEMA, SPANS_UNTIL, Seal};
use crate::row::slots;
use crate::spans::{self, Sealed};
use crate::sqlite::{self, Synchronous};
use crate::table::Table;
use crate::{SeriesRef, meta, record};

/// Groups whose chunks are written in one transaction.
const GROUPS_IN_TRANSACTION: usize = 256;

/// Where partitions lie and how long each is.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) range: i64,
    pub(crate) quarantined: Arc<AtomicU64>,
}

#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// Files that were no databases any more.
    pub(crate) set_aside: u64,
}

impl Folder {
    /// Every partition, oldest first. A file that is no database any more is set aside under another name.
    pub(crate) fn open_all(&self) -> Result<Opened, Error> {
        sqlite::create_folder(&self.path)?;
        let mut starts: Vec<i64> = fs::read_dir(&self.path)
            .at(&self.path)?
            .filter_map(Result::ok)
            .filter_map(|e| e.file_name().to_str()?.strip_suffix(".db")?.parse::<i64>().ok())
            .collect();
        starts.sort_unstable();
        let mut opened = Opened::default();
        for start in starts {
            match self.open(start.saturating_mul(1000)) {
                Ok(partition) => opened.partitions.push(Arc::new(partition)),
                Err(Error::Sqlite { path, cause }) if is_damage(&cause) => {
                    tracing::error!(path = %path.display(), %cause, "damaged partition set aside");
                    fs::rename(&path, path.with_extension("db.quarantined")).at(&path)?;
                    self.quarantined.fetch_add(1, Ordering::Relaxed);
                    opened.set_aside += 1;
                }
                Err(e) => return Err(e),
            }
        }
        // Of the others their end says enough: nobody who asks of the present asks them.
        if let Some(last) = opened.partitions.last() {
            last.measure_newest();
        }
        Ok(opened)
    }

    /// The partition that holds `time`, created if need be.
    pub(crate) fn open(&self, time: i64) -> Result<Partition, Error> {
        let start = time.div_euclid(self.range) * self.range;
        let path = self.path.join(format!("{}.db", start.div_euclid(1000)));
        // A crash may have left the file without its tables.
        drop(self.connect(&path)?);
        Partition::open(&path, start, start + self.range, self.quarantined.clone())
    }

    pub(crate) fn connect(&self, path: &Path) -> Result<Connection, Error> {
        sqlite::open(path, Synchronous::Full, FORMAT, SCHEMA)
    }

    /// Writes everything that the groups hold before `seal.until`, which all belongs to this partition.
    pub(crate) fn seal_samples(&self, into: &Partition, groups: &Groups, seal: &Seal) -> Result<(), Error> {
        let path = &into.path;
        let mut conn = self.connect(path)?;
        let complete: i64 =
            conn.query_row("SELECT coalesce(max(number), 0) FROM seals", (), |r| r.get(0)).at(path)?;
        conn.execute("DELETE FROM chunks WHERE seal > ?1", [complete]).at(path)?;
        let known = into.find(&[]).into_iter().map(|(s, _)| s).collect();
        let old = groups.iter().filter(|(_, g)| g.oldest_time().is_some_and(|t| t < seal.until));
        let old: Vec<_> = old.collect();
        for some in old.chunks(GROUPS_IN_TRANSACTION) {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).at(path)?;
            let mut series = Vec::new();
            for (number, group) in some {
                let table = group.table_before(*number, seal.until);
                let mask = table.mask();
                for chunk in cut(*number, table, Effort::Quick) {
                    insert_chunk(&tx, seal.number, *number, &chunk).at(path)?;
                }
                series.extend(new_members(&known, *number, mask, group.members()));
            }
            insert_series(&tx, &series).at(path)?;
            tx.commit().at(path)?;
        }
        conn.execute(
            "INSERT INTO seals(number, until, record) VALUES (?1, ?2, ?3)",
            params![seal.number, seal.until, seal.record],
        )
        .at(path)?;
        checkpoint(&conn, path);
        into.measure_newest();
        Ok(())
    }

    /// Writes spans of log records up to `until`.
    pub(crate) fn seal_spans(&self, into: &Partition, spans: &Sealed, until: u64) -> Result<(), Error> {
        let path = &into.path;
        let mut conn = self.connect(path)?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).at(path)?;
        spans.insert(&tx, until).at(path)?;
        meta::put(&tx, SPANS_UNTIL, until as i64).at(path)?;
        tx.commit().at(path)?;
        checkpoint(&conn, path);
        Ok(())
    }

    /// Moves rows that failed their checksum to where nobody reads them.
    pub(crate) fn set_aside(&self, partition: &Partition, bad: &[Bad]) -> Result<(), Error> {
        let path = &partition.path;
        let mut conn = self.connect(path)?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).at(path)?;
        for Bad { table, number, reason } in bad {
            if *table == "traces" {
                spans::set_rotten(&tx, *number, reason).at(path)?;
                continue;
            }
            let frame = if *table == "spans" { "CAST(head || frame AS BLOB)" } else { "frame" };
            let copy = format!(
                "INSERT INTO quarantine(source, source_number, reason, frame)
                 SELECT ?1, number, ?2, {frame} FROM {table} WHERE number = ?3"
            );
            tx.execute(&copy, params![table, reason, number]).at(path)?;
            tx.execute(&format!("DELETE FROM {table} WHERE number = ?1"), [number]).at(path)?;
        }
        tx.commit().at(path)
    }
}

/// The partitions to delete: ended longer ago than `retention`, or the oldest above `bytes_max`.
pub(crate) fn expired(
    partitions: &[Arc<Partition>],
    now: Timestamp,
    retention: Duration,
    bytes_max: Option<u64>,
) -> usize {
    let oldest = (now - retention).as_millis();
    let by_age = partitions.iter().take_while(|p| p.end <= oldest).count();
    let Some(max) = bytes_max else { return by_age };
    let mut total: u64 = partitions.iter().map(|p| size(&p.path)).sum();
    // The newest stays: it is still written to.
    let by_size = partitions.iter().rev().skip(1).rev().take_while(|p| {
        let over = total > max;
        total -= size(&p.path);
        over
    });
    by_age.max(by_size.count())
}

/// Deletes a partition's files. Snapshots that still hold it keep reading.
pub(crate) fn delete(partition: &Partition) -> Result<(), Error> {
    let path = &partition.path;
    tracing::info!(path = %path.display(), "partition deleted by retention");
    fs::remove_file(path).at(path)?;
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.clone().into_os_string();
        beside.push(suffix);
        // Not there unless something reads or writes just now.
        let _ = fs::remove_file(beside);
    }
    Ok(())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

fn new_members(
    known: &std::collections::HashSet<SeriesRef>,
    group: u32,
    mask: u128,
    members: &[Option<Labels>],
) -> Vec<(SeriesRef, Labels)> {
    let member = |slot: u8| {
        let series = SeriesRef::new(group, slot);
        let labels = members.get(usize::from(slot))?.clone()?;
        (!known.contains(&series)).then_some((series, labels))
    };
    slots(mask).filter_map(member).collect()
}

/// A table as chunks that are no longer than allowed and about as long as each other.
pub(crate) fn cut(group: u32, mut table: Table, effort: Effort) -> Vec<Chunk> {
    let rows = table.times.len();
    let each = rows.div_ceil(rows.div_ceil(chunk::ROWS_MAX).max(1));
    let mut chunks = Vec::new();
    while !table.times.is_empty() {
        let part =
            if table.times.len() > each { table.split_front(each) } else { std::mem::take(&mut table) };
        chunks.push(Chunk::encode(group, &part, effort));
    }
    chunks
}

pub(crate) fn insert_chunk(tx: &Connection, seal: i64, group: u32, chunk: &Chunk) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO chunks(seal, group_number, oldest, newest, frame) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![seal, group, chunk.oldest, chunk.newest, chunk.frame])?;
    Ok(())
}

pub(crate) fn insert_series(tx: &Connection, series: &[(SeriesRef, Labels)]) -> rusqlite::Result<()> {
    for block in series.chunks(SERIES_BLOCK) {
        let number = next_number(tx, "series")?;
        let frame = frame::seal(Kind::Series, number as u64, &record::encode_series(block));
        tx.prepare_cached("INSERT INTO series(number, frame) VALUES (?1, ?2)")?
            .execute(params![number, frame])?;
    }
    Ok(())
}

fn next_number(tx: &Connection, table: &str) -> rusqlite::Result<i64> {
    tx.prepare_cached(&format!("SELECT coalesce(max(number), 0) + 1 FROM {table}"))?
        .query_row((), |r| r.get(0))
}

/// What was sealed moves from the write-ahead log into the file, as far as readers let it. It is committed whether
/// that works or not: whoever seals must not hear of it and seal the same again.
pub(crate) fn checkpoint(conn: &Connection, path: &Path) {
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())) {
        tracing::warn!(path = %path.display(), %error, "what was sealed stays in the write-ahead log for now");
    }
}

fn is_damage(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}
