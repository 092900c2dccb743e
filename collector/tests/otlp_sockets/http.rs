//! OTLP over HTTP, spoken by reqwest.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use davy_collector::otlp::{OtlpLimits, OtlpStats};
use davy_model::{ManualClock, TraceId};
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Fixture, NOW, span, traces};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// `google.rpc.Status`, which error bodies are.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn client() -> Client {
    // A second call finds the provider installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(Duration::from_secs(20)).build().expect("a client")
}

async fn post(fixture: &Fixture, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Response {
    let request = client().post(fixture.url(path)).header(CONTENT_TYPE, content_type).body(body.into());
    request.send().await.expect("an answer")
}

async fn post_gzip(fixture: &Fixture, body: Vec<u8>) -> Response {
    let request = client()
        .post(fixture.url("/v1/traces"))
        .header(CONTENT_TYPE, PROTOBUF)
        .header(CONTENT_ENCODING, "gzip")
        .body(body);
    request.send().await.expect("an answer")
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).expect("in memory");
    encoder.finish().expect("in memory")
}

async fn status(response: Response) -> Status {
    assert_eq!(response.headers()[CONTENT_TYPE], PROTOBUF);
    Status::decode(response.bytes().await.expect("a body")).expect("a google.rpc.Status")
}

fn count(fixture: &Fixture, which: fn(&OtlpStats) -> &std::sync::atomic::AtomicU64) -> u64 {
    which(fixture.receiver.stats()).load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn an_answer_of_success_means_on_disk() {
    let f = Fixture::start().await;
    let response = post(&f, "/v1/traces", PROTOBUF, traces(vec![span()]).encode_to_vec()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CONTENT_TYPE]),
        (200, &PROTOBUF.parse().expect("a header"))
    );
    let answer = ExportTraceServiceResponse::decode(response.bytes().await.expect("a body"));
    assert_eq!(answer, Ok(ExportTraceServiceResponse::default()), "full success has no partial_success");

    let (crashed, _dir) = f.after_a_crash();
    let found = crashed.snapshot().trace(TraceId([1; 16])).expect("readable");
    assert_eq!(found.len(), 1);
    assert_eq!(&*found[0].name, "POST /checkout");
    assert_eq!(f.values("traces_spanmetrics_calls_total", &[]), [0.0, 1.0], "the same batch");
}

#[tokio::test]
async fn gzip_is_unpacked() {
    let f = Fixture::start().await;
    let response = post_gzip(&f, gzip(&traces(vec![span()]).encode_to_vec())).await;
    assert_eq!(response.status(), 200);
    assert_eq!(count(&f, |s| &s.spans_accepted), 1);
}

/// The documents of opentelemetry-proto's `examples/`; the histogram in it has three counts for one bound.
#[tokio::test]
async fn the_specifications_json_examples_are_understood() {
    let f = Fixture::start().await;
    let response = post(&f, "/v1/traces", JSON, include_str!("trace.json")).await;
    assert_eq!((response.status().as_u16(), response.text().await.expect("a body").as_str()), (200, "{}"));
    let id = TraceId::from_hex("5B8EFFF798038103D269B633813FC60C").expect("an id");
    let spans = f.store.snapshot().trace(id).expect("readable");
    assert_eq!((spans.len(), &*spans[0].name, &*spans[0].scope), (1, "I'm a server span", "my.library"));

    let response = post(&f, "/v1/metrics", JSON, include_str!("metrics.json")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CONTENT_TYPE]),
        (200, &JSON.parse().expect("a header"))
    );
    assert_eq!(
        response.text().await.expect("a body"),
        r#"{"partialSuccess":{"errorMessage":"my_histogram: bad histogram: 3 bucket counts, expected 2","rejectedDataPoints":"1"}}"#
    );
    let service = [("service", "my.service"), ("job", "my.service")];
    assert_eq!(f.values("my_counter_total", &service), [0.0, 5.0]);
    assert_eq!(f.values("my_gauge_ratio", &service), [10.0]);
    assert_eq!(f.values("davy_pushed", &service), [1.0]);
}

#[tokio::test]
async fn part_of_a_request_may_be_refused() {
    let f = Fixture::start().await;
    let bad = Span { trace_id: vec![0; 16], ..span() };
    let response = post(&f, "/v1/traces", PROTOBUF, traces(vec![bad, span()]).encode_to_vec()).await;
    assert_eq!(response.status(), 200, "the client must not send it again");
    let answer =
        ExportTraceServiceResponse::decode(response.bytes().await.expect("a body")).expect("an answer");
    let partial = answer.partial_success.expect("one span was refused");
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("trace id"), "{}", partial.error_message);
    assert_eq!((count(&f, |s| &s.requests_partial), count(&f, |s| &s.spans_refused)), (1, 1));
}

#[tokio::test]
async fn bad_data_is_400_in_the_senders_own_format() {
    let f = Fixture::start().await;
    let whole = traces(vec![span()]).encode_to_vec();
    for body in [&b"certainly not protobuf"[..], &whole[..whole.len() - 3], b"{}"] {
        let response = post(&f, "/v1/traces", PROTOBUF, body).await;
        assert_eq!(response.status(), 400);
        let status = status(response).await;
        assert_eq!(status.code, 3, "{status:?}");
        assert!(status.message.starts_with("bad OTLP request: "), "{status:?}");
    }
    let deep = format!("{{\"resourceSpans\":{}", "[".repeat(200_000));
    for body in ["", "{\"resourceSpans\":7}", "{\"resourceSpans\":[{", deep.as_str()] {
        let response = post(&f, "/v1/traces", JSON, body).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[CONTENT_TYPE]),
            (400, &JSON.parse().expect("a header"))
        );
        let text = response.text().await.expect("a body");
        assert!(text.starts_with(r#"{"code":3,"message":"bad OTLP request: not OTLP JSON: "#), "{text}");
    }
    let response = post_gzip(&f, b"not gzip".to_vec()).await;
    assert_eq!(response.status(), 400);
    let truncated = gzip(&traces(vec![span(); 1000]).encode_to_vec());
    let response = post_gzip(&f, truncated[..truncated.len() / 2].to_vec()).await;
    assert_eq!(response.status(), 400);
    assert_eq!(count(&f, |s| &s.requests_malformed), 9);
    assert_eq!(count(&f, |s| &s.spans_accepted), 0);
}

#[tokio::test]
async fn other_types_encodings_methods_and_paths_are_named() {
    let f = Fixture::start().await;
    let response = post(&f, "/v1/traces", "text/plain", "x").await;
    assert_eq!(response.status(), 415);
    let status = status(response).await;
    assert_eq!(
        status.message,
        "unsupported content type: got \"text/plain\", expected application/x-protobuf or application/json"
    );
    let brotli = client().post(f.url("/v1/metrics")).header(CONTENT_TYPE, "application/json; charset=utf-8");
    let response = brotli.header(CONTENT_ENCODING, "br").body("x").send().await.expect("an answer");
    assert_eq!(response.status(), 415);
    let response = client().get(f.url("/v1/traces")).send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"POST".parse().expect("a header"))
    );
    assert_eq!(post(&f, "/v1/logs", PROTOBUF, "").await.status(), 404);
}

#[tokio::test]
async fn a_gzip_bomb_stops_at_the_limit() {
    let f = Fixture::start().await;
    // A hundred members of 10 MiB of zeros each: together 1 GiB in 1 MB.
    let bomb = gzip(&vec![0u8; 10 << 20]).repeat(100);
    let before = resident_bytes();
    let response = post_gzip(&f, bomb).await;
    assert_eq!(response.status(), 413);
    assert!(!response.headers().contains_key("retry-after"), "it would not fit the next time either");
    assert_eq!(status(response).await.code, 8);
    let grown = resident_bytes().saturating_sub(before);
    // Other tests run in this process too: far below the bomb's size is as sharp as it gets.
    assert!(grown < 400 << 20, "{grown} bytes for a bomb of 1 GiB");

    // A message within the limits whose bytes unfold a hundredfold when decoded.
    let mut many = traces(vec![Span::default(); 1]);
    many.resource_spans[0].scope_spans[0].spans = vec![Span::default(); 500_000];
    assert_eq!(post(&f, "/v1/traces", PROTOBUF, many.encode_to_vec()).await.status(), 413);
}

/// Of this process; `/proc` is what there is without a dependency.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).expect("a number");
    pages * 4096
}

#[tokio::test]
async fn too_large_is_told_before_the_body_is_read() {
    let f = Fixture::start().await;
    let mut stream = tokio::net::TcpStream::connect(f.http).await.expect("connected");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {}\r\n\r\n",
        5 << 20
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer without a byte of the body");
    assert_eq!(&answer, b"HTTP/1.1 413");
    // Without a declared length the limit is found while reading.
    let chunks = futures_util::stream::iter((0..5).map(|_| Ok::<_, std::io::Error>(vec![0u8; 1 << 20])));
    let request = client().post(f.url("/v1/traces")).header(CONTENT_TYPE, PROTOBUF);
    let response = request.body(reqwest::Body::wrap_stream(chunks)).send().await.expect("an answer");
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn overload_and_a_full_disk_ask_to_try_again() {
    let limits = OtlpLimits { bytes_in_progress_max: 1 << 20, ..OtlpLimits::default() };
    let f = Fixture::start_with(Arc::new(ManualClock::new(NOW)), limits, 0).await;
    // Two bodies that never arrive hold all there is to hold.
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = tokio::net::TcpStream::connect(f.http).await.expect("connected");
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {}\r\n\r\n",
            512 << 10
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        held.push(stream);
    }
    let refused = loop {
        let response = post(&f, "/v1/traces", PROTOBUF, traces(vec![span()]).encode_to_vec()).await;
        if response.status() != 200 {
            break response;
        }
    };
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (503, &"1".parse().expect("a header"))
    );
    drop(held);

    let full = Fixture::start_with(Arc::new(ManualClock::new(NOW)), OtlpLimits::default(), u64::MAX).await;
    let body = traces(vec![span()]).encode_to_vec();
    let response = post(&full, "/v1/traces", PROTOBUF, body).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"30".parse().expect("a header"))
    );
    let status = status(response).await;
    assert_eq!(status.code, 14);
    assert!(status.message.contains("free disk space"), "{status:?}");
    assert_eq!(count(&full, |s| &s.spans_accepted), 0);
}

#[tokio::test]
async fn many_senders_at_once_share_commits_and_lose_nothing() {
    let f = Fixture::start().await;
    let client = client();
    let sends = (0..64u8).map(|i| {
        let body = traces(vec![Span { span_id: vec![i + 1; 8], ..span() }]).encode_to_vec();
        client.post(f.url("/v1/traces")).header(CONTENT_TYPE, PROTOBUF).body(body).send()
    });
    let answers = futures_util::future::join_all(sends).await;
    assert!(answers.iter().all(|a| a.as_ref().is_ok_and(|r| r.status() == 200)));
    assert_eq!(f.store.snapshot().trace(TraceId([1; 16])).expect("readable").len(), 64);
    assert_eq!(f.last("traces_spanmetrics_calls_total", &[]), 64.0);
    assert_eq!(f.last("traces_spanmetrics_latency_sum", &[]), 64.0);
}

#[tokio::test]
async fn an_empty_request_is_a_success() {
    let f = Fixture::start().await;
    assert_eq!(
        post(&f, "/v1/traces", PROTOBUF, ExportTraceServiceRequest::default().encode_to_vec()).await.status(),
        200
    );
    assert_eq!(post(&f, "/v1/metrics", JSON, "{}").await.status(), 200);
}
