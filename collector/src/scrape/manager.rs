//! `ScrapeManager`: all jobs. Reloads without a gap, answers what is scraped, stops in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use davy_egress::{ClientError, HttpClient};
use davy_model::{Clock, Labels};
use davy_store::Store;
use tokio_util::task::TaskTracker;

use super::pool::{ScrapePool, Shell};
use super::status::TargetStatus;
use super::threads::ScrapeThreads;
use crate::config::ScrapeConfig;
use crate::discovery::Source;
use crate::target::TargetGroup;

/// Cheap to clone. Lives within a tokio runtime.
#[derive(Clone)]
pub struct ScrapeManager(Arc<Inner>);

struct Inner {
    shell: Shell,
    pools: Mutex<BTreeMap<String, ScrapePool>>,
}

/// A target that relabelling dropped; of each job the first hundred are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTarget {
    pub job: String,
    pub discovered: Labels,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("job {job:?}: {source}")]
    Client { job: String, source: ClientError },
    #[error("job {job:?} is there twice")]
    Twice { job: String },
}

impl ScrapeManager {
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        let threads = Arc::new(ScrapeThreads::start());
        let shell = Shell { store, clock, tasks: TaskTracker::new(), threads, buffers: Arc::default() };
        Self(Arc::new(Inner { shell, pools: Mutex::new(BTreeMap::new()) }))
    }

    /// Makes these the jobs, or on an error changes nothing. A loop whose target and configuration stay goes on as it
    /// is; one whose configuration changes hands its series to a successor; the series of the others end.
    pub async fn apply(&self, configs: Vec<ScrapeConfig>) -> Result<(), ApplyError> {
        // Building clients reads files.
        let prepared = tokio::task::spawn_blocking(move || prepare(configs));
        let prepared = prepared.await.expect("preparing jobs does not panic")?;
        let mut pools = self.0.pools();
        let mut old = std::mem::take(&mut *pools);
        for (job, (config, client, sources)) in prepared {
            let pool = match old.remove(&job) {
                Some(same) if *same.config == config => same,
                before => self.0.begin(config, client, sources, before),
            };
            pools.insert(job, pool);
        }
        old.into_values().for_each(ScrapePool::end_all);
        Ok(())
    }

    /// Sorted by job and labels.
    pub fn targets(&self) -> Vec<Arc<TargetStatus>> {
        self.0.pools().values().flat_map(|p| p.statuses().collect::<Vec<_>>()).collect()
    }

    /// Names of the jobs, sorted.
    pub fn jobs(&self) -> Vec<String> {
        self.0.pools().keys().cloned().collect()
    }

    pub fn dropped_targets(&self) -> Vec<DroppedTarget> {
        self.0.pools().values().flat_map(|p| p.dropped.iter().cloned()).collect()
    }

    /// Ends every loop after the scrape it is reading. Series get no markers: it is Davy that goes, not the targets.
    pub async fn shutdown(&self) {
        let pools = std::mem::take(&mut *self.0.pools());
        pools.into_values().for_each(ScrapePool::stop_all);
        self.0.shell.tasks.close();
        self.0.shell.tasks.wait().await;
    }
}

type Prepared = BTreeMap<String, (ScrapeConfig, HttpClient, Vec<Source>)>;

fn prepare(configs: Vec<ScrapeConfig>) -> Result<Prepared, ApplyError> {
    let mut prepared = Prepared::new();
    for config in configs {
        let job = config.job_name.clone();
        let failed = |source| ApplyError::Client { job: job.clone(), source };
        let client = HttpClient::new(&config.http).map_err(failed)?;
        let sources: Result<_, _> = config.discovery.iter().map(Source::new).collect();
        let ready = (config, client, sources.map_err(failed)?);
        if prepared.insert(job.clone(), ready).is_some() {
            return Err(ApplyError::Twice { job });
        }
    }
    Ok(prepared)
}

impl Inner {
    fn pools(&self) -> MutexGuard<'_, BTreeMap<String, ScrapePool>> {
        self.pools.lock().expect("no holder of this lock panics")
    }

    fn begin(
        self: &Arc<Self>,
        config: ScrapeConfig,
        client: HttpClient,
        sources: Vec<Source>,
        before: Option<ScrapePool>,
    ) -> ScrapePool {
        let job = config.job_name.clone();
        let mut pool = ScrapePool::new(Arc::new(config), client, self.shell.clone());
        before.into_iter().for_each(|old| pool.succeed(old));
        for (entry, source) in sources.into_iter().enumerate() {
            match source {
                Source::Static(group) => pool.groups[entry] = vec![group],
                source => {
                    let (manager, job, config) = (Arc::downgrade(self), job.clone(), pool.config.clone());
                    let stopped = pool.discovery.clone();
                    let found = move |groups| found(&manager, &job, &config, entry, groups);
                    self.shell.tasks.spawn(async move {
                        tokio::select! {
                            () = stopped.cancelled() => {}
                            () = source.run(found) => {}
                        }
                    });
                }
            }
        }
        pool.sync();
        pool
    }
}

/// A source has a new answer. It counts only for the configuration that asked.
fn found(
    manager: &Weak<Inner>,
    job: &str,
    config: &Arc<ScrapeConfig>,
    entry: usize,
    groups: Vec<TargetGroup>,
) {
    let Some(manager) = manager.upgrade() else { return };
    let mut pools = manager.pools();
    if let Some(pool) = pools.get_mut(job).filter(|p| Arc::ptr_eq(&p.config, config)) {
        pool.groups[entry] = groups;
        pool.sync();
    }
}
