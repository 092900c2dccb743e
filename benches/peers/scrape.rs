//! Scraping, from socket to durable: windows of one run, one after another.

use std::thread::sleep;
use std::time::{Duration, Instant};

use davy_fixtures::fleet::TICK_METRIC;

use crate::args::Args;
use crate::load::{Load, now_ms};
use crate::report::Report;
use crate::system::{Scrapes, System};

/// Scrapes of this long ago can be queried in every system.
const SETTLED_MS: i64 = 5000;
/// What is counted to see whether scrapes were dropped.
const COUNTED_S: u64 = 20;

pub(crate) fn run(args: &Args) -> Report {
    let (targets, series, interval_ms) = (args.targets[0], args.series, args.interval_ms());
    let title = format!("Scrape: {targets} targets x {series} series at {interval_ms} ms");
    let mut report = Report::new(title, &args.systems);
    for kind in &args.systems {
        let home = Home::new(args, "scrape");
        let load = Load::start(args.seed, targets, series, interval_ms);
        let scrapes = Scrapes { ports: &load.ports, targets, interval_ms };
        let system = match System::start(*kind, args, home.path(), Some(&scrapes)) {
            Ok(system) => system,
            Err(why) => {
                report.note(why);
                continue;
            }
        };
        sleep(Duration::from_secs(args.warm_up()));
        for _ in 0..args.runs() {
            let seen = Window::measure(&system, &load, args.window());
            report.cost(*kind, "CPU us/sample", 3, seen.cpu * 1e6 / seen.samples);
            report.fact(*kind, "samples/s served", 0, seen.samples / seen.seconds);
            report.fact(*kind, "body MB/s", 2, seen.bytes / seen.seconds / 1e6);
            report.fact(*kind, "resident MiB", 0, system.process.memory().resident / f64::from(1 << 20));
        }
        match stored_of_served(&system, &load) {
            Some(share) => report.fact(*kind, "stored of served", 3, share),
            None => report.note(format!("{} does not say what it stored", kind.name())),
        }
        system.process.kill();
    }
    report
}

/// Samples of the last while that a query finds again, of those that were served; one series stands for its target.
/// Less than one is scrapes that were dropped.
pub(crate) fn stored_of_served(system: &System, load: &Load) -> Option<f64> {
    let at = now_ms() - SETTLED_MS;
    let found = system.query(&format!("sum(count_over_time({TICK_METRIC}[{COUNTED_S}s]))"), at)?;
    let a_tick = load.fleet.step_ms as f64 / 1000.0;
    Some(found * a_tick / COUNTED_S as f64 / load.targets() as f64)
}

/// What a system did within a while.
pub(crate) struct Window {
    pub(crate) cpu: f64,
    pub(crate) seconds: f64,
    pub(crate) samples: f64,
    pub(crate) bytes: f64,
}

impl Window {
    pub(crate) fn measure(system: &System, load: &Load, seconds: u64) -> Self {
        let state = || (load.totals(), system.process.cpu());
        let began = Instant::now();
        let (before, cpu) = state();
        sleep(Duration::from_secs(seconds));
        let (after, cpu_after) = state();
        Self {
            cpu: cpu_after - cpu,
            seconds: began.elapsed().as_secs_f64(),
            samples: (after.samples - before.samples) as f64,
            bytes: (after.bytes - before.bytes) as f64,
        }
    }
}

/// Where the systems keep their data and logs.
pub(crate) enum Home {
    Temporary(tempfile::TempDir),
    Kept(std::path::PathBuf),
}

impl Home {
    pub(crate) fn new(args: &Args, experiment: &str) -> Self {
        match &args.keep {
            None => Self::Temporary(tempfile::tempdir().unwrap()),
            Some(dir) => Self::Kept(dir.join(experiment)),
        }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}
