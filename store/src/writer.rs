//! `Writer`: the one thread that writes the log. Batches gather in a queue; each transaction takes all of them,
//! so that many callers share one fsync.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use crate::error::Error;
use crate::head::{Batch, Head};
use crate::log::{Log, Trim, Write};

/// Samples and spans that may wait in memory for a disk that does not take them.
const BACKLOG_MAX: usize = 8_000_000;
/// The writer does not wait for the commit interval once so many wait for it.
const BACKLOG_URGENT: usize = 1_000_000;

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Visible already; waiting for the next transaction.
    group: Vec<Arc<Batch>>,
    sync: Vec<Waiting<Batch>>,
    jobs: Vec<Waiting<Job>>,
    /// Samples and spans in `group`.
    fresh: usize,
    /// Those in the queue and those whose transaction has not succeeded yet.
    backlog: usize,
    stop: bool,
}

/// What else the writer is asked for; done after everything that was pushed before.
pub(crate) enum Job {
    /// Nothing: that it is done means that the rest is on disk.
    Flush,
    Trim(Trim),
    RewriteCatalogue,
    /// Gives back the room of what was trimmed.
    Vacuum,
    #[cfg(test)]
    LimitPages(u32),
}

impl State {
    /// Whether nobody waits for a transaction just now.
    fn is_calm(&self) -> bool {
        self.sync.is_empty() && self.jobs.is_empty() && self.fresh < BACKLOG_URGENT && !self.stop
    }
}

struct Waiting<T> {
    work: T,
    done: Arc<Done>,
}

/// Where a caller waits for the transaction that took its batch.
#[derive(Default)]
pub(crate) struct Done {
    result: Mutex<Option<Result<(), Error>>>,
    ready: Condvar,
}

impl Done {
    fn set(&self, result: Result<(), Error>) {
        *self.result.lock().expect("no holder of this lock panics") = Some(result);
        self.ready.notify_all();
    }

    pub(crate) fn wait(&self) -> Result<(), Error> {
        let mut result = self.result.lock().expect("no holder of this lock panics");
        loop {
            match result.take() {
                Some(r) => return r,
                None => result = self.ready.wait(result).expect("no holder of this lock panics"),
            }
        }
    }
}

impl Queue {
    /// To be written within the commit interval. The caller makes it visible in the same critical section.
    pub(crate) fn push_group(&self, batch: &Arc<Batch>) -> Result<(), Error> {
        let mut state = self.admit(batch)?;
        state.group.push(batch.clone());
        state.fresh += weight(batch);
        if state.fresh >= BACKLOG_URGENT {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// To be written at once, then made visible.
    pub(crate) fn push_sync(&self, batch: Batch) -> Result<Arc<Done>, Error> {
        let mut state = self.admit(&batch)?;
        let done = Arc::new(Done::default());
        state.sync.push(Waiting { work: batch, done: done.clone() });
        self.changed.notify_one();
        Ok(done)
    }

    /// Blocks until the job is done.
    pub(crate) fn run(&self, job: Job) -> Result<(), Error> {
        let done = Arc::new(Done::default());
        self.lock().jobs.push(Waiting { work: job, done: done.clone() });
        self.changed.notify_one();
        done.wait()
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_one();
    }

    fn admit(&self, batch: &Batch) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock();
        if state.backlog >= BACKLOG_MAX {
            return Err(Error::Backlog { samples: state.backlog });
        }
        state.backlog += weight(batch);
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

fn weight(batch: &Batch) -> usize {
    batch.samples() + batch.span_count() + batch.exemplars.len() + batch.metadata.len()
}

/// What the writer shares with everyone else.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) samples_appended: AtomicU64,
    pub(crate) spans_appended: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) write_errors: AtomicU64,
    pub(crate) partitions_compacted: AtomicU64,
    /// Number of the newest record of samples in the log.
    pub(crate) last_record: AtomicU64,
    /// Log records and sealed blocks that failed their checksum, in this run and before.
    pub(crate) quarantined: Arc<AtomicU64>,
    pub(crate) backlog: AtomicUsize,
    /// Free disk space is below the floor.
    pub(crate) disk_low: AtomicBool,
}

pub(crate) struct Writer {
    log: Log,
    head: Arc<RwLock<Head>>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    commit_interval: Duration,
    free_disk_bytes_min: u64,
    /// Visible batches whose transaction failed or has not come yet.
    pending: Vec<Arc<Batch>>,
    /// Set by a failed fsync: what it left on disk is unknown until the file is read again.
    failed: Option<Arc<rusqlite::Error>>,
}

impl Writer {
    pub(crate) fn new(
        log: Log,
        head: Arc<RwLock<Head>>,
        queue: Arc<Queue>,
        counters: Arc<Counters>,
        options: &crate::Options,
    ) -> Self {
        Self {
            log,
            head,
            queue,
            counters,
            commit_interval: options.commit_interval,
            free_disk_bytes_min: options.limits.free_disk_bytes_min,
            pending: Vec::new(),
            failed: None,
        }
    }

    pub(crate) fn run(mut self) {
        loop {
            self.check_disk();
            let mut state = self.queue.lock();
            if !state.stop {
                let idle = |s: &mut State| s.is_calm();
                let waited = self.queue.changed.wait_timeout_while(state, self.commit_interval, idle);
                state = waited.expect("no holder of this lock panics").0;
            }
            let stop = state.stop;
            self.pending.append(&mut state.group);
            state.fresh = 0;
            let (sync, jobs) = (std::mem::take(&mut state.sync), std::mem::take(&mut state.jobs));
            drop(state);
            let result = self.commit(&sync);
            let written = result.is_ok();
            self.settle(sync, &result);
            for job in jobs {
                let result = self.work(&job.work, &result);
                job.done.set(result);
            }
            if stop {
                if !written {
                    tracing::error!(
                        batches = self.pending.len(),
                        "stopped with batches that the disk did not take"
                    );
                }
                return;
            }
        }
    }

    pub(crate) fn check_disk(&self) {
        let low = free_bytes(self.log.path()) < self.free_disk_bytes_min;
        self.counters.disk_low.store(low, Ordering::Relaxed);
    }

    /// One transaction with all that is pending and all that is waited for.
    fn commit(&mut self, sync: &[Waiting<Batch>]) -> Result<(), Error> {
        self.check_fsync()?;
        let (series, next_group) = {
            let head = self.head.read().expect("no holder of this lock panics");
            (head.undefined().to_vec(), head.next_group())
        };
        let batches: Vec<&Batch> =
            self.pending.iter().map(|b| &**b).chain(sync.iter().map(|w| &w.work)).collect();
        if batches.is_empty() && series.is_empty() {
            return Ok(());
        }
        let result = self.log.write(&Write { series: &series, next_group, batches: &batches });
        match &result {
            Ok(()) => {
                self.head.write().expect("no holder of this lock panics").defined(series.len());
                self.counters.last_record.store(self.log.last_record(), Ordering::Relaxed);
            }
            Err(e) => {
                tracing::error!(error = %e, "writing the log failed");
                self.counters.write_errors.fetch_add(1, Ordering::Relaxed);
                if let Error::Sqlite { cause, .. } = e
                    && is_fsync_failure(cause)
                {
                    self.failed = Some(cause.clone());
                }
            }
        }
        result
    }

    fn check_fsync(&self) -> Result<(), Error> {
        self.failed.as_ref().map_or(Ok(()), |cause| Err(Error::FsyncFailed { cause: cause.clone() }))
    }

    fn work(&mut self, job: &Job, committed: &Result<(), Error>) -> Result<(), Error> {
        self.check_fsync()?;
        match job {
            Job::Flush => committed.clone(),
            Job::Trim(trim) => self.log.trim(trim),
            Job::RewriteCatalogue => {
                let series = self.head.read().expect("no holder of this lock panics").defined_series();
                self.log.rewrite_catalogue(&series)
            }
            Job::Vacuum => self.log.vacuum(),
            #[cfg(test)]
            Job::LimitPages(pages) => self.log.limit_pages(*pages),
        }
    }

    /// Makes what was waited for visible, or says why not; keeps what must be tried again.
    fn settle(&mut self, sync: Vec<Waiting<Batch>>, result: &Result<(), Error>) {
        let mut done_weight: usize = sync.iter().map(|w| weight(&w.work)).sum();
        {
            let mut head = self.head.write().expect("no holder of this lock panics");
            sync.iter().for_each(|w| head.unpin(&w.work.groups()));
            if result.is_ok() {
                sync.iter().for_each(|w| apply(&mut head, &w.work, &self.counters));
            }
        }
        if result.is_ok() {
            done_weight += self.pending.drain(..).map(|b| weight(&b)).sum::<usize>();
        }
        sync.into_iter().for_each(|w| w.done.set(result.clone()));
        let mut state = self.queue.lock();
        state.backlog -= done_weight;
        self.counters.backlog.store(state.backlog, Ordering::Relaxed);
    }
}

/// Puts a batch into the head and counts it.
pub(crate) fn apply(head: &mut Head, batch: &Batch, counters: &Counters) {
    let refused = head.apply(batch);
    counters.samples_appended.fetch_add((batch.samples() - refused) as u64, Ordering::Relaxed);
    counters.spans_appended.fetch_add(batch.span_count() as u64, Ordering::Relaxed);
    counters.conflicts.fetch_add(refused as u64, Ordering::Relaxed);
}

/// Free space for unprivileged users; unknown counts as plenty, because a write would tell soon enough.
fn free_bytes(path: &Path) -> u64 {
    let stat = path.parent().map(rustix::fs::statvfs);
    stat.and_then(Result::ok).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

fn is_fsync_failure(e: &rusqlite::Error) -> bool {
    let fsync = [rusqlite::ffi::SQLITE_IOERR_FSYNC, rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC];
    e.sqlite_error().is_some_and(|e| fsync.contains(&e.extended_code))
}
