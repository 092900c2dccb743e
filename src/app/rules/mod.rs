//! Rules of a running Davy: each group in a task of its own, off the task that decides, so that a slow rule delays
//! no judge.
//!
//! `manager` starts, changes and ends groups as the file says; `task` evaluates one at its times; `ground` is the
//! store as a group sees it; `view` and `metrics` show what came of it. What people must hear goes through the
//! [`Inbox`] to the one who owns the alerts.

mod ground;
mod manager;
mod metrics;
mod task;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use davy_alerting::book::OPEN_ALERTS_MAX;
use davy_alerting::rule::{AlertUpdate, GroupSpec, Outside};
use davy_api::wire::rules::RuleGroup as Shown;
use davy_model::{Clock, Labels};
use davy_query::Engine;
use davy_store::Store;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub(super) use metrics::RuleMetrics;

use crate::config::Config;

/// Groups that are evaluated at the same time; the others wait, and what they miss is counted.
const EVALUATIONS_MAX: usize = 4;
/// A query of a rule that takes longer is ended.
const QUERY_TIMEOUT: Duration = Duration::from_secs(120);

/// What the tasks of the groups share.
struct Shared {
    store: Store,
    clock: Arc<dyn Clock>,
    engine: Engine,
    permits: Semaphore,
    metrics: RuleMetrics,
    inbox: Arc<Inbox>,
    /// By file and name.
    shown: Mutex<BTreeMap<(String, String), Arc<Shown>>>,
}

impl Shared {
    fn shown(&self) -> MutexGuard<'_, BTreeMap<(String, String), Arc<Shown>>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The groups that shall be evaluated.
#[derive(Debug, Default)]
struct Wanted {
    groups: Vec<GroupSpec>,
    context: Context,
}

/// What every group is evaluated with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Context {
    outside: Outside,
    /// Step of a subquery that names none: the global interval, as in Prometheus.
    subquery_step: Duration,
}

impl Wanted {
    fn new(config: &Config, external_url: &str) -> Self {
        let outside = Outside {
            external_labels: config.external_labels.clone(),
            external_url: external_url.trim_end_matches('/').to_owned(),
        };
        let context = Context { outside, subquery_step: config.evaluation_interval };
        Self { groups: config.rule_groups.clone(), context }
    }
}

/// What the app holds of its rules.
pub(super) struct Rules {
    shared: Arc<Shared>,
    wanted: watch::Sender<Arc<Wanted>>,
    external_url: String,
}

impl Rules {
    /// Starts evaluating; the future is the manager's and ends some time after `shutdown`.
    pub(super) fn start(
        config: &Config,
        external_url: &str,
        store: Store,
        clock: Arc<dyn Clock>,
        metrics: RuleMetrics,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let shared = Arc::new(Shared {
            store,
            clock,
            engine: Engine::default(),
            permits: Semaphore::new(EVALUATIONS_MAX),
            metrics,
            inbox: Arc::default(),
            shown: Mutex::default(),
        });
        let (wanted, changes) = watch::channel(Arc::new(Wanted::new(config, external_url)));
        let manager = manager::run(shared.clone(), changes, shutdown);
        (Self { shared, wanted, external_url: external_url.to_owned() }, manager)
    }

    /// Other rules from now on; those that did not change go on.
    pub(super) fn apply(&self, config: &Config) {
        self.wanted.send_replace(Arc::new(Wanted::new(config, &self.external_url)));
    }

    pub(super) fn inbox(&self) -> Arc<Inbox> {
        self.shared.inbox.clone()
    }

    /// Every group as the API shows it, by file and name.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let shown: Vec<Arc<Shown>> = self.shared.shown().values().cloned().collect();
        shown.iter().map(|group| Shown::clone(group)).collect()
    }
}

/// Alerts that whoever owns them has not taken yet: the last word on each.
#[derive(Default)]
pub(super) struct Inbox {
    updates: Mutex<BTreeMap<Labels, AlertUpdate>>,
    bell: Notify,
}

impl Inbox {
    pub(super) fn put(&self, updates: Vec<AlertUpdate>) {
        if updates.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        for update in updates {
            // Beyond it the owner would refuse them as well. Firing alerts are said again, and others end by themselves.
            if waiting.len() < OPEN_ALERTS_MAX || waiting.contains_key(&update.alert.labels) {
                waiting.insert(update.alert.labels.clone(), update);
            }
        }
        drop(waiting);
        self.bell.notify_one();
    }

    /// Waits until there is something to take.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    pub(super) fn take(&self) -> Vec<AlertUpdate> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Labels, AlertUpdate>> {
        self.updates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
