//! The OpenTelemetry SDK for Python, as its users run it, against the receiver.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use davy_collector::otlp::OtlpLimits;
use davy_model::{AttributeValue, Clock, SpanKind, SpanStatus, Timestamp, TraceId};

use crate::support::{Fixture, histogram};

/// The SDK stamps what it sends with the machine's time.
struct MachineClock;

impl Clock for MachineClock {
    #[expect(clippy::disallowed_methods, reason = "a real peer needs real time")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::from_millis(since.expect("after 1970").as_millis() as i64)
    }
}

/// A Python with the packages, or `None` after saying what is missing. With `DAVY_REQUIRE_PEERS=1` it must be there.
fn python() -> Option<String> {
    let python = std::env::var("DAVY_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports = "import opentelemetry.sdk, opentelemetry.exporter.otlp.proto.grpc, opentelemetry.exporter.otlp.proto.http";
    let has_packages = Command::new(&python).args(["-c", imports]).output().is_ok_and(|o| o.status.success());
    if has_packages {
        return Some(python);
    }
    let missing = format!("{python} lacks opentelemetry-sdk and the OTLP exporters");
    assert!(std::env::var("DAVY_REQUIRE_PEERS").as_deref() != Ok("1"), "{missing}");
    println!("skipped: {missing}");
    None
}

/// Runs the service once; gives the id of a failed call's trace.
async fn run(python: String, arguments: [String; 5]) -> TraceId {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/python/otlp_push.py");
    let run = move || Command::new(python).arg(script).args(arguments).output();
    let output = tokio::task::spawn_blocking(run).await.expect("not cancelled").expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    TraceId::from_hex(said.trim()).expect("prints a trace id")
}

async fn check(transport: &str, temporality: &str, compression: &str) {
    let Some(python) = python() else { return };
    let f = Fixture::start_with(Arc::new(MachineClock), OtlpLimits::default(), 0).await;
    let endpoint = if transport == "grpc" { f.grpc.to_string() } else { f.url("") };
    let arguments = [transport, &endpoint, temporality, compression, "2.0"].map(str::to_owned);
    let trace = run(python, arguments).await;

    let instance = format!("{transport}-2.0");
    let identity =
        [("job", "shop/checkout"), ("service", "checkout"), ("version", "2.0"), ("instance", &*instance)];
    let with = |labels: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        identity.iter().copied().chain(labels.iter().copied()).collect()
    };
    let (ok, failed) =
        (with(&[("http_response_status_code", "200")]), with(&[("http_response_status_code", "500")]));

    // Seventeen calls went well and three did not; the counters began at zero. Deltas leave out what did not change.
    let requests = "http_server_requests_total";
    assert_eq!(f.values(requests, &failed)[..2], [0.0, 3.0]);
    assert_eq!(f.last(requests, &failed), 3.0);
    assert_eq!(f.values(requests, &ok)[..3], [0.0, 8.0, 17.0]);
    assert_eq!(f.last(requests, &ok), 17.0);
    assert_eq!(f.last("http_server_request_duration_seconds_count", &ok), 17.0);
    let slow: Vec<_> = failed.iter().copied().chain([("le", "0.25")]).collect();
    assert_eq!(f.last("http_server_request_duration_seconds_bucket", &slow), 0.0);
    let slow: Vec<_> = failed.iter().copied().chain([("le", "0.5")]).collect();
    assert_eq!(f.last("http_server_request_duration_seconds_bucket", &slow), 3.0);
    assert_eq!(f.last("http_server_request_duration_seconds_sum", &failed), 1.5);
    assert_eq!(f.last("http_server_active_requests", &identity), 0.0);
    assert_eq!(f.last("cpu_utilization_ratio", &identity), 0.25);
    let metadata = f.store.snapshot().metadata(requests).expect("passed on");
    assert_eq!((metadata.metric_type.as_str(), &*metadata.help), ("counter", "Calls answered"));

    // The exponential histogram: all values are 1.5.
    let payments = f.select("payment_duration_seconds");
    let total: f64 = payments
        .iter()
        .map(|s| {
            let last = histogram(&s.samples.last().expect("a sample").value);
            assert!(last.buckets().iter().all(|(low, high, n)| *n == 0.0 || (*low < 1.5 && 1.5 <= *high)));
            assert!((last.sum / last.count - 1.5).abs() < 1e-9);
            last.count
        })
        .sum();
    assert_eq!(total, 20.0);
    // An exemplar leads from the failed calls' bucket to their trace.
    let buckets = [davy_model::Matcher::equal("__name__", "http_server_request_duration_seconds_bucket")];
    let exemplars = f.store.snapshot().exemplars(&buckets, Timestamp::MIN, Timestamp::MAX);
    let leads_there = exemplars.iter().flat_map(|(_, e)| e).any(|e| e.labels.get("trace_id").is_some());
    assert!(leads_there);

    let info = f.select("target_info");
    assert_eq!(info.len(), 1);
    assert_eq!(
        info[0].labels.get("process_command_args"),
        Some(format!(r#"["otlp_push.py","{transport}"]"#).as_str())
    );
    assert_eq!(info[0].labels.get("telemetry_sdk_language"), Some("python"));
    assert_eq!(f.last("davy_pushed", &identity), 1.0);

    // The trace, and what was made of the twenty.
    let spans = f.store.snapshot().trace(trace).expect("readable");
    assert_eq!(spans.len(), 2);
    let server = spans.iter().find(|s| s.kind == SpanKind::Server).expect("the call");
    assert_eq!((server.status, &*server.status_message), (SpanStatus::Error, "card refused"));
    assert_eq!(&*server.events[0].name, "exception");
    let items = r#"{"arrayValue":{"values":[{"stringValue":"book"},{"stringValue":"pen"}]}}"#;
    assert_eq!(server.attribute("cart.items"), Some(&AttributeValue::Json(items.into())));
    let calls = |status: &'static str| {
        let labels =
            [("service", "checkout"), ("version", "2.0"), ("instance", &*instance), ("status_code", status)];
        f.last("traces_spanmetrics_calls_total", &labels)
    };
    assert_eq!((calls("STATUS_CODE_ERROR"), calls("STATUS_CODE_UNSET")), (3.0, 17.0));
}

#[tokio::test]
async fn grpc_cumulative() {
    check("grpc", "cumulative", "none").await;
}

#[tokio::test]
async fn grpc_delta_gzip() {
    check("grpc", "delta", "gzip").await;
}

#[tokio::test]
async fn http_cumulative_gzip() {
    check("http", "cumulative", "gzip").await;
}

#[tokio::test]
async fn http_delta() {
    check("http", "delta", "none").await;
}
