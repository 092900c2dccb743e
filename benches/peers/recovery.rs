//! `kill -9` with a full head, then the start: CPU and wall seconds until it is ready and until an answer is right.

use std::thread::sleep;
use std::time::{Duration, Instant};

use davy_fixtures::fleet::TICK_METRIC;

use crate::args::Args;
use crate::load::{Load, now_ms};
use crate::net::wait_for;
use crate::report::Report;
use crate::scrape::Home;
use crate::system::{Kind, Scrapes, System};

const ANSWER_MAX: Duration = Duration::from_secs(300);
/// What was scraped this long before the kill is on disk, whatever a system's own interval of syncing.
const DURABLE_MS: i64 = 8000;

pub(crate) fn run(args: &Args) -> Report {
    let (targets, series, fill) = (args.targets[0], args.series, args.warm_up());
    let title = format!(
        "Recovery: {targets} targets x {series} series, {fill} s of scrapes at {} ms, kill -9, start",
        args.interval_ms()
    );
    let mut report = Report::new(title, &args.systems);
    for kind in &args.systems {
        if let Err(why) = pass(args, *kind, &mut report) {
            report.note(format!("{}: {why}", kind.name()));
        }
    }
    report
}

fn pass(args: &Args, kind: Kind, report: &mut Report) -> Result<(), String> {
    let home = Home::new(args, "recovery");
    let targets = args.targets[0];
    let load = Load::start(args.seed, targets, args.series, args.interval_ms());
    let scrapes = Scrapes { ports: &load.ports, targets, interval_ms: args.interval_ms() };
    let system = System::start(kind, args, home.path(), Some(&scrapes))?;
    // Nothing is right before this much is there to be found again.
    let fill = args.warm_up().max(2 * DURABLE_MS.unsigned_abs() / 1000 + 4);
    sleep(Duration::from_secs(fill));
    let taken = system.samples_taken();
    system.process.kill();
    let at = now_ms() - DURABLE_MS;
    report.fact(kind, "M samples taken before", 2, taken / 1e6);

    for _ in 0..args.runs() {
        let began = Instant::now();
        let system = System::start(kind, args, home.path(), None)?;
        let (ready, ready_cpu) = system.ready_after;
        let right = || (system.query(&format!("count({TICK_METRIC})"), at)? == targets as f64).then_some(());
        if wait_for(Duration::from_millis(20), ANSWER_MAX, right).is_none() {
            let got = system.query(&format!("count({TICK_METRIC})"), at);
            return Err(format!("no right answer: {got:?} of {targets} targets"));
        }
        report.cost(kind, "CPU s until ready", 2, ready_cpu);
        report.cost(kind, "s until ready", 2, ready);
        report.cost(kind, "CPU s until an answer is right", 2, system.process.cpu());
        report.cost(kind, "s until an answer is right", 2, began.elapsed().as_secs_f64());
        system.process.kill();
    }
    Ok(())
}
