//! `Store`: opens the data folder, and holds head, log and writer together.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use davy_model::{Timestamp, Value};

use crate::appender::Appender;
use crate::error::{At, Error};
use crate::head::{Batch, Head};
use crate::log::Log;
use crate::refusal::{Refusal, RefusalCounters};
use crate::snapshot::Snapshot;
use crate::stats::{Recovery, Stats};
use crate::writer::{self, Counters, Queue, Writer};
use crate::{Durability, Options, SeriesRef, row, sqlite};

const TELEMETRY: &str = "telemetry.db";
const LOCK: &str = "lock";

/// Handle to the telemetry database; cheap to clone. The last one to go writes what is pending.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: Options,
    dir: PathBuf,
    head: Arc<RwLock<Head>>,
    queue: Arc<Queue>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) refused: RefusalCounters,
    quarantined: u64,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held until the writer has gone.
    _lock: File,
}

impl Store {
    /// Opens or creates `dir`; replays the log into the head.
    pub fn open(dir: &Path, now: Timestamp, options: Options) -> Result<(Self, Recovery), Error> {
        sqlite::create_folder(dir)?;
        let lock = lock(dir)?;
        let mut log = Log::open(&dir.join(TELEMETRY))?;
        let (head, recovery) = recover(&mut log, &options)?;
        tracing::info!(dir = %dir.display(), %now, ?recovery, "store opened");
        let head = Arc::new(RwLock::new(head));
        let (queue, counters) = (Arc::new(Queue::default()), Arc::new(Counters::default()));
        let quarantined = log.quarantined()?;
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
            refused: RefusalCounters::default(),
            quarantined,
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
    pub fn maintain(&self, _now: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    pub fn stats(&self) -> Stats {
        let inner = &self.0;
        let counters = &inner.counters;
        let refused = inner.refused.read();
        Stats {
            series_active: inner.head().series_active(),
            samples_appended: counters.samples_appended.load(Ordering::Relaxed),
            spans_appended: counters.spans_appended.load(Ordering::Relaxed),
            samples_refused: refused.total() + counters.conflicts.load(Ordering::Relaxed),
            refused,
            quarantined_chunks: inner.quarantined,
            write_errors: counters.write_errors.load(Ordering::Relaxed),
            backlog: counters.backlog.load(Ordering::Relaxed),
            disk_low: counters.disk_low.load(Ordering::Relaxed),
            bytes_on_disk: folder_bytes(&inner.dir),
        }
    }

    /// Writes and fsyncs everything pending. The store stays usable.
    pub fn flush(&self) -> Result<(), Error> {
        self.0.queue.push_flush().wait()
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

    /// Whether a sample that is not newer than all of its group is to be added.
    pub(crate) fn check_late(
        &self,
        series: SeriesRef,
        at: Timestamp,
        value: &Value,
    ) -> Result<bool, Refusal> {
        let head = self.head();
        let sealed_until = head.view.sealed_until;
        if at.as_millis() < sealed_until {
            return Err(Refusal::OutOfOrder { got: at, newest: Timestamp::from_millis(sealed_until) });
        }
        let Some(group) = head.view.groups.get(series.group()) else { return Err(Refusal::UnknownSeries) };
        match group.value_at(series.slot(), at.as_millis()) {
            Some(stored) if row::same(&stored, value) => return Ok(false),
            Some(_) => return Err(Refusal::Duplicate { at }),
            None => {}
        }
        let newest = group.newest_of(series.slot()).map(Timestamp::from_millis);
        match newest {
            Some(newest) if at < newest - self.options.out_of_order_window => {
                Err(Refusal::OutOfOrder { got: at, newest })
            }
            _ => Ok(true),
        }
    }

    pub(crate) fn commit(&self, mut batch: Batch, durability: Durability) -> Result<(), Error> {
        if !batch.spans.is_empty() && self.counters.disk_low.load(Ordering::Relaxed) {
            return Err(Error::DiskFull { floor_bytes: self.options.limits.free_disk_bytes_min });
        }
        let mut head = self.head_mut();
        let sealed_until = head.view.sealed_until;
        if let Some((_, row)) = batch.rows.iter().find(|(_, r)| r.time < sealed_until) {
            let [got, sealed_until] = [row.time, sealed_until].map(Timestamp::from_millis);
            return Err(Error::Sealed { got, sealed_until });
        }
        if !batch.spans.is_empty() {
            batch.span_record = head.take_span_record();
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
                let done = self.queue.push_sync(batch)?;
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

fn recover(log: &mut Log, options: &Options) -> Result<(Head, Recovery), Error> {
    let before = log.quarantined()?;
    let catalogue = log.catalogue()?;
    let mut head =
        Head::new(options.limits.clone(), catalogue.next_group, catalogue.next_span_record, i64::MIN);
    catalogue.series.iter().for_each(|(series, labels)| head.restore(*series, labels));
    catalogue.metadata.into_iter().for_each(|(metric, m)| head.set_metadata(metric, m));
    let mut recovery = Recovery { series: catalogue.series.len(), ..Recovery::default() };
    log.replay_samples(|samples| {
        let batch = Batch { rows: samples.rows, exemplars: samples.exemplars, ..Batch::default() };
        let refused = head.apply(&batch);
        recovery.samples += (batch.samples() - refused) as u64;
    })?;
    log.replay_spans(|number, spans| {
        recovery.spans += spans.len() as u64;
        let spans = spans.into_iter().map(Arc::new).collect();
        head.apply(&Batch { spans, span_record: number, ..Batch::default() });
    })?;
    recovery.quarantined = log.quarantined()? - before;
    Ok((head, recovery))
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(e).at(&path),
    }
}

/// Size of all files in the folder and those below it.
fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |e: fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() => folder_bytes(&e.path()),
        Ok(m) => m.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}
