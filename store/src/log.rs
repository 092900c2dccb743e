//! `Log`: the write-ahead log and the catalogue of series, in `telemetry.db`. One connection, one thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use davy_model::{Exemplar, Labels, Metadata, MetricType};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::SeriesRef;
use crate::codec::{Corrupt, put_str};
use crate::error::{At, Error};
use crate::frame::{self, Kind};
use crate::head::Batch;
use crate::meta;
use crate::record::{self, GroupRow};
use crate::spans::SpanBlock;
use crate::sqlite::{self, Synchronous};

pub(crate) const FORMAT: i32 = 1;
const SCHEMA: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE series(number INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;
CREATE TABLE samples(number INTEGER PRIMARY KEY, newest INTEGER NOT NULL, frame BLOB NOT NULL) STRICT;
CREATE TABLE spans(number INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;
CREATE TABLE metadata(metric TEXT PRIMARY KEY, type TEXT NOT NULL, help TEXT NOT NULL, unit TEXT NOT NULL,
  crc INTEGER NOT NULL) STRICT;
CREATE TABLE quarantine(number INTEGER PRIMARY KEY, source TEXT NOT NULL, source_number INTEGER NOT NULL,
  reason TEXT NOT NULL, frame BLOB NOT NULL) STRICT;
";

/// Samples in one record: bounds what one rotten bit can take.
const RECORD_SAMPLES_MAX: usize = 65_536;
/// Series in one block of the catalogue.
pub(crate) const SERIES_BLOCK: usize = 4096;
const NEXT_GROUP: &str = "next_group";
const NEXT_RECORD: &str = "next_record";
const NEXT_SPANS: &str = "next_spans";

pub(crate) struct Log {
    path: PathBuf,
    conn: Connection,
    /// Numbers of records are never used twice: partitions remember up to which they took samples.
    next_record: u64,
}

/// What the head must know before the first record is replayed.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// By block.
    pub(crate) series: Vec<Vec<(SeriesRef, Labels)>>,
    pub(crate) metadata: Vec<(Arc<str>, Metadata)>,
    pub(crate) next_group: u32,
    pub(crate) next_record: u64,
    pub(crate) next_span_record: u64,
}

/// One transaction.
pub(crate) struct Write<'a> {
    pub(crate) series: &'a [(SeriesRef, Labels)],
    pub(crate) next_group: u32,
    pub(crate) batches: &'a [&'a Batch],
}

/// What is sealed, and need not be replayed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trim {
    /// Samples before this time in records up to `record`.
    pub(crate) samples_until: i64,
    pub(crate) record: u64,
    /// Spans of records up to this.
    pub(crate) spans_until: u64,
}

impl Log {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let conn = sqlite::open(path, Synchronous::Full, FORMAT, SCHEMA)?;
        Ok(Self { path: path.to_owned(), conn, next_record: 1 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of the newest record of samples.
    pub(crate) fn last_record(&self) -> u64 {
        self.next_record - 1
    }

    /// To be called with the end of recovery, before the first write.
    pub(crate) fn set_next_record(&mut self, next: u64) {
        self.next_record = next;
    }

    /// A small disk: the file may not grow beyond so many pages.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) -> Result<(), Error> {
        self.conn.pragma_update(None, "max_page_count", pages).at(&self.path)
    }

    pub(crate) fn catalogue(&mut self) -> Result<Catalogue, Error> {
        let mut catalogue = Catalogue::default();
        self.each("series", Kind::Series, |_, body| {
            catalogue.series.push(record::decode_series(body)?);
            Ok(())
        })?;
        catalogue.metadata = self.read_metadata()?;
        let groups = catalogue.series.iter().flatten().map(|(r, _)| u64::from(r.group())).max();
        catalogue.next_group = self.next(NEXT_GROUP, groups)? as u32;
        let newest = |table| self.newest_number(table);
        catalogue.next_record = self.next(NEXT_RECORD, newest("samples")?)?;
        catalogue.next_span_record = self.next(NEXT_SPANS, newest("spans")?)?;
        Ok(catalogue)
    }

    /// Every record of samples with its number, oldest first.
    pub(crate) fn replay_samples(&mut self, mut each: impl FnMut(u64, record::Samples)) -> Result<(), Error> {
        self.each("samples", Kind::Samples, |number, body| {
            each(number, record::decode_samples(body)?);
            Ok(())
        })
    }

    pub(crate) fn replay_spans(&mut self, mut each: impl FnMut(u64, SpanBlock)) -> Result<(), Error> {
        self.each("spans", Kind::Spans, |number, body| {
            each(number, SpanBlock::from_record(body)?);
            Ok(())
        })
    }

    /// Records set aside so far, in this run and before.
    pub(crate) fn quarantined(&self) -> Result<u64, Error> {
        let count = self.conn.query_row("SELECT count(*) FROM quarantine", (), |r| r.get::<_, i64>(0));
        count.map(|n| n as u64).at(&self.path)
    }

    /// All of it is on disk on return, or nothing is.
    pub(crate) fn write(&mut self, write: &Write) -> Result<(), Error> {
        let path = &self.path;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).at(path)?;
        for block in write.series.chunks(SERIES_BLOCK) {
            insert_series(&tx, block).at(path)?;
        }
        if !write.series.is_empty() {
            meta::put(&tx, NEXT_GROUP, i64::from(write.next_group)).at(path)?;
        }
        let rows: Vec<GroupRow> = write.batches.iter().flat_map(|b| b.rows.iter().cloned()).collect();
        let exemplars: Vec<_> = write.batches.iter().flat_map(|b| b.exemplars.iter().cloned()).collect();
        let next_record = insert_samples(&tx, self.next_record, &rows, &exemplars).at(path)?;
        insert_spans(&tx, write.batches).at(path)?;
        put_metadata(&tx, write.batches).at(path)?;
        tx.commit().at(path)?;
        self.next_record = next_record;
        Ok(())
    }

    /// Drops records that hold nothing but what is sealed.
    pub(crate) fn trim(&mut self, trim: &Trim) -> Result<(), Error> {
        let path = &self.path;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).at(path)?;
        raise(&tx, NEXT_RECORD, self.next_record).at(path)?;
        raise(&tx, NEXT_SPANS, trim.spans_until + 1).at(path)?;
        let samples = "DELETE FROM samples WHERE newest < ?1 AND number <= ?2";
        tx.execute(samples, params![trim.samples_until, trim.record as i64]).at(path)?;
        tx.execute("DELETE FROM spans WHERE number <= ?1", [trim.spans_until as i64]).at(path)?;
        tx.commit().at(path)
    }

    /// Makes the file as small as what it holds.
    pub(crate) fn vacuum(&mut self) -> Result<(), Error> {
        self.conn.execute_batch("VACUUM").at(&self.path)?;
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).at(&self.path)
    }

    /// Writes the catalogue anew, with these series only.
    pub(crate) fn rewrite_catalogue(&mut self, series: &[(SeriesRef, Labels)]) -> Result<(), Error> {
        let path = &self.path;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).at(path)?;
        tx.execute("DELETE FROM series", ()).at(path)?;
        for block in series.chunks(SERIES_BLOCK) {
            insert_series(&tx, block).at(path)?;
        }
        tx.commit().at(path)
    }

    fn newest_number(&self, table: &str) -> Result<Option<u64>, Error> {
        let sql = format!("SELECT max(number) FROM {table}");
        let newest = self.conn.query_row(&sql, (), |r| r.get::<_, Option<i64>>(0)).at(&self.path)?;
        Ok(newest.map(|n| n as u64))
    }

    /// The number after the newest, as the counter says. A counter that rotted starts again far above anything it
    /// can have given out before that was noticed.
    fn next(&self, counter: &str, newest: Option<u64>) -> Result<u64, Error> {
        const FAR: u64 = 1 << 24;
        let after = newest.map_or(0, |n| n + 1).max(1);
        Ok(match meta::read(&self.conn, counter).at(&self.path)? {
            Some(Ok(n)) => after.max(n as u64),
            Some(Err(_)) => after + FAR,
            None => after,
        })
    }

    /// Reads every frame of a table; those that fail their checksum or make no sense go to quarantine.
    fn each(
        &mut self,
        table: &str,
        kind: Kind,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), Corrupt>,
    ) -> Result<(), Error> {
        let mut bad: Vec<(i64, Corrupt)> = Vec::new();
        {
            let sql = format!("SELECT number, frame FROM {table} ORDER BY number");
            let mut statement = self.conn.prepare(&sql).at(&self.path)?;
            let mut rows = statement.query(()).at(&self.path)?;
            while let Some(row) = rows.next().at(&self.path)? {
                let number: i64 = row.get(0).at(&self.path)?;
                let blob = row.get_ref(1).at(&self.path)?.as_blob().unwrap_or(&[]);
                let read = frame::open(kind, number as u64, blob).and_then(|body| each(number as u64, &body));
                if let Err(why) = read {
                    bad.push((number, why));
                }
            }
        }
        for (number, why) in bad {
            tracing::error!(path = %self.path.display(), table, number, %why, "log record set aside");
            self.quarantine(table, number, why).at(&self.path)?;
        }
        Ok(())
    }

    fn quarantine(&mut self, table: &str, number: i64, why: Corrupt) -> rusqlite::Result<()> {
        let tx = self.conn.transaction()?;
        match table {
            "samples" => raise(&tx, NEXT_RECORD, number as u64 + 1)?,
            "spans" => raise(&tx, NEXT_SPANS, number as u64 + 1)?,
            _ => {}
        }
        tx.execute(
            &format!(
                "INSERT INTO quarantine(source, source_number, reason, frame)
                 SELECT ?1, number, ?2, frame FROM {table} WHERE number = ?3"
            ),
            params![table, why.0, number],
        )?;
        tx.execute(&format!("DELETE FROM {table} WHERE number = ?1"), [number])?;
        tx.commit()
    }

    fn read_metadata(&self) -> Result<Vec<(Arc<str>, Metadata)>, Error> {
        let mut statement =
            self.conn.prepare("SELECT metric, type, help, unit, crc FROM metadata").at(&self.path)?;
        let rows = statement.query_map((), |r| {
            let texts: [String; 4] = [r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?];
            Ok((texts, r.get::<_, i64>(4)?))
        });
        let mut out = Vec::new();
        for row in rows.at(&self.path)? {
            let ([metric, metric_type, help, unit], crc) = row.at(&self.path)?;
            let metadata = Metadata { metric_type: type_from(&metric_type), help, unit };
            // Help is a convenience that the next scrape brings again: a rotten one is simply left out.
            if metadata_crc(&metric, &metadata) == crc {
                out.push((metric.into(), metadata));
            }
        }
        Ok(out)
    }
}

/// Returns the number after those it used.
fn insert_samples(
    tx: &Connection,
    mut next_record: u64,
    rows: &[GroupRow],
    exemplars: &[(SeriesRef, Exemplar)],
) -> rusqlite::Result<u64> {
    if rows.is_empty() && exemplars.is_empty() {
        return Ok(next_record);
    }
    let mut exemplars = exemplars;
    let mut rest = rows;
    while !rest.is_empty() || !exemplars.is_empty() {
        let mut samples = 0;
        let fitting = rest.iter().take_while(|(_, r)| {
            samples += r.len();
            samples <= RECORD_SAMPLES_MAX
        });
        let (record, after) = rest.split_at(fitting.count());
        let newest = record.iter().map(|(_, r)| r.time).max().unwrap_or(i64::MIN);
        let body = record::encode_samples(record, std::mem::take(&mut exemplars));
        let frame = frame::seal_plain(Kind::Samples, next_record, &body);
        tx.prepare_cached("INSERT INTO samples(number, newest, frame) VALUES (?1, ?2, ?3)")?
            .execute(params![next_record as i64, newest, frame])?;
        rest = after;
        next_record += 1;
    }
    Ok(next_record)
}

fn insert_spans(tx: &Connection, batches: &[&Batch]) -> rusqlite::Result<()> {
    for (record, block) in batches.iter().flat_map(|b| b.span_records()) {
        let frame = frame::seal(Kind::Spans, record, &block.to_record());
        tx.prepare_cached("INSERT INTO spans(number, frame) VALUES (?1, ?2)")?
            .execute(params![record as i64, frame])?;
    }
    Ok(())
}

/// To be called before records go: while they are there, they say themselves which numbers were given. One that rotted
/// stays so, for [`Log::next`] to see.
fn raise(tx: &Connection, counter: &str, next: u64) -> rusqlite::Result<()> {
    match meta::read(tx, counter)? {
        Some(Ok(n)) if n >= next as i64 => Ok(()),
        Some(Err(_)) => Ok(()),
        _ => meta::put(tx, counter, next as i64),
    }
}

fn put_metadata(tx: &Connection, batches: &[&Batch]) -> rusqlite::Result<()> {
    for (metric, m) in batches.iter().flat_map(|b| b.metadata.iter()) {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO metadata(metric, type, help, unit, crc) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            &**metric,
            m.metric_type.as_str(),
            m.help,
            m.unit,
            metadata_crc(metric, m)
        ])?;
    }
    Ok(())
}

/// Numbers of the catalogue's blocks may come again: nothing remembers them.
fn insert_series(tx: &Connection, series: &[(SeriesRef, Labels)]) -> rusqlite::Result<()> {
    let next = "SELECT coalesce(max(number), 0) + 1 FROM series";
    let number: i64 = tx.prepare_cached(next)?.query_row((), |r| r.get(0))?;
    let frame = frame::seal(Kind::Series, number as u64, &record::encode_series(series));
    tx.prepare_cached("INSERT INTO series(number, frame) VALUES (?1, ?2)")?
        .execute(params![number, frame])?;
    Ok(())
}

fn metadata_crc(metric: &str, m: &Metadata) -> i64 {
    let mut bytes = Vec::new();
    [metric, m.metric_type.as_str(), &m.help, &m.unit].iter().for_each(|s| put_str(&mut bytes, s));
    i64::from(crc32c::crc32c(&bytes))
}

fn type_from(s: &str) -> MetricType {
    use MetricType as T;
    let all = [T::Counter, T::Gauge, T::Histogram, T::GaugeHistogram, T::Summary, T::Info, T::StateSet];
    all.into_iter().find(|t| t.as_str() == s).unwrap_or(T::Unknown)
}
