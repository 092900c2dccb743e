//! What to measure, and how much of it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::system::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Experiment {
    /// CPU of scraping, from socket to durable.
    Scrape,
    /// CPU of remote write, live and backfill.
    RemoteWrite,
    /// Bytes of half a day after compaction.
    Disk,
    /// Resident bytes of an active series.
    Memory,
    /// Start after `kill -9` with a full head.
    Recovery,
    /// Davy at 10 k, 100 k and 1 M series.
    Scale,
    /// CPU and time of queries over a day of 5,000 series and more.
    Query,
    /// The same of labels, over a million series.
    Lookup,
    /// Time of panels that are refreshed while a fleet is scraped.
    Panels,
}

impl Experiment {
    pub(crate) const ALL: [Self; 9] = [
        Self::Scrape,
        Self::RemoteWrite,
        Self::Disk,
        Self::Memory,
        Self::Recovery,
        Self::Scale,
        Self::Query,
        Self::Lookup,
        Self::Panels,
    ];
}

/// Davy beside its peers on the same samples. What is not said has the value that the figures were set for.
#[derive(Debug, Clone, Parser)]
#[command(name = "peers")]
pub(crate) struct Args {
    pub(crate) experiment: Experiment,
    /// Which run, one after another.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "davy,prometheus,victoria-metrics")]
    pub(crate) systems: Vec<Kind>,
    /// Targets; `memory` and `scale` take several numbers.
    #[arg(long, value_delimiter = ',')]
    pub(crate) targets: Vec<usize>,
    /// Series of a target.
    #[arg(long, default_value_t = 1000)]
    pub(crate) series: usize,
    /// Measured windows or passes; the figures are medians.
    #[arg(long)]
    pub(crate) runs: Option<usize>,
    #[arg(long)]
    pub(crate) interval_ms: Option<u64>,
    /// Seconds of scraping before the window.
    #[arg(long)]
    pub(crate) warm_up: Option<u64>,
    /// Seconds that are measured.
    #[arg(long)]
    pub(crate) window: Option<u64>,
    /// Ticks that are pushed.
    #[arg(long)]
    pub(crate) ticks: Option<usize>,
    /// Samples of a push request.
    #[arg(long, default_value_t = 2000)]
    pub(crate) request_samples: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Davy's binary, if not the one that was built with this.
    #[arg(long, env = "DAVY_BIN", default_value = env!("CARGO_BIN_EXE_davy"))]
    pub(crate) davy: PathBuf,
    /// Leave the systems' logs and data here instead of in a folder that goes.
    #[arg(long)]
    pub(crate) keep: Option<PathBuf>,
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub(crate) fn with_defaults_of(mut self, experiment: Experiment) -> Self {
        let (targets, interval_ms, warm_up, window, ticks, runs): (&[usize], u64, u64, u64, usize, usize) =
            match experiment {
                Experiment::Scrape => (&[200], 1000, 30, 30, 0, 3),
                Experiment::RemoteWrite => (&[200], 15_000, 0, 0, 50, 3),
                Experiment::Disk => (&[20], 15_000, 0, 0, 2880, 1),
                Experiment::Memory => (&[200, 1000], 5000, 540, 60, 0, 1),
                Experiment::Recovery => (&[1000], 5000, 300, 0, 0, 3),
                Experiment::Scale => (&[10, 100, 1000], 5000, 60, 60, 0, 1),
                Experiment::Query => (&[50], 15_000, 0, 0, 5760, 5),
                Experiment::Panels => (&[200], 1000, 60, 60, 0, 3),
                Experiment::Lookup => (&[1000], 15_000, 75, 0, 2, 5),
            };
        if self.targets.is_empty() {
            self.targets = targets.to_vec();
        }
        self.interval_ms.get_or_insert(interval_ms);
        self.warm_up.get_or_insert(warm_up);
        self.window.get_or_insert(window);
        self.ticks.get_or_insert(ticks);
        self.runs.get_or_insert(runs);
        if experiment == Experiment::Scale {
            self.systems = vec![Kind::Davy];
        }
        self
    }

    /// Everything once, in seconds.
    pub(crate) fn tiny(experiment: Experiment) -> Self {
        let named = std::env::var("DAVY_BENCH_SYSTEMS").unwrap_or_else(|_| "davy".to_owned());
        let name = experiment.to_possible_value().expect("no experiment is hidden").get_name().to_owned();
        let small = ["--systems", &named, "--targets", "2", "--series", "60", "--runs", "1", "--ticks", "24"];
        let quick = ["--interval-ms", "1000", "--warm-up", "2", "--window", "2"];
        Self::parse_from(["peers", &name].into_iter().chain(small).chain(quick)).with_defaults_of(experiment)
    }

    pub(crate) fn interval_ms(&self) -> u64 {
        self.interval_ms.expect("defaults are filled in")
    }

    pub(crate) fn warm_up(&self) -> u64 {
        self.warm_up.expect("defaults are filled in")
    }

    pub(crate) fn window(&self) -> u64 {
        self.window.expect("defaults are filled in")
    }

    pub(crate) fn ticks(&self) -> usize {
        self.ticks.expect("defaults are filled in")
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.expect("defaults are filled in")
    }
}
