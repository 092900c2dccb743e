//! `davy drill SERVICE`: rings the alarm bell of a running davy, and says what was heard, hop by hop.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use davy_api::wire::Drill;
use serde_json::json;

use crate::exit;
use crate::running::{At, Running, ask};

const POLL: Duration = Duration::from_millis(500);

/// Exit codes: 0 every hop was passed in time, 1 not, 2 wrong use or no davy.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// The service whose path is tried: its interval, its policy, its routes.
    service: String,
    /// Call the real actuator too. It is told of the service `drill-SERVICE`; one that looks after a fixed object
    /// changes that object.
    #[arg(long)]
    live: bool,
    /// Who: it stands in the audit.
    #[arg(long, env = "USER")]
    actor: String,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

pub fn run(args: &DrillArgs) -> ExitCode {
    ask(drill(args))
}

async fn drill(args: &DrillArgs) -> Result<u8, String> {
    let davy = Running::at(&args.at)?;
    let body = json!({"service": args.service, "actor": args.actor, "live": args.live});
    let begun: Drill = davy.post(&["drills"], &body).await?;
    if !args.json {
        eprintln!("drill {} has begun; alerts are marked DRILL", begun.id);
    }
    let drill = loop {
        tokio::time::sleep(POLL).await;
        let all: Vec<Drill> = davy.get(&["drills"], &[]).await?;
        match all.into_iter().find(|d| d.id == begun.id) {
            Some(drill) if drill.state == "running" => {}
            Some(drill) => break drill,
            None => return Err("the davy that began the drill does not know of it any more".to_owned()),
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&drill).map_err(|e| e.to_string())?);
    } else {
        show(&drill).iter().for_each(|line| println!("{line}"));
    }
    Ok(if drill.state == "passed" { exit::PASS } else { 1 })
}

fn show(drill: &Drill) -> Vec<String> {
    let mut lines = Vec::new();
    for hop in &drill.hops {
        let took = hop.seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.2} s"));
        let ok = if hop.ok { "ok" } else { "FAILED" };
        lines.push(format!(
            "{:<8} {took:>10}  of {:>4} s  {ok:<6}  {}",
            hop.name, hop.limit_seconds, hop.detail
        ));
    }
    let how = if drill.live { "with the real actuator" } else { "dry" };
    lines.push(format!(
        "{} {}, {how}: {} of {} hops in time",
        drill.service,
        drill.state,
        drill.passed,
        drill.hops.len()
    ));
    if !drill.reason.is_empty() {
        lines.push(drill.reason.clone());
    }
    lines
}
