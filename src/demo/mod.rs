//! `davy demo`: the whole story on this machine in about a minute.
//!
//! Two versions of a real HTTP service, each of three processes, stand behind a weighted splitter, HAProxy where
//! it is installed; `davy run` is started beside them as it would be anywhere, and is told nothing. It raises the
//! canary's share step by step; during that a fault is injected into the canary, and everything that follows is
//! watched from outside: Davy's release API, the splitter's admin API, the webhook, the mail.

mod davy;
mod ending;
mod file;
mod fleet;
mod inbox;
mod leash;
mod load;
mod ramp;
mod record;
#[cfg(test)]
mod samples;
mod screen;
mod script;
pub mod service;
mod splitter;
mod story;
mod summary;
mod table;
mod workdir;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use self::service::Fault;
pub use self::splitter::Asked as Splitter;

/// What the story was cut short by; the shell's convention for an interrupt.
const EXIT_INTERRUPTED: u8 = 130;

#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// What goes wrong with the canary
    #[arg(long, value_enum, default_value_t = Scenario::Errors)]
    pub scenario: Scenario,
    /// Seed of the traffic, the latencies and the failures
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Step of the ramp, in per cent of the traffic, at which the fault comes
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub weight: u8,
    /// What shares the traffic between the versions
    #[arg(long, value_enum, default_value_t = Splitter::Auto)]
    pub splitter: Splitter,
    /// How long a healthy story runs at most, and how long a regression may take to be seen and rolled back
    #[arg(long, default_value = "90s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Write the summary to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Plain lines instead of the live table; so it is when stdout is no terminal
    #[arg(long)]
    pub headless: bool,
    /// Keep configuration, logs and Davy's data in this folder
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 5 % of the requests fail, 0.1 % before
    Errors,
    /// The tail gets longer: p99 times 2.5, the median stays
    Latency,
    /// Each request burns three times the CPU
    Cpu,
    /// Each request keeps 64 KiB
    Leak,
    /// Nothing: Davy must not roll back
    Healthy,
}

impl Scenario {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Cpu => "cpu",
            Self::Leak => "leak",
            Self::Healthy => "healthy",
        }
    }

    pub(crate) fn fault(self) -> Option<Fault> {
        match self {
            Self::Errors => Some(Fault::Errors(0.05)),
            Self::Latency => Some(Fault::Latency(2.5)),
            Self::Cpu => Some(Fault::Cpu(3.0)),
            Self::Leak => Some(Fault::Leak(65_536.0)),
            Self::Healthy => None,
        }
    }
}

/// Plays the story and says how it went: 0 as the scenario says, 1 otherwise. Makes its own runtime: call it
/// outside of any.
pub fn run(args: DemoArgs) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("davy demo: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match story::play(args).await {
            Ok(story::Outcome::Ended { ok: true }) => ExitCode::SUCCESS,
            Ok(story::Outcome::Ended { ok: false }) => ExitCode::FAILURE,
            Ok(story::Outcome::Interrupted) => ExitCode::from(EXIT_INTERRUPTED),
            Err(error) => {
                eprintln!("davy demo: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

/// What keeps the story from being played at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    #[error("instance {instance} did not say its address: {detail}")]
    Instance { instance: String, detail: String },
    #[error("the fault was not taken by instance {instance}: {detail}")]
    Fault { instance: String, detail: String },
    #[error("`davy run` {what}; the end of its log:\n{log}")]
    Davy { what: String, log: String },
    #[error("HAProxy {what}; its log:\n{log}")]
    Haproxy { what: String, log: String },
    #[error("--splitter haproxy: {0}; install HAProxy 2.6 or later, or use --splitter builtin")]
    NoHaproxy(String),
}

impl DemoError {
    /// For `map_err`: says what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Everything here is on loopback; an answer that takes longer is none.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for loopback: no proxies, no redirects.
fn http_client() -> reqwest::Result<reqwest::Client> {
    // reqwest wants a TLS provider even for plain HTTP; a second installation is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(REQUEST_TIMEOUT)
        .build()
}

/// `90`, `90s` or `2m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match number.parse::<u64>() {
        Ok(n) if (30..=3600).contains(&(n.saturating_mul(unit))) => Ok(Duration::from_secs(n * unit)),
        Ok(_) | Err(_) => Err(format!("expected 30s to 60m, got {text:?}")),
    }
}

#[cfg(test)]
const SIGNING_SECRET: &str = "whsec_c2VjcmV0IG9mIHRoZSBkZW1vJ3MgdGVzdHM=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_minutes_within_reason() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "5s", "-60s", "99999999999999999999m", "2h", "61m"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_scenario_but_healthy_has_a_fault() {
        let without: Vec<_> =
            Scenario::value_variants().iter().filter(|scenario| scenario.fault().is_none()).collect();
        assert_eq!(without, [&Scenario::Healthy]);
    }
}
