//! What the log no longer holds, out of the sealed samples: for a destination that was away for longer than the log
//! reaches back. Slice by slice of time, so that each series keeps its order.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use davy_model::Timestamp;
use davy_store::{SeriesColumns, Snapshot};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::destination::{Destination, ROUND_SAMPLES_MAX};
use super::lock;
use super::position::Position;
use super::round::{Choice as _, Item, Round, Shard, What, spread};
use super::series::Series;
use super::stats::add;

/// Sent before the next begins.
const SLICE: Duration = Duration::from_secs(300);
const SLICES_PREPARED: usize = 1;

impl Destination {
    /// Goes on at record `first`, after what was sealed before it; `false` when Davy stops meanwhile.
    pub(super) async fn bridge(
        &mut self,
        position: &mut Position,
        first: u64,
        stop: &CancellationToken,
    ) -> bool {
        let store = self.store.clone();
        let sealed = tokio::task::spawn_blocking(move || store.samples_until_floor()).await;
        let (snapshot, floor) =
            match sealed.map_err(|e| e.to_string()).and_then(|s| s.map_err(|e| e.to_string())) {
                Ok((snapshot, floor)) => (snapshot, floor.unwrap_or(Timestamp::MIN)),
                Err(error) => {
                    error!(destination = self.name, error, "what the log no longer holds cannot be read");
                    return false;
                }
            };
        let mut from = position.newest.max(position.sealed_until) + Duration::from_millis(1);
        if from < floor {
            add(&self.stats().gaps, 1);
            warn!(
                destination = self.name, after = position.record, until = first, %from, to = %floor,
                "the destination was away for longer than the log reaches back: its sealed samples are sent; \
                 exemplars and late samples of that time are not"
            );
        }
        while from < floor {
            let to = (from + SLICE).min(floor);
            if !self.slice(&snapshot, from, to, stop).await {
                return false;
            }
            position.newest = Timestamp::from_millis(to.as_millis() - 1);
            from = to;
            self.persist(position, false).await;
        }
        info!(destination = self.name, record = first, "remote write goes on with the log");
        position.sealed_until = position.sealed_until.max(floor);
        position.record = first - 1;
        true
    }

    /// Samples in `from..to`; whether all were answered.
    async fn slice(
        &self,
        snapshot: &Snapshot,
        from: Timestamp,
        to: Timestamp,
        stop: &CancellationToken,
    ) -> bool {
        let (parts, mut prepared) = mpsc::channel(SLICES_PREPARED);
        let (snapshot, series) = (snapshot.clone(), self.series.clone());
        let last = Timestamp::from_millis(to.as_millis() - 1);
        let reading = tokio::task::spawn_blocking(move || {
            let (mut items, mut number) = (Vec::new(), 0);
            snapshot.each_columns(&[], from, last, &mut |found| {
                number += 1;
                take(&found, number, &lock(&series), &mut items);
                if items.len() < ROUND_SAMPLES_MAX {
                    return ControlFlow::Continue(());
                }
                match parts.blocking_send(std::mem::take(&mut items)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
            let _ = parts.blocking_send(items);
            Ok::<_, davy_store::Error>(())
        });
        while let Some(items) = prepared.recv().await {
            let round = spread_over(items, self.shards(ROUND_SAMPLES_MAX));
            let whole: Vec<usize> = round.shards.iter().map(|s| s.dealt).collect();
            if self.send_shards(round, stop).await != whole {
                return false;
            }
        }
        match reading.await.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())) {
            Ok(()) => true,
            Err(error) => {
                error!(destination = self.name, error, "sealed samples cannot be read");
                self.sender.failing.store(true, Ordering::Relaxed);
                false
            }
        }
    }
}

fn take(found: &SeriesColumns, number: u64, series: &Series, items: &mut Vec<Item>) {
    let Some(labels) = series.rewrite(&found.labels) else { return };
    let samples = found.samples.clone().into_samples();
    items.extend(samples.into_iter().filter_map(|s| {
        let what = match s.value {
            davy_model::Value::Float(v) => What::Float(v),
            davy_model::Value::Histogram(h) => What::Histogram(h),
        };
        let item = Item { series: number, labels: labels.clone(), at: s.timestamp, what, place: 0 };
        series.wants(&item.what).then_some(item)
    }));
}

fn spread_over(items: Vec<Item>, shards: usize) -> Round {
    let mut round = Round { shards: (0..shards).map(|_| Shard::default()).collect(), ..Round::default() };
    for mut item in items {
        let shard = &mut round.shards[spread(item.series, shards)];
        item.place = shard.dealt;
        shard.dealt += 1;
        shard.items.push(item);
    }
    round
}
