//! Remote write: live (a request has one sample a series) and backfill (eight). The first tick makes the series and
//! is told apart; then CPU counts until the last request is acknowledged, and once more with what follows.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::load::now_ms;
use crate::push::Pusher;
use crate::report::Report;
use crate::scrape::Home;
use crate::system::{Kind, System};

/// What is written down after the answers is waited for this long.
/// By when every system has counted what it took.
const COUNTED_WITHIN: Duration = Duration::from_secs(20);
const AFTER: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &Args) -> Report {
    let (targets, series, ticks) = (args.targets[0], args.series, args.ticks());
    let title = format!("Remote write: {targets} targets x {series} series x {ticks} ticks");
    let mut report = Report::new(title, &args.systems);
    for (name, at_once) in [("live", 1), ("backfill", 8)] {
        for kind in &args.systems {
            for _ in 0..args.runs() {
                if let Err(why) = pass(args, *kind, name, at_once, &mut report) {
                    report.note(format!("{}, {name}: {why}", kind.name()));
                    break;
                }
            }
        }
    }
    report
}

fn pass(args: &Args, kind: Kind, name: &str, at_once: usize, report: &mut Report) -> Result<(), String> {
    let home = Home::new(args, name);
    let system = System::start(kind, args, home.path(), None)?;
    // The last tick is the newest that a receiver takes as present.
    let span_ms = args.ticks().cast_signed() as i64 * args.interval_ms().cast_signed();
    let mut pusher = Pusher::new(args, now_ms() - span_ms);
    let cpu = || system.process.cpu();

    let before = cpu();
    let created = pusher.push(&system, 1, 1)?;
    sleep(AFTER);
    report.cost(kind, &format!("{name}: CPU us/new series"), 1, (cpu() - before) * 1e6 / created as f64);

    let (before, began) = (cpu(), Instant::now());
    let samples = pusher.push(&system, args.ticks() - 1, at_once)? as f64;
    let (acknowledged, took) = (cpu() - before, began.elapsed().as_secs_f64());
    sleep(AFTER);
    report.cost(kind, &format!("{name}: CPU us/sample"), 3, acknowledged * 1e6 / samples);
    report.cost(kind, &format!("{name}: with the 5 s after"), 3, (cpu() - before) * 1e6 / samples);
    report.fact(kind, &format!("{name}: samples/s"), 0, samples / took);
    let share = stored_share(&system, samples + created as f64);
    report.fact(kind, &format!("{name}: stored of acknowledged"), 3, share);
    system.process.kill();
    Ok(())
}

/// What the system says it took; Davy counts anew only every interval.
fn stored_share(system: &System, acknowledged: f64) -> f64 {
    let until = Instant::now() + COUNTED_WITHIN;
    loop {
        let share = system.samples_taken() / acknowledged;
        if share >= 1.0 || Instant::now() > until {
            return share;
        }
        sleep(Duration::from_millis(500));
    }
}
