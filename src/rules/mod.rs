//! `davy check rules`: reads rule files as `davy run` would, and runs unit tests of rules in promtool's format.
//!
//! [`series`] reads the notation of series, `memory` holds them and is what the rules are evaluated in, `unit` runs
//! one file of tests, `report` says how expected and got differ. [`answer`] is shared with `davy run`.

pub mod answer;
mod histogram;
pub(crate) mod memory;
mod report;
pub mod series;
mod unit;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use davy_alerting::rule::GroupSpec;
use regex::Regex;

use crate::config::{RuleDefaults, RuleFile};

/// Where a file alone says nothing of it; Prometheus' default.
const INTERVAL: Duration = Duration::from_secs(60);
/// Duplicates that are shown.
const DUPLICATES_MAX: usize = 20;

/// Exit codes: 0 all good, 1 otherwise.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Rule files, and files of unit tests in promtool's format: they are told apart by their keys.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only unit tests whose name matches; several are alternatives.
    #[arg(long, value_parser = pattern)]
    run: Vec<Regex>,
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|e| e.to_string())
}

pub fn run(args: &CheckArgs) -> ExitCode {
    let mut all_good = true;
    for file in &args.files {
        let (report, good) = check(file, &args.run);
        print!("{report}");
        all_good &= good;
    }
    if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The text to print on one file, and whether it is good. Of its tests, those whose names match one of `only`; all
/// if there are none.
pub fn check(path: &Path, only: &[Regex]) -> (String, bool) {
    let defaults = RuleDefaults { interval: INTERVAL, query_offset: Duration::ZERO };
    let name = path.display();
    let mut out = String::new();
    let mut say = |line: std::fmt::Arguments<'_>| writeln!(out, "{line}").expect("a String takes all");
    let good = match RuleFile::load(path, defaults) {
        Err(errors) => {
            say(format_args!("Checking {name}\n  FAILED:\n{errors}"));
            false
        }
        Ok((RuleFile::Rules(groups), warnings)) => {
            say(format_args!("Checking {name}"));
            warnings.iter().for_each(|w| say(format_args!("  warning: {w}")));
            let rules: usize = groups.iter().map(|g| g.rules.len()).sum();
            say(format_args!("  SUCCESS: {rules} rules found"));
            duplicates(&groups).iter().take(DUPLICATES_MAX).for_each(|d| say(format_args!("  warning: {d}")));
            true
        }
        Ok((RuleFile::Tests(tests), warnings)) => {
            say(format_args!("Unit testing {name}"));
            warnings.iter().for_each(|w| say(format_args!("  warning: {w}")));
            let wanted = |name: &str| only.is_empty() || only.iter().any(|r| r.is_match(name));
            let failures = unit::run(&tests, &wanted);
            if failures.is_empty() {
                say(format_args!("  SUCCESS"));
            } else {
                say(format_args!("  FAILED:"));
                failures.iter().for_each(|f| say(format_args!("{f}\n")));
            }
            failures.is_empty()
        }
    };
    (out, good)
}

/// Rules that make the same series: the later ones win or conflict.
fn duplicates(groups: &[GroupSpec]) -> Vec<String> {
    let mut seen: BTreeMap<(&str, &BTreeMap<String, String>), usize> = BTreeMap::new();
    for rule in groups.iter().flat_map(|g| &g.rules) {
        *seen.entry((&rule.name, &rule.labels)).or_default() += 1;
    }
    let twice = seen.into_iter().filter(|(_, n)| *n > 1);
    twice
        .map(|((name, labels), n)| {
            let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            format!(
                "{n} rules are called {name} with the labels {{{}}}: they may conflict",
                labels.join(", ")
            )
        })
        .collect()
}
