//! A receiver with its store and both its servers, and small requests to send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use davy_collector::otlp::{OtlpLimits, Receiver, http_router, serve_grpc};
use davy_model::{Clock, Labels, ManualClock, Matcher, Timestamp, Value};
use davy_store::{Limits, Options, SeriesSamples, Store};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// When the examples of the specification happened, and a second more.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_544_712_662_000);

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) receiver: Receiver,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    dir: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(Arc::new(ManualClock::new(NOW)), OtlpLimits::default(), 0).await
    }

    pub(crate) async fn start_with(
        clock: Arc<dyn Clock>,
        limits: OtlpLimits,
        free_disk_bytes_min: u64,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = open(dir.path(), clock.now(), free_disk_bytes_min);
        let receiver = Receiver::new(store.clone(), clock, limits);
        let shutdown = CancellationToken::new();
        let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (http, grpc) = (listen().await, listen().await);
        let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let (http_address, grpc_address) = (address(&http), address(&grpc));
        let router = http_router(receiver.clone());
        tokio::spawn(async move { axum::serve(http, router).await });
        tokio::spawn(serve_grpc(grpc, receiver.clone(), shutdown.clone()));
        Self { store, receiver, http: http_address, grpc: grpc_address, dir, shutdown }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Series of a metric with all their samples.
    pub(crate) fn select(&self, metric: &str) -> Vec<SeriesSamples> {
        let name = [Matcher::equal("__name__", metric)];
        self.store.snapshot().select(&name, Timestamp::MIN, Timestamp::MAX).expect("readable")
    }

    /// Newest float of the one series that has the metric's name and these labels.
    pub(crate) fn last(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let values = self.values(metric, labels);
        *values.last().expect("a sample")
    }

    pub(crate) fn values(&self, metric: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let wanted = Labels::from_pairs(labels.iter().copied());
        let found: Vec<_> = self
            .select(metric)
            .into_iter()
            .filter(|s| wanted.iter().all(|(n, v)| s.labels.get(n) == Some(v)))
            .collect();
        let [series] = &found[..] else { panic!("{metric} {wanted}: {} series, expected 1", found.len()) };
        series.samples.iter().filter_map(|s| s.value.as_float()).collect()
    }

    /// What is on disk at this moment, as a new process would find it after a crash.
    pub(crate) fn after_a_crash(&self) -> (Store, tempfile::TempDir) {
        let copy = tempfile::tempdir().expect("a temporary folder");
        for entry in std::fs::read_dir(self.dir.path()).expect("readable") {
            let entry = entry.expect("readable");
            if entry.path().is_dir() {
                continue; // partitions: nothing here is old enough to be in one
            }
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
        }
        (open(copy.path(), NOW, 0), copy)
    }
}

fn open(dir: &std::path::Path, now: Timestamp, free_disk_bytes_min: u64) -> Store {
    let limits = Limits { free_disk_bytes_min, ..Limits::default() };
    let options = Options { commit_interval: Duration::from_secs(3600), limits, ..Options::default() };
    Store::open(dir, now, options).expect("an empty folder").0
}

/// One server span of `checkout`, a second long, ended just before [`NOW`].
pub(crate) fn span() -> Span {
    let end = (NOW.as_millis() as u64) * 1_000_000;
    Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "POST /checkout".to_owned(),
        kind: 2,
        start_time_unix_nano: end - 1_000_000_000,
        end_time_unix_nano: end,
        ..Span::default()
    }
}

pub(crate) fn traces(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

pub(crate) fn histogram(value: &Value) -> &davy_model::Histogram {
    match value {
        Value::Histogram(h) => h,
        Value::Float(f) => panic!("expected a histogram, got {f}"),
    }
}
