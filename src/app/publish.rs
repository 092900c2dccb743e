//! `Publisher`: the newest view as metrics and, at each tick, as series of Davy's own. Beside the decisions, which wait
//! for neither.

use std::sync::Arc;
use std::time::Duration;

use davy_api::ViewHandle;
use davy_collector::remote_write_out::Forwarder;
use davy_collector::scrape::ScrapeManager;
use davy_collector::{otlp, remote_write};
use davy_model::Clock;
use davy_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::metrics::{About, Metrics};
use super::own::OwnSeries;
use crate::sources::Feeds;

/// Rung by whoever decides.
#[derive(Default)]
pub(super) struct Bells {
    /// There is a new view.
    pub(super) changed: Notify,
    /// A tick is over.
    pub(super) ticked: Notify,
}

pub(super) struct Publisher {
    pub(super) bells: Arc<Bells>,
    pub(super) view: ViewHandle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Store,
    pub(super) scrapes: ScrapeManager,
    pub(super) receiver: otlp::Receiver,
    pub(super) remote_write: remote_write::Receiver,
    pub(super) forwarder: Forwarder,
    pub(super) feeds: Arc<Feeds>,
    pub(super) about: About,
    pub(super) own: OwnSeries,
}

impl Publisher {
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let (bells, mut this) = (self.bells.clone(), self);
        loop {
            let ticked = tokio::select! {
                () = shutdown.cancelled() => return,
                () = bells.ticked.notified() => true,
                () = bells.changed.notified() => false,
            };
            let published = tokio::task::spawn_blocking(move || {
                let began = tokio::time::Instant::now();
                this.publish();
                if ticked {
                    this.append(began.elapsed());
                }
                this
            });
            this = match published.await {
                Ok(this) => this,
                Err(error) => {
                    error!(%error, "davy's own metrics are no longer kept, until a restart");
                    return shutdown.cancelled().await;
                }
            };
        }
    }

    /// Sets the metrics. Blocking.
    pub(super) fn publish(&self) {
        let m = &self.metrics;
        m.publish(&self.view.load(), &self.scrapes.targets(), &self.store.stats(), &self.about);
        m.publish_otlp(self.receiver.stats());
        m.publish_remote_write(&self.remote_write);
        m.publish_forwards(&self.forwarder);
        m.publish_sources(&self.feeds.states(), self.clock.now());
    }

    fn append(&mut self, took: Duration) {
        if !self.own.append(&self.store, self.clock.now(), took) {
            self.metrics.own_series_failed();
        }
    }
}
