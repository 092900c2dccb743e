//! `davy release`: what a person tells a running davy of a release; `davy hold`: stop everything, even where davy does
//! not answer.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use davy_api::wire::Release;
use serde_json::json;

use crate::app::HOLD_FILE;
use crate::exit;
use crate::running::{At, Order, Running, ask};
use crate::terminal::release_lines;

/// Columns of the table.
const WIDTH: usize = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// Do nothing more until someone resumes.
    Hold,
    /// End a hold, or a pause of the ramp.
    Resume,
    /// Go back to the baseline, whatever the verdict.
    Rollback,
    /// Give the canary all requests, whatever the verdict.
    Promote,
    /// Do what waits for approval.
    Approve,
    /// Do not do what waits for approval.
    Deny,
}

#[derive(Debug, Args)]
pub struct ReleaseArgs {
    act: Act,
    /// The release's id, as the API and messages give it.
    id: String,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    at: At,
}

pub fn run(args: &ReleaseArgs) -> ExitCode {
    ask(tell(args))
}

async fn tell(args: &ReleaseArgs) -> Result<u8, String> {
    let act = args.act.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    let body = json!({"actor": args.order.actor, "reason": args.order.reason});
    let told = Running::at(&args.at)?.post(&["releases", &args.id, &act], &body).await;
    let release: Release = told.map_err(|e| {
        if e.starts_with("no davy") { format!("{e}; `davy hold` stops everything") } else { e }
    })?;
    release_lines(&release, WIDTH).iter().for_each(|l| println!("{l}"));
    Ok(exit::PASS)
}

#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The data folder of the davy that is to stop acting.
    #[arg(long = "storage.path", default_value = "davy-data")]
    storage_path: PathBuf,
    /// Why: whoever wonders finds it in the file and in the audit.
    #[arg(long, required_unless_present = "release")]
    reason: Option<String>,
    /// End the hold.
    #[arg(long)]
    release: bool,
}

/// A file is enough: it works while davy does not answer, and before it starts.
pub fn hold(args: &HoldArgs) -> ExitCode {
    let path = args.storage_path.join(HOLD_FILE);
    let done = if args.release { end_hold(&path) } else { begin_hold(&path, args.reason.as_deref()) };
    exit::with(done.map(|said| {
        println!("{said}");
        exit::PASS
    }))
}

fn begin_hold(path: &Path, reason: Option<&str>) -> Result<String, String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", path.display());
    let who = std::env::var("USER").unwrap_or_else(|_| "someone".to_owned());
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path).map_err(wrong)?;
    writeln!(file, "{who}: {}", reason.unwrap_or_default()).and_then(|()| file.sync_all()).map_err(wrong)?;
    Ok(format!("{}: nothing is called until it is removed (davy hold --release)", path.display()))
}

fn end_hold(path: &Path) -> Result<String, String> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(format!("{} is removed: davy acts again", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok("nothing was held".to_owned()),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}
