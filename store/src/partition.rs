//! `Partition`: one file of sealed chunks and span blocks of one stretch of time. Retention deletes it whole.
//!
//! Sealing writes through a connection of its own; readers share one that only reads. What fails its checksum is
//! counted, left out, and set aside at the next maintenance.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use davy_model::{Labels, Matcher};
use rusqlite::{Connection, Row, ToSql, params};

use crate::chunk::OpenChunk;
use crate::codec::Corrupt;
use crate::columns::Pieces;
use crate::error::{At, Error};
use crate::frame::{self, Kind};
use crate::index::Index;
use crate::row::slots;
use crate::{SeriesRef, meta, record, sqlite};

/// 2: what pco packed lies in pages.
pub(crate) const FORMAT: i32 = 2;
pub(crate) const SCHEMA: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE series(number INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;
CREATE TABLE seals(number INTEGER PRIMARY KEY, until INTEGER NOT NULL, record INTEGER NOT NULL) STRICT;
CREATE TABLE chunks(number INTEGER PRIMARY KEY, seal INTEGER NOT NULL, group_number INTEGER NOT NULL,
  oldest INTEGER NOT NULL, newest INTEGER NOT NULL, frame BLOB NOT NULL) STRICT;
CREATE INDEX chunks_by_group ON chunks(group_number, oldest, newest);
CREATE TABLE spans(number INTEGER PRIMARY KEY, oldest INTEGER NOT NULL, newest INTEGER NOT NULL,
  record INTEGER NOT NULL, head BLOB NOT NULL, frame BLOB NOT NULL) STRICT;
CREATE INDEX spans_by_time ON spans(newest, oldest);
CREATE TABLE traces(number INTEGER PRIMARY KEY, level INTEGER NOT NULL, run INTEGER NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL, oldest INTEGER NOT NULL, newest INTEGER NOT NULL,
  frame BLOB NOT NULL) STRICT;
CREATE TABLE quarantine(number INTEGER PRIMARY KEY, source TEXT NOT NULL, source_number INTEGER NOT NULL,
  reason TEXT NOT NULL, frame BLOB NOT NULL) STRICT;
";

/// Spans of log records up to this number are here or in earlier partitions.
pub(crate) const SPANS_UNTIL: &str = "spans_until";

/// Samples older than `until` in log records up to `record` are in a partition. Complete once its row is there;
/// chunks of a later number are what a crash left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) number: i64,
    pub(crate) until: i64,
    pub(crate) record: i64,
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) path: PathBuf,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// No sample here is newer.
    newest: AtomicI64,
    conn: Mutex<Connection>,
    index: Mutex<LoadedIndex>,
    /// Rows that failed their checksum since the last maintenance.
    bad: Mutex<HashSet<Bad>>,
    /// Counts them over all partitions.
    quarantined: Arc<AtomicU64>,
    complained: AtomicBool,
}

/// Read when first asked for, and again as far as series were added since.
#[derive(Debug, Default)]
struct LoadedIndex {
    index: Index,
    last_block: i64,
    used: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bad {
    pub(crate) table: &'static str,
    pub(crate) number: i64,
    pub(crate) reason: &'static str,
}

impl Partition {
    /// Opens an existing file for reading.
    pub(crate) fn open(
        path: &Path,
        start: i64,
        end: i64,
        quarantined: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let conn = sqlite::open_reader(path, FORMAT)?;
        let before = "SELECT count(*) FROM quarantine";
        let before = conn.query_row(before, (), |r| r.get::<_, i64>(0)).at(path)?;
        quarantined.fetch_add(before as u64, Ordering::Relaxed);
        Ok(Self {
            path: path.to_owned(),
            start,
            end,
            newest: AtomicI64::new(end),
            conn: Mutex::new(conn),
            index: Mutex::default(),
            bad: Mutex::default(),
            quarantined,
            complained: AtomicBool::new(false),
        })
    }

    /// Whether a sample here can lie in the range. Whoever asks of the present needs no partition, not even today's.
    pub(crate) fn overlaps(&self, from: i64, to: i64) -> bool {
        self.start <= to && from <= self.newest.load(Ordering::Acquire)
    }

    /// After a seal or an import, before anyone is told of it. What cannot be read may be of any time.
    pub(crate) fn measure_newest(&self) {
        let newest = match self.rows("SELECT max(newest) FROM chunks", &[], |r| r.get::<_, Option<i64>>(0))[..]
        {
            [newest] => newest.unwrap_or(i64::MIN),
            _ => self.end,
        };
        self.newest.store(newest, Ordering::Release);
    }

    /// `None` if it was never written or its row is damaged.
    pub(crate) fn read_meta(&self, name: &str) -> Option<i64> {
        let found = meta::read(&self.conn(), name);
        self.whole(found)?.and_then(Result::ok)
    }

    pub(crate) fn seals(&self) -> Vec<Seal> {
        self.rows("SELECT number, until, record FROM seals ORDER BY number", &[], |r| {
            Ok(Seal { number: r.get(0)?, until: r.get(1)?, record: r.get(2)? })
        })
    }

    /// Series of the partition that satisfy every matcher.
    pub(crate) fn find(&self, matchers: &[Matcher]) -> Vec<(SeriesRef, Labels)> {
        self.index().find(matchers)
    }

    /// The index as far as it is on disk, read when it is first asked for.
    pub(crate) fn index(&self) -> Index {
        let mut loaded = self.index.lock().expect("no holder of this lock panics");
        loaded.used = true;
        let blocks =
            self.frames("SELECT number, frame FROM series WHERE number > ?1", params![loaded.last_block]);
        let mut series = Vec::new();
        for (number, frame) in blocks {
            loaded.last_block = loaded.last_block.max(number);
            let block =
                frame::open(Kind::Series, number as u64, &frame).and_then(|b| record::decode_series(&b));
            match block {
                Ok(block) => series.extend(block),
                Err(why) => self.set_bad("series", number, why),
            }
        }
        loaded.index.add(series);
        loaded.index.clone()
    }

    /// Lets go of an index that nobody used since the last call.
    pub(crate) fn rest(&self) {
        let mut loaded = self.index.lock().expect("no holder of this lock panics");
        if !std::mem::take(&mut loaded.used) {
            *loaded = LoadedIndex::default();
        }
    }

    /// Adds the samples of each of the slots of a group within the range, of seals up to `seal`: slots ascending,
    /// because a column may lean on the one before it, which is then unpacked once for both.
    pub(crate) fn read(&self, group: u32, wanted: u128, (from, to): (i64, i64), seal: i64, out: &mut Pieces) {
        let sql = "SELECT number, oldest, frame FROM chunks
                   WHERE group_number = ?1 AND newest >= ?2 AND oldest <= ?3 AND seal <= ?4 ORDER BY oldest";
        let chunks = self.rows(sql, params![group, from, to, seal], |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, Vec<u8>>(2)?))
        });
        for (number, oldest, frame) in chunks {
            let read = || {
                let mut open = OpenChunk::open(group, &frame)?;
                if open.oldest() != Some(oldest) {
                    return Err(Corrupt("belongs to another time"));
                }
                let read = |slot| Ok((slot, open.read(slot, from, to)?));
                slots(wanted).map(read).collect::<Result<Vec<_>, Corrupt>>()
            };
            match read() {
                Ok(pieces) => pieces.into_iter().for_each(|(slot, piece)| out.push(slot, piece)),
                // Half a chunk would be a gap that nobody is told of.
                Err(why) => self.set_bad("chunks", number, why),
            }
        }
    }

    /// Groups with a chunk of seals up to `seal` that overlaps the range.
    pub(crate) fn groups_between(&self, from: i64, to: i64, seal: i64) -> HashSet<u32> {
        let sql =
            "SELECT DISTINCT group_number FROM chunks WHERE newest >= ?1 AND oldest <= ?2 AND seal <= ?3";
        self.rows(sql, params![from, to, seal], |r| r.get(0)).into_iter().collect()
    }

    /// Takes the list of rows to be set aside.
    pub(crate) fn take_bad(&self) -> Vec<Bad> {
        self.bad.lock().expect("no holder of this lock panics").drain().collect()
    }

    fn frames(&self, sql: &str, params: &[&dyn ToSql]) -> Vec<(i64, Vec<u8>)> {
        self.rows(sql, params, |r| Ok((r.get(0)?, r.get(1)?)))
    }

    pub(crate) fn rows<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        map: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Vec<T> {
        let conn = self.conn();
        let rows = conn
            .prepare_cached(sql)
            .and_then(|mut s| s.query_map(params, map)?.collect::<Result<Vec<_>, _>>());
        self.whole(rows).unwrap_or_default()
    }

    pub(crate) fn set_bad(&self, table: &'static str, number: i64, why: Corrupt) {
        let new = self.bad.lock().expect("no holder of this lock panics").insert(Bad {
            table,
            number,
            reason: why.0,
        });
        if new {
            tracing::error!(path = %self.path.display(), table, number, %why, "sealed block left out");
            self.quarantined.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A page that SQLite itself finds broken is a gap as well; it is counted once.
    fn whole<T>(&self, result: rusqlite::Result<T>) -> Option<T> {
        let error = match result {
            Ok(v) => return Some(v),
            Err(e) => e,
        };
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::error!(path = %self.path.display(), %error, "partition cannot be read");
            self.quarantined.fetch_add(1, Ordering::Relaxed);
        }
        None
    }

    fn conn(&self) -> MutexGuard<'_, Connection> {
        self.conn.lock().expect("no holder of this lock panics")
    }
}
