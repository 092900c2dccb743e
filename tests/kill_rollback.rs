//! Killing Davy at any moment of a rollback and starting it again ends in exactly one applied rollback: the real
//! binary, a service that it scrapes, and a target of the Davy protocol that counts what it applies.
//!
//! `DAVY_ROLLBACK_KILLS=1000` for the long form.

#![expect(clippy::unwrap_used, reason = "a test may end early")]
#![expect(clippy::disallowed_methods, reason = "the service here lives in real time")]

mod common;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use common::{free_port, write};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Requests a second of each instance.
const RATE: f64 = 400.0;
const INTERVAL_MS: u64 = 250;
/// Kills that begin with the same past. The counters go on meanwhile, and what they gain in the gap is good.
const KILLS_OF_ONE_PAST: u32 = 40;
/// A rollback that is not there by then is none.
const PATIENCE: Duration = Duration::from_secs(40);

fn kills() -> u32 {
    std::env::var("DAVY_ROLLBACK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// When the process is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    After(Duration),
    /// When this many questions or calls have arrived: before they are obeyed, or after, and never answered.
    Read(u32),
    CallBefore,
    CallAfter,
}

struct World {
    began: Instant,
    bad_since: Option<Instant>,
    drained: Option<Instant>,
    share: u64,
    generation: u64,
    marker: Option<String>,
    applied: u32,
    reads: u32,
    calls: u32,
    moment: Option<Moment>,
    davy: Option<Child>,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn kill(&mut self) {
        self.moment = None;
        if let Some(mut davy) = self.davy.take() {
            let _ = davy.kill();
            let _ = davy.wait();
        }
    }
}

async fn metrics(State(world): State<Shared>, UrlPath((version, _)): UrlPath<(String, u32)>) -> String {
    let world = world.lock().unwrap();
    let serves = version == "v1" || world.share > 0;
    // From the rollback on it counts no more.
    let until = if serves { Instant::now() } else { world.drained.unwrap_or(world.began) };
    let all = (until.duration_since(world.began).as_secs_f64() * RATE).floor();
    let bad = world.bad_since.filter(|_| version == "v2");
    let bad = bad.map_or(0.0, |since| until.saturating_duration_since(since).as_secs_f64());
    let errors = (all * 0.001 + bad * RATE * 0.3).floor();
    let mut text = String::from("# TYPE http_requests_total counter\n");
    let _ = writeln!(text, "http_requests_total{{code=\"200\"}} {}", all - errors);
    let _ = writeln!(text, "http_requests_total{{code=\"500\"}} {errors}");
    text
}

async fn state(State(world): State<Shared>) -> String {
    let mut world = world.lock().unwrap();
    world.reads += 1;
    if world.moment == Some(Moment::Read(world.reads)) {
        world.kill();
    }
    json!({"uid": "checkout", "generation": world.generation, "share": world.share, "marker": world.marker})
        .to_string()
}

async fn change(State(world): State<Shared>, body: String) -> (StatusCode, String) {
    let body: Value = serde_json::from_str(&body).unwrap();
    let mut world = world.lock().unwrap();
    world.calls += 1;
    if world.moment == Some(Moment::CallBefore) {
        world.kill();
        return (StatusCode::BAD_GATEWAY, String::new());
    }
    if body["expect"]["generation"].as_str() != Some(world.generation.to_string().as_str()) {
        return (StatusCode::CONFLICT, String::new());
    }
    world.share = body["share"].as_u64().unwrap();
    world.generation += 1;
    world.marker = body["marker"].as_str().map(str::to_owned);
    world.applied += 1;
    world.drained = Some(Instant::now());
    if world.moment == Some(Moment::CallAfter) {
        world.kill();
    }
    (StatusCode::OK, String::new())
}

fn start(dir: &Path, port: u16) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_davy"))
        .args(["run", "--headless", "--web.listen-address", &format!("127.0.0.1:{port}")])
        .arg("--config.file")
        .arg(dir.join("davy.yaml"))
        .arg("--storage.path")
        .arg(dir.join("data"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("davy starts")
}

fn config(target: u16) -> String {
    let ms = INTERVAL_MS;
    let mut text = format!(
        "global: {{scrape_interval: {ms}ms, scrape_timeout: {ms}ms, evaluation_interval: {ms}ms}}\n\
         otlp: {{grpc: '127.0.0.1:{}', http: '127.0.0.1:{}'}}\n\
         actions:\n  split: {{webhook: {{url: 'http://127.0.0.1:{target}/change', \
         state_url: 'http://127.0.0.1:{target}/state', timeout: 2s}}}}\n\
         releases:\n  - {{service: checkout, baseline: {{version: v1}}, canary: {{version: v2}}, \
         actions: {{rollback: split}}, policy: {{on_fail: rollback, watch: 6h, warm_up: 1s, interval: {ms}ms, \
         verify_timeout: 30s}}}}\nscrape_configs:\n  - job_name: shop\n    static_configs:\n",
        free_port(),
        free_port()
    );
    for version in ["v1", "v2"] {
        for i in 0..2 {
            let _ = writeln!(
                text,
                "    - {{targets: ['127.0.0.1:{target}'], labels: {{__metrics_path__: /m/{version}/{i}, \
                 instance: {version}-{i}, service: checkout, version: {version}}}}}"
            );
        }
    }
    text
}

async fn phase(port: u16) -> Option<String> {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/api/davy/v1/releases")).await.ok()?;
    let releases: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    releases[0]["phase"].as_str().map(str::to_owned)
}

async fn shown(port: u16) -> String {
    match reqwest::get(format!("http://127.0.0.1:{port}/api/davy/v1/releases")).await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(e) => e.to_string(),
    }
}

async fn wait(port: u16, wanted: &str) -> bool {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if phase(port).await.as_deref() == Some(wanted) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// A data folder in which a release is watched and nothing is wrong yet.
async fn watched(world: &Shared, dir: &Path, port: u16) {
    world.lock().unwrap().davy = Some(start(dir, port));
    assert!(wait(port, "watching").await, "{}", std::fs::read_to_string(dir.join("log")).unwrap());
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.lock().unwrap().kill();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            let _ = std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_ends_in_one_rollback() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fresh = || World {
        began: Instant::now(),
        bad_since: None,
        drained: None,
        share: 20,
        generation: 4,
        marker: None,
        applied: 0,
        reads: 0,
        calls: 0,
        moment: None,
        davy: None,
    };
    let world: Shared = Arc::new(Mutex::new(fresh()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = listener.local_addr().unwrap().port();
    let app = Router::new()
        .route("/m/{version}/{n}", get(metrics))
        .route("/state", get(state))
        .route("/change", post(change))
        .with_state(world.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    write(&dir.path().join("davy.yaml"), &config(target));
    let kept = dir.path().join("kept");
    let seed = std::env::var("DAVY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut by_clock, mut by_request) = (0, 0);
    for n in 0..kills() {
        let _ = std::fs::remove_dir_all(dir.path().join("data"));
        if n.is_multiple_of(KILLS_OF_ONE_PAST) {
            let _ = std::fs::remove_dir_all(&kept);
            *world.lock().unwrap() = fresh();
            watched(&world, dir.path(), port).await;
            std::fs::rename(dir.path().join("data"), &kept).unwrap();
        }
        copy(&kept, &dir.path().join("data"));
        let moment = match rng.random_range(0..6) {
            0 => Moment::Read(rng.random_range(1..4)),
            1 => Moment::CallBefore,
            2 => Moment::CallAfter,
            _ => Moment::After(Duration::from_millis(rng.random_range(0..4000))),
        };
        {
            let mut w = world.lock().unwrap();
            let began = w.began;
            *w = World {
                began,
                bad_since: Some(Instant::now()),
                moment: Some(moment),
                davy: Some(start(dir.path(), port)),
                ..fresh()
            };
        }
        if let Moment::After(time) = moment {
            tokio::time::sleep(time).await;
            world.lock().unwrap().kill();
            by_clock += 1;
        } else {
            let until = Instant::now() + PATIENCE;
            // What is waited for may not happen, where there is less to ask.
            while world.lock().unwrap().moment.is_some()
                && Instant::now() < until
                && phase(port).await.as_deref() != Some("rolled_back")
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            world.lock().unwrap().kill();
            by_request += 1;
        }
        world.lock().unwrap().davy = Some(start(dir.path(), port));
        let done = wait(port, "rolled_back").await;
        let shown = if done { String::new() } else { shown(port).await };
        // Whatever is still on its way would come now.
        tokio::time::sleep(Duration::from_millis(2 * INTERVAL_MS)).await;
        let mut w = world.lock().unwrap();
        w.kill();
        let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(done, "kill {n} ({moment:?}, seed {seed}) did not end rolled back: {shown}\n{}", log());
        let counted = (w.applied, w.reads, w.calls, w.share);
        assert_eq!(w.applied, 1, "kill {n} ({moment:?}, seed {seed}): {counted:?}\n{}", log());
        let _ = std::fs::remove_file(dir.path().join("log"));
    }
    println!("{} kills, {by_clock} by the clock and {by_request} by a request: one rollback each", kills());
}
