//! Hop 2: what a line costs, on the first scrape of a target and on every other; and hop 3, for many targets in turn.
//!
//! `cargo bench --bench parse`. Throughput is shown in bytes; the lines of each body are printed first, so that
//! nanoseconds a line follow from the time.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use davy_collector::config::{Scheme, ScrapeConfig, ScrapeLimits};
use davy_collector::expfmt::{self, Format};
use davy_collector::scrape::BodyReader;
use davy_egress::HttpConfig;
use davy_fixtures::fleet;
use davy_model::{Labels, Timestamp};
use davy_store::{Options, Store};

fn config() -> Arc<ScrapeConfig> {
    Arc::new(ScrapeConfig {
        job_name: "bench".to_owned(),
        scrape_interval: Duration::from_secs(1),
        scrape_timeout: Duration::from_secs(1),
        metrics_path: "/metrics".to_owned(),
        scheme: Scheme::Http,
        params: Default::default(),
        honor_labels: false,
        honor_timestamps: true,
        http: HttpConfig::default(),
        discovery: vec![],
        relabel: vec![],
        metric_relabel: vec![],
        limits: ScrapeLimits::default(),
    })
}

fn reader() -> BodyReader {
    BodyReader::new(config(), Labels::from_pairs([("job", "bench"), ("instance", "127.0.0.1:9100")]))
}

fn node_exporter() -> Vec<u8> {
    let file = "fixtures/expositions/node_exporter.txt";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read(path).expect("the recording is part of the repository")
}

/// 1,000 series of a service: counters by method, path and status, and a histogram.
fn synthetic() -> Vec<u8> {
    let mut body = String::from("# TYPE http_requests_total counter\n");
    for i in 0..400 {
        body += &format!(
            "http_requests_total{{method=\"GET\",path=\"/api/v1/item/{}\",code=\"{}\",version=\"v1.2.3\"}} {}\n",
            i / 4,
            200 + i % 4,
            i * 137_911
        );
    }
    body += "# TYPE http_request_duration_seconds histogram\n";
    for path in 0..50 {
        for bucket in 0..12 {
            body += &format!(
                "http_request_duration_seconds_bucket{{path=\"/api/v1/{path}\",le=\"{}\",version=\"v1.2.3\"}} {}\n",
                0.005 * f64::from(1 << bucket),
                bucket * path * 31
            );
        }
    }
    body.into_bytes()
}

fn parse(c: &mut Criterion) {
    for (name, body) in [("node_exporter", node_exporter()), ("synthetic_1000", synthetic())] {
        let lines = body.iter().filter(|b| **b == b'\n').count();
        println!("{name}: {lines} lines, {} bytes", body.len());
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group
            .sample_size(20)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        group.bench_function("events", |b| {
            b.iter(|| {
                let mut events = 0;
                let result = expfmt::parse(&body, Format::Text, |e| {
                    black_box(&e);
                    events += 1;
                });
                result.map(|()| events)
            });
        });
        let at = |scrape: i64| Timestamp::from_millis(1_800_000_000_000 + scrape * 1_000);
        group.bench_function("first_scrape", |b| {
            b.iter_batched_ref(reader, |r| r.read(&body, Format::Text, at(0)), BatchSize::LargeInput);
        });
        group.bench_function("repeated_scrape", |b| {
            let (mut reader, mut scrape) = (reader(), 0);
            b.iter(|| {
                scrape += 1;
                reader.read(black_box(&body), Format::Text, at(scrape))
            });
        });
        group.finish();
    }
}

/// Many targets, whose next scrape finds the caches cold, as in production.
struct Fleet {
    readers: Vec<BodyReader>,
    /// By tick, then by target.
    bodies: Vec<Vec<Vec<u8>>>,
    store: Store,
    _dir: tempfile::TempDir,
    turn: usize,
}

const TARGETS: usize = 200;
const SERIES: usize = 1_000;
const TICKS: usize = 4;
const START_MS: i64 = 1_800_000_000_000;

impl Fleet {
    fn new() -> Self {
        let fleet = fleet::Fleet { seed: 1, series: SERIES, start_ms: START_MS, step_ms: 1_000 };
        let mut targets: Vec<fleet::Target> = (0..TARGETS).map(|n| fleet::Target::new(fleet, n)).collect();
        let mut body = |n: usize| {
            targets[n].advance();
            let mut body = Vec::new();
            targets[n].exposition(&mut body);
            body
        };
        let bodies = (0..TICKS).map(|_| (0..TARGETS).map(&mut body).collect()).collect();
        let labels = |n| Labels::from_pairs([("job", "bench"), ("instance", &fleet::Fleet::instance(n))]);
        let readers = (0..TARGETS).map(|n| BodyReader::new(config(), labels(n))).collect();
        let dir = tempfile::tempdir().expect("a temporary folder");
        let now = Timestamp::from_millis(START_MS);
        let (store, _) = Store::open(dir.path(), now, Options::default()).expect("a new store opens");
        Self { readers, bodies, store, _dir: dir, turn: 0 }
    }

    /// The scrape of the next target.
    fn read(&mut self, append: bool) -> usize {
        let (n, tick) = (self.turn % TARGETS, self.turn / TARGETS);
        self.turn += 1;
        let at = Timestamp::from_millis(START_MS + tick as i64 * 1_000);
        let (reader, body) = (&mut self.readers[n], &self.bodies[tick % TICKS][n]);
        let samples = reader.read(black_box(body), Format::Text, at).expect("the body is right");
        if append {
            reader.append(&self.store, at).expect("the store takes them");
        }
        samples
    }
}

fn in_turn(c: &mut Criterion) {
    let mut group = c.benchmark_group("targets_in_turn");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    for (name, append) in [("read", false), ("read_and_append", true)] {
        let mut fleet = Fleet::new();
        group.bench_function(name, |b| b.iter(|| fleet.read(append)));
    }
    group.finish();
}

criterion_group!(benches, parse, in_turn);
criterion_main!(benches);
