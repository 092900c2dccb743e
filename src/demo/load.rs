//! Steady load through the splitter: open loop (a slow answer does not slow the arrivals), Poisson arrivals
//! drawn from a seed, concurrency bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::service::Order;

/// Requests under way; arrivals beyond it are counted as shed, not queued.
const IN_FLIGHT_MAX: usize = 256;

/// What was sent and what came back, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LoadCounts {
    pub(super) sent: u64,
    pub(super) good: u64,
    /// Answers of 500 and above, and requests without an answer.
    pub(super) errors: u64,
    /// Arrivals that found every place taken.
    pub(super) shed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    good: AtomicU64,
    errors: AtomicU64,
    shed: AtomicU64,
}

/// A running load; dropping it stops it.
pub(super) struct Load {
    counters: Arc<Counters>,
    _task: JoinSet<()>,
}

impl Load {
    /// Sends `per_second` checkouts to `url` until dropped.
    pub(super) fn start(client: reqwest::Client, url: String, per_second: f64, seed: u64) -> Self {
        let counters = Arc::<Counters>::default();
        let mut task = JoinSet::new();
        task.spawn(send(client, url.into(), per_second, seed, Arc::clone(&counters)));
        Self { counters, _task: task }
    }

    pub(super) fn counts(&self) -> LoadCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { sent, good, errors, shed } = &*self.counters;
        LoadCounts { sent: read(sent), good: read(good), errors: read(errors), shed: read(shed) }
    }
}

async fn send(client: reqwest::Client, url: Arc<str>, per_second: f64, seed: u64, counters: Arc<Counters>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut requests = JoinSet::new();
    let mut due = Instant::now();
    loop {
        due += arrival(&mut rng, per_second);
        let order = Order::of(rng.random_range(0..1_000_000));
        tokio::time::sleep_until(due).await;
        while requests.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            counters.shed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        counters.sent.fetch_add(1, Ordering::Relaxed);
        let (client, url, counters) = (client.clone(), Arc::clone(&url), Arc::clone(&counters));
        requests.spawn(async move {
            let good = checkout(&client, &url, &order).await;
            let counter = if good { &counters.good } else { &counters.errors };
            counter.fetch_add(1, Ordering::Relaxed);
            drop(place);
        });
    }
}

/// Time to the next arrival of a Poisson process.
fn arrival(rng: &mut ChaCha8Rng, per_second: f64) -> Duration {
    let u: f64 = rng.random();
    Duration::from_secs_f64(-(1.0 - u).ln() / per_second)
}

/// Whether the answer was good.
async fn checkout(client: &reqwest::Client, url: &str, order: &Order) -> bool {
    let body = serde_json::to_vec(order).expect("an order is plain data");
    let request = client.post(url).header("content-type", "application/json").body(body);
    match request.send().await {
        Ok(response) => {
            let good = !response.status().is_server_error();
            // Reading to the end keeps the connection for the next request.
            response.bytes().await.is_ok() && good
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::http_client;

    #[test]
    fn arrivals_have_the_asked_rate_and_come_from_the_seed() {
        let arrivals = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..10_000).map(|_| arrival(&mut rng, 200.0)).collect::<Vec<_>>()
        };
        let total: Duration = arrivals(3).iter().sum();
        assert!((total.as_secs_f64() - 50.0).abs() < 2.0, "{total:?}");
        assert_eq!(arrivals(3), arrivals(3));
        assert_ne!(arrivals(3), arrivals(4));
    }

    #[tokio::test]
    async fn a_service_that_never_answers_bounds_the_requests_under_way() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/checkout", listener.local_addr().unwrap());
        let load = Load::start(http_client().unwrap(), url, 20_000.0, 1);
        let deadline = Instant::now() + Duration::from_secs(20);
        while load.counts().shed < 100 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let counts = load.counts();
        assert!(counts.shed >= 100, "{counts:?}");
        // Each request under way holds a place; one without an answer gives it back as an error.
        assert!(counts.sent - counts.errors <= IN_FLIGHT_MAX as u64, "{counts:?}");
        assert_eq!(counts.good, 0);
    }

    #[tokio::test]
    async fn good_answers_and_errors_are_told_apart() {
        let router = axum::Router::new().route("/checkout", axum::routing::post(|| async { "done" })).route(
            "/broken",
            axum::routing::post(|| async { axum::http::StatusCode::INTERNAL_SERVER_ERROR }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let _server = tokio::spawn(async move { axum::serve(listener, router).await });
        let client = http_client().unwrap();
        assert!(checkout(&client, &format!("{base}/checkout"), &Order::of(1)).await);
        assert!(!checkout(&client, &format!("{base}/broken"), &Order::of(1)).await);
    }
}
