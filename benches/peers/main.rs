//! Davy beside Prometheus and VictoriaMetrics: the same samples, each system alone in turn, CPU seconds and bytes.
//!
//! `cargo bench --bench peers -- scrape` (or `remote-write`, `disk`, `memory`, `recovery`, `scale`; `--help` tells the
//! rest). Under `cargo test` every experiment runs in a tiny form, with Davy only unless `DAVY_BENCH_SYSTEMS` names
//! more. The load is made here, in another process than the one that is measured; all traffic is loopback, every wait
//! has an end, and no system outlives this program.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench that panics has failed; it reads clocks"
)]

mod args;
mod disk;
mod load;
mod memory;
mod net;
mod panels;
mod process;
mod push;
mod query;
mod recovery;
mod report;
mod scrape;
mod system;
mod write;

use args::{Args, Experiment};
use clap::Parser;
use report::Report;

fn main() {
    // `cargo bench` says `--bench`; `cargo test` does not.
    if std::env::args().any(|a| a == "--bench") {
        let args = Args::parse();
        let experiment = args.experiment;
        run(experiment, &args.with_defaults_of(experiment)).print();
        return;
    }
    for experiment in Experiment::ALL {
        let report = run(experiment, &Args::tiny(experiment));
        report.print();
        report.assert_complete();
    }
}

fn run(experiment: Experiment, args: &Args) -> Report {
    match experiment {
        Experiment::Scrape => scrape::run(args),
        Experiment::RemoteWrite => write::run(args),
        Experiment::Disk => disk::run(args),
        Experiment::Memory => memory::run(args),
        Experiment::Recovery => recovery::run(args),
        Experiment::Scale => memory::scale(args),
        Experiment::Query => query::run(args),
        Experiment::Lookup => query::lookup(args),
        Experiment::Panels => panels::run(args),
    }
}
