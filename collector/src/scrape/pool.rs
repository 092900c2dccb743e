//! `ScrapePool`: the loops of one job, kept in step with what its discovery finds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use davy_egress::HttpClient;
use davy_model::{Clock, Labels};
use davy_store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::append;
use super::buffers::BufferPool;
use super::state::TargetState;
use super::status::{Health, Shown, TargetStatus};
use super::threads::ScrapeThreads;
use super::{DroppedTarget, ScrapeLoop};
use crate::config::ScrapeConfig;
use crate::target::{Relabelled, ScrapeTarget, TargetGroup};

/// Targets dropped by relabelling that are remembered, to be shown.
const DROPPED_MAX: usize = 100;

/// What every pool works with.
#[derive(Clone)]
pub(super) struct Shell {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    pub(super) threads: Arc<ScrapeThreads>,
    pub(super) buffers: Arc<BufferPool>,
}

pub(super) struct ScrapePool {
    pub(super) config: Arc<ScrapeConfig>,
    client: HttpClient,
    shell: Shell,
    /// By entry of the job's discovery.
    pub(super) groups: Vec<Vec<TargetGroup>>,
    /// In the order in which they are shown.
    loops: BTreeMap<Key, Running>,
    pub(super) dropped: Vec<DroppedTarget>,
    pub(super) discovery: CancellationToken,
}

/// Two discovered targets that come to this are one.
type Key = (Labels, String);

struct Running {
    target: Arc<ScrapeTarget>,
    config: Arc<ScrapeConfig>,
    status: Shown,
    stop: CancellationToken,
    task: JoinHandle<TargetState>,
}

impl ScrapePool {
    pub(super) fn new(config: Arc<ScrapeConfig>, client: HttpClient, shell: Shell) -> Self {
        Self {
            groups: vec![Vec::new(); config.discovery.len()],
            config,
            client,
            shell,
            loops: BTreeMap::new(),
            dropped: Vec::new(),
            discovery: CancellationToken::new(),
        }
    }

    /// Takes over what an older pool of the job runs; [`Self::sync`] then keeps, hands over or ends its loops.
    pub(super) fn succeed(&mut self, mut old: Self) {
        old.discovery.cancel();
        self.loops = old.loops;
        for (i, entry) in self.config.discovery.iter().enumerate() {
            // What an unchanged source last said holds until it is asked again.
            if let Some(same) = old.config.discovery.iter().position(|o| o == entry) {
                self.groups[i] = std::mem::take(&mut old.groups[same]);
            }
        }
    }

    /// Starts and ends loops so that there is one for each target.
    pub(super) fn sync(&mut self) {
        let mut wanted = self.targets();
        let mut gone = HashMap::new();
        for (key, running) in std::mem::take(&mut self.loops) {
            match wanted.remove(&key) {
                Some(target) if running.goes_on(&target, &self.config) => {
                    let mut status = running.status.lock().expect("no holder of this lock panics");
                    Arc::make_mut(&mut status).discovered = target.discovered.clone();
                    drop(status);
                    self.loops.insert(key, running);
                }
                Some(target) => {
                    let started = self.start(target, Some(running));
                    self.loops.extend(started.map(|r| (key, r)));
                }
                None => {
                    let twin = gone.insert(key.0, running);
                    twin.into_iter().for_each(|t| self.end(t));
                }
            }
        }
        for (key, target) in wanted {
            // The same labels at another address are the same series.
            let before = gone.remove(&key.0);
            let started = self.start(target, before);
            self.loops.extend(started.map(|r| (key, r)));
        }
        for running in gone.into_values() {
            self.end(running);
        }
    }

    fn targets(&mut self) -> BTreeMap<Key, ScrapeTarget> {
        self.dropped.clear();
        let (mut targets, mut seen) = (BTreeMap::new(), 0u64);
        let all = self.groups.iter().flatten().flat_map(|g| g.targets.iter().map(move |t| (t, &g.labels)));
        for (address, labels) in all {
            match ScrapeTarget::relabel(address, labels, &self.config) {
                Ok(Relabelled::Target(target)) => {
                    seen += 1;
                    if seen <= self.config.limits.targets_max {
                        targets.insert((target.labels.clone(), target.url.to_string()), *target);
                    }
                }
                Ok(Relabelled::Dropped(discovered)) if self.dropped.len() < DROPPED_MAX => {
                    let job = self.config.job_name.clone();
                    self.dropped.push(DroppedTarget { job, discovered });
                }
                Ok(Relabelled::Dropped(_)) => {}
                Err(error) => tracing::warn!(job = %self.config.job_name, %error, "target refused"),
            }
        }
        let max = self.config.limits.targets_max;
        if seen > max {
            tracing::warn!(job = %self.config.job_name, found = seen, max, "targets beyond the limit are left out");
        }
        targets
    }

    /// `before` is stopped, and what it knows of the series goes to the new loop.
    fn start(&self, target: ScrapeTarget, before: Option<Running>) -> Option<Running> {
        let config = self.config.clone();
        let client = match HttpClient::for_url(&self.client, &config.http, &target.url) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(job = %config.job_name, url = %target.url, %error, "target cannot be scraped");
                before.into_iter().for_each(|b| self.end(b));
                return None;
            }
        };
        let target = Arc::new(target);
        let status = Arc::new(Mutex::new(Arc::new(unknown(&target, &config))));
        let stop = CancellationToken::new();
        let scrape_loop = ScrapeLoop {
            target: target.clone(),
            config: config.clone(),
            client,
            store: self.shell.store.clone(),
            clock: self.shell.clock.clone(),
            status: status.clone(),
            buffers: self.shell.buffers.clone(),
            stop: stop.clone(),
        };
        let (labels, interval, loop_config) = (target.labels.clone(), target.interval, config.clone());
        let scrapes = async move {
            let before = match before {
                Some(running) => running.stop().await,
                None => None,
            };
            let state = match before {
                Some(state) => state.reconfigured(loop_config, interval),
                None => TargetState::new(loop_config, labels, interval),
            };
            scrape_loop.run(state).await
        };
        let task = self.shell.tasks.spawn_on(scrapes, self.shell.threads.pick());
        Some(Running { target, config, status, stop, task })
    }

    /// The target is gone: its loop ends, and so do its series.
    fn end(&self, running: Running) {
        let (store, clock) = (self.shell.store.clone(), self.shell.clock.clone());
        self.shell.tasks.spawn(async move {
            let url = running.target.url.clone();
            let Some(mut state) = running.stop().await else { return };
            let now = clock.now();
            let done = tokio::task::spawn_blocking(move || append::append_end(&store, now, &mut state)).await;
            match done {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!(%url, %error, "the end of a target's series is not stored"),
                Err(error) => tracing::error!(%url, %error, "marking the end of a target's series panicked"),
            }
        });
    }

    /// The job is not configured any more.
    pub(super) fn end_all(mut self) {
        self.discovery.cancel();
        for running in std::mem::take(&mut self.loops).into_values() {
            self.end(running);
        }
    }

    /// Davy stops: the targets go on, and so do their series.
    pub(super) fn stop_all(self) {
        self.discovery.cancel();
        self.loops.values().for_each(|running| running.stop.cancel());
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = Arc<TargetStatus>> {
        self.loops.values().map(|r| Arc::clone(&r.status.lock().expect("no holder of this lock panics")))
    }
}

impl Running {
    /// Whether a loop for this target would do the same.
    fn goes_on(&self, target: &ScrapeTarget, config: &Arc<ScrapeConfig>) -> bool {
        (self.target.interval, self.target.timeout) == (target.interval, target.timeout)
            && (Arc::ptr_eq(&self.config, config) || same_scrapes(&self.config, config))
    }

    /// `None` if the loop panicked.
    async fn stop(self) -> Option<TargetState> {
        self.stop.cancel();
        self.task.await.ok()
    }
}

/// Equal but for where targets come from and how they are named, which [`Key`] holds already.
fn same_scrapes(a: &ScrapeConfig, b: &ScrapeConfig) -> bool {
    let of_scrape = |c: &ScrapeConfig| ScrapeConfig { discovery: vec![], relabel: vec![], ..c.clone() };
    of_scrape(a) == of_scrape(b)
}

fn unknown(target: &ScrapeTarget, config: &ScrapeConfig) -> TargetStatus {
    TargetStatus {
        job: config.job_name.clone(),
        labels: target.labels.clone(),
        discovered: target.discovered.clone(),
        url: target.url.to_string(),
        interval: target.interval,
        timeout: target.timeout,
        health: Health::Unknown,
        last_scrape: None,
        last_duration: std::time::Duration::ZERO,
        last_error: None,
        reason: None,
        samples: 0,
        duplicates: 0,
        refused: 0,
        scrapes: 0,
        failures: 0,
    }
}
