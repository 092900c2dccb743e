//! Remote write out: what Davy's store takes is sent on to other servers, version 1.0 or 2.0 of the protocol.
//!
//! The store's own log is the queue: nothing is kept a second time. A destination's [`Position`](position::Position)
//! says up to which record everything was acknowledged; it is in the control database, so that a restart goes on
//! from there. What is sent goes in rounds: a bounded number of records is read, its samples are dealt to shards by
//! their series (so that each keeps its order), the shards send at the same time, and the position moves once all
//! have been answered. A destination that was away for longer than the log reaches back gets what is missing from
//! the sealed samples.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use davy_model::Clock;
use davy_store::Store;
use davy_store::control::Control;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod backfill;
mod config;
mod destination;
mod encode;
mod position;
mod protobuf;
mod round;
mod series;
mod shard;
mod stats;

pub use config::{MetadataConfig, Protocol, QueueConfig, RemoteWriteConfig};
pub use destination::SetupError;
pub use stats::DestinationStats;

use destination::Destination;

/// Every destination of the file, each a task of its own.
#[derive(Clone)]
pub struct Forwarder(Arc<Inner>);

struct Inner {
    store: Store,
    control: Control,
    clock: Arc<dyn Clock>,
    running: tokio::sync::Mutex<BTreeMap<String, Running>>,
    stats: Mutex<BTreeMap<String, Arc<DestinationStats>>>,
}

struct Running {
    config: RemoteWriteConfig,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Forwarder {
    pub fn new(store: Store, control: Control, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            store,
            control,
            clock,
            running: tokio::sync::Mutex::default(),
            stats: Mutex::default(),
        }))
    }

    /// Starts what is new, stops what is gone, and leaves alone what did not change. On `Err` nothing changed.
    pub async fn apply(&self, configs: Vec<RemoteWriteConfig>) -> Result<(), SetupError> {
        let mut running = self.0.running.lock().await;
        let mut fresh = Vec::new();
        for config in configs {
            if running.get(&config.name).is_some_and(|r| r.config == config && !r.task.is_finished()) {
                fresh.push((config, None));
                continue;
            }
            let stats = self.stats_of(&config);
            let Inner { store, control, clock, .. } = &*self.0;
            let made = Destination::new(&config, store.clone(), control.clone(), clock.clone(), stats)?;
            fresh.push((config, Some(made)));
        }
        let kept = |name: &str| fresh.iter().any(|(c, made)| c.name == name && made.is_none());
        let ending: Vec<String> = running.keys().filter(|n| !kept(n)).cloned().collect();
        for name in ending {
            if let Some(old) = running.remove(&name) {
                old.stop().await;
            }
        }
        lock(&self.0.stats).retain(|name, _| fresh.iter().any(|(c, _)| c.name == *name));
        for (config, made) in fresh {
            let Some(destination) = made else { continue };
            let stop = CancellationToken::new();
            lock(&self.0.stats).insert(config.name.clone(), destination.stats());
            let task = tokio::spawn(destination.run(stop.clone()));
            running.insert(config.name.clone(), Running { config, stop, task });
        }
        Ok(())
    }

    /// Lets requests in progress end, and writes down what was acknowledged.
    pub async fn shutdown(&self) {
        let running = std::mem::take(&mut *self.0.running.lock().await);
        running.values().for_each(|r| r.stop.cancel());
        for (_, running) in running {
            running.stop().await;
        }
    }

    /// By name.
    pub fn stats(&self) -> Vec<(String, Arc<DestinationStats>)> {
        lock(&self.0.stats).iter().map(|(name, stats)| (name.clone(), stats.clone())).collect()
    }

    /// What it counted so far, where it was there before.
    fn stats_of(&self, config: &RemoteWriteConfig) -> Arc<DestinationStats> {
        lock(&self.0.stats).get(&config.name).cloned().unwrap_or_default()
    }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(destination = self.config.name, %error, "remote write ended early");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
