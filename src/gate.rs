//! `davy gate`: waits in a pipeline until a running davy has decided on a release.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use davy_api::wire::Release;
use davy_model::Clock as _;

use crate::clock::SystemClock;
use crate::exit;
use crate::running::{At, Running, ask};
use crate::terminal::{duration, release_lines};

/// Columns of the table.
const WIDTH: usize = 120;

/// Exit codes: 0 pass, 1 fail, 3 insufficient when the time is up, 2 wrong use or no davy.
#[derive(Debug, Args)]
pub struct GateArgs {
    /// The service of the release.
    #[arg(long)]
    service: String,
    /// The version that is waited for; the newest release of the service unless given.
    #[arg(long)]
    canary: Option<String>,
    #[command(flatten)]
    at: At,
    /// How long to wait for a verdict.
    #[arg(long, default_value = "1h", value_parser = crate::config::parse_duration)]
    timeout: Duration,
    /// How often to ask.
    #[arg(long, default_value = "5s", value_parser = crate::config::parse_duration)]
    interval: Duration,
}

/// What is known of the release that is waited for.
#[derive(Debug, PartialEq)]
enum Standing<'a> {
    NotSeen,
    Undecided(&'a Release),
    Decided(&'a Release, u8),
}

pub fn run(args: &GateArgs) -> ExitCode {
    ask(wait(args))
}

async fn wait(args: &GateArgs) -> Result<u8, String> {
    let davy = Running::at(&args.at)?;
    let until = SystemClock.now() + args.timeout;
    let mut said = String::new();
    let mut seen = false;
    loop {
        let now = SystemClock.now();
        // Once davy has answered, that it does not answer for a while is not yet an answer.
        let releases: Vec<Release> = match davy.get(&["releases"], &[]).await {
            Ok(releases) => releases,
            Err(error) if seen && now < until => {
                say(&mut said, format!("davy: {error}"));
                tokio::time::sleep(args.interval).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        seen = true;
        let standing = standing(&releases, &args.service, args.canary.as_deref());
        match &standing {
            Standing::Decided(release, code) => {
                release_lines(release, WIDTH).iter().for_each(|l| println!("{l}"));
                return Ok(*code);
            }
            Standing::Undecided(release) => {
                say(&mut said, format!("{}: {}", release.verdict, release.reason));
            }
            Standing::NotSeen => say(&mut said, format!("no release of {} is seen yet", args.service)),
        }
        if now >= until {
            return Ok(time_is_up(args, &standing));
        }
        tokio::time::sleep(args.interval.min(until.since(now))).await;
    }
}

fn time_is_up(args: &GateArgs, standing: &Standing<'_>) -> u8 {
    let after = duration(args.timeout);
    match standing {
        Standing::Undecided(release) | Standing::Decided(release, _) => {
            release_lines(release, WIDTH).iter().for_each(|l| println!("{l}"));
            eprintln!("davy: no verdict after {after}");
        }
        Standing::NotSeen => eprintln!(
            "davy: no release of {}{} was seen within {after}: are both versions scraped, with a version label?",
            args.service,
            args.canary.as_ref().map_or_else(String::new, |c| format!(" to {c}"))
        ),
    }
    3
}

/// Progress, each state once.
fn say(said: &mut String, text: String) {
    if *said != text {
        eprintln!("{text}");
        *said = text;
    }
}

/// The newest release of the service that fits, and whether it is decided. What a person or a rollback has ended
/// counts as they ended it.
fn standing<'a>(releases: &'a [Release], service: &str, canary: Option<&str>) -> Standing<'a> {
    let fits = |r: &&Release| r.service == service && canary.is_none_or(|c| r.canary == c);
    let Some(release) = releases.iter().filter(fits).max_by_key(|r| r.generation) else {
        return Standing::NotSeen;
    };
    match (release.phase.as_str(), release.verdict.as_str()) {
        ("rolling_back" | "verifying" | "rolled_back" | "needs_human", _) => Standing::Decided(release, 1),
        ("promoted", _) => Standing::Decided(release, 0),
        (_, verdict @ ("pass" | "fail")) => Standing::Decided(release, exit::code(verdict)),
        ("closed", verdict) => Standing::Decided(release, exit::code(verdict)),
        _ => Standing::Undecided(release),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(generation: i64, canary: &str, phase: &str, verdict: &str) -> Release {
        Release {
            id: format!("checkout-{generation}"),
            generation,
            service: "checkout".into(),
            baseline: "1".into(),
            canary: canary.into(),
            phase: phase.into(),
            verdict: verdict.into(),
            reason: String::new(),
            started_at: String::new(),
            decided_at: None,
            traffic_share: None,
            evidence: None,
            contract: "ok".into(),
            intervals: 0,
            metrics: Vec::new(),
            actions: Vec::new(),
            traces: Vec::new(),
            ..Release::default()
        }
    }

    fn code(releases: &[Release], canary: Option<&str>) -> Option<u8> {
        match standing(releases, "checkout", canary) {
            Standing::Decided(_, code) => Some(code),
            Standing::NotSeen | Standing::Undecided(_) => None,
        }
    }

    #[test]
    fn the_newest_release_of_the_service_is_waited_for() {
        let all = [release(1, "2", "closed", "fail"), release(2, "3", "watching", "insufficient")];
        assert_eq!(code(&all, None), None);
        assert_eq!(code(&all, Some("2")), Some(1));
        assert_eq!(standing(&all, "cart", None), Standing::NotSeen);
    }

    #[test]
    fn what_was_rolled_back_or_promoted_is_decided_whatever_the_verdict_says() {
        assert_eq!(code(&[release(1, "2", "rolled_back", "insufficient")], None), Some(1));
        assert_eq!(code(&[release(1, "2", "promoted", "insufficient")], None), Some(0));
        assert_eq!(code(&[release(1, "2", "watching", "pass")], None), Some(0));
        assert_eq!(code(&[release(1, "2", "closed", "insufficient")], None), Some(3));
    }
}
