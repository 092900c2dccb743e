//! From the scrape that completes the evidence to the rollback call that leaves, with many services watched: the real
//! binary, real scrapes, a real webhook. Prints the spread in milliseconds.
//!
//! `cargo bench --bench rollback -- --services 1000 --bad 50`

#![expect(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::routing::{get, post};
use clap::Parser;
use tokio::net::TcpListener;

/// Requests a second of each instance, and how many of them fail.
const RATE: f64 = 100.0;
const GOOD: f64 = 0.001;
const BAD: f64 = 0.2;
const INSTANCES: usize = 2;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Services whose canary goes bad, one after another.
    #[arg(long, default_value_t = 50)]
    bad: usize,
    /// Seconds of an interval, of scrapes and of the judge.
    #[arg(long, default_value_t = 15)]
    interval: u64,
    /// Where Davy's log goes, to see what a slow one waited for; each call is then told with its times.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Cargo's own argument.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Default)]
struct Instance {
    at: Option<Instant>,
    requests: f64,
    errors: f64,
}

#[derive(Default)]
struct Service {
    bad: bool,
    /// When a scrape of it was last answered.
    scraped: Option<Instant>,
    called: Option<Duration>,
    called_at: Option<SystemTime>,
    instances: BTreeMap<(String, usize), Instance>,
}

type World = Arc<Mutex<BTreeMap<String, Service>>>;

async fn metrics(
    State(world): State<World>,
    UrlPath((service, version, n)): UrlPath<(String, String, usize)>,
) -> String {
    let mut world = world.lock().expect("nobody panics");
    let service = world.entry(service).or_default();
    let now = Instant::now();
    service.scraped = Some(now);
    let rate = if service.bad && version == "v2" { BAD } else { GOOD };
    let i = service.instances.entry((version, n)).or_default();
    let passed = i.at.replace(now).map_or(0.0, |at| now.duration_since(at).as_secs_f64());
    i.requests += RATE * passed;
    i.errors += RATE * passed * rate;
    let mut text = String::from("# TYPE http_requests_total counter\n");
    let errors = i.errors.floor();
    let _ = writeln!(text, "http_requests_total{{code=\"200\"}} {}", i.requests.floor() - errors);
    let _ = writeln!(text, "http_requests_total{{code=\"500\"}} {errors}");
    text
}

async fn rollback(State(world): State<World>, body: Bytes) -> &'static str {
    let now = Instant::now();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut world = world.lock().expect("nobody panics");
    if let Some(service) = body["service"].as_str().and_then(|s| world.get_mut(s))
        && service.called.is_none()
    {
        service.called = service.scraped.map(|at| now.duration_since(at));
        service.called_at = Some(SystemTime::now());
        service.bad = false;
    }
    "ok"
}

fn config(arguments: &Arguments, port: u16) -> String {
    let s = arguments.interval;
    let mut text = format!(
        "global: {{scrape_interval: {s}s, evaluation_interval: {s}s}}\n\
         rollback_limits: {{per_service_per_day: 100000, per_hour: 100000, at_once: 100000, \
         common_cause_services: 100000}}\n\
         actions:\n  back: {{webhook: {{url: 'http://127.0.0.1:{port}/rollback'}}}}\n\
         scrape_configs:\n  - job_name: fleet\n    static_configs:\n"
    );
    for n in 0..arguments.services {
        for version in ["v1", "v2"] {
            for i in 0..INSTANCES {
                let _ = writeln!(
                    text,
                    "    - {{targets: ['127.0.0.1:{port}'], labels: {{__metrics_path__: /t/s{n}/{version}/{i}, \
                     instance: s{n}-{version}-{i}, service: s{n}, version: {version}}}}}"
                );
            }
        }
    }
    text += "releases:\n";
    for n in 0..arguments.services {
        let _ = writeln!(
            text,
            "  - {{service: s{n}, baseline: {{version: v1}}, canary: {{version: v2}}, \
             actions: {{rollback: back}}, policy: {{on_fail: rollback, watch: 6h, warm_up: 30s, interval: {s}s}}}}"
        );
    }
    text
}

fn start(folder: &Path, log: &Path) -> Child {
    let log = std::fs::File::create(log).expect("a log");
    Command::new(env!("CARGO_BIN_EXE_davy"))
        .args(["run", "--headless", "--web.listen-address", "127.0.0.1:19600"])
        .arg("--config.file")
        .arg(folder.join("davy.yaml"))
        .arg("--storage.path")
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("davy starts")
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    // It takes minutes and a port: never by the way.
    if !arguments.bench {
        return;
    }
    let world = World::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let app = Router::new()
        .route("/t/{service}/{version}/{n}", get(metrics))
        .route("/rollback", post(rollback))
        .with_state(world.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir().expect("a folder");
    let text = config(&arguments, port) + "otlp: {grpc: '127.0.0.1:19601', http: '127.0.0.1:19602'}\n";
    std::fs::write(folder.path().join("davy.yaml"), text).expect("a file");
    let log = arguments.log.clone().unwrap_or_else(|| folder.path().join("log"));
    let mut davy = start(folder.path(), &log);
    let warm = Duration::from_secs(30 + arguments.interval * 8);
    println!(
        "{} services, {} targets; waiting {} s",
        arguments.services,
        arguments.services * INSTANCES * 2,
        warm.as_secs()
    );
    tokio::time::sleep(warm).await;
    let mut took = Vec::new();
    for n in 0..arguments.bad {
        // Spread over the services, and over the time of an interval.
        let name = format!("s{}", n * (arguments.services / arguments.bad).max(1));
        if let Some(service) = world.lock().expect("nobody panics").get_mut(&name) {
            service.bad = true;
        }
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    tokio::time::sleep(Duration::from_secs(arguments.interval * 8)).await;
    if arguments.log.is_some() {
        for (name, s) in world.lock().expect("nobody panics").iter() {
            let (Some(took), Some(at)) = (s.called, s.called_at) else { continue };
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            println!(
                "{name}: scraped at {:.3}, called at {:.3}",
                (at - took).as_secs_f64(),
                at.as_secs_f64()
            );
        }
    }
    let called = |s: &Service| s.called.map(|d| d.as_secs_f64() * 1000.0);
    took.extend(world.lock().expect("nobody panics").values().filter_map(called));
    let cpu = std::fs::read_to_string(format!("/proc/{}/stat", davy.id())).unwrap_or_default();
    let fields: Vec<f64> = cpu.split(' ').skip(13).take(2).filter_map(|f| f.parse().ok()).collect();
    let _ = davy.kill();
    let _ = davy.wait();
    took.sort_by(f64::total_cmp);
    let at = |q: f64| took.get(((took.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN);
    println!(
        "{} of {} called; from scrape to call in ms: median {:.1}, p90 {:.1}, p99 {:.1}, worst {:.1}; davy used {:.1} CPU s",
        took.len(),
        arguments.bad,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        fields.iter().sum::<f64>() / 100.0
    );
    if took.is_empty() {
        let _ = std::io::stdout().write_all(&std::fs::read(&log).unwrap_or_default());
    }
}
