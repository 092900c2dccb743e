//! `Destination`: the task of one destination: reads the log, sends in rounds, and writes down how far it came.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use davy_egress::{ClientError, HttpClient};
use davy_model::{Clock, Timestamp};
use davy_store::control::Control;
use davy_store::{LogRecord, LogTail, Store};
use futures_util::future::join_all;
use reqwest::Url;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::config::{Protocol, RemoteWriteConfig};
use super::lock;
use super::position::{Part, Position};
use super::round::{Round, Shard, deal};
use super::series::Series;
use super::shard::Sender;
use super::stats::{DestinationStats, add};

/// Samples of one round, but for its last record: what a destination holds in memory.
pub(super) const ROUND_SAMPLES_MAX: usize = 100_000;
/// How often the log is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How much is sent again at most after a crash, in time.
const PERSIST_EVERY: Duration = Duration::from_secs(1);
/// After a failure to read.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
#[error("remote_write {name:?}: {source}")]
pub struct SetupError {
    name: String,
    source: ClientError,
}

pub(super) struct Destination {
    pub(super) name: String,
    pub(super) store: Store,
    control: Control,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) series: Arc<Mutex<Series>>,
    pub(super) sender: Sender,
    tail: Option<Arc<Mutex<LogTail>>>,
    persisted: Option<Position>,
    persisted_at: Instant,
    metadata_sent: Option<Instant>,
}

impl Destination {
    pub(super) fn new(
        config: &RemoteWriteConfig,
        store: Store,
        control: Control,
        clock: Arc<dyn Clock>,
        stats: Arc<DestinationStats>,
    ) -> Result<Self, SetupError> {
        let failed = |source| SetupError { name: config.name.clone(), source };
        let url =
            Url::parse(&config.url).map_err(|_| failed(ClientError::Url { got: config.url.clone() }))?;
        let client = HttpClient::new(&config.http).map_err(failed)?;
        let client = HttpClient::for_url(&client, &config.http, &url).map_err(failed)?;
        Ok(Self {
            name: config.name.clone(),
            series: Arc::new(Mutex::new(Series::new(store.clone(), config))),
            sender: Sender {
                client,
                url,
                config: config.clone(),
                store: store.clone(),
                clock: clock.clone(),
                stats,
                failing: AtomicBool::new(false),
            },
            store,
            control,
            clock,
            tail: None,
            persisted: None,
            persisted_at: Instant::now(),
            metadata_sent: None,
        })
    }

    pub(super) fn stats(&self) -> Arc<DestinationStats> {
        self.sender.stats.clone()
    }

    /// Until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let Some(mut position) = self.begin(&stop).await else { return };
        info!(destination = self.name, record = position.record, "remote write started");
        while let Some(mut records) = self.gather(&mut position, &stop).await {
            if records[0].number != position.record + 1 && position.part.is_none() {
                let bridged = self.bridge(&mut position, records[0].number, &stop).await;
                if !bridged && (stop.is_cancelled() || paused(&stop).await) {
                    break;
                }
                continue;
            }
            let whole = (1..records.len()).find(|i| records[*i].number != records[i - 1].number + 1);
            records.truncate(whole.unwrap_or(records.len()));
            let complete = self.send(&mut position, records, &stop).await;
            self.persist(&position, false).await;
            if !complete {
                break;
            }
            self.send_metadata().await;
        }
        self.persist(&position, true).await;
        info!(destination = self.name, record = position.record, "remote write stopped");
    }

    /// From where it was, or from now on.
    async fn begin(&mut self, stop: &CancellationToken) -> Option<Position> {
        loop {
            let (control, name) = (self.control.clone(), self.name.clone());
            let read = tokio::task::spawn_blocking(move || control.forwarded(&name)).await;
            let last = self.store.last_log_record();
            let fresh = || Position { newest: self.clock.now(), ..Position::begin(last) };
            match read.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())) {
                Ok(Some(record)) => {
                    let mut position = Position::from_record(&record);
                    position.part = position.part.filter(|p| p.until <= last);
                    self.persisted = Some(position.clone());
                    if position.record <= last {
                        return Some(position);
                    }
                    // A folder that was restored from an older backup.
                    warn!(
                        destination = self.name,
                        record = position.record,
                        last,
                        "the log ends before what was sent"
                    );
                    return Some(fresh());
                }
                Ok(None) => {
                    let position = fresh();
                    self.persist(&position, true).await;
                    return Some(position);
                }
                Err(error) => {
                    error!(destination = self.name, error, "how far remote write came cannot be read");
                    if paused(stop).await {
                        return None;
                    }
                }
            }
        }
    }

    /// What the next round is made of: at least one record. `None` when it is time to stop.
    async fn gather(&mut self, position: &mut Position, stop: &CancellationToken) -> Option<Vec<LogRecord>> {
        let queue = self.sender.config.queue.clone();
        let mut records: Vec<LogRecord> = Vec::new();
        let (mut samples, mut since) = (0, None);
        loop {
            let last = records.last().map_or(position.record, |r| r.number);
            let newest = self.store.last_log_record();
            self.stats().records_behind.store(newest.saturating_sub(position.record), Ordering::Relaxed);
            if newest > last {
                match self.read(last).await {
                    // All of it was sealed meanwhile: as if there were a record after the gap.
                    Ok(more) if more.is_empty() => {
                        position.part = None;
                        let after = LogRecord { number: newest + 1, ..LogRecord::default() };
                        return Some(if records.is_empty() { vec![after] } else { records });
                    }
                    Ok(more) => {
                        samples += more.iter().map(|r| r.samples.len()).sum::<usize>();
                        records.extend(more);
                        since = since.or_else(|| Some(Instant::now()));
                    }
                    Err(error) => {
                        error!(destination = self.name, error, "the log cannot be read");
                        if paused(stop).await {
                            return None;
                        }
                    }
                }
            }
            if let Some(part) = &position.part {
                // An interrupted round must be the same records again.
                let until = part.until;
                if records.last().is_some_and(|r| r.number >= until) {
                    records.retain(|r| r.number <= until);
                    let whole = records.first().is_some_and(|r| r.number == position.record + 1)
                        && records.len() as u64 == until - position.record;
                    if whole {
                        return Some(records);
                    }
                    position.part = None;
                    records.clear();
                    samples = 0;
                }
            } else if !records.is_empty() {
                let waited = since.is_some_and(|s| s.elapsed() >= queue.batch_send_deadline);
                if samples >= queue.max_samples_per_send || waited {
                    return Some(records);
                }
            }
            if stop.is_cancelled() {
                return None;
            }
            if newest <= last {
                self.persist(position, false).await;
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(POLL) => {}
                }
            }
        }
    }

    async fn read(&mut self, after: u64) -> Result<Vec<LogRecord>, String> {
        let (store, tail) = (self.store.clone(), self.tail.take());
        let read = tokio::task::spawn_blocking(move || {
            let tail = match tail {
                Some(tail) => tail,
                None => Arc::new(Mutex::new(store.log_tail()?)),
            };
            let records = lock(&tail).after(after, ROUND_SAMPLES_MAX)?;
            Ok::<_, davy_store::Error>((tail, records))
        });
        let (tail, records) = read.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        self.tail = Some(tail);
        Ok(records)
    }

    /// One round; whether all of it was answered.
    async fn send(
        &mut self,
        position: &mut Position,
        records: Vec<LogRecord>,
        stop: &CancellationToken,
    ) -> bool {
        let stats = self.stats();
        add(&stats.records_damaged, records.iter().filter(|r| r.damaged).count() as u64);
        let now = self.clock.now();
        let newest = records.iter().flat_map(|r| &r.samples).map(|(_, at, _)| *at).max();
        newest.into_iter().for_each(|at| stats.read(at));
        let shards = self.shards(records.iter().map(|r| r.samples.len() + r.exemplars.len()).sum());
        let (series, at) = (self.series.clone(), position.clone());
        let dealt = tokio::task::spawn_blocking(move || deal(&records, &at, shards, &mut *lock(&series)));
        let Ok(round) = dealt.await else {
            error!(destination = self.name, "a round could not be made");
            return false;
        };
        add(&stats.samples_dropped_relabelled, round.relabelled);
        add(&stats.samples_dropped_unknown_series, round.unknown);
        let until = round.until;
        let whole: Vec<usize> = round.shards.iter().map(|s| s.dealt).collect();
        let done = self.send_shards(round, stop).await;
        if done != whole {
            position.part = Some(Part { until, done });
            return false;
        }
        position.record = until;
        position.part = None;
        // A sample from the future must not make it seem that the past was sent.
        position.newest = position.newest.max(newest.unwrap_or(Timestamp::MIN).min(now));
        true
    }

    /// Shards that so many samples are worth.
    pub(super) fn shards(&self, samples: usize) -> usize {
        let queue = &self.sender.config.queue;
        samples.div_ceil(queue.max_samples_per_send).clamp(queue.min_shards, queue.max_shards)
    }

    /// By shard, how many are done.
    pub(super) async fn send_shards(&self, round: Round, stop: &CancellationToken) -> Vec<usize> {
        let stats = &self.sender.stats;
        stats.pending.store(round.items() as u64, Ordering::Relaxed);
        stats.shards.store(round.shards.len() as u64, Ordering::Relaxed);
        let done = join_all(round.shards.into_iter().map(|s: Shard| self.sender.run(s, stop))).await;
        stats.pending.store(0, Ordering::Relaxed);
        done
    }

    async fn send_metadata(&mut self) {
        let config = &self.sender.config;
        let due = self.metadata_sent.is_none_or(|at| at.elapsed() >= config.metadata.send_interval);
        if !due || !config.metadata.send || config.protocol != Protocol::V1 {
            return;
        }
        self.metadata_sent = Some(Instant::now());
        let snapshot = self.store.snapshot();
        let all: Vec<_> = snapshot.all_metadata().map(|(name, m)| (name.to_owned(), m.clone())).collect();
        for part in all.chunks(config.metadata.max_samples_per_send) {
            self.sender.send_metadata(part).await;
        }
    }

    /// Writes the position down, now and then unless it is `now`.
    pub(super) async fn persist(&mut self, position: &Position, now: bool) {
        let due = now || self.persisted_at.elapsed() >= PERSIST_EVERY;
        if !due || self.persisted.as_ref() == Some(position) {
            return;
        }
        self.persisted_at = Instant::now();
        let (control, record) = (self.control.clone(), position.to_record(&self.name));
        let written = tokio::task::spawn_blocking(move || control.put_forwarded(&record)).await;
        match written.map_err(|e| e.to_string()).and_then(|w| w.map_err(|e| e.to_string())) {
            Ok(()) => self.persisted = Some(position.clone()),
            Err(error) => {
                error!(destination = self.name, error, "how far remote write came cannot be written down");
            }
        }
    }
}

/// Whether it is time to stop, after a pause.
async fn paused(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(PAUSE) => false,
    }
}
