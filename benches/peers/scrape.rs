//! Scraping, from socket to durable: windows of one run, one after another.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::load::Load;
use crate::report::Report;
use crate::system::{Scrapes, System};

pub fn run(args: &Args) -> Report {
    let (targets, series, interval_ms) = (args.targets[0], args.series, args.interval_ms());
    let title = format!("Scrape: {targets} targets x {series} series at {interval_ms} ms");
    let mut report = Report::new(title, &args.systems);
    for kind in &args.systems {
        let home = Home::new(args, "scrape");
        let load = Load::start(args.seed, targets, series, interval_ms);
        let scrapes = Scrapes { port: load.port, targets, interval_ms };
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
            report.fact(*kind, "stored of served", 3, seen.stored / seen.samples);
            report.fact(*kind, "body MB/s", 2, seen.bytes / seen.seconds / 1e6);
            report.fact(*kind, "resident MiB", 0, system.process.memory().resident / f64::from(1 << 20));
        }
        system.process.kill();
    }
    report
}

/// What a system did within a while.
pub struct Window {
    pub cpu: f64,
    pub seconds: f64,
    pub samples: f64,
    pub bytes: f64,
    /// By its own count.
    pub stored: f64,
}

impl Window {
    pub fn measure(system: &System, load: &Load, seconds: u64) -> Self {
        let state = || (system.samples_taken(), load.totals(), system.process.cpu());
        let began = Instant::now();
        let (stored, before, cpu) = state();
        sleep(Duration::from_secs(seconds));
        let (stored_after, after, cpu_after) = state();
        Self {
            cpu: cpu_after - cpu,
            seconds: began.elapsed().as_secs_f64(),
            samples: (after.samples - before.samples) as f64,
            bytes: (after.bytes - before.bytes) as f64,
            stored: stored_after - stored,
        }
    }
}

/// Where the systems keep their data and logs.
pub enum Home {
    Temporary(tempfile::TempDir),
    Kept(std::path::PathBuf),
}

impl Home {
    pub fn new(args: &Args, experiment: &str) -> Self {
        match &args.keep {
            None => Self::Temporary(tempfile::tempdir().unwrap()),
            Some(dir) => Self::Kept(dir.join(experiment)),
        }
    }

    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}
