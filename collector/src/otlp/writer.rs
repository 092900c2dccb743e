//! The one thread that turns accepted requests into batches: what arrives while one commit waits for the disk
//! shares the next, and running totals change only with a batch that the store took.

use std::sync::Arc;
use std::time::Duration;

use davy_model::{Clock, Timestamp};
use davy_store::{Appender, Durability, Error, Refusal, Store};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::OtlpLimits;
use super::cumulative::Streams;
use super::liveness::Liveness;
use super::metrics;
use super::outcome::{Outcome, Refused, Tally};
use super::point::{Point, zero};
use super::received::Received;
use super::service_graph::ServiceGraph;
use super::span_metrics::SpanMetrics;
use super::stats::{OtlpStats, add};

/// Requests that share one commit.
const BATCH_REQUESTS_MAX: usize = 64;
/// How often running totals nobody adds to are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct Job {
    pub(crate) work: Work,
    /// Dropped when the sender has gone; the work is done all the same.
    pub(crate) reply: oneshot::Sender<Result<Outcome, Refused>>,
}

pub(crate) enum Work {
    Spans(Received),
    Metrics(ExportMetricsServiceRequest),
}

pub(crate) struct Writer {
    store: Store,
    clock: Arc<dyn Clock>,
    limits: OtlpLimits,
    stats: Arc<OtlpStats>,
    streams: Streams,
    span_metrics: SpanMetrics,
    service_graph: ServiceGraph,
    liveness: Liveness,
    swept: Timestamp,
}

impl Writer {
    pub(crate) fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        limits: OtlpLimits,
        stats: Arc<OtlpStats>,
    ) -> Self {
        Self {
            store,
            clock,
            limits,
            stats,
            streams: Streams::new(),
            span_metrics: SpanMetrics::new(),
            service_graph: ServiceGraph::new(),
            liveness: Liveness::new(),
            swept: Timestamp::MIN,
        }
    }

    /// Blocks; ends when every sender is gone.
    pub(crate) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH_REQUESTS_MAX);
        while jobs.blocking_recv_many(&mut batch, BATCH_REQUESTS_MAX) > 0 {
            let (works, replies): (Vec<_>, Vec<_>) = batch.drain(..).map(|j| (j.work, j.reply)).unzip();
            let outcomes = match self.write(works) {
                Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
                Err(refused) => {
                    warn!(%refused, requests = replies.len(), "otlp batch not stored");
                    vec![Err(refused); replies.len()]
                }
            };
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                // A sender that hung up hears nothing.
                let _ = reply.send(outcome);
            }
        }
    }

    /// One batch: on `Err` nothing of it is stored, and nothing of it was counted.
    fn write(&mut self, works: Vec<Work>) -> Result<Vec<Outcome>, Refused> {
        let now = self.clock.now();
        self.sweep(now);
        let written = self.append(works, now).and_then(|(appender, outcomes)| {
            appender.commit(Durability::Sync).map_err(|e| unavailable(&e))?;
            Ok(outcomes)
        });
        match written {
            Ok(outcomes) => {
                self.streams.commit();
                self.span_metrics.commit();
                self.service_graph.commit();
                self.liveness.commit();
                Ok(outcomes)
            }
            Err(refused) => {
                self.streams.rollback();
                self.span_metrics.rollback();
                self.service_graph.rollback();
                self.liveness.rollback();
                Err(refused)
            }
        }
    }

    fn append(&mut self, works: Vec<Work>, now: Timestamp) -> Result<(Appender, Vec<Outcome>), Refused> {
        let mut appender = self.store.appender(now);
        let mut outcomes = Vec::with_capacity(works.len());
        let mut derived = Vec::new();
        let (mut senders, mut calls, mut halves) = (Vec::new(), Vec::new(), Vec::new());
        for work in works {
            let tally = match work {
                Work::Spans(received) => {
                    received.block.into_iter().for_each(|block| appender.span_block(block));
                    senders.extend(received.senders);
                    calls.extend(received.calls);
                    halves.extend(received.halves);
                    received.tally
                }
                Work::Metrics(request) => {
                    let converted =
                        metrics::convert(&request, &mut self.streams, self.limits.window(now), now);
                    for (metric, metadata) in &converted.metadata {
                        appender.metadata(metric, metadata);
                    }
                    let mut tally = converted.tally;
                    for point in converted.points {
                        append_point(&mut appender, point, &mut tally)?;
                    }
                    // Whoever got nothing through has given no sign of life.
                    if tally.accepted > 0 {
                        for resource in converted.resources {
                            derived.extend(self.liveness.pushed(&resource.identity, now));
                            let info = resource.target_info.as_ref();
                            derived.extend(info.and_then(|i| self.liveness.info(&resource.identity, i, now)));
                        }
                    }
                    tally
                }
            };
            outcomes.push(tally.into());
        }
        derived.extend(senders.iter().filter_map(|sender| self.liveness.pushed(sender, now)));
        derived.extend(self.span_metrics.observe_calls(&calls, now));
        derived.extend(self.service_graph.observe(halves, now));
        add(&self.stats.graph_dropped, self.service_graph.take_dropped());
        let mut tally = Tally::default();
        for point in derived {
            append_point(&mut appender, point, &mut tally)?;
        }
        add(&self.stats.derived_refused, tally.rejected);
        Ok((appender, outcomes))
    }

    fn sweep(&mut self, now: Timestamp) {
        if now < self.swept + SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        self.streams.sweep(now);
        self.span_metrics.sweep(now);
        self.service_graph.sweep(now);
        self.liveness.sweep(now);
    }
}

/// `Err` only for what concerns the whole batch.
fn append_point(appender: &mut Appender, point: Point, tally: &mut Tally) -> Result<(), Refused> {
    let mut refusal = None;
    let mut refs = Vec::with_capacity(point.series.len());
    let known = point.known.as_ref().and_then(|k| k.get());
    for (number, (labels, value)) in point.series.into_iter().enumerate() {
        let found = known.and_then(|k| k.get(number).copied()).map_or_else(|| appender.series(&labels), Ok);
        let series = match found {
            Ok(series) => series,
            Err(why) => {
                refusal = refusal.or(Some(unless_full(why)?));
                refs.push(None);
                continue;
            }
        };
        refs.push(Some(series));
        if let Some(at) = point.zero_at
            && let Err(why) = appender.append(series, at, zero(&value))
        {
            // The series has a sample at that time already: it did not stand at zero then.
            unless_full(why)?;
        }
        let mut appended = appender.append(series, point.at, value.clone());
        if known.is_some() && appended == Err(Refusal::UnknownSeries) {
            // Forgotten for so long that its name is as well.
            appended = appender.series(&labels).and_then(|s| appender.append(s, point.at, value));
        }
        if let Err(why) = appended {
            refusal = refusal.or(Some(unless_full(why)?));
        }
    }
    if let Some(known) = &point.known
        && let Some(all) = refs.iter().copied().collect::<Option<Vec<_>>>()
    {
        known.get_or_init(|| all);
    }
    for (index, exemplar) in point.exemplars {
        if let Some(series) = refs.get(index).copied().flatten() {
            appender.exemplar(series, exemplar);
        }
    }
    match refusal {
        Some(why) => tally.refuse(1, || why.to_string()),
        None => tally.accept(),
    }
    Ok(())
}

/// What a sender may know; paths and details are for the log.
fn unavailable(error: &Error) -> Refused {
    warn!(%error, "commit failed");
    match error {
        Error::DiskFull { .. } | Error::Backlog { .. } => Refused::Unavailable(error.to_string()),
        _ => Refused::Unavailable("storage error, see davy's log".to_owned()),
    }
}

/// A full disk is nobody's fault here and passes: the sender keeps the batch and tries again.
fn unless_full(refusal: Refusal) -> Result<Refusal, Refused> {
    match refusal {
        Refusal::DiskFull { .. } => Err(Refused::Unavailable(refusal.to_string())),
        Refusal::SeriesLimit { .. }
        | Refusal::OutOfOrder { .. }
        | Refusal::Duplicate { .. }
        | Refusal::OutOfBounds { .. }
        | Refusal::UnknownSeries => Ok(refusal),
    }
}
