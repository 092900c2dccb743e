//! OTLP over gRPC, spoken by the clients generated from the protocol's own files.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use davy_collector::otlp::OtlpLimits;
use davy_model::{ManualClock, TraceId};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point::Value,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::io::AsyncWriteExt as _;
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
        assert!(!asks_to_retry(&status), "clients would try for ever");
    }
    let many = refused(&f, vec![Span::default(); 500_000], None).await;
    assert_eq!(many.code(), Code::ResourceExhausted, "{many:?}");
    assert!(!asks_to_retry(&many));
    assert_eq!(f.receiver.stats().requests_too_large.load(Relaxed), 4);
}

fn asks_to_retry(status: &Status) -> bool {
    String::from_utf8_lossy(status.details()).contains("google.rpc.RetryInfo")
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
async fn overload_is_unavailable_with_a_delay() {
    let limits = OtlpLimits { bytes_in_progress_max: 1 << 20, ..OtlpLimits::default() };
    let f = Fixture::start_with(Arc::new(ManualClock::new(NOW)), limits, 0).await;
    let mut client = TraceServiceClient::new(channel(&f).await);
    client.export(traces(vec![span()])).await.expect("a message may fill all there is");
    // A body over HTTP that never arrives takes part of it.
    let mut held = tokio::net::TcpStream::connect(f.http).await.expect("connected");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n";
    held.write_all(head.as_bytes()).await.expect("sent");
    let status = loop {
        if let Err(status) = client.export(traces(vec![span()])).await {
            break status;
        }
    };
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "too many requests in progress"));
    assert!(asks_to_retry(&status));
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_leaves_no_trace_in_the_counters() {
    let f = Fixture::start_with(Arc::new(ManualClock::new(NOW)), OtlpLimits::default(), u64::MAX).await;
    let status = refused(&f, vec![span()], None).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("free disk space") && asks_to_retry(&status), "{status:?}");
    assert!(f.store.snapshot().trace(TraceId([1; 16])).expect("readable").is_empty());
    assert!(f.select("traces_spanmetrics_calls_total").is_empty());
    let stats = f.receiver.stats();
    assert_eq!((stats.requests_unavailable.load(Relaxed), stats.spans_accepted.load(Relaxed)), (1, 0));
}
