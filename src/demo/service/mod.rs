//! `davy demo-service`: the HTTP service that the demo releases, as a process of its own so that its CPU and
//! memory are real.
//!
//! It listens on a free loopback port, says which in one JSON line on stdout, and ends when its stdin
//! closes: a parent that is killed leaves no orphan.

mod behaviour;
mod metrics;
mod spans;

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use opentelemetry::trace::Span;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use behaviour::Fault;
pub(super) use behaviour::{Order, work};

use behaviour::Behaviour;
use metrics::Metrics;
use spans::Spans;

const BODY_BYTES_MAX: usize = 64 << 10;
/// What a leaking instance keeps at most: the demo must not take the machine with it.
const LEAK_BYTES_MAX: usize = 512 << 20;
const SPANS_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// One instance of the service that `davy demo` releases.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceArgs {
    /// service.name
    #[arg(long, default_value = "checkout")]
    pub service: String,
    /// service.version
    #[arg(long)]
    pub version: String,
    /// service.instance.id
    #[arg(long)]
    pub instance: String,
    /// Where spans go (OTLP over gRPC); without it there are none
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Seed of latencies and failures
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How often each request does its work
    #[arg(long, default_value_t = 100)]
    pub rounds: u32,
}

/// The line on stdout.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) address: String,
}

/// Serves until stdin closes. Makes its own runtime: call it outside of any.
pub fn run(args: ServiceArgs) -> ExitCode {
    // One thread for requests keeps the process as small as a small service is.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-service: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Service {
    behaviour: Mutex<Behaviour>,
    leaked: Mutex<Vec<Vec<u8>>>,
    metrics: Metrics,
    spans: Option<Spans>,
}

async fn serve(args: ServiceArgs) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let spans = match &args.otlp {
        Some(endpoint) => Some(Spans::start(&args, endpoint).map_err(io::Error::other)?),
        None => None,
    };
    let service = Arc::new(Service {
        behaviour: Mutex::new(Behaviour::new(args.seed, args.rounds)),
        leaked: Mutex::default(),
        metrics: Metrics::new(),
        spans,
    });
    let address = listener.local_addr()?.to_string();
    println!("{}", serde_json::to_string(&Hello { address }).map_err(io::Error::other)?);

    tokio::select! {
        served = axum::serve(listener, router(Arc::clone(&service))) => served?,
        () = stdin_closed() => {}
    }
    // Exporting blocks while this runtime must go on to carry it.
    let _ = tokio::task::spawn_blocking(move || {
        if let Some(spans) = &service.spans {
            spans.shutdown(SPANS_SHUTDOWN_TIMEOUT);
        }
    })
    .await;
    Ok(())
}

/// A thread, because a read from stdin cannot be cancelled; the process ends under it.
async fn stdin_closed() {
    let (closed, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = wait.await;
}

fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/checkout", get(checkout).post(checkout))
        .route("/metrics", get(exposition))
        .route("/admin/fault", post(set_fault).delete(clear_fault))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service)
}

async fn checkout(State(service): State<Arc<Service>>, request: Request) -> Response {
    let started = Instant::now();
    let method = if request.method() == axum::http::Method::POST { "POST" } else { "GET" };
    let span = service.spans.as_ref().map(|spans| (spans, spans.server(method, "/checkout")));
    let answer = match read_order(request).await {
        Ok(order) => {
            let draw = lock(&service.behaviour).draw();
            let digest = work(&order, draw.rounds);
            leak(&service.leaked, draw.leaked_bytes);
            let mut database = span.as_ref().map(|(spans, parent)| spans.database(parent));
            tokio::time::sleep(draw.database_time).await;
            if let Some(database) = &mut database {
                database.end();
            }
            service.metrics.count_checkout(draw.orders);
            match draw.fails {
                true => {
                    Err((StatusCode::INTERNAL_SERVER_ERROR, "payment provider did not answer".to_owned()))
                }
                false => Ok(serde_json::json!({"ordered": draw.orders, "receipt": format!("{digest:016x}")})),
            }
        }
        Err(why) => Err((StatusCode::BAD_REQUEST, why)),
    };
    let code = answer.as_ref().map_or_else(|(code, _)| code.as_u16(), |_| 200);
    service.metrics.observe(method, "/checkout", code, started.elapsed());
    if let Some((_, context)) = &span {
        spans::finish(context, code);
    }
    match answer {
        Ok(body) => Json(body).into_response(),
        Err((code, why)) => (code, Json(serde_json::json!({"error": why}))).into_response(),
    }
}

/// A GET, or a POST without a body, is a checkout of nobody in particular.
async fn read_order(request: Request) -> Result<Order, String> {
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|e| e.to_string())?;
    if body.is_empty() {
        return Ok(Order::of(0));
    }
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}

fn leak(leaked: &Mutex<Vec<Vec<u8>>>, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let mut leaked = lock(leaked);
    let held: usize = leaked.iter().map(Vec::len).sum();
    if held + bytes <= LEAK_BYTES_MAX {
        // Written to, or the kernel would not back it with memory.
        leaked.push(vec![0x5a; bytes]);
    }
}

async fn exposition(State(service): State<Arc<Service>>) -> Response {
    match service.metrics.exposition() {
        Ok(body) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn set_fault(State(service): State<Arc<Service>>, Json(fault): Json<Fault>) -> Response {
    if !fault.is_valid() {
        return (StatusCode::UNPROCESSABLE_ENTITY, "strength is out of range").into_response();
    }
    lock(&service.behaviour).fault = Some(fault);
    StatusCode::NO_CONTENT.into_response()
}

async fn clear_fault(State(service): State<Arc<Service>>) -> StatusCode {
    lock(&service.behaviour).fault = None;
    lock(&service.leaked).clear();
    StatusCode::NO_CONTENT
}

/// No holder of these locks panics half way through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
