//! OTLP over gRPC, spoken by the clients generated from the protocol's own files.

use std::sync::Arc;

use davy_collector::otlp::OtlpLimits;
use davy_model::{ManualClock, TraceId};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point::Value,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::{Fixture, NOW, span, traces};

async fn channel(f: &Fixture) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", f.grpc)).expect("a URI");
    endpoint.connect().await.expect("connected")
}

async fn refused(f: &Fixture, spans: Vec<Span>, encoding: Option<CompressionEncoding>) -> Status {
    let mut client = TraceServiceClient::new(channel(f).await).max_encoding_message_size(64 << 20);
    if let Some(encoding) = encoding {
        client = client.send_compressed(encoding);
    }
    client.export(traces(spans)).await.expect_err("refused")
}

#[tokio::test]
async fn spans_are_stored_plain_gzip_and_zstd() {
    let f = Fixture::start().await;
    let channel = channel(&f).await;
    for (i, encoding) in
        [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)].into_iter().enumerate()
    {
        let mut client = TraceServiceClient::new(channel.clone());
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding);
        }
        let sent = Span { span_id: vec![i as u8 + 1; 8], ..span() };
        let answer = client.export(traces(vec![sent])).await.expect("taken");
        assert_eq!(answer.into_inner().partial_success, None);
    }
    let (crashed, _dir) = f.after_a_crash();
    assert_eq!(crashed.snapshot().trace(TraceId([1; 16])).expect("readable").len(), 3);
}

#[tokio::test]
async fn metrics_are_stored_and_refusals_counted() {
    let f = Fixture::start().await;
    let nanos = NOW.as_millis() as u64 * 1_000_000;
    let point = |time_unix_nano| NumberDataPoint {
        time_unix_nano,
        value: Some(Value::AsInt(7)),
        ..NumberDataPoint::default()
    };
    let metric = Metric {
        name: "depth".to_owned(),
        data: Some(Data::Gauge(Gauge { data_points: vec![point(nanos), point(0)] })),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }],
    };
    let mut client = MetricsServiceClient::new(channel(&f).await);
    let answer = client.export(request).await.expect("taken").into_inner();
    let partial = answer.partial_success.expect("one of two");
    assert_eq!(partial.rejected_data_points, 1);
    assert!(partial.error_message.starts_with("depth: timestamp 0"), "{}", partial.error_message);
    assert_eq!(f.values("depth", &[]), [7.0]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_for_good() {
    let f = Fixture::start().await;
    let large = Span { name: "x".repeat(17 << 20), ..span() };
    for encoding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let status = refused(&f, vec![large.clone()], encoding).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.details().is_empty(), "a RetryInfo would make clients try for ever");
    }
    let many = refused(&f, vec![Span::default(); 500_000], None).await;
    assert_eq!(many.code(), Code::ResourceExhausted, "{many:?}");
    // Its details are a google.rpc.Status; without RetryInfo it is permanent.
    assert!(!String::from_utf8_lossy(many.details()).contains("RetryInfo"));
}

#[tokio::test]
async fn bad_data_is_an_invalid_argument() {
    let f = Fixture::start().await;
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    // A length-prefixed message that is none, and one that says it is compressed and is not.
    for (frame, encoding) in [(&b"\0\0\0\0\x05hello"[..], "identity"), (b"\x01\0\0\0\x05hello", "gzip")] {
        let status = raw(&f, path, frame, encoding).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let status =
        raw(&f, "/opentelemetry.proto.collector.logs.v1.LogsService/Export", b"\0\0\0\0\0", "identity").await;
    assert_eq!(status.code(), Code::Unimplemented);
}

/// Sends one frame as it is.
async fn raw(f: &Fixture, path: &str, frame: &'static [u8], encoding: &str) -> Status {
    use tower::{Service as _, ServiceExt as _};
    let mut channel = channel(f).await;
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(tonic::body::Body::new(http_body_util::Full::from(frame)))
        .expect("a request");
    let response = channel.ready().await.expect("ready").call(request).await.expect("an answer");
    Status::from_header_map(response.headers()).expect("a refusal stands in the headers")
}

#[tokio::test]
async fn overload_and_a_full_disk_are_unavailable_with_a_delay() {
    // Less than one message may hold: with one in progress there is no place for a second.
    let limits = OtlpLimits { bytes_in_progress_max: 1 << 20, ..OtlpLimits::default() };
    let f = Fixture::start_with(Arc::new(ManualClock::new(NOW)), limits, u64::MAX).await;
    let status = refused(&f, vec![span()], None).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("free disk space"), "{status:?}");
    assert!(String::from_utf8_lossy(status.details()).contains("RetryInfo"));
}

#[tokio::test]
async fn a_refused_batch_leaves_no_trace_in_the_counters() {
    use std::sync::atomic::Ordering::Relaxed;
    let f = Fixture::start_with(Arc::new(ManualClock::new(NOW)), OtlpLimits::default(), u64::MAX).await;
    refused(&f, vec![span()], None).await;
    assert!(f.store.snapshot().trace(TraceId([1; 16])).expect("readable").is_empty());
    assert!(f.select("traces_spanmetrics_calls_total").is_empty());
    let stats = f.receiver.stats();
    assert_eq!((stats.requests_unavailable.load(Relaxed), stats.spans_accepted.load(Relaxed)), (1, 0));
}
