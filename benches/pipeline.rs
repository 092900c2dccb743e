//! What an interval of many services costs: append their scrapes, find live versions, observe, judge, decide, write
//! down. `cargo bench --bench pipeline`; under `cargo test` a small form runs.
//!
//! CPU seconds of the whole process, so that the writers' threads count and a busy machine does not.
#![allow(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::time::Duration;

use davy::app::Watch;
use davy::config::Config;
use davy_model::{Labels, Timestamp, Value};
use davy_store::control::Control;
use davy_store::{Durability, Limits, Options, SeriesRef, Store};

const INTERVAL: Duration = Duration::from_secs(15);
/// Scrapes settle for this long before they are judged.
const SETTLED: Duration = Duration::from_secs(3);
const INSTANCES: usize = 3;
const WARM_UP: u32 = 16;
const EDGES: [&str; 12] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];

/// Series of one instance, in the order in which [`World::scrape`] gives their values.
struct Instance {
    series: Vec<SeriesRef>,
    began: u32,
}

struct World {
    store: Store,
    watch: Watch,
    now: Timestamp,
    interval: u32,
    instances: Vec<Instance>,
}

fn main() {
    let full = std::env::args().any(|a| a == "--bench");
    let (services, rounds) = if full { (200, 40) } else { (3, 4) };
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
    let now = Timestamp::from_millis(1_800_000_000_000);
    let (store, _) = Store::open(dir.path(), now, Options { limits, ..Options::default() }).unwrap();
    let control = Control::open(&dir.path().join("control.db")).unwrap();
    let config = Config::parse("global: {}\n", "bench.yaml".as_ref(), dir.path()).unwrap();
    let watch = Watch::new(config, store.clone(), control, now);
    let mut world = World { store, watch, now, interval: 0, instances: Vec::new() };

    for version in ["v1", "v2"] {
        world.deploy(services, version);
        for _ in 0..WARM_UP {
            world.round();
        }
    }
    let releases = world.watch.view().releases.len();
    println!(
        "{services} services x 2 versions x {INSTANCES} instances, {releases} releases, {rounds} intervals"
    );
    assert_eq!(releases, services, "every service is a release");

    let costs: Vec<(f64, f64)> = (0..rounds).map(|_| world.round()).collect();
    // The clock of CPU time ticks every 10 ms: only the mean over all intervals is finer than that.
    let mean = |of: fn(&(f64, f64)) -> f64| {
        costs.iter().map(of).sum::<f64>() * 1e6 / f64::from(rounds) / services as f64
    };
    println!("append       {:8.1} us a service and interval", mean(|c| c.0));
    println!("judge, decide{:8.1} us a service and interval", mean(|c| c.1));
}

impl World {
    fn deploy(&mut self, services: usize, version: &str) {
        for service in 0..services {
            for instance in 0..INSTANCES {
                let base = Labels::from_pairs([
                    ("job", format!("service-{service}")),
                    ("instance", format!("{version}-{instance}:8080")),
                    ("version", version.to_owned()),
                ]);
                let mut appender = self.store.appender(self.now);
                let mut find = |metric: &str, more: &[(&str, &str)]| {
                    let mut labels = base.builder();
                    labels.set("__name__", metric);
                    for (n, v) in more {
                        labels.set(n, v);
                    }
                    appender.series(&labels.build()).unwrap()
                };
                let mut series = vec![
                    find("up", &[]),
                    find("http_requests_total", &[("code", "200")]),
                    find("http_requests_total", &[("code", "500")]),
                    find("process_cpu_seconds_total", &[]),
                    find("process_resident_memory_bytes", &[]),
                ];
                series.extend(
                    EDGES.iter().map(|le| find("http_request_duration_seconds_bucket", &[("le", le)])),
                );
                appender.commit(Durability::Group).unwrap();
                self.instances.push(Instance { series, began: self.interval });
            }
        }
    }

    /// One interval; CPU seconds of appending and of everything after it.
    fn round(&mut self) -> (f64, f64) {
        self.interval += 1;
        self.now = self.now + INTERVAL;
        let before = cpu();
        for (n, instance) in self.instances.iter().enumerate() {
            let mut appender = self.store.appender(self.now);
            let served = f64::from(self.interval - instance.began) * (240.0 + (n % 7) as f64);
            let values = [1.0, served * 0.999, served * 0.001, served * 0.004, 2e8 + n as f64];
            let buckets = (1..=EDGES.len()).map(|i| (served * i as f64 / EDGES.len() as f64).floor());
            for (series, value) in instance.series.iter().zip(values.into_iter().chain(buckets)) {
                appender.append(*series, self.now, Value::Float(value)).unwrap();
            }
            appender.commit(Durability::Group).unwrap();
        }
        let appended = cpu();
        let calls = self.watch.tick(self.now + SETTLED, &[]);
        assert!(calls.is_empty(), "twins are not rolled back");
        (appended - before, cpu() - appended)
    }
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = procfs::process::Process::myself().unwrap().stat().unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}
