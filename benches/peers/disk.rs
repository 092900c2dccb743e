//! Bytes of half a day after compaction, index included.

use crate::args::Args;
use crate::load::now_ms;
use crate::push::Pusher;
use crate::report::Report;
use crate::scrape::Home;
use crate::system::{Kind, System};

/// The data ends at a full even hour, where Prometheus' blocks and Davy's chunks end too.
const EVEN_MS: i64 = 2 * 3600 * 1000;

pub(crate) fn run(args: &Args) -> Report {
    let (targets, series, ticks) = (args.targets[0], args.series, args.ticks());
    let hours = ticks as f64 * args.interval_ms() as f64 / 3.6e6;
    let title =
        format!("Disk: {targets} targets x {series} series x {hours:.1} h at {} ms", args.interval_ms());
    let mut report = Report::new(title, &args.systems);
    for kind in &args.systems {
        for _ in 0..args.runs() {
            if let Err(why) = pass(args, *kind, &mut report) {
                report.note(format!("{}: {why}", kind.name()));
                break;
            }
        }
    }
    report
}

fn pass(args: &Args, kind: Kind, report: &mut Report) -> Result<(), String> {
    let home = Home::new(args, "disk");
    let system = System::start(kind, args, home.path(), None)?;
    let span_ms = args.ticks().cast_signed() as i64 * args.interval_ms().cast_signed();
    let end_ms = now_ms() / EVEN_MS * EVEN_MS;
    let mut pusher = Pusher::new(args, end_ms - span_ms);
    let before = system.process.cpu();
    let pushed = pusher.push(&system, args.ticks(), 8)?;
    report.fact(
        kind,
        "CPU us/sample of the backfill",
        3,
        (system.process.cpu() - before) * 1e6 / pushed as f64,
    );
    let (bytes, samples) = system.compact(pushed)?;
    report.fact(kind, "MiB", 1, bytes as f64 / f64::from(1 << 20));
    report.fact(kind, "M samples in them", 1, samples as f64 / 1e6);
    // A tiny run is too short for Prometheus to finish a block.
    if samples > 0 {
        report.cost(kind, "bytes/sample", 3, bytes as f64 / samples as f64);
    }
    Ok(())
}
