//! The OTLP receiver: traces and metrics pushed over gRPC and HTTP.
//!
//! Hops 1 and 2 for whoever pushes. Both transports end in [`Export::export`]: decoded, checked, converted,
//! committed. An answer of success means that the request is on disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use davy_model::{Clock, Timestamp};
use davy_store::Store;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::sync::{mpsc, oneshot};

mod attributes;
mod calls;
mod classic;
mod cumulative;
mod decode;
mod exponential;
mod family;
mod grpc;
mod half;
mod http;
mod json;
mod labels;
mod ledger;
mod liveness;
mod metrics;
#[cfg(test)]
mod mutations;
mod names;
mod outcome;
mod point;
mod received;
mod resource;
mod scalar;
mod service_graph;
mod span_metrics;
mod spans;
mod stats;
mod status;
mod walk;
mod wire;
mod writer;

pub use grpc::{routes, serve_grpc};
pub use http::http_router;
pub use liveness::PUSHED;
pub use outcome::{Outcome, Refused};
pub use point::Point;
pub use service_graph::SERVICE_GRAPH_REQUESTS;
pub use span_metrics::{CALLS, LATENCY, SpanMetrics};
pub use stats::OtlpStats;

use crate::admission::{Admission, Admitted};
use decode::{Format, Request, decode};
use received::Received;
use spans::Window;
use stats::add;
use writer::{Job, Work, Writer};

/// Bytes of a request after decompression.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Requests that wait for the writer; admission has bounded their bytes already.
const QUEUE_MAX: usize = 256;

/// What may be in memory, and which times are believed.
#[derive(Debug, Clone)]
pub struct OtlpLimits {
    /// Bytes of all requests being read or waiting for the disk, as they were sent and after decompression.
    pub bytes_in_progress_max: usize,
    /// Points and spans older than now - past or newer than now + future are refused and counted.
    pub timestamp_past_max: Duration,
    pub timestamp_future_max: Duration,
}

impl Default for OtlpLimits {
    fn default() -> Self {
        Self {
            bytes_in_progress_max: 128 << 20,
            timestamp_past_max: Duration::from_secs(3600),
            timestamp_future_max: Duration::from_secs(600),
        }
    }
}

impl OtlpLimits {
    fn window(&self, now: Timestamp) -> Window {
        Window { from: now - self.timestamp_past_max, to: now + self.timestamp_future_max }
    }
}

/// Takes OTLP requests; cheap to clone. The writing thread ends with the last clone.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    jobs: mpsc::Sender<Job>,
    clock: Arc<dyn Clock>,
    limits: OtlpLimits,
    admission: Admission,
    stats: Arc<OtlpStats>,
}

impl Receiver {
    pub fn new(store: Store, clock: Arc<dyn Clock>, limits: OtlpLimits) -> Self {
        let stats = Arc::new(OtlpStats::default());
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let writer = Writer::new(store, clock.clone(), limits.clone(), stats.clone());
        // Blocking work for the life of the process: a thread of its own, not one of the runtime's pool.
        std::thread::Builder::new()
            .name("otlp-writer".to_owned())
            .spawn(move || writer.run(queue))
            .expect("the system can start one more thread at start-up");
        let admission = Admission::new(limits.bytes_in_progress_max);
        Self(Arc::new(Inner { jobs, clock, limits, admission, stats }))
    }

    /// Stores spans, and the call counts and latencies made from them, in one batch.
    pub async fn traces(&self, request: ExportTraceServiceRequest) -> Result<Outcome, Refused> {
        let window = self.window();
        let received = blocking(move || spans::convert(&request, window).into()).await?;
        self.store_traces(received).await
    }

    async fn store_traces(&self, received: Received) -> Result<Outcome, Refused> {
        let stats = &self.0.stats;
        let truncated = received.truncated;
        let outcome = self.write(Work::Spans(received)).await?;
        add(&stats.spans_accepted, outcome.accepted);
        add(&stats.spans_refused, outcome.rejected);
        add(&stats.truncated, truncated);
        Ok(outcome)
    }

    pub async fn metrics(&self, request: ExportMetricsServiceRequest) -> Result<Outcome, Refused> {
        let outcome = self.write(Work::Metrics(request)).await?;
        add(&self.0.stats.points_accepted, outcome.accepted);
        add(&self.0.stats.points_refused, outcome.rejected);
        Ok(outcome)
    }

    /// Which times are believed now.
    fn window(&self) -> Window {
        self.0.limits.window(self.0.clock.now())
    }

    pub fn stats(&self) -> &OtlpStats {
        &self.0.stats
    }

    async fn admit(&self, bytes: usize) -> Result<Admitted, Refused> {
        self.0.admission.admit(bytes).await.map_err(|_| Refused::Overloaded)
    }

    async fn write(&self, work: Work) -> Result<Outcome, Refused> {
        let stopped = || Refused::Unavailable("the writer has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.jobs.send(Job { work, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

/// What the transports call: a body of one of the two signals.
pub(crate) trait Export: Request {
    fn export(
        receiver: &Receiver,
        format: Format,
        body: Bytes,
    ) -> impl Future<Output = Result<Outcome, Refused>> + Send;
}

impl Export for ExportTraceServiceRequest {
    async fn export(receiver: &Receiver, format: Format, body: Bytes) -> Result<Outcome, Refused> {
        let window = receiver.window();
        let read = move || match format {
            Format::Protobuf => walk::walk(&body, window),
            Format::Json => {
                decode::<Self>(format, body).map(|request| spans::convert(&request, window).into())
            }
        };
        receiver.store_traces(blocking(read).await??).await
    }
}

impl Export for ExportMetricsServiceRequest {
    async fn export(receiver: &Receiver, format: Format, body: Bytes) -> Result<Outcome, Refused> {
        let request: Self = blocking(move || decode(format, body)).await??;
        receiver.metrics(request).await
    }
}

/// Decoding and converting megabytes is no work for a thread that serves sockets.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Refused::Unavailable(e.to_string()))
}
