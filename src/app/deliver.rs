//! The outbox's loop: messages that are due go out, what came of each is written down. At least once: a message
//! counts as delivered only when that is on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use davy_alerting::actuate::Actuator;
use davy_alerting::breaker::Breakers;
use davy_alerting::dispatch::{DEAD, Dispatcher};
use davy_alerting::notify::{BoxFuture, Memory, Notifier};
use davy_alerting::record::target_of;
use davy_alerting::undelivered::Undelivered;
use davy_alerting::words::Language;
use davy_model::Clock;
use davy_store::control::{Control, ControlBatch, MemoRecord, OutboxRecord};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::metrics::Metrics;
use super::rules::Inbox;

/// Messages in flight at once; one slow receiver must not hold up the others.
const IN_FLIGHT_MAX: usize = 16;
/// Longest sleep without a look: covers messages whose wake-up was lost to an error.
const POLL_MAX: Duration = Duration::from_secs(5);

/// What reaches the outside, built from one reading of the file.
pub(super) struct Messaging {
    pub(super) notifier: Notifier,
    pub(super) dispatcher: Dispatcher,
    pub(super) language: Language,
    pub(super) actuators: BTreeMap<String, Actuator>,
}

pub(super) struct Delivery {
    pub(super) control: Control,
    pub(super) clock: Arc<dyn Clock>,
    /// A reload replaces it.
    pub(super) messaging: watch::Receiver<Arc<Messaging>>,
    /// Rung when new messages were written.
    pub(super) bell: Arc<Notify>,
    pub(super) metrics: Arc<Metrics>,
    /// Receivers that do not answer.
    pub(super) breakers: Breakers,
    /// Receivers that a message was given up for.
    pub(super) undelivered: Undelivered,
    /// Where alerts about them go.
    pub(super) inbox: Arc<Inbox>,
}

impl Delivery {
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let pause = self.deliver_due().await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.bell.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Delivers what is due; gives the time until the next message is.
    async fn deliver_due(&mut self) -> Duration {
        let due = match self.due().await {
            Ok(due) => self.breakers.admit(due),
            Err(error) => {
                warn!(%error, "the outbox cannot be read");
                return POLL_MAX;
            }
        };
        if due.is_empty() {
            return self.until_next().await;
        }
        let messaging = self.messaging.borrow().clone();
        let mut attempts = JoinSet::new();
        for record in due {
            let messaging = messaging.clone();
            attempts.spawn(async move {
                let result = messaging.notifier.deliver(&record).await;
                (record, result)
            });
        }
        while let Some(done) = attempts.join_next().await {
            let Ok((record, result)) = done else { continue };
            match &result {
                Ok(()) => {
                    self.metrics.messages_delivered.inc();
                    info!(receiver = record.receiver, id = record.id, "message delivered");
                }
                Err(error) => {
                    self.metrics.messages_failed.inc();
                    warn!(receiver = record.receiver, id = record.id, %error, "message not delivered");
                }
            }
            let now = self.clock.now();
            self.breakers.heard(&target_of(&record), &result, now);
            let after = messaging.dispatcher.after_attempt(record, result, now);
            if after.state == DEAD {
                self.metrics.messages_dead.inc();
            }
            let update = self.undelivered.heard(&after, messaging.language, now);
            self.record(after).await;
            self.inbox.put(update.into_iter().collect());
        }
        Duration::ZERO
    }

    async fn due(&self) -> Result<Vec<OutboxRecord>, String> {
        let (control, now) = (self.control.clone(), self.clock.now());
        let down = self.breakers.open(now);
        blocking(move || control.outbox_due(now, &down, IN_FLIGHT_MAX)).await
    }

    async fn until_next(&self) -> Duration {
        let (control, now) = (self.control.clone(), self.clock.now());
        let down = self.breakers.open(now);
        let Ok((next, waiting)) =
            blocking(move || Ok((control.outbox_next(&down)?, control.outbox_pending()?))).await
        else {
            return POLL_MAX;
        };
        let next = next.into_iter().chain(self.breakers.next_probe(now)).min();
        self.metrics.receivers_down.set(i64::try_from(self.breakers.down()).unwrap_or(i64::MAX));
        self.metrics.outbox_pending.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        next.map_or(POLL_MAX, |at| at.since(self.clock.now()).clamp(Duration::from_millis(50), POLL_MAX))
    }

    async fn record(&self, record: OutboxRecord) {
        let control = self.control.clone();
        let batch = ControlBatch { outbox: vec![record], ..ControlBatch::default() };
        if let Err(error) = blocking(move || control.write(&batch)).await {
            // The message will be sent again: receivers deduplicate by its id.
            warn!(%error, "the outcome of a message could not be written down");
            tokio::time::sleep(POLL_MAX).await;
        }
    }
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, davy_store::Error> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    }
}

/// What receivers remember, in the control database.
pub(super) struct Memos {
    pub(super) control: Control,
    pub(super) clock: Arc<dyn Clock>,
}

impl Memory for Memos {
    fn recall<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, String>> {
        let (control, key) = (self.control.clone(), key.to_owned());
        Box::pin(async move { Ok(blocking(move || control.memo(&key)).await?.map(|m| m.detail)) })
    }

    fn remember<'a>(&'a self, key: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), String>> {
        let memo = MemoRecord { key: key.to_owned(), at: self.clock.now(), detail: value.to_owned() };
        let control = self.control.clone();
        Box::pin(blocking(move || control.set_memo(&memo)))
    }
}
