//! The service's spans, by the OpenTelemetry SDK, exported over OTLP/gRPC in batches.

use std::time::Duration;

use opentelemetry::trace::{Span, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanLimits,
};

use super::ServiceArgs;

/// Shorter than the SDK's 5 s, so that a story of a minute sees its spans.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
const EXPORT_QUEUE_SPANS_MAX: usize = 4096;
const ATTRIBUTES_MAX: u32 = 16;

pub(super) struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Spans {
    /// Must be called within the tokio runtime that will carry the gRPC connection.
    pub(super) fn start(args: &ServiceArgs, endpoint: &str) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let batch = BatchConfigBuilder::default()
            .with_scheduled_delay(EXPORT_INTERVAL)
            .with_max_queue_size(EXPORT_QUEUE_SPANS_MAX)
            .build();
        let resource = Resource::builder()
            .with_service_name(args.service.clone())
            .with_attributes([
                KeyValue::new("service.version", args.version.clone()),
                KeyValue::new("service.instance.id", args.instance.clone()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_limits(SpanLimits { max_attributes_per_span: ATTRIBUTES_MAX, ..SpanLimits::default() })
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batch).build())
            .build();
        let tracer = provider.tracer("davy-demo-service");
        Ok(Self { provider, tracer })
    }

    /// Opens the server span of a request.
    pub(super) fn server(&self, method: &'static str, route: &'static str) -> Context {
        let span = self
            .tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route),
                KeyValue::new("url.path", route),
                KeyValue::new("url.scheme", "http"),
            ])
            .start(&self.tracer);
        Context::new().with_span(span)
    }

    /// Opens the client span of the fake database call; it ends when it is dropped.
    pub(super) fn database(&self, parent: &Context) -> impl Span + use<> {
        self.tracer
            .span_builder("INSERT orders")
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.operation.name", "INSERT"),
                KeyValue::new("db.collection.name", "orders"),
            ])
            .start_with_context(&self.tracer, parent)
    }

    /// Blocks until what is queued has been exported or has failed.
    pub(super) fn shutdown(&self, timeout: Duration) {
        // Spans that cannot be delivered any more are of no use to anybody.
        let _ = self.provider.shutdown_with_timeout(timeout);
    }
}

/// Ends a server span with its answer.
pub(super) fn finish(context: &Context, code: u16) {
    let span = context.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(code)));
    if code >= 500 {
        span.set_attribute(KeyValue::new("error.type", code.to_string()));
        span.set_status(Status::error("payment provider did not answer"));
    }
    span.end();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use davy_collector::otlp::{OtlpLimits, Receiver, serve_grpc};
    use davy_model::{Clock, SpanStatus, Timestamp};
    use davy_store::{Options, SpanQuery, Store};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(flavor = "multi_thread")]
    async fn davy_receives_the_spans_under_the_service_s_name_and_version() {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (store, _) = Store::open(folder.path(), clock.now(), Options::default()).unwrap();
        let receiver = Receiver::new(store.clone(), clock, OtlpLimits::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let _server = tokio::spawn(serve_grpc(listener, receiver, CancellationToken::new()));

        let args = ServiceArgs {
            service: "checkout".to_owned(),
            version: "v2".to_owned(),
            instance: "checkout-v2-0".to_owned(),
            otlp: Some(endpoint.clone()),
            seed: 1,
            rounds: 1,
        };
        let spans = Spans::start(&args, &endpoint).unwrap();
        let context = spans.server("POST", "/checkout");
        spans.database(&context).end();
        finish(&context, 500);
        tokio::task::spawn_blocking(move || spans.shutdown(Duration::from_secs(20))).await.unwrap();

        let query = SpanQuery {
            service: Some("checkout".to_owned()),
            version: Some("v2".to_owned()),
            ..SpanQuery::default()
        };
        let found = store.snapshot().spans(&query, Timestamp::MIN, Timestamp::MAX).unwrap();
        let (server, database) = match found.as_slice() {
            [a, b] if *a.name == *"POST /checkout" => (a, b),
            [a, b] => (b, a),
            spans => panic!("{spans:?}"),
        };
        assert_eq!((&*server.name, server.status), ("POST /checkout", SpanStatus::Error));
        assert_eq!(server.resource.instance(), "checkout-v2-0");
        assert_eq!((&*database.name, database.parent_span_id), ("INSERT orders", server.span_id));
    }
}
