//! What is done now and then, whatever is decided: maintenance of the store, checkpoints of the audit.

use std::sync::Arc;
use std::time::Duration;

use davy_model::Clock;
use davy_store::Store;
use davy_store::control::Control;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::metrics::Metrics;
use crate::audit::AuditKeeper;

const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);

/// Seals, drops what retention says, and prunes old verdicts and messages.
pub(super) struct Upkeep {
    pub(super) store: Store,
    pub(super) control: Control,
    pub(super) retention: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl Upkeep {
    pub(super) async fn run(self, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(MAINTENANCE_INTERVAL) => {}
            }
            let (store, control, now) = (self.store.clone(), self.control.clone(), clock.now());
            let until = now - self.retention;
            let began = tokio::time::Instant::now();
            let work = move || {
                store.maintain(now)?;
                store.compact_slice(now)?;
                // A thousand rows a call: what is left waits for the next minute.
                control.prune(until).map(drop)
            };
            let done = tokio::task::spawn_blocking(work).await;
            self.metrics.maintained(began.elapsed(), matches!(done, Ok(Ok(()))));
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!(%error, "maintenance of the store failed; it will be tried again"),
                Err(error) => error!(%error, "maintenance of the store ended early"),
            }
        }
    }
}

/// Checkpoints of the audit: each minute, and after every call of a target.
pub(super) async fn sign(
    mut keeper: AuditKeeper,
    acted: Arc<Notify>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = acted.notified() => {}
            () = tokio::time::sleep(CHECKPOINT_INTERVAL) => {}
        }
        let now = clock.now();
        let signed = tokio::task::spawn_blocking(move || {
            let signed = keeper.checkpoint(now);
            (keeper, signed)
        });
        match signed.await {
            Ok((back, Ok(()))) => keeper = back,
            Ok((back, Err(error))) => {
                error!(error, "the audit's checkpoint could not be written; it will be tried again");
                keeper = back;
            }
            Err(error) => return error!(%error, "the audit is signed no more"),
        }
        if shutdown.is_cancelled() {
            return;
        }
    }
}
