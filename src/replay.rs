//! `davy replay`: a running davy's decisions over recorded samples. The same [`Watch`] as in production, on a
//! virtual clock, with every action turned off: what would have been judged, alerted and called.

use std::process::ExitCode;

use clap::Args;
use davy_alerting::config::OnFail;
use davy_api::wire::{Evidence, rfc3339};
use davy_store::control::Control;
use tempfile::TempDir;

use crate::app::Watch;
use crate::exit;
use crate::history::HistoryArgs;
use crate::terminal::release_lines;

/// Columns of the tables at the end.
const WIDTH: usize = 140;
/// Ticks at most.
const TICKS_MAX: usize = 2_000_000;

/// Exit codes: 0 nothing would have failed, 1 a release would have, 2 wrong use.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    history: HistoryArgs,
}

pub fn run(args: &ReplayArgs) -> ExitCode {
    exit::with(replay(args).map(u8::from))
}

fn replay(args: &ReplayArgs) -> Result<bool, String> {
    let mut history = args.history.open()?;
    let dir = TempDir::with_prefix("davy-").map_err(|e| format!("a temporary folder: {e}"))?;
    let control = Control::open(&dir.path().join("control.db")).map_err(|e| e.to_string())?;
    let mut would_call = Vec::new();
    for (spec, policy) in &mut history.config.releases {
        if policy.on_fail == OnFail::Rollback {
            would_call.push(spec.service.clone().unwrap_or_default());
            policy.on_fail = OnFail::Record;
        }
    }
    let (from, to) = (history.from, history.to);
    let mut watch = Watch::new(history.config.clone(), history.store.clone(), control.clone(), from);
    let step = watch.tick_interval();
    let ticks = to.since(from).as_millis() / step.as_millis().max(1);
    if ticks > TICKS_MAX as u128 {
        return Err(format!("{ticks} evaluations: more than {TICKS_MAX}; say --from and --to"));
    }
    println!("{} to {}, {}", rfc3339(from), rfc3339(to), history.source);
    let mut now = from;
    while now <= to + step {
        let calls = watch.tick(now, &[]);
        assert!(calls.is_empty(), "every action is turned off");
        for event in watch.take_events() {
            println!("{}  {}", rfc3339(event.at), event.text);
        }
        now = now + step;
    }
    let view = watch.view();
    let mut failed = false;
    for release in view.releases.iter().rev() {
        println!();
        release_lines(release, WIDTH).iter().for_each(|l| println!("{l}"));
        let verdicts = control.verdicts(release.generation).map_err(|e| e.to_string())?;
        let is_fail = |text: &str| serde_json::from_str::<Evidence>(text).is_ok_and(|e| e.verdict == "fail");
        if let Some((at, _)) = verdicts.iter().find(|(_, text)| is_fail(text)) {
            failed = true;
            println!("  failed at {}", rfc3339(*at));
            if would_call.contains(&release.service) {
                println!("  a running davy would have called the rollback action");
            }
        }
    }
    if view.releases.is_empty() {
        println!("\nno release: two versions of a service did not live side by side");
    }
    for (service, why) in &view.services {
        println!("{service}: not judged: {why}");
    }
    Ok(failed)
}
