//! `Feeds`: the tasks that fetch, one a service. They run ahead of the ticks and never hold one up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use davy_model::{Clock, Timestamp, Value};
use davy_store::{Durability, Refusal, Store};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::answer::Fetched;
use super::client::narrowed;
use super::{Client, Failed, Fed, ReleaseSource, SourceSpec, SourceStates, selectors};

/// Requests to one server at the same time.
const REQUESTS_MAX: usize = 4;
/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Samples that are fetched for one service at once.
const SAMPLES_MAX: usize = 4_000_000;
/// What is fetched at the beginning: the judge looks for a release's metrics so far back.
const FIRST: Duration = Duration::from_secs(300);
/// Fetched again each time: samples that the server took late. What came before is kept once.
const OVERLAP: Duration = Duration::from_secs(60);
/// A server that was away is not asked for more than this: the store takes no older samples.
const CATCH_UP_MAX: Duration = Duration::from_secs(540);

/// Every feed of the file.
pub struct Feeds {
    store: Store,
    clock: Arc<dyn Clock>,
    states: SourceStates,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    source: SourceSpec,
    of: ReleaseSource,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Feeds {
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, states: SourceStates::default(), running: Mutex::default() }
    }

    /// What the feeds know; the same for as long as they live.
    pub fn states(&self) -> SourceStates {
        self.states.clone()
    }

    /// Starts what is new, stops what is gone, leaves alone what did not change. On `Err` nothing changed.
    pub async fn apply(
        &self,
        sources: &[SourceSpec],
        services: &BTreeMap<String, ReleaseSource>,
    ) -> Result<(), String> {
        let mut clients = BTreeMap::new();
        for source in sources {
            let client = Client::new(source, ANSWER_BYTES_MAX)
                .map_err(|e| format!("source {:?}: {e}", source.name))?;
            let places = Arc::new(Semaphore::new(REQUESTS_MAX));
            clients.insert(source.name.as_str(), (source, Arc::new(client), places));
        }
        let mut running = self.running.lock().await;
        let is_same = |service: &String, r: &Running| {
            let wanted = services.get(service).and_then(|of| Some((of, clients.get(of.source.as_str())?.0)));
            wanted == Some((&r.of, &r.source)) && !r.task.is_finished()
        };
        running.retain(|service, r| {
            let same = is_same(service, r);
            if !same {
                r.stop.cancel();
            }
            same
        });
        self.states.keep(|service| services.contains_key(service));
        for (service, of) in services {
            let Some((source, client, places)) = clients.get(of.source.as_str()) else { continue };
            if running.contains_key(service) {
                continue;
            }
            let now = self.clock.now();
            let fed = Fed {
                source: source.name.clone(),
                // It is waited for as if it had just answered.
                complete_until: now - source.delay,
                error: Some("it was not asked yet".to_owned()),
                delay: source.delay,
            };
            self.states.set(service, fed);
            let stop = CancellationToken::new();
            let feed = Feed {
                service: service.clone(),
                selectors: selectors(service, &of.selectors),
                source: (*source).clone(),
                client: client.clone(),
                places: places.clone(),
                store: self.store.clone(),
                clock: self.clock.clone(),
                states: self.states.clone(),
                raw: true,
                asked: false,
            };
            let task = tokio::spawn(feed.run(stop.clone()));
            let started = Running { source: (*source).clone(), of: of.clone(), stop, task };
            running.insert(service.clone(), started);
        }
        Ok(())
    }

    pub async fn shutdown(&self) {
        let running = std::mem::take(&mut *self.running.lock().await);
        for (_, r) in running {
            r.stop.cancel();
            let _ = r.task.await;
        }
    }
}

struct Feed {
    service: String,
    selectors: Vec<String>,
    source: SourceSpec,
    client: Arc<Client>,
    places: Arc<Semaphore>,
    store: Store,
    clock: Arc<dyn Clock>,
    states: SourceStates,
    /// The server answers range selectors with raw samples.
    raw: bool,
    /// It answered before.
    asked: bool,
}

impl Feed {
    async fn run(mut self, stop: CancellationToken) {
        info!(service = self.service, source = self.source.name, "samples are fetched from a source");
        let mut failing = false;
        loop {
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = self.fetch() => fetched,
            };
            let Some(mut fed) = self.states.get(&self.service) else { return };
            match fetched {
                Ok(complete_until) => {
                    if std::mem::take(&mut failing) {
                        info!(service = self.service, source = self.source.name, "the source answers again");
                    }
                    fed.error = None;
                    fed.complete_until = fed.complete_until.max(complete_until);
                }
                Err(why) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(
                            service = self.service,
                            source = self.source.name,
                            why,
                            "a source does not answer"
                        );
                    }
                    fed.error = Some(why);
                }
            }
            self.states.set(&self.service, fed);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.source.interval) => {}
            }
        }
    }

    /// Fetches and stores what is new, all of it or nothing; until when it is complete.
    async fn fetch(&mut self) -> Result<Timestamp, String> {
        let now = self.clock.now();
        let known = self.states.get(&self.service).map_or(now, |f| f.complete_until);
        let since = known - OVERLAP - self.source.delay;
        let from = if self.asked { since } else { since.min(now - FIRST) }.max(now - CATCH_UP_MAX);
        let mut all = Vec::new();
        let mut samples = 0;
        for selector in self.selectors.clone() {
            let found = self.selector(&selector, from, now).await.map_err(|e| e.to_string())?;
            samples += found.iter().map(|s| s.samples.len()).sum::<usize>();
            if samples > SAMPLES_MAX {
                return Err(format!("more than {SAMPLES_MAX} samples of {} at once", self.service));
            }
            all.extend(found);
        }
        let newest = all.iter().filter_map(|s| Some(s.samples.last()?.0)).max();
        let store = self.store.clone();
        let stored = tokio::task::spawn_blocking(move || put(&store, now, all)).await;
        stored.map_err(|e| e.to_string())??;
        self.asked = true;
        // A server that is itself behind answers without an error: its newest sample says how far it is.
        Ok(newest.map_or(Timestamp::MIN, |newest| newest.min(now) - self.source.delay))
    }

    /// By metric where all at once is too much; at steps where raw samples are not to be had.
    async fn selector(
        &mut self,
        selector: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Fetched>, Failed> {
        match self.ask(selector, from, to).await {
            Err(Failed::TooMuch(_)) => {}
            answered => return answered,
        }
        let names = self.client.names(selector, from, to).await?;
        let mut all = Vec::new();
        for name in names {
            all.extend(self.ask(&narrowed(selector, &name), from, to).await?);
        }
        Ok(all)
    }

    async fn ask(&mut self, selector: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Fetched>, Failed> {
        let places = self.places.clone();
        let _place = places.acquire().await.map_err(|e| Failed::Other(e.to_string()))?;
        if self.raw {
            match self.client.raw(selector, from, to).await {
                Err(Failed::NotRaw(why)) => {
                    warn!(source = self.source.name, why, "no raw samples: it is asked at steps");
                    self.raw = false;
                }
                answered => return answered,
            }
        }
        self.client.steps(selector, (from, to), self.source.interval).await
    }
}

/// Samples that the store has already, or does not take, are no matter: they were fetched before.
fn put(store: &Store, now: Timestamp, all: Vec<Fetched>) -> Result<(), String> {
    let mut batch = store.appender(now);
    for series in all {
        let found = batch.series(&series.labels).map_err(|refusal| refusal.to_string())?;
        for (at, value) in series.samples {
            let appended = batch.append(found, at, Value::Float(value));
            if let Err(refusal @ Refusal::DiskFull { .. }) = appended {
                return Err(refusal.to_string());
            }
        }
    }
    batch.commit(Durability::Group).map_err(|e| e.to_string())
}
