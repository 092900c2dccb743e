//! Starts, changes and ends groups as the file says.

use std::collections::BTreeMap;
use std::sync::Arc;

use davy_alerting::rule::{GroupSpec, RuleGroup};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::ground::{Ground, Watchdog};
use super::task::Task;
use super::{Context, Shared, Wanted};

struct Running {
    spec: GroupSpec,
    context: Arc<Context>,
    stop: CancellationToken,
    task: JoinHandle<RuleGroup>,
}

impl Running {
    async fn end(self) -> RuleGroup {
        self.stop.cancel();
        self.task.await.unwrap_or_else(|error| {
            error!(group = self.spec.key(), %error, "a group ended early");
            RuleGroup::new(self.spec, false)
        })
    }
}

/// Until `shutdown`; then every group has ended.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut wanted: watch::Receiver<Arc<Wanted>>,
    shutdown: CancellationToken,
) {
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    // Only what was there at the start can have been there before it.
    let mut should_restore = true;
    loop {
        let now_wanted = wanted.borrow_and_update().clone();
        apply(&shared, &now_wanted, &mut running, should_restore, &shutdown).await;
        should_restore = false;
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = wanted.changed() => if changed.is_err() { break },
        }
    }
    for group in running.into_values() {
        group.end().await;
    }
}

async fn apply(
    shared: &Arc<Shared>,
    wanted: &Wanted,
    running: &mut BTreeMap<String, Running>,
    should_restore: bool,
    shutdown: &CancellationToken,
) {
    let context = Arc::new(wanted.context.clone());
    let mut before = std::mem::take(running);
    for spec in &wanted.groups {
        let key = spec.key();
        let old = before.remove(&key);
        let mut group = RuleGroup::new(spec.clone(), should_restore);
        if let Some(old) = old {
            if old.spec == *spec && *old.context == *context {
                running.insert(key, old);
                continue;
            }
            let updates = group.take_state(old.end().await, shared.clock.now());
            shared.inbox.put(updates);
        }
        let stop = shutdown.child_token();
        let task = Task { group, context: context.clone(), shared: shared.clone(), stop: stop.clone() };
        let task = tokio::spawn(task.run());
        running.insert(key, Running { spec: spec.clone(), context: context.clone(), stop, task });
    }
    for (key, old) in before {
        info!(group = key, "rule group is gone from the file");
        let mut group = old.end().await;
        shared.inbox.put(group.withdraw(shared.clock.now()));
        let spec = group.spec();
        shared.shown().remove(&(spec.file.clone(), spec.name.clone()));
        shared.metrics.forget(&key);
        tokio::spawn(end_series(shared.clone(), group, shutdown.clone()));
    }
}

/// Two intervals later, so that a rule under a new name may have taken the series over.
async fn end_series(shared: Arc<Shared>, mut group: RuleGroup, shutdown: CancellationToken) {
    let at = shared.clock.now();
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = tokio::time::sleep(group.spec().interval * 2) => {}
    }
    let mut ground = Ground {
        store: shared.store.clone(),
        clock: shared.clock.clone(),
        engine: shared.engine.clone(),
        watchdog: Arc::new(Watchdog::default()),
        began: Instant::now(),
    };
    let ended =
        tokio::task::spawn_blocking(move || group.end_series(at, &mut ground).map_err(|e| e.to_string()));
    if let Err(error) = ended.await.map_err(|e| e.to_string()).flatten() {
        error!(error, "series of rules that are gone could not be ended");
    }
}
