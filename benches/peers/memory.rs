//! Resident bytes of an active series, while it is scraped; and the same with CPU and a lookup as the fleet grows.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::load::{Load, now_ms};
use crate::report::{Report, median};
use crate::scrape::{Home, Window};
use crate::system::{Kind, Scrapes, System};

/// How often memory is looked at during the window.
const LOOKS: u64 = 6;
const QUERIES: usize = 20;

pub(crate) fn run(args: &Args) -> Report {
    let title = format!("Memory: {} series a target at {} ms", args.series, args.interval_ms());
    each(args, title, false)
}

/// Davy as the fleet grows.
pub(crate) fn scale(args: &Args) -> Report {
    let title = format!("Scale: {} series a target at {} ms", args.series, args.interval_ms());
    each(args, title, true)
}

fn each(args: &Args, title: String, queries: bool) -> Report {
    let mut report = Report::new(title, &args.systems);
    for targets in &args.targets {
        for kind in &args.systems {
            for _ in 0..args.runs() {
                if let Err(why) = pass(args, *kind, *targets, queries, &mut report) {
                    report.note(why);
                    break;
                }
            }
        }
    }
    report
}

fn pass(args: &Args, kind: Kind, targets: usize, queries: bool, report: &mut Report) -> Result<(), String> {
    let home = Home::new(args, "memory");
    let load = Load::start(args.seed, targets, args.series, args.interval_ms());
    let scrapes = Scrapes { ports: &load.ports, targets, interval_ms: args.interval_ms() };
    let system = System::start(kind, args, home.path(), Some(&scrapes))?;
    sleep(Duration::from_secs(args.warm_up()));

    let (mut resident, mut anonymous, mut cpu) = (vec![], vec![], (0.0, 0.0));
    let step = (args.window() / LOOKS).max(1);
    for _ in 0..LOOKS {
        let seen = Window::measure(&system, &load, step);
        let memory = system.process.memory();
        resident.push(memory.resident);
        anonymous.push(memory.anonymous);
        cpu = (cpu.0 + seen.cpu, cpu.1 + seen.samples);
    }
    let series = (targets * args.series) as f64;
    let size = if series < 1e6 { format!("{} k", series / 1e3) } else { format!("{} M", series / 1e6) };
    let per_series = |bytes: &[f64]| median(bytes).unwrap_or(f64::NAN) / series;
    report.cost(kind, &format!("{size}: resident bytes/series"), 0, per_series(&resident));
    report.cost(kind, &format!("{size}: anonymous bytes/series"), 0, per_series(&anonymous));
    report.cost(kind, &format!("{size}: CPU us/sample"), 3, cpu.0 * 1e6 / cpu.1);
    if queries {
        lookup(&system, &load, targets, &size, report)?;
    }
    system.process.kill();
    Ok(())
}

/// One target's requests among those of all.
fn lookup(
    system: &System,
    load: &Load,
    targets: usize,
    size: &str,
    report: &mut Report,
) -> Result<(), String> {
    let instance = davy_fixtures::fleet::Fleet::instance(targets / 2);
    let query = format!("count(http_requests_total{{instance=\"{instance}\"}})");
    let at = now_ms() - load.fleet.step_ms;
    let first = Instant::now();
    system.query(&query, at).ok_or_else(|| format!("{query} has no answer"))?;
    report.cost(
        system.kind,
        &format!("{size}: first lookup of one target, ms"),
        2,
        first.elapsed().as_secs_f64() * 1e3,
    );
    let took: Vec<f64> = (0..QUERIES)
        .filter_map(|_| {
            let began = Instant::now();
            system.query(&query, at).map(|_| began.elapsed().as_secs_f64() * 1e3)
        })
        .collect();
    report.cost(
        system.kind,
        &format!("{size}: lookup of one target, ms"),
        2,
        median(&took).unwrap_or(f64::NAN),
    );
    Ok(())
}
