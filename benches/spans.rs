//! What a span costs from a socket to the disk, how small it becomes, and what finding it costs.
//! `cargo bench --bench spans`; under `cargo test` a small form runs.
//!
//! Spans are those of `davy_fixtures::spans`, sent by a process of its own, so that the CPU seconds are the server's:
//! receiving, checking, counting, the log with its fsync before every answer, and sealing into the partition.
#![allow(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use davy::clock::SystemClock;
use davy_collector::otlp::{OtlpLimits, Receiver, http_router, serve_grpc};
use davy_collector::serve::{ServeLimits, serve};
use davy_fixtures::otlp;
use davy_fixtures::spans::{Shop, exported};
use davy_model::{Clock, Span, Timestamp};
use davy_store::{Limits, Options, Snapshot, SpanQuery, Store};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Spans of one request, as the SDKs' batch processors send them.
const REQUEST_SPANS: usize = 512;
const CONNECTIONS: usize = 8;
const SEED: u64 = 11;
const TRACES_PER_S: f64 = 2_500.0;
/// How often a read is repeated.
const TIMES: usize = 20;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|a| a == "--client") {
        return client(&args[at + 1..]);
    }
    let full = args.iter().any(|a| a == "--bench");
    // Sealed after every round: what a round brings stays below what makes a sender seal.
    let (rounds, spans) = if full { (10, 100_000) } else { (2, 1_000) };
    for transport in transports(&args) {
        measure(transport, rounds, spans);
    }
}

/// Those named, or both.
fn transports(args: &[String]) -> Vec<&'static str> {
    let named: Vec<_> = ["http", "grpc"].into_iter().filter(|t| args.iter().any(|a| a == t)).collect();
    if named.is_empty() { vec!["http", "grpc"] } else { named }
}

fn measure(transport: &str, rounds: usize, spans: usize) {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
    let options = Options { limits, ..Options::default() };
    let start = SystemClock.now();
    let store = Store::open(dir.path(), start, options).unwrap().0;
    let receiver = Receiver::new(store.clone(), Arc::new(SystemClock), OtlpLimits::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let shutdown = CancellationToken::new();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = match transport {
        "http" => {
            let app = http_router(receiver.clone());
            runtime.spawn(serve(listener, app, ServeLimits::default(), shutdown.clone()))
        }
        _ => {
            let serving = serve_grpc(listener, receiver.clone(), shutdown.clone());
            runtime.spawn(async move { serving.await.unwrap() })
        }
    };
    let (mut receive, mut seal, mut sent) = (0.0, 0.0, 0);
    for round in 0..rounds {
        let begin = start.as_millis() + (round * spans) as i64 / 8 * 1000 / TRACES_PER_S as i64;
        let args =
            [transport, &address, &spans.to_string(), &(SEED + round as u64).to_string(), &begin.to_string()];
        let before = cpu();
        let status =
            Command::new(std::env::current_exe().unwrap()).arg("--client").args(args).status().unwrap();
        assert!(status.success(), "the client has sent everything and heard yes");
        let received = cpu();
        store.flush().unwrap();
        let taken = store.stats().spans_appended;
        store.maintain(SystemClock.now()).unwrap();
        receive += received - before;
        seal += cpu() - received;
        assert!(taken >= sent + spans as u64, "everything was taken");
        sent = taken;
    }
    let n = sent as f64;
    println!("{transport}: {sent} spans in requests of up to {REQUEST_SPANS}, {CONNECTIONS} connections");
    row("receive, check, count, log, fsync", receive * 1e6 / n, "us/span");
    row("seal", seal * 1e6 / n, "us/span");
    row("together", n / (receive + seal), "spans a core-second");
    let sealed = partition_bytes(dir.path());
    row("on disk after sealing", sealed / n, "bytes/span");
    if transport == "grpc" {
        read(&store.snapshot(), start);
    }
    shutdown.cancel();
    runtime.block_on(server).unwrap();
    drop(receiver);
}

/// Sends so many spans, at least: whole traces.
fn client(args: &[String]) {
    let [transport, address, spans, seed, begin] = args else { panic!("five arguments") };
    let spans: usize = spans.parse().unwrap();
    let mut shop = shop(seed.parse().unwrap(), begin.parse().unwrap());
    let mut all: Vec<Span> = Vec::with_capacity(spans + 64);
    while all.len() < spans {
        all.extend(shop.trace());
    }
    let requests: Vec<_> = exported(all, REQUEST_SPANS).iter().map(|spans| otlp::traces(spans)).collect();
    let queue = Mutex::new(requests);
    match transport.as_str() {
        "http" => std::thread::scope(|s| {
            (0..CONNECTIONS).for_each(|_| drop(s.spawn(|| post(address, &queue))));
        }),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let queue = Arc::new(queue);
            runtime.block_on(async {
                let exporting: Vec<_> =
                    (0..CONNECTIONS).map(|_| tokio::spawn(export(address.clone(), queue.clone()))).collect();
                for task in exporting {
                    task.await.unwrap();
                }
            });
        }
    }
}

fn next(queue: &Mutex<Vec<ExportTraceServiceRequest>>) -> Option<ExportTraceServiceRequest> {
    queue.lock().unwrap().pop()
}

async fn export(address: String, queue: Arc<Mutex<Vec<ExportTraceServiceRequest>>>) {
    let mut client = TraceServiceClient::connect(format!("http://{address}")).await.unwrap();
    while let Some(request) = next(&queue) {
        let answer = client.export(request).await.unwrap().into_inner();
        assert_eq!(answer.partial_success, None, "every span is taken");
    }
}

fn post(address: &str, queue: &Mutex<Vec<ExportTraceServiceRequest>>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    while let Some(request) = next(queue) {
        let body = otlp::encoded(&request);
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
        while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the server answers");
            answer.extend_from_slice(&buffer[..n]);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-length: 0"), "{answer}");
    }
}

fn read(snapshot: &Snapshot, start: Timestamp) {
    let mut shop = shop(SEED, start.as_millis());
    let traces: Vec<Vec<Span>> = (0..TIMES).map(|_| shop.trace()).collect();
    let mut by_id = traces.iter().cycle();
    timed("trace by id", 10 * TIMES, || {
        let spans = by_id.next().unwrap();
        assert_eq!(snapshot.trace(spans[0].trace_id).unwrap().len(), spans.len());
        spans.len()
    });
    let attribute = |key: &str, value: &str| SpanQuery {
        attributes: vec![(key.to_owned(), value.to_owned())],
        limit: 20,
        ..SpanQuery::default()
    };
    let user = traces[0].iter().find_map(|s| s.attribute("enduser.id")).unwrap().to_string();
    let find = |what: &str, query: SpanQuery| {
        timed(what, TIMES, || snapshot.spans(&query, Timestamp::MIN, Timestamp::MAX).unwrap().len());
    };
    find("20 by a rare attribute: enduser.id", attribute("enduser.id", &user));
    find("by an attribute that no span has", attribute("enduser.id", "nobody"));
    find("by a key that no span has", attribute("no.such.key", "x"));
    find("20 newest by a common attribute: status 504", attribute("http.response.status_code", "504"));
    let pod = traces[0][0].resource.get("k8s.pod.name").unwrap().to_string();
    find("20 newest by an attribute of the resource", attribute("k8s.pod.name", &pod));
    let slow = SpanQuery {
        service: Some("payment".to_owned()),
        operation: Some("POST /v1/charges/{order}".to_owned()),
        duration_min: Some(std::time::Duration::from_millis(150)),
        limit: 20,
        ..SpanQuery::default()
    };
    find("20 newest by service, operation and duration", slow);
    find("20 newest errors", SpanQuery { errors_only: true, limit: 20, ..SpanQuery::default() });
}

fn timed(what: &str, times: usize, mut read: impl FnMut() -> usize) {
    let before = cpu();
    let found = (0..times).map(|_| read()).last().unwrap();
    row(&format!("{what} ({found} found)"), (cpu() - before) * 1e3 / times as f64, "ms");
}

fn shop(seed: u64, begin_ms: i64) -> Shop {
    Shop::new(seed, begin_ms as u64 * 1_000_000, TRACES_PER_S)
}

fn partition_bytes(dir: &Path) -> f64 {
    let files =
        std::fs::read_dir(dir.join("partitions")).unwrap().map(|e| e.unwrap().metadata().unwrap().len());
    files.sum::<u64>() as f64
}

/// CPU seconds of this process so far, its children not counted.
fn cpu() -> f64 {
    let stat = procfs::process::Process::myself().and_then(|p| p.stat()).unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

fn row(what: &str, figure: f64, unit: &str) {
    println!("{what:<55} {figure:>12.2} {unit}");
}
