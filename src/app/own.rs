//! `OwnSeries`: Davy's metrics in Davy's own store, every tick, under `job="davy"`.
//!
//! Boards read them there: nobody has to scrape Davy for a picture of its releases. They are read as any scrape is
//! ([`OwnTarget`]), so that a release that is over leaves staleness markers and no lines that go on for ever.

use std::sync::Arc;
use std::time::Duration;

use davy_collector::scrape::OwnTarget;
use davy_model::Timestamp;
use davy_store::Store;
use prometheus_client::registry::Registry;
use tracing::warn;

const JOB: &str = "davy";

pub struct OwnSeries {
    registry: Arc<Registry>,
    target: OwnTarget,
    /// The last time did not work: said once, not at every tick.
    failing: bool,
}

impl OwnSeries {
    /// `instance` tells several Davys apart; `interval` is the time from tick to tick.
    pub fn new(registry: Arc<Registry>, instance: &str, interval: Duration) -> Self {
        Self { registry, target: OwnTarget::new(JOB, instance, interval), failing: false }
    }

    /// Appends what the registry holds as of `now`; whether all of it was taken. Blocking.
    pub fn append(&mut self, store: &Store, now: Timestamp, took: Duration) -> bool {
        let result = self.try_append(store, now, took);
        if let Err(error) = &result
            && !self.failing
        {
            warn!(error, "davy's own metrics are not stored; the boards about releases have a gap");
        }
        self.failing = result.is_err();
        result.is_ok()
    }

    fn try_append(&mut self, store: &Store, now: Timestamp, took: Duration) -> Result<(), String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).map_err(|e| e.to_string())?;
        match self.target.append(store, &text, now, took) {
            Ok(0) => Ok(()),
            Ok(refused) => Err(format!("the store refused {refused} samples")),
            Err(error) => Err(error.to_string()),
        }
    }
}
