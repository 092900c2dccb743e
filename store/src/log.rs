//! `Log`: the write-ahead log and the catalogue of series, in `telemetry.db`. One connection, one thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use davy_model::{Labels, Metadata, MetricType, Span};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::SeriesRef;
use crate::codec::{Corrupt, put_str, put_uvarint};
use crate::error::{At, Error};
use crate::frame::{self, Kind};
use crate::head::Batch;
use crate::record::{self, GroupRow};
use crate::span_block;
use crate::sqlite::{self, Synchronous};

const FORMAT: i32 = 1;
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
const NEXT_GROUP: &str = "next_group";
const NEXT_SPANS: &str = "next_spans";

pub(crate) struct Log {
    path: PathBuf,
    conn: Connection,
}

/// What the head must know before the first record is replayed.
#[derive(Default)]
pub(crate) struct Catalogue {
    pub(crate) series: Vec<(SeriesRef, Labels)>,
    pub(crate) metadata: Vec<(Arc<str>, Metadata)>,
    pub(crate) next_group: u32,
    pub(crate) next_span_record: u64,
}

/// One transaction.
pub(crate) struct Write<'a> {
    pub(crate) series: &'a [(SeriesRef, Labels)],
    pub(crate) next_group: u32,
    pub(crate) batches: &'a [&'a Batch],
}

impl Log {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let conn = sqlite::open(path, Synchronous::Full, FORMAT, SCHEMA)?;
        Ok(Self { path: path.to_owned(), conn })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(crate) fn connection(&self) -> &Connection {
        &self.conn
    }

    pub(crate) fn catalogue(&mut self) -> Result<Catalogue, Error> {
        let mut catalogue = Catalogue::default();
        self.each("series", Kind::Series, |_, body| {
            catalogue.series.extend(record::decode_series(body)?);
            Ok(())
        })?;
        catalogue.metadata = self.read_metadata()?;
        // A counter that rotted starts again far above anything it can have given out before it was noticed.
        const FAR: i64 = 1 << 24;
        let groups = catalogue.series.iter().map(|(r, _)| i64::from(r.group()) + 1).max().unwrap_or(0);
        catalogue.next_group = match self.read_meta(NEXT_GROUP)? {
            Some(Ok(n)) => n.max(groups),
            Some(Err(_)) => groups + FAR,
            None => groups,
        } as u32;
        let newest =
            self.conn.query_row("SELECT coalesce(max(number), 0) FROM spans", (), |r| r.get::<_, i64>(0));
        let spans = newest.at(&self.path)? + 1;
        catalogue.next_span_record = match self.read_meta(NEXT_SPANS)? {
            Some(Ok(n)) => n.max(spans),
            Some(Err(_)) => spans + FAR,
            None => spans,
        } as u64;
        Ok(catalogue)
    }

    /// Every record of samples, oldest first.
    pub(crate) fn replay_samples(&mut self, mut each: impl FnMut(record::Samples)) -> Result<(), Error> {
        self.each("samples", Kind::Samples, |_, body| {
            each(record::decode_samples(body)?);
            Ok(())
        })
    }

    pub(crate) fn replay_spans(&mut self, mut each: impl FnMut(u64, Vec<Span>)) -> Result<(), Error> {
        self.each("spans", Kind::Spans, |number, body| {
            each(number, span_block::decode(body)?);
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
        if !write.series.is_empty() {
            let body = record::encode_series(write.series);
            insert_frame(
                &tx,
                "INSERT INTO series(number, frame) VALUES (?1, ?2)",
                "series",
                Kind::Series,
                &body,
            )
            .at(path)?;
            put_meta(&tx, NEXT_GROUP, i64::from(write.next_group)).at(path)?;
        }
        let rows: Vec<GroupRow> = write.batches.iter().flat_map(|b| b.rows.iter().cloned()).collect();
        let exemplars: Vec<_> = write.batches.iter().flat_map(|b| b.exemplars.iter().cloned()).collect();
        insert_samples(&tx, &rows, &exemplars).at(path)?;
        insert_spans(&tx, write.batches).at(path)?;
        put_metadata(&tx, write.batches).at(path)?;
        tx.commit().at(path)
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

    fn read_meta(&self, name: &str) -> Result<Option<Result<i64, Corrupt>>, Error> {
        let sql = "SELECT value, crc FROM meta WHERE name = ?1";
        let found = self.conn.query_row(sql, [name], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)));
        match found {
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(e) => Err(e).at(&self.path),
            Ok((v, crc)) if crc == meta_crc(name, v) => Ok(Some(Ok(v))),
            Ok(_) => Ok(Some(Err(Corrupt("checksum does not match")))),
        }
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

fn insert_samples(
    tx: &Connection,
    rows: &[GroupRow],
    exemplars: &[(SeriesRef, davy_model::Exemplar)],
) -> rusqlite::Result<()> {
    let mut exemplars = exemplars;
    let mut rest = rows;
    while !rest.is_empty() || !exemplars.is_empty() {
        let mut samples = 0;
        let n = rest.iter().take_while(|(_, r)| {
            samples += r.len();
            samples <= RECORD_SAMPLES_MAX
        });
        let (record, after) = rest.split_at(n.count());
        let newest = record.iter().map(|(_, r)| r.time).max().unwrap_or(i64::MIN);
        let body = record::encode_samples(record, std::mem::take(&mut exemplars));
        let number = next_number(tx, "samples")?;
        tx.prepare_cached("INSERT INTO samples(number, newest, frame) VALUES (?1, ?2, ?3)")?
            .execute(params![number, newest, frame::seal(Kind::Samples, number as u64, &body)])?;
        rest = after;
    }
    Ok(())
}

fn insert_spans(tx: &Connection, batches: &[&Batch]) -> rusqlite::Result<()> {
    let mut next = None;
    for batch in batches.iter().filter(|b| !b.spans.is_empty()) {
        let body = span_block::encode(&batch.spans);
        let frame = frame::seal(Kind::Spans, batch.span_record, &body);
        tx.prepare_cached("INSERT INTO spans(number, frame) VALUES (?1, ?2)")?
            .execute(params![batch.span_record as i64, frame])?;
        next = next.max(Some(batch.span_record as i64 + 1));
    }
    next.map_or(Ok(()), |n| put_meta(tx, NEXT_SPANS, n))
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

fn insert_frame(tx: &Connection, sql: &str, table: &str, kind: Kind, body: &[u8]) -> rusqlite::Result<()> {
    let number = next_number(tx, table)?;
    tx.prepare_cached(sql)?.execute(params![number, frame::seal(kind, number as u64, body)])?;
    Ok(())
}

fn next_number(tx: &Connection, table: &str) -> rusqlite::Result<i64> {
    tx.prepare_cached(&format!("SELECT coalesce(max(number), 0) + 1 FROM {table}"))?
        .query_row((), |r| r.get(0))
}

fn put_meta(tx: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO meta(name, value, crc) VALUES (?1, ?2, ?3)")?
        .execute(params![name, value, meta_crc(name, value)])?;
    Ok(())
}

fn meta_crc(name: &str, value: i64) -> i64 {
    i64::from(crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), &value.to_le_bytes()))
}

fn metadata_crc(metric: &str, m: &Metadata) -> i64 {
    let mut bytes = Vec::new();
    [metric, m.metric_type.as_str(), &m.help, &m.unit].iter().for_each(|s| put_str(&mut bytes, s));
    put_uvarint(&mut bytes, 1);
    i64::from(crc32c::crc32c(&bytes))
}

fn type_from(s: &str) -> MetricType {
    use MetricType as T;
    let all = [T::Counter, T::Gauge, T::Histogram, T::GaugeHistogram, T::Summary, T::Info, T::StateSet];
    all.into_iter().find(|t| t.as_str() == s).unwrap_or(T::Unknown)
}
