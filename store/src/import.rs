//! `Import`: samples of any age, sealed straight into the partitions of their time, beside log and head.
//!
//! Each partition takes its part in one transaction that ends with a row in `seals`, so after a crash the part of
//! an import in a partition is there or is not. What is stored already stays as it is: the same sample again counts
//! as known, another value at the same time is refused. Memory is bounded by [`BUFFER_SAMPLES`] and by the labels of
//! the series, which count towards the limits like any others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use davy_model::{Labels, Matcher, Metadata, Sample, Timestamp, Value};
use rusqlite::{Connection, params};

use crate::chunk::OpenChunk;
use crate::column::Effort;
use crate::columns::Pieces;
use crate::error::{At, Error};
use crate::head::View;
use crate::packed_row::PackedRow;
use crate::partition::{Partition, Seal};
use crate::partitions::{checkpoint, cut, insert_chunk, insert_series};
use crate::row::{Row, bit};
use crate::store::Inner;
use crate::table::Table;
use crate::writer::Job;
use crate::{Durability, Refusal, SeriesRef, Store};

/// Samples that are gathered before they are written.
const BUFFER_SAMPLES: usize = 2_000_000;
/// Partitions that one import may touch: each keeps its transaction open until the end.
const PARTITIONS_MAX: usize = 400;
/// KiB of pages that a transaction keeps in memory before it writes them ahead.
const CACHE_KIB: i64 = 512;

/// What became of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    pub samples: u64,
    /// Samples that were stored already, bit for bit.
    pub known: u64,
    /// Samples that were refused: another value is stored at their time.
    pub conflicts: u64,
    /// Samples that were refused: before 1970, or still to come.
    pub out_of_bounds: u64,
    /// Samples in partitions that retention is about to delete.
    pub expired: u64,
    pub partitions: usize,
}

impl Store {
    /// Imports what `feed` appends; if it fails, nothing is. Nothing else is maintained meanwhile.
    pub fn import<E: From<Error>>(
        &self,
        now: Timestamp,
        feed: impl FnOnce(&mut Import<'_>) -> Result<(), E>,
    ) -> Result<Imported, E> {
        let inner = self.inner();
        let _state = inner.maintenance.lock().expect("no holder of this lock panics");
        let _one = inner.compaction.lock().expect("no holder of this lock panics");
        let mut import = Import::new(self, now);
        feed(&mut import)?;
        Ok(import.finish()?)
    }
}

/// An import in the making.
pub struct Import<'a> {
    store: &'a Store,
    inner: &'a Inner,
    now: Timestamp,
    view: View,
    seal: Seal,
    /// Series, time, bits of the value; in the order in which they came.
    buffer: Vec<(SeriesRef, i64, u64)>,
    buffer_max: usize,
    labels: HashMap<SeriesRef, Labels>,
    metadata: Vec<(String, Metadata)>,
    targets: BTreeMap<i64, Target>,
    imported: Imported,
}

/// A partition that is being written to.
struct Target {
    partition: Arc<Partition>,
    /// With a transaction open.
    conn: Connection,
    /// Series that its catalogue has.
    catalogue: HashSet<SeriesRef>,
    had_samples: bool,
    /// Times of the chunks that this import wrote, by group.
    written: HashMap<u32, Vec<(i64, i64)>>,
}

impl<'a> Import<'a> {
    fn new(store: &'a Store, now: Timestamp) -> Self {
        let inner = store.inner();
        let view = inner.head().view.clone();
        // It takes nothing out of the log: nothing is older than its end, nothing is in its records.
        let seal = Seal { number: view.seal + 1, until: i64::MIN, record: 0 };
        Self {
            store,
            inner,
            now,
            view,
            seal,
            buffer: Vec::new(),
            buffer_max: BUFFER_SAMPLES,
            labels: HashMap::new(),
            metadata: Vec::new(),
            targets: BTreeMap::new(),
            imported: Imported::default(),
        }
    }

    /// Finds or creates a series. `Err` when a limit is reached.
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesRef, Refusal> {
        let found = self.inner.head().find(labels);
        let series = match found {
            Some(series) => series,
            None => self.inner.head_mut().series(labels, self.now)?,
        };
        self.labels.entry(series).or_insert_with(|| labels.clone());
        Ok(series)
    }

    pub fn append(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> Result<(), Error> {
        let latest = self.now + self.inner.options.limits.timestamp_future_max;
        if at < Timestamp::from_millis(0) || at > latest {
            self.imported.out_of_bounds += 1;
            return Ok(());
        }
        self.buffer.push((series, at.as_millis(), value.to_bits()));
        if self.buffer.len() >= self.buffer_max { self.write() } else { Ok(()) }
    }

    /// Says what a metric family is.
    pub fn metadata(&mut self, metric: &str, metadata: &Metadata) {
        if self.inner.head().wants_metadata(metric, metadata) {
            self.metadata.push((metric.to_owned(), metadata.clone()));
        }
    }

    /// What is in the buffer becomes chunks, in transactions that stay open.
    fn write(&mut self) -> Result<(), Error> {
        if self.inner.counters.disk_low.load(Ordering::Relaxed) {
            return Err(Error::DiskFull { floor_bytes: self.inner.options.limits.free_disk_bytes_min });
        }
        let range = self.inner.options.partition_range_millis();
        let mut buffer = std::mem::take(&mut self.buffer);
        // Stable: of two values at one time the first is kept.
        buffer.sort_by_key(|(series, time, _)| (time.div_euclid(range), *series, *time));
        for part in buffer.chunk_by(|a, b| a.1.div_euclid(range) == b.1.div_euclid(range)) {
            for group in part.chunk_by(|a, b| a.0.group() == b.0.group()) {
                self.write_group(group)?;
            }
        }
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    /// Samples of one group in one partition, by series and time.
    fn write_group(&mut self, samples: &[(SeriesRef, i64, u64)]) -> Result<(), Error> {
        let start = self.open_target(samples[0].1)?;
        let target = &self.targets[&start];
        let mut new = Vec::with_capacity(samples.len());
        for series in samples.chunk_by(|a, b| a.0 == b.0) {
            let labels = &self.labels[&series[0].0];
            let mut stored = target.stored(&self.view, series, labels, self.seal.number)?;
            stored.sort_by_key(|(time, _)| *time);
            for &(series, time, bits) in series {
                let last = new.last().filter(|(s, t, _): &&(SeriesRef, i64, u64)| (*s, *t) == (series, time));
                let held = last
                    .map(|(.., held)| Some(*held))
                    .or_else(|| stored.binary_search_by_key(&time, |(t, _)| *t).ok().map(|i| stored[i].1));
                match held {
                    None => new.push((series, time, bits)),
                    Some(Some(held)) if held == bits => self.imported.known += 1,
                    Some(_) => self.imported.conflicts += 1,
                }
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        self.imported.samples += new.len() as u64;
        if self.targets[&start].partition.end <= (self.now - self.inner.options.retention).as_millis() {
            self.imported.expired += new.len() as u64;
        }
        let labels = &self.labels;
        let target = self.targets.get_mut(&start).expect("opened just above");
        target.write(self.seal.number, &new, labels)
    }

    /// Opens the partition that holds `time`, if it is not yet; returns where it starts.
    fn open_target(&mut self, time: i64) -> Result<i64, Error> {
        let range = self.inner.options.partition_range_millis();
        let start = time.div_euclid(range) * range;
        if self.targets.contains_key(&start) {
            return Ok(start);
        }
        if self.targets.len() >= PARTITIONS_MAX {
            return Err(Error::ImportTooLong { partitions_max: PARTITIONS_MAX });
        }
        let partition = self.inner.partition_for(&self.view.partitions, time)?;
        self.targets.insert(start, Target::open(self.inner, partition)?);
        Ok(start)
    }

    fn finish(mut self) -> Result<Imported, Error> {
        self.write()?;
        // Numbers of groups are on disk before anything that uses them.
        self.inner.queue.run(Job::Flush)?;
        let mut partitions = self.view.partitions.clone();
        self.imported.partitions = self.targets.len();
        for target in std::mem::take(&mut self.targets).into_values() {
            let partition = target.commit(&self.seal)?;
            partition.measure_newest();
            partitions = Arc::new(crate::maintain::with(&partitions, partition));
        }
        let garbage = self.inner.head_mut().samples_sealed(
            self.seal.number,
            self.seal.until,
            partitions.iter().cloned().collect(),
        );
        drop(garbage);
        let mut appender = self.store.appender(self.now);
        self.metadata.iter().for_each(|(metric, metadata)| appender.metadata(metric, metadata));
        appender.commit(Durability::Sync)?;
        Ok(self.imported)
    }
}

impl Target {
    fn open(inner: &Inner, partition: Arc<Partition>) -> Result<Self, Error> {
        let path = &partition.path;
        let conn = inner.folder.connect(path)?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB).at(path)?;
        conn.execute_batch("BEGIN IMMEDIATE").at(path)?;
        // What a crash left of a seal must not become part of this one.
        let complete: i64 =
            conn.query_row("SELECT coalesce(max(number), 0) FROM seals", (), |r| r.get(0)).at(path)?;
        conn.execute("DELETE FROM chunks WHERE seal > ?1", [complete]).at(path)?;
        let had_samples =
            conn.query_row("SELECT EXISTS (SELECT 1 FROM chunks)", (), |r| r.get(0)).at(path)?;
        let catalogue = partition.find(&[]).into_iter().map(|(s, _)| s).collect();
        Ok(Self { partition, conn, catalogue, had_samples, written: HashMap::new() })
    }

    /// What is stored of a series at the times of `samples`, wherever it lies: time and bits, `None` for a histogram.
    fn stored(
        &self,
        view: &View,
        samples: &[(SeriesRef, i64, u64)],
        labels: &Labels,
        seal: i64,
    ) -> Result<Vec<(i64, Option<u64>)>, Error> {
        let (series, from, to) = (samples[0].0, samples[0].1, samples[samples.len() - 1].1);
        let (group, slot) = (series.group(), series.slot());
        let mut found: Vec<Sample> = Vec::new();
        if let Some(head) = view.groups.get(group)
            && head.mask_between(from, to) & bit(slot) != 0
        {
            let mut pieces = Pieces::default();
            head.read(group, bit(slot), from, to, &mut pieces);
            found.append(&mut pieces.samples(slot));
        }
        if self.had_samples {
            let matchers: Vec<Matcher> = labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
            let same = self.partition.find(&matchers).into_iter().filter(|(_, l)| l == labels);
            for (series, _) in same {
                let (group, slot) = (series.group(), series.slot());
                let mut pieces = Pieces::default();
                self.partition.read(group, bit(slot), (from, to), view.seal, &mut pieces);
                found.append(&mut pieces.samples(slot));
            }
        }
        let overlaps = |(oldest, newest): &(i64, i64)| *oldest <= to && from <= *newest;
        if self.written.get(&group).is_some_and(|chunks| chunks.iter().any(overlaps)) {
            self.read_written(group, slot, (from, to), seal, &mut found)?;
        }
        let bits = |s: &Sample| (s.timestamp.as_millis(), s.value.as_float().map(f64::to_bits));
        Ok(found.iter().map(bits).collect())
    }

    /// From the chunks of this import, which nobody else sees yet.
    fn read_written(
        &self,
        group: u32,
        slot: u8,
        (from, to): (i64, i64),
        seal: i64,
        out: &mut Vec<Sample>,
    ) -> Result<(), Error> {
        let path = &self.partition.path;
        let sql = "SELECT frame FROM chunks
                   WHERE group_number = ?1 AND newest >= ?2 AND oldest <= ?3 AND seal = ?4";
        let mut statement = self.conn.prepare_cached(sql).at(path)?;
        let frames =
            statement.query_map(params![group, from, to, seal], |r| r.get::<_, Vec<u8>>(0)).at(path)?;
        for frame in frames {
            let open = OpenChunk::open(group, &frame.at(path)?);
            match open.and_then(|mut open| open.read(slot, from, to)) {
                Ok(columns) => out.append(&mut columns.into_samples()),
                Err(why) => {
                    tracing::error!(group, %why, "a chunk that was written a moment ago cannot be read");
                }
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        seal: i64,
        samples: &[(SeriesRef, i64, u64)],
        labels: &HashMap<SeriesRef, Labels>,
    ) -> Result<(), Error> {
        let path = &self.partition.path;
        let group = samples[0].0.group();
        let chunks = self.written.entry(group).or_default();
        for chunk in cut(group, Table::from_rows(&rows(samples)), Effort::Quick) {
            insert_chunk(&self.conn, seal, group, &chunk).at(path)?;
            chunks.push((chunk.oldest, chunk.newest));
        }
        let mut new = Vec::new();
        for series in samples.chunk_by(|a, b| a.0 == b.0).map(|s| s[0].0) {
            if self.catalogue.insert(series) {
                new.push((series, labels[&series].clone()));
            }
        }
        insert_series(&self.conn, &new).at(path)
    }

    fn commit(self, seal: &Seal) -> Result<Arc<Partition>, Error> {
        let path = &self.partition.path;
        let sql = "INSERT INTO seals(number, until, record) VALUES (?1, ?2, ?3)";
        self.conn.execute(sql, params![seal.number, seal.until, seal.record]).at(path)?;
        self.conn.execute_batch("COMMIT").at(path)?;
        checkpoint(&self.conn, path);
        Ok(self.partition)
    }
}

/// One row a time, from samples by series and time.
fn rows(samples: &[(SeriesRef, i64, u64)]) -> Vec<Arc<PackedRow>> {
    let mut times: Vec<i64> = samples.iter().map(|s| s.1).collect();
    times.sort_unstable();
    times.dedup();
    let mut rows: Vec<Row> = times.iter().map(|t| Row::new(*t)).collect();
    for series in samples.chunk_by(|a, b| a.0 == b.0) {
        let mut at = 0;
        for (series, time, bits) in series {
            at += times[at..].partition_point(|t| t < time);
            rows[at].set(series.slot(), Value::Float(f64::from_bits(*bits)));
        }
    }
    rows.into_iter().map(PackedRow::pack).map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Options};
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    const HOUR: i64 = 3_600_000;
    const START: i64 = 1_767_225_600_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(START + ms)
    }

    fn open(dir: &Path) -> Store {
        let options = Options {
            commit_interval: Duration::from_millis(1),
            limits: Limits { free_disk_bytes_min: 0, ..Limits::default() },
            ..Options::default()
        };
        Store::open(dir, at(0), options).unwrap().0
    }

    fn labels(n: usize) -> Labels {
        Labels::from_pairs([("__name__", "m"), ("job", "j"), ("n", &n.to_string())])
    }

    fn feed(import: &mut Import<'_>, samples: &[(usize, i64, f64)]) -> Result<(), Error> {
        import.buffer_max = 50;
        for (n, ms, v) in samples {
            let series = import.series(&labels(*n)).expect("below every limit");
            import.append(series, at(*ms), *v)?;
        }
        Ok(())
    }

    fn read(store: &Store) -> Vec<(usize, i64, u64)> {
        let all = store.snapshot().select(&[Matcher::equal("job", "j")], Timestamp::MIN, Timestamp::MAX);
        let mut out = Vec::new();
        for s in all.unwrap() {
            let n = s.labels.get("n").unwrap().parse().unwrap();
            let sample =
                |s: &Sample| (n, s.timestamp.as_millis() - START, s.value.as_float().unwrap().to_bits());
            out.extend(s.samples.iter().map(sample));
        }
        out.sort_unstable();
        out
    }

    /// Ten series every ten minutes over three days, ending two days ago.
    fn old() -> Vec<(usize, i64, f64)> {
        let times = (0..3 * 24 * 6).map(|i| i * 600_000 - 5 * 24 * HOUR);
        times.flat_map(|t| (0..10).map(move |n| (n, t, t as f64 * 0.5 + n as f64))).collect()
    }

    fn bits(samples: &[(usize, i64, f64)]) -> Vec<(usize, i64, u64)> {
        let mut all: Vec<_> = samples.iter().map(|(n, t, v)| (*n, *t, v.to_bits())).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn old_samples_are_read_like_any_and_a_second_import_adds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let imported = store.import(at(0), |i| feed(i, &old())).unwrap();
        assert_eq!((imported.samples, imported.known, imported.conflicts), (4320, 0, 0));
        assert_eq!(imported.partitions, 3);
        assert_eq!(read(&store), bits(&old()));
        drop(store);
        let store = open(dir.path());
        assert_eq!(read(&store), bits(&old()), "after a restart as well");
        let mut again = old();
        again.reverse();
        again.push((3, -5 * 24 * HOUR, 1e9));
        again.push((3, -5 * 24 * HOUR + 1, f64::NAN));
        let imported = store.import(at(0), |i| feed(i, &again)).unwrap();
        assert_eq!((imported.samples, imported.known, imported.conflicts), (1, 4320, 1));
        assert_eq!(read(&store).len(), 4321);
    }

    #[test]
    fn samples_of_the_head_and_of_seals_are_not_doubled() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let live = |hour: i64| (0..4).map(move |i| (1usize, hour * HOUR + i * 600_000, i as f64));
        for hour in 0..6 {
            let mut a = store.appender(at(hour * HOUR + HOUR / 2));
            for (n, t, v) in live(hour) {
                let series = a.series(&labels(n)).unwrap();
                a.append(series, at(t), Value::Float(v)).unwrap();
            }
            a.commit(Durability::Sync).unwrap();
        }
        store.maintain(at(6 * HOUR)).unwrap();
        assert!(!store.snapshot().view.partitions.is_empty(), "some of it is sealed");
        let all: Vec<_> = (0..6).flat_map(live).collect();
        let mut more = all.clone();
        more.extend((0..6).map(|h| (1, h * HOUR + 1, 7.0)));
        let imported = store.import(at(6 * HOUR), |i| feed(i, &more)).unwrap();
        assert_eq!((imported.samples, imported.known, imported.conflicts), (6, 24, 0));
        assert_eq!(read(&store), bits(&more));
        // The head goes on, is sealed into the same partition, and is read once after a restart.
        let mut a = store.appender(at(7 * HOUR));
        let series = a.series(&labels(1)).unwrap();
        a.append(series, at(7 * HOUR), Value::Float(1.0)).unwrap();
        a.commit(Durability::Sync).unwrap();
        more.push((1, 7 * HOUR, 1.0));
        store.maintain(at(12 * HOUR)).unwrap();
        assert_eq!(read(&store), bits(&more));
        drop(store);
        assert_eq!(read(&open(dir.path())), bits(&more));
    }

    #[test]
    fn what_is_newer_than_the_newest_seal_is_found_once_it_is_imported() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.import(at(0), |i| feed(i, &[(1, -10 * HOUR, 1.0)])).unwrap();
        let newest = |store: &Store, from: i64| {
            let found = store.snapshot().select(&[Matcher::equal("job", "j")], at(from), at(0)).unwrap();
            found.iter().map(|s| s.samples.len()).sum::<usize>()
        };
        store.compact(at(0)).unwrap();
        assert_eq!((newest(&store, -11 * HOUR), newest(&store, -9 * HOUR)), (1, 0));
        store.import(at(0), |i| feed(i, &[(1, -8 * HOUR, 2.0)])).unwrap();
        assert_eq!(newest(&store, -9 * HOUR), 1, "of the same partition");
        drop(store);
        assert_eq!(newest(&open(dir.path()), -9 * HOUR), 1, "as far as a start finds it");
    }

    #[test]
    fn numbers_of_series_are_never_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut imported = None;
        let done = store.import(at(0), |i| {
            imported = Some(i.series(&labels(1)).unwrap().group());
            feed(i, &[(1, -10, 1.0)])
        });
        assert_eq!(done.unwrap().samples, 1);
        drop(store);
        let store = open(dir.path());
        let mut a = store.appender(at(0));
        let other = a.series(&Labels::from_pairs([("__name__", "x"), ("job", "other")])).unwrap();
        assert!(Some(other.group()) > imported, "{} after {imported:?}", other.group());
    }

    #[test]
    fn a_crash_leaves_all_or_nothing_of_a_partition() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("data"));
        let images = dir.path().join("images");
        let mut taken = 0;
        let imported = store.import(at(0), |import| {
            for (n, samples) in old().chunks(400).enumerate() {
                feed(import, samples)?;
                copy(&dir.path().join("data"), &images.join(n.to_string()));
                taken += 1;
            }
            Ok::<(), Error>(())
        });
        assert_eq!(imported.unwrap().samples, 4320);
        assert!(taken > 5);
        for n in 0..taken {
            let restored = open(&images.join(n.to_string()));
            assert_eq!(read(&restored), [], "image {n}: nothing before the end");
            restored.import(at(0), |i| feed(i, &old())).unwrap();
            assert_eq!(read(&restored), bits(&old()), "image {n}: and it can be done again");
        }
        // One that gives up leaves nothing either.
        let other = open(&dir.path().join("other"));
        let failed: Result<_, Error> = other.import(at(0), |import| {
            feed(import, &old())?;
            Err(Error::Backlog { samples: 1 })
        });
        assert!(failed.is_err());
        assert_eq!(read(&other), []);
    }

    #[test]
    fn what_no_clock_shows_yet_and_what_retention_takes_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let samples = [(1, -START - 1, 1.0), (1, HOUR, 1.0), (1, -30 * 24 * HOUR, 1.0), (1, 0, 1.0)];
        let imported = store.import(at(0), |i| feed(i, &samples)).unwrap();
        assert_eq!((imported.samples, imported.out_of_bounds, imported.expired), (2, 2, 1));
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to.join("partitions")).unwrap();
        for folder in ["", "partitions"] {
            for entry in fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
                }
            }
        }
    }
}
