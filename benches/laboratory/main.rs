//! The laboratory: Davy's judge beside the peers' rules on seeded releases, and how often each is wrong.
//!
//!     cargo bench --bench laboratory -- --seeds 100 --scenarios aa_mild,ab_ --rules davy,kayenta
//!
//! prints tables in Markdown; `--export DIR` writes the runs instead, in the format of `davy judge --intervals`.
//! Every number follows from the seeds; `--reports` shows what Kayenta's users reported
//! instead. `docs/laboratory.md` says what the scenarios and the rules are.
#![allow(clippy::unwrap_used, reason = "a bench that panics has failed")]

mod args;
#[path = "../../detector/tests/common/mod.rs"]
mod common;
mod davy;
mod measure;
mod table;

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use args::Args;
use clap::Parser;
use davy_fixtures::scenario::{Named, write_run};

fn main() {
    // `cargo bench` says `--bench`; `cargo test` does not, and gets a small form.
    let is_bench = std::env::args().any(|a| a == "--bench");
    let args = if is_bench { Args::parse() } else { Args::tiny() };
    let mut scenarios = args.scenarios();
    if !is_bench {
        scenarios.iter_mut().for_each(|n| n.scenario.intervals = n.scenario.intervals.min(60));
    }
    if let Some(dir) = &args.export {
        return export(&args, &scenarios, dir);
    }
    let judges = args.judges();
    if args.reports {
        return table::print_reports(&judges);
    }
    let measured = measure::run(&args, &scenarios, &judges);
    table::print(&args, &judges, &measured);
    assert_eq!(measured.len(), scenarios.len());
}

fn export(args: &Args, scenarios: &[Named], dir: &std::path::Path) {
    fs::create_dir_all(dir).unwrap();
    for n in scenarios {
        for seed in args.seeds() {
            let file = File::create(dir.join(format!("{}.{seed}.jsonl", n.name))).unwrap();
            let mut out = BufWriter::new(file);
            write_run(&mut out, n.name, &n.run(seed)).unwrap();
            out.flush().unwrap();
        }
    }
}
