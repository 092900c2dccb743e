//! The drill's service: two instances of each version, as expositions on loopback ports of their own. Numbers are
//! functions of time, so that every scrape is right whenever it comes.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use davy_collector::serve::{ServeLimits, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(super) const INSTANCES: usize = 2;
/// Of the requests, while it has any.
pub(super) const CANARY_SHARE: f64 = 0.5;
/// Requests a second of each instance.
const RATE: f64 = 200.0;
const GOOD: f64 = 0.001;
/// The regression: gross, since it is the path that is drilled and not the judge.
const BAD: f64 = 0.3;
const LIMIT_SECONDS: f64 = 0.1;

pub(super) struct Fleet {
    pub(super) baseline: Vec<SocketAddr>,
    pub(super) canary: Vec<SocketAddr>,
    shutdown: CancellationToken,
}

/// What one instance has counted.
struct Instance {
    canary: bool,
    serves: Arc<AtomicBool>,
    counted: Mutex<Counted>,
}

struct Counted {
    at: tokio::time::Instant,
    requests: f64,
    errors: f64,
}

impl Fleet {
    pub(super) async fn start(serves: &Arc<AtomicBool>) -> io::Result<Self> {
        let shutdown = CancellationToken::new();
        let mut fleet = Self { baseline: Vec::new(), canary: Vec::new(), shutdown: shutdown.clone() };
        for n in 0..INSTANCES * 2 {
            let canary = n >= INSTANCES;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let counted = Mutex::new(Counted { at: tokio::time::Instant::now(), requests: 0.0, errors: 0.0 });
            let instance = Arc::new(Instance { canary, serves: serves.clone(), counted });
            let router = Router::new().route("/metrics", get(async move || instance.exposition()));
            tokio::spawn(serve(listener, router, ServeLimits::default(), shutdown.clone()));
            if canary { fleet.canary.push(address) } else { fleet.baseline.push(address) }
        }
        Ok(fleet)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Instance {
    fn exposition(&self) -> String {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = tokio::time::Instant::now();
        let passed: Duration = now.duration_since(counted.at);
        counted.at = now;
        if !self.canary || self.serves.load(Ordering::Relaxed) {
            let requests = RATE * passed.as_secs_f64();
            counted.requests += requests;
            counted.errors += requests * if self.canary { BAD } else { GOOD };
        }
        let (all, errors) = (counted.requests.floor(), counted.errors.floor());
        let good = all - errors;
        let mut text = String::from("# TYPE http_requests_total counter\n");
        for (code, count) in [(200, good), (500, errors)] {
            let _ =
                writeln!(text, "http_requests_total{{code=\"{code}\",method=\"GET\",path=\"/\"}} {count}");
        }
        text += "# TYPE http_request_duration_seconds histogram\n";
        for bound in ["0.05", "0.1", "+Inf"] {
            let _ = writeln!(
                text,
                "http_request_duration_seconds_bucket{{method=\"GET\",path=\"/\",le=\"{bound}\"}} {all}"
            );
        }
        let sum = all * LIMIT_SECONDS / 4.0;
        let _ = writeln!(text, "http_request_duration_seconds_sum{{method=\"GET\",path=\"/\"}} {sum}");
        let _ = writeln!(text, "http_request_duration_seconds_count{{method=\"GET\",path=\"/\"}} {all}");
        text
    }
}
