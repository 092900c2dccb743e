//! The fleet as scrape targets: addresses of their own as far as sockets reach, `/t/{n}/metrics`, connections kept
//! alive, a body rendered at most once a tick. The tick is that of the wall clock, so whoever scrapes within one sees the same samples.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use davy_fixtures::fleet::{Fleet, Target};

use crate::net::Net;

/// A target is a process of its own, with its own address; beyond these some share one.
const LISTENERS_MAX: usize = 200;

pub(crate) struct Load {
    /// Target `n` is at the port `n` modulo their number.
    pub(crate) ports: Vec<u16>,
    pub(crate) fleet: Fleet,
    served: Arc<Served>,
    /// Its threads make the load.
    _net: Net,
}

struct Served {
    fleet: Fleet,
    targets: Vec<Mutex<Shown>>,
    samples: AtomicU64,
    bytes: AtomicU64,
}

struct Shown {
    target: Target,
    body: Bytes,
}

/// Of what was served so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
}

impl Load {
    pub(crate) fn start(seed: u64, targets: usize, series: usize, step_ms: u64) -> Self {
        let fleet = Fleet { seed, series, start_ms: now_ms(), step_ms: step_ms.cast_signed() };
        let shown = |n| Mutex::new(Shown { target: Target::new(fleet, n), body: Bytes::new() });
        let served = Arc::new(Served {
            fleet,
            targets: (0..targets).map(shown).collect(),
            samples: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let net = Net::new();
        let app = Router::new().route("/t/{n}/metrics", get(metrics)).with_state(served.clone());
        let listen = |_| {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
            let listener = net.runtime.block_on(listener).unwrap();
            let port = listener.local_addr().unwrap().port();
            net.runtime.spawn(axum::serve(listener, app.clone()).into_future());
            port
        };
        let ports = (0..targets.min(LISTENERS_MAX)).map(listen).collect();
        Self { ports, fleet, served, _net: net }
    }

    pub(crate) fn targets(&self) -> usize {
        self.served.targets.len()
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            samples: self.served.samples.load(Ordering::Relaxed),
            bytes: self.served.bytes.load(Ordering::Relaxed),
        }
    }
}

async fn metrics(State(served): State<Arc<Served>>, Path(n): Path<usize>) -> Response {
    let Some(shown) = served.targets.get(n) else { return StatusCode::NOT_FOUND.into_response() };
    let body = {
        let mut shown = shown.lock().expect("no holder of this lock panics");
        let tick = served.fleet.tick_at(now_ms());
        if shown.target.tick() < tick || shown.body.is_empty() {
            shown.target.advance_to(tick);
            let mut body = Vec::with_capacity(shown.body.len() + 4096);
            shown.target.exposition(&mut body);
            shown.body = body.into();
        }
        shown.body.clone()
    };
    served.samples.fetch_add(served.fleet.series as u64, Ordering::Relaxed);
    served.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}
