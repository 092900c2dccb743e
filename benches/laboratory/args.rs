//! What is measured: seeds, scenarios, rules.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use davy_detector::config::JudgeSpec;
use davy_fixtures::peers::RULES;
use davy_fixtures::scenario::{Named, named};

use crate::davy::Judge;

#[derive(Debug, Parser)]
#[command(about = "Davy's judge beside the peers' rules on seeded releases")]
pub(crate) struct Args {
    /// Runs of each scenario.
    #[arg(long, default_value_t = 100)]
    pub(crate) seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// Names of scenarios or how they begin, such as `aa_mild,ab_`; all of them unless given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// `davy` (defaults), `davy05` (as the study: alpha 0.05, no warm-up), and peers; all of them unless given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) rules: Vec<String>,
    /// Threads; every core unless given.
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Writes the runs into this directory instead of judging them.
    #[arg(long)]
    pub(crate) export: Option<PathBuf>,
    /// Shows the data sets of Kayenta's users to the rules instead.
    #[arg(long)]
    pub(crate) reports: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub(crate) fn tiny() -> Self {
        let names = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect();
        Self {
            seeds: 2,
            from: 0,
            scenarios: names(&["aa_mild", "aa_cold_start", "ab_err_1_5", "ni_err_80"]),
            rules: Vec::new(),
            threads: Some(1),
            export: None,
            reports: false,
            bench: false,
        }
    }

    pub(crate) fn seeds(&self) -> Range<u64> {
        self.from..self.from + self.seeds
    }

    pub(crate) fn scenarios(&self) -> Vec<Named> {
        let chosen = |n: &Named| self.scenarios.iter().any(|s| n.name.starts_with(s.as_str()));
        let all: Vec<Named> =
            named().into_iter().filter(|n| self.scenarios.is_empty() || chosen(n)).collect();
        assert!(!all.is_empty(), "no scenario begins with {:?}", self.scenarios);
        all
    }

    /// Davy first, then the peers in their order.
    pub(crate) fn judges(&self) -> Vec<Judge> {
        let default = JudgeSpec::default();
        let as_the_study = JudgeSpec { alpha: 0.05, warm_up: Duration::ZERO, ..default };
        // The judge with the service's history stands here once there is an interface for it.
        let davys = [
            Judge::Davy { name: "davy", title: "Davy, defaults", spec: default },
            Judge::Davy { name: "davy05", title: "Davy, alpha .05, no warm-up", spec: as_the_study },
        ];
        let all = davys.into_iter().chain(RULES.into_iter().map(Judge::Peer));
        let chosen = |j: &Judge| self.rules.is_empty() || self.rules.iter().any(|r| r == j.name());
        let judges: Vec<Judge> = all.filter(chosen).collect();
        assert!(!judges.is_empty(), "no rule is called {:?}", self.rules);
        judges
    }
}
