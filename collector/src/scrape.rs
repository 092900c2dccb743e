//! Hop 1: targets in, bodies out. [`ScrapeManager`] keeps a [`ScrapeLoop`] for each target.
//!
//! A loop waits for its tick, asks its target, and there and then reads the body against what the target sent before
//! ([`state::TargetState`], pure) and appends it to the store as one batch. The loops have threads of their own
//! ([`threads`]), so that this keeps nobody else waiting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use davy_egress::HttpClient;
use davy_model::{Clock, Timestamp};
use davy_store::Store;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

mod append;
mod buffers;
mod cache;
mod error;
mod family;
mod fetch;
mod manager;
mod own;
mod pool;
mod probe;
mod sample_labels;
mod series;
mod start;
mod state;
mod status;
mod threads;

pub use error::{LimitError, Reason, ScrapeError};
pub use manager::{ApplyError, DroppedTarget, ScrapeManager};
pub use own::{OwnError, OwnTarget};
pub use probe::BodyReader;
pub use status::{Health, TargetStatus};

use crate::config::ScrapeConfig;
use crate::target::ScrapeTarget;
use buffers::{BufferPool, Buffers};
use fetch::Fetched;
use state::{Counts, TargetState};
use status::Shown;

/// A scrape this little late gets the time of its tick: evenly spaced timestamps compress to almost nothing.
const ALIGN_TOLERANCE: Duration = Duration::from_millis(2);
/// A body up to this size (milliseconds of work) is read on the loop's own thread, larger ones where blocking is fine.
const INLINE_BODY_BYTES_MAX: usize = 1 << 20;

/// What a loop shares with the manager.
struct ScrapeLoop {
    target: Arc<ScrapeTarget>,
    config: Arc<ScrapeConfig>,
    client: HttpClient,
    store: Store,
    clock: Arc<dyn Clock>,
    status: Shown,
    buffers: Arc<BufferPool>,
    stop: CancellationToken,
}

/// What a loop keeps from scrape to scrape, and the buffers of this one.
struct Work {
    state: TargetState,
    buffers: Buffers,
}

impl ScrapeLoop {
    /// Scrapes at every tick until it is stopped; returns what it knows, for a successor or for the markers of an end.
    async fn run(self, state: TargetState) -> TargetState {
        let mut work = Work { state, buffers: Buffers::default() };
        let offset = self.target.offset();
        while let Some(at) = self.next_tick(offset).await {
            let started = Instant::now();
            work.buffers = self.buffers.take();
            let max = self.config.limits.body_bytes_max;
            let fetched = tokio::select! {
                () = self.stop.cancelled() => break,
                fetched = fetch::fetch(&self.client, &self.target, max, &mut work.buffers.gathered) => fetched,
            };
            work = self.read_and_append(work, fetched, at, started).await;
            self.buffers.give(std::mem::take(&mut work.buffers));
        }
        work.state
    }

    /// Waits for the next tick of the target's own grid; `None` when stopped. Ticks that passed during a long scrape
    /// are left out, never made up for.
    async fn next_tick(&self, offset: Duration) -> Option<Timestamp> {
        let interval = self.target.interval;
        let tick_after = |now: Timestamp| now.align_down(interval, offset) + interval;
        let mut tick = tick_after(self.clock.now());
        loop {
            let now = self.clock.now();
            if now >= tick {
                let tolerance = ALIGN_TOLERANCE.min(interval / 100);
                return Some(if now.since(tick) <= tolerance { tick } else { now });
            }
            if tick.since(now) > interval {
                // The clock was set back.
                tick = tick_after(now);
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = sleep(tick.since(now)) => {}
            }
        }
    }

    async fn read_and_append(
        &self,
        mut work: Work,
        fetched: Result<Fetched, ScrapeError>,
        at: Timestamp,
        started: Instant,
    ) -> Work {
        let (store, now) = (self.store.clone(), self.clock.now());
        // The first scrape of a loop asks the store what was there before it, which may read the disk.
        let body_len = fetched.as_ref().map_or(0, |f| f.body(&work.buffers.gathered).len());
        let long = work.state.is_new() || body_len > INLINE_BODY_BYTES_MAX;
        let job = move || {
            let read = AssertUnwindSafe(|| work.read_and_append(&store, now, fetched, at, started));
            catch_unwind(read).map(|read| (read, work))
        };
        let done = if long {
            tokio::task::spawn_blocking(job).await.expect("the job catches its panics, and nobody aborts it")
        } else {
            job()
        };
        match done {
            Ok((Read { result, took, stored }, work)) => {
                self.tell(at, took, work.buffers.rows.counts, result, stored);
                work
            }
            Err(_) => {
                tracing::error!(url = %self.target.url, "reading a scrape panicked: the target starts afresh");
                let config = self.config.clone();
                let state = TargetState::new(config, self.target.labels.clone(), self.target.interval);
                Work { state, buffers: Buffers::default() }
            }
        }
    }

    /// Updates the status; logs what is new about it.
    fn tell(
        &self,
        at: Timestamp,
        took: Duration,
        counts: Counts,
        result: Result<(), ScrapeError>,
        stored: Result<append::Refused, davy_store::Error>,
    ) {
        let mut shown = self.status.lock().expect("no holder of this lock panics");
        let status = Arc::make_mut(&mut shown);
        let (job, labels) = (&self.config.job_name, &self.target.labels);
        let (refused, example) = match stored {
            Ok(refused) => (refused.count, refused.example.map(|e| e.to_string())),
            Err(error) => (counts.kept - counts.duplicates, Some(error.to_string())),
        };
        if status.refused == 0 && refused > 0 {
            tracing::warn!(%job, %labels, refused, reason = ?example, "the store did not take all samples of a scrape");
        }
        if status.duplicates == 0 && counts.duplicates > 0 {
            tracing::warn!(%job, %labels, duplicates = counts.duplicates, "series repeated within a scrape");
        }
        let (health, reason, error) = match result {
            Ok(()) => (Health::Up, None, None),
            Err(error) => (Health::Down, Some(error.reason()), Some(error.to_string())),
        };
        if health == Health::Down && (status.health != Health::Down || status.reason != reason) {
            tracing::warn!(%job, %labels, reason = ?reason, error = error.as_deref(), "scrape failed");
        }
        if health == Health::Up && status.health == Health::Down {
            tracing::info!(%job, %labels, "scrape works again");
        }
        status.health = health;
        status.reason = reason;
        status.last_error = error.or(example);
        status.last_scrape = Some(at);
        status.last_duration = took;
        status.samples = if health == Health::Up { counts.kept } else { 0 };
        status.duplicates = counts.duplicates;
        status.refused = refused;
        status.scrapes += 1;
        status.failures += u64::from(health == Health::Down);
    }
}

/// How reading and appending went.
struct Read {
    result: Result<(), ScrapeError>,
    took: Duration,
    stored: Result<append::Refused, davy_store::Error>,
}

impl Work {
    fn read_and_append(
        &mut self,
        store: &Store,
        now: Timestamp,
        fetched: Result<Fetched, ScrapeError>,
        at: Timestamp,
        started: Instant,
    ) -> Read {
        let Self { state, buffers: Buffers { rows, gathered } } = self;
        let result = fetched.and_then(|f| state.read(f.body(gathered), f.format, at, rows));
        if result.is_err() {
            state.fail(at, rows);
        }
        let Counts { scraped, kept, added, .. } = rows.counts;
        let took = started.elapsed();
        let up = if result.is_ok() { 1.0 } else { 0.0 };
        let reports = [up, took.as_secs_f64(), scraped as f64, kept as f64, added as f64];
        let stored = append::append(store, now, state, rows, (at, reports));
        state.forget();
        Read { result, took, stored }
    }
}
