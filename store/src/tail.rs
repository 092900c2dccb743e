//! `LogTail`: the log's records of samples, read in their order beside the writer: what a forwarder sends on.
//!
//! A record that is there is on disk and never changes. Those that hold nothing but sealed samples are dropped by
//! maintenance: a jump in the numbers says so, and [`Store::samples_until_floor`] has what they held.

use std::path::PathBuf;

use davy_model::{Exemplar, Labels, Timestamp, Value};
use rusqlite::Connection;

use crate::error::{At, Error};
use crate::frame::{self, Kind};
use crate::log::FORMAT;
use crate::record;
use crate::row::slots;
use crate::store::TELEMETRY;
use crate::{SeriesRef, Snapshot, Store, sqlite};

/// Reads the log through a connection of its own.
pub struct LogTail {
    path: PathBuf,
    conn: Connection,
}

/// One record of the log, unpacked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogRecord {
    pub number: u64,
    /// In the order in which they were committed.
    pub samples: Vec<(SeriesRef, Timestamp, Value)>,
    pub exemplars: Vec<(SeriesRef, Exemplar)>,
    /// It failed its checksum: nothing of it can be read.
    pub damaged: bool,
}

impl Store {
    pub fn log_tail(&self) -> Result<LogTail, Error> {
        let path = self.folder().join(TELEMETRY);
        Ok(LogTail { conn: sqlite::open_reader(&path, FORMAT)?, path })
    }

    /// Number of the newest record of samples on disk; records are numbered from 1 and no number comes twice.
    pub fn last_log_record(&self) -> u64 {
        self.inner().counters.last_record.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A snapshot with every sample before the time that comes with it: nothing older can be appended any more.
    /// `None` for the time if nothing was sealed yet.
    pub fn samples_until_floor(&self) -> Result<(Snapshot, Option<Timestamp>), Error> {
        let floor = self.inner().head().floor;
        // What entered the queue before the floor rose is in the head afterwards.
        self.flush()?;
        Ok((self.snapshot(), (floor != i64::MIN).then(|| Timestamp::from_millis(floor))))
    }

    /// Labels of a series, also of one that was forgotten a while ago.
    pub fn labels_of(&self, series: SeriesRef) -> Option<Labels> {
        self.inner().head().labels_of(series).cloned()
    }
}

impl LogTail {
    /// Records after `number`, oldest first, until they hold so many samples.
    pub fn after(&mut self, number: u64, samples_max: usize) -> Result<Vec<LogRecord>, Error> {
        let sql = "SELECT number, frame FROM samples WHERE number > ?1 ORDER BY number";
        let mut statement = self.conn.prepare_cached(sql).at(&self.path)?;
        let mut rows = statement.query([number as i64]).at(&self.path)?;
        let (mut out, mut samples) = (Vec::new(), 0);
        while samples < samples_max
            && let Some(row) = rows.next().at(&self.path)?
        {
            let number = row.get::<_, i64>(0).at(&self.path)? as u64;
            let blob = row.get_ref(1).at(&self.path)?.as_blob().unwrap_or(&[]);
            let record = match frame::open(Kind::Samples, number, blob)
                .and_then(|body| record::decode_samples(&body))
            {
                Ok(found) => unpack(number, found),
                Err(why) => {
                    tracing::error!(path = %self.path.display(), number, %why, "log record cannot be read");
                    LogRecord { number, samples: Vec::new(), exemplars: Vec::new(), damaged: true }
                }
            };
            samples += record.samples.len().max(1);
            out.push(record);
        }
        Ok(out)
    }
}

fn unpack(number: u64, found: record::Samples) -> LogRecord {
    let mut samples = Vec::with_capacity(found.rows.iter().map(|(_, r)| r.len()).sum());
    for (group, packed) in found.rows {
        let row = packed.unpack();
        let at = Timestamp::from_millis(row.time);
        for slot in slots(row.mask()) {
            let value = row.get(slot).expect("slots() yields set bits");
            samples.push((SeriesRef::new(group, slot), at, value));
        }
    }
    LogRecord { number, samples, exemplars: found.exemplars, damaged: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, Options};
    use davy_model::STALE_NAN;

    const START: i64 = 1_767_225_600_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(START + ms)
    }

    fn put(store: &Store, ms: i64, value: f64) {
        let mut a = store.appender(at(ms));
        let s = a.series(&Labels::from_pairs([("__name__", "x")])).unwrap();
        a.append(s, at(ms), Value::Float(value)).unwrap();
        a.commit(Durability::Sync).unwrap();
    }

    fn bits(records: &[LogRecord]) -> Vec<(u64, i64, u64)> {
        let one = |r: &LogRecord| {
            let (_, t, v) = &r.samples[0];
            (r.number, t.as_millis() - START, v.as_float().unwrap().to_bits())
        };
        records.iter().map(one).collect()
    }

    #[test]
    fn what_was_committed_is_read_in_order_and_bit_for_bit_beside_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), at(0), Options::default()).unwrap();
        let mut tail = store.log_tail().unwrap();
        assert_eq!((tail.after(0, 10).unwrap(), store.last_log_record()), (vec![], 0));
        put(&store, 0, 1.5);
        put(&store, 1000, STALE_NAN);
        let all = tail.after(0, 10).unwrap();
        let want = [(1, 0, 1.5f64.to_bits()), (2, 1000, STALE_NAN.to_bits())];
        assert_eq!((bits(&all), store.last_log_record()), (want.to_vec(), 2));
        assert_eq!(bits(&tail.after(1, 10).unwrap()), want[1..]);
        assert_eq!(bits(&tail.after(0, 1).unwrap()), want[..1], "no more than asked for");
        let name = store.labels_of(all[0].samples[0].0).unwrap();
        assert_eq!(name, Labels::from_pairs([("__name__", "x")]));
    }

    #[test]
    fn numbers_jump_where_records_were_sealed_and_the_snapshot_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), at(0), Options::default()).unwrap();
        put(&store, 0, 1.0);
        put(&store, 1000, 2.0);
        let later = 4 * 3_600_000;
        put(&store, later, 3.0);
        store.maintain(at(later)).unwrap();
        let mut tail = store.log_tail().unwrap();
        let left = tail.after(0, 10).unwrap();
        assert_eq!(left.iter().map(|r| r.number).collect::<Vec<_>>(), [3]);
        let (snapshot, floor) = store.samples_until_floor().unwrap();
        let floor = floor.expect("something was sealed");
        let sealed = snapshot.select(&[], at(0), Timestamp::from_millis(floor.as_millis() - 1)).unwrap();
        assert_eq!(sealed[0].samples.len(), 2);
    }

    #[test]
    fn a_rotten_record_is_said_and_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), at(0), Options::default()).unwrap();
        put(&store, 0, 1.0);
        put(&store, 1000, 2.0);
        let conn = Connection::open(dir.path().join(TELEMETRY)).unwrap();
        conn.execute("UPDATE samples SET frame = x'00' WHERE number = 1", ()).unwrap();
        let all = store.log_tail().unwrap().after(0, 10).unwrap();
        assert_eq!(all.iter().map(|r| (r.number, r.damaged)).collect::<Vec<_>>(), [(1, true), (2, false)]);
    }
}
