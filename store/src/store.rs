//! `Store`: opens the data folder, and holds head, log and writer together.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use davy_model::{Timestamp, Value};

use crate::appender::Appender;
use crate::backup;
use crate::error::{At, Error};
use crate::head::{Batch, Head};
use crate::log::Log;
use crate::maintain::Maintenance;
use crate::partitions::Folder;
use crate::record::GroupRow;
use crate::recovery;
use crate::refusal::{Refusal, RefusalCounters};
use crate::snapshot::Snapshot;
use crate::stats::{Recovery, Stats};
use crate::writer::{self, Counters, Job, Queue, Writer};
use crate::{Durability, Options, SeriesRef, row, sqlite};

pub(crate) const TELEMETRY: &str = "telemetry.db";
pub(crate) const PARTITIONS: &str = "partitions";
const LOCK: &str = "lock";

/// Handle to the telemetry database; cheap to clone. The last one to go writes what is pending.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: Options,
    dir: PathBuf,
    head: Arc<RwLock<Head>>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) folder: Folder,
    pub(crate) maintenance: Mutex<Maintenance>,
    /// Held by whoever rewrites partitions; taken after `maintenance` where both are.
    pub(crate) compaction: Mutex<()>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) refused: RefusalCounters,
    /// Oldest time among the late samples since the last maintenance: what is still being filled is not sealed.
    pub(crate) late: AtomicI64,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held until the writer has gone.
    _lock: FolderLock,
}

impl Store {
    /// Opens or creates `dir`; replays the log into the head.
    pub fn open(dir: &Path, now: Timestamp, options: Options) -> Result<(Self, Recovery), Error> {
        options.check()?;
        sqlite::create_folder(dir)?;
        let lock = lock(dir)?;
        let counters = Arc::new(Counters::default());
        let folder = Folder {
            path: dir.join(PARTITIONS),
            range: options.partition_range_millis(),
            quarantined: counters.quarantined.clone(),
        };
        let mut log = Log::open(&dir.join(TELEMETRY))?;
        let (head, recovery) = recovery::recover(&mut log, &folder, now, &options)?;
        tracing::info!(dir = %dir.display(), ?recovery, "store opened");
        counters.last_record.store(log.last_record(), Ordering::Relaxed);
        let (head, queue) = (Arc::new(RwLock::new(head)), Arc::new(Queue::default()));
        let writer = Writer::new(log, head.clone(), queue.clone(), counters.clone(), &options);
        writer.check_disk();
        let writer =
            std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run()).at(dir)?;
        let inner = Inner {
            options,
            dir: dir.to_owned(),
            head,
            queue,
            counters,
            folder,
            maintenance: Mutex::default(),
            compaction: Mutex::default(),
            refused: RefusalCounters::default(),
            late: AtomicI64::new(i64::MAX),
            writer: Mutex::new(Some(writer)),
            _lock: lock,
        };
        Ok((Self(Arc::new(inner)), recovery))
    }

    /// A batch in the making. `now` bounds the timestamps it accepts.
    pub fn appender(&self, now: Timestamp) -> Appender {
        Appender::new(self.clone(), now)
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot { view: self.0.head().view.clone() }
    }

    /// Seals full chunks and drops what retention says. The shell calls it about once a minute.
    pub fn maintain(&self, now: Timestamp) -> Result<(), Error> {
        self.0.maintain(now)
    }

    /// Packs a part of what is long sealed into fewer bytes; whether there was anything to do. The shell calls it
    /// after [`Store::maintain`].
    pub fn compact_slice(&self, now: Timestamp) -> Result<bool, Error> {
        self.0.compact_slice(now)
    }

    /// Seals and packs everything that can be, however long that takes. Samples must not come late afterwards.
    pub fn compact(&self, now: Timestamp) -> Result<(), Error> {
        self.0.compact_all(now)
    }

    /// Copies the store into `dir`, which must not exist yet, while it goes on working: everything that was
    /// committed before the call, and perhaps some of what comes meanwhile. [`Store::open`] on it restores it.
    pub fn backup_to(&self, dir: &Path) -> Result<(), Error> {
        // Nothing may move from the log into a partition while one is copied and then the other.
        let _state = self.0.maintenance.lock().expect("no holder of this lock panics");
        let _one = self.0.compaction.lock().expect("no holder of this lock panics");
        self.flush()?;
        backup::folder(&self.0.dir, dir, &[TELEMETRY], PARTITIONS)
    }

    pub fn stats(&self) -> Stats {
        let inner = &self.0;
        let counters = &inner.counters;
        let refused = inner.refused.read();
        // One guard, let go before the files are looked at: a second one, while a writer waits, would wait for ever.
        let (series_active, partitions) = {
            let head = inner.head();
            (head.series_active(), head.view.partitions.len())
        };
        let partitions_dir = inner.dir.join(PARTITIONS);
        let partition_bytes = folder_bytes(&partitions_dir, None);
        Stats {
            series_active,
            samples_appended: counters.samples_appended.load(Ordering::Relaxed),
            spans_appended: counters.spans_appended.load(Ordering::Relaxed),
            samples_refused: refused.total() + counters.conflicts.load(Ordering::Relaxed),
            refused,
            quarantined_chunks: counters.quarantined.load(Ordering::Relaxed),
            write_errors: counters.write_errors.load(Ordering::Relaxed),
            backlog: counters.backlog.load(Ordering::Relaxed),
            disk_low: counters.disk_low.load(Ordering::Relaxed),
            bytes_on_disk: partition_bytes + folder_bytes(&inner.dir, Some(&partitions_dir)),
            telemetry_bytes: file_bytes(&inner.dir, TELEMETRY),
            partition_bytes,
            partitions,
            partitions_compacted: counters.partitions_compacted.load(Ordering::Relaxed),
        }
    }

    /// Writes and fsyncs everything pending. The store stays usable.
    pub fn flush(&self) -> Result<(), Error> {
        self.0.queue.run(Job::Flush)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0.dir
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    pub(crate) fn head(&self) -> RwLockReadGuard<'_, Head> {
        self.head.read().expect("no holder of this lock panics")
    }

    pub(crate) fn head_mut(&self) -> RwLockWriteGuard<'_, Head> {
        self.head.write().expect("no holder of this lock panics")
    }

    /// Whether a sample that is not newer than all of its group is stored already; `Err` if it comes too late.
    /// `latest` is the newest time that is believable now.
    pub(crate) fn is_stored(
        &self,
        series: SeriesRef,
        at: Timestamp,
        value: &Value,
        latest: Timestamp,
    ) -> Result<bool, Refusal> {
        let head = self.head();
        if at.as_millis() < head.floor {
            return Err(Refusal::OutOfOrder { got: at, newest: Timestamp::from_millis(head.floor) });
        }
        let Some(group) = head.view.groups.get(series.group()) else { return Err(Refusal::UnknownSeries) };
        match group.value_at(series.group(), series.slot(), at.as_millis()) {
            Some(stored) if row::same(&stored, value) => return Ok(true),
            Some(_) => return Err(Refusal::Duplicate { at }),
            None => {}
        }
        // No series is newer than its group: finding its own newest sample may mean to decode a chunk.
        if at >= Timestamp::from_millis(group.newest_time()).min(latest) - self.options.out_of_order_window {
            return Ok(false);
        }
        let newest = group.newest_of(series.group(), series.slot()).map(Timestamp::from_millis);
        // A sample from the future was taken while the clock ran ahead: it must not shut out the present.
        match newest.filter(|n| *n <= latest) {
            Some(newest) if at < newest - self.options.out_of_order_window => {
                Err(Refusal::OutOfOrder { got: at, newest })
            }
            _ => Ok(false),
        }
    }

    pub(crate) fn commit(&self, batch: Batch, now: Timestamp, durability: Durability) -> Result<(), Error> {
        let spans = !batch.spans.is_empty();
        self.note_late(&batch, now);
        self.enqueue(batch, durability)?;
        if spans && let Err(error) = self.bound_spans(now) {
            // They are in the log, so this is nothing the sender should hear of; the next batch tries again.
            tracing::error!(%error, "sealing spans failed");
        }
        Ok(())
    }

    /// Samples that a range would be sealed without, if it were sealed when it usually is.
    fn note_late(&self, batch: &Batch, now: Timestamp) {
        let oldest = batch.rows.iter().map(|(_, row)| row.time).min().unwrap_or(i64::MAX);
        if oldest < (now - self.options.head_range / 2).as_millis() {
            self.late.fetch_min(oldest, Ordering::Relaxed);
        }
    }

    fn enqueue(&self, mut batch: Batch, durability: Durability) -> Result<(), Error> {
        if !batch.spans.is_empty() && self.counters.disk_low.load(Ordering::Relaxed) {
            return Err(Error::DiskFull { floor_bytes: self.options.limits.free_disk_bytes_min });
        }
        let mut head = self.head_mut();
        let floor = head.floor;
        if let Some((_, row)) = batch.rows.iter().find(|(_, r)| r.time < floor) {
            let [got, sealed_until] = [row.time, floor].map(Timestamp::from_millis);
            return Err(Error::Sealed { got, sealed_until });
        }
        let gone = |(group, row): &GroupRow| {
            head.view.groups.get(*group).is_none_or(|g| row.mask() & !g.alive() != 0)
        };
        if batch.rows.iter().any(gone) {
            return Err(Error::SeriesForgotten);
        }
        if !batch.spans.is_empty() {
            batch.span_record = head.take_span_records(batch.spans.len());
        }
        // The queue is entered under the head's lock, so that the log has the order in which the head changed.
        match durability {
            Durability::Group => {
                let batch = Arc::new(batch);
                self.queue.push_group(&batch)?;
                writer::apply(&mut head, &batch, &self.counters);
                Ok(())
            }
            Durability::Sync => {
                let groups = batch.groups();
                let done = self.queue.push_sync(batch)?;
                head.pin(&groups);
                drop(head);
                done.wait()
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.stop();
        let writer = self.writer.get_mut().expect("no holder of this lock panics").take();
        if writer.is_some_and(|w| w.join().is_err()) {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Keeps every other davy out of a data folder.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child between fork and exec holds the file as well. What fails here is
        // let go with the last of them.
        let _ = self.0.unlock();
    }
}

pub(crate) fn lock(dir: &Path) -> Result<FolderLock, Error> {
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).at(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(e).at(&path),
    }
}

/// Size of all files in the folder and those below it.
/// Of the file and of what SQLite keeps beside it.
fn file_bytes(dir: &Path, name: &str) -> u64 {
    let size = |suffix| fs::metadata(dir.join(format!("{name}{suffix}"))).map_or(0, |m| m.len());
    ["", "-wal", "-shm"].map(size).iter().sum()
}

/// Bytes of all files below, but for those in the folder `but`.
fn folder_bytes(dir: &Path, but: Option<&Path>) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |e: fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() && but == Some(&*e.path()) => 0,
        Ok(m) if m.is_dir() => folder_bytes(&e.path(), but),
        Ok(m) => m.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Control, ControlBatch, VersionRecord};
    use davy_model::{Labels, Matcher};

    const PAGES: u32 = 40;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000 + ms)
    }

    /// Values that no compression makes small.
    fn put(store: &Store, ms: i64, durability: Durability) -> Result<(), Error> {
        let mut a = store.appender(at(ms));
        for n in 0..100u64 {
            let s = a.series(&Labels::from_pairs([("n", n.to_string())])).unwrap();
            let noise = f64::from_bits((ms as u64 * 100 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
            a.append(s, at(ms), Value::Float(noise)).unwrap();
        }
        a.commit(durability)
    }

    fn times(store: &Store) -> Vec<i64> {
        let found = store.snapshot().select(&[Matcher::equal("n", "7")], at(0), at(600_000)).unwrap();
        let samples = found.iter().flat_map(|s| &s.samples);
        samples.map(|s| s.timestamp.as_millis() - at(0).as_millis()).collect()
    }

    fn open(dir: &Path) -> Store {
        let mut options =
            Options { commit_interval: std::time::Duration::from_millis(5), ..Options::default() };
        options.limits.free_disk_bytes_min = 0;
        Store::open(dir, at(0), options).unwrap().0
    }

    #[test]
    fn a_full_disk_refuses_what_waits_keeps_what_was_taken_and_passes() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(&dir.path().join("control.db")).unwrap();
        let store = open(dir.path());
        store.0.queue.run(Job::LimitPages(PAGES)).unwrap();
        let mut taken = Vec::new();
        let error = loop {
            let ms = taken.len() as i64 * 1000;
            match put(&store, ms, Durability::Sync) {
                Ok(()) => taken.push(ms),
                Err(e) => break e,
            }
            assert!(taken.len() < 1000, "the disk never filled");
        };
        assert!(matches!(error, Error::Sqlite { .. }) && error.to_string().contains("full"), "{error}");
        assert_eq!(times(&store), taken, "nothing of a refused batch is visible");
        // Scrapes stay visible and wait for room; what is waited for is refused; control goes on.
        let scraped = taken.len() as i64 * 1000 + 1;
        put(&store, scraped, Durability::Group).unwrap();
        assert!(put(&store, scraped + 1, Durability::Sync).is_err());
        assert!(store.flush().is_err());
        let version =
            VersionRecord { service: "s".into(), version: "1".into(), first_seen: at(0), last_seen: at(0) };
        control.write(&ControlBatch { versions: vec![version], ..ControlBatch::default() }).unwrap();
        taken.push(scraped);
        assert_eq!(times(&store), taken);
        assert!(store.stats().write_errors > 0 && store.stats().backlog >= 100);
        // There is room again.
        store.0.queue.run(Job::LimitPages(1 << 30)).unwrap();
        store.flush().unwrap();
        put(&store, scraped + 2, Durability::Sync).unwrap();
        taken.push(scraped + 2);
        assert_eq!(times(&store), taken);
        drop(store);
        assert_eq!(times(&open(dir.path())), taken, "what waited for room is on disk as well");
    }

    #[test]
    fn a_batch_on_its_way_to_the_disk_keeps_its_series() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let inner = store.inner();
        let labels = Labels::from_pairs([("n", "7")]);
        let series = inner.head_mut().series(&labels, at(0)).unwrap();
        let mut row = row::Row::new(at(0).as_millis());
        row.set(series.slot(), Value::Float(1.0));
        let batch = Batch {
            rows: vec![(series.group(), Arc::new(crate::packed_row::PackedRow::pack(row)))],
            ..Batch::default()
        };
        let groups = batch.groups();
        // What `enqueue` and the writer do, with maintenance between.
        inner.head_mut().pin(&groups);
        assert_eq!(inner.head_mut().forget_dead(), 0);
        let mut head = inner.head_mut();
        head.unpin(&groups);
        assert_eq!(head.apply(&batch), 0, "no sample was dropped");
        assert_eq!(head.forget_dead(), 0);
    }
}
