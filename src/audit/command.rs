//! `davy audit`: read the audit, hold it against its checkpoints, take it elsewhere. From the data folder, whether a
//! Davy runs on it or not.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use davy_store::audit::{AuditLog, Checkpoint, Linked};
use serde::Serialize;

use super::keeper::{Line, public_key};
use super::key::{PublicKey, hex};
use super::verify::verify;
use crate::exit;

const CONTROL: &str = "control.db";
const FILE_BYTES_MAX: u64 = 64 << 20;
const FAILED: u8 = 1;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Who did what, newest last.
    List(ListArgs),
    /// Whether the audit is what was written: exit code 0 if it is, 1 if not.
    Verify(VerifyArgs),
    /// Every row with its hash, and every checkpoint, as lines of JSON.
    Export(FolderArgs),
    /// The public half of the key that signs checkpoints.
    Key(KeyArgs),
}

#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The data folder of a davy.
    #[arg(long = "storage.path", default_value = "davy-data")]
    storage_path: PathBuf,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Only the newest.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Only rows whose actor, action or target contain this.
    #[arg(long)]
    about: Option<String>,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Checkpoints that were kept away from the database, as Davy writes them.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// A file with the public key, as `davy audit key` prints it; otherwise the key in the data folder is taken.
    #[arg(long)]
    public_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Where the signing key is, if not in the data folder.
    #[arg(long = "audit.key-file")]
    key_file: Option<PathBuf>,
}

pub fn run(command: &AuditCommand) -> ExitCode {
    exit::with(match command {
        AuditCommand::List(args) => list(args),
        AuditCommand::Verify(args) => check(args),
        AuditCommand::Export(args) => export(args),
        AuditCommand::Key(args) => {
            public_key(&args.folder.storage_path, args.key_file.as_deref()).map(|key| {
                println!("{key}");
                exit::PASS
            })
        }
    })
}

fn open(folder: &FolderArgs) -> Result<AuditLog, String> {
    AuditLog::open(&folder.storage_path.join(CONTROL)).map_err(|e| e.to_string())
}

fn list(args: &ListArgs) -> Result<u8, String> {
    let wanted = |l: &Linked| {
        args.about.as_deref().is_none_or(|text| {
            [&l.row.actor, &l.row.action, &l.row.target].into_iter().any(|field| field.contains(text))
        })
    };
    let mut newest = std::collections::VecDeque::new();
    open(&args.folder)?
        .each(|linked| {
            if wanted(&linked) {
                newest.push_back(linked);
                if newest.len() > args.limit {
                    newest.pop_front();
                }
            }
            Ok::<(), davy_store::Error>(())
        })
        .map_err(|e| e.to_string())?;
    for Linked { number, row, .. } in newest {
        let (actor, action, target) = (plain(&row.actor), plain(&row.action), plain(&row.target));
        println!(
            "{number:>6}  {}  {actor} {action} {target}: {}",
            davy_api::wire::rfc3339(row.at),
            plain(&row.outcome)
        );
        if !row.reason.is_empty() {
            println!("        {}", plain(&row.reason));
        }
    }
    Ok(exit::PASS)
}

/// What came from outside must not move the terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn check(args: &VerifyArgs) -> Result<u8, String> {
    let log = open(&args.folder)?;
    let anchored = args.checkpoint.as_deref().map(read_checkpoints).transpose()?.unwrap_or_default();
    let key = match &args.public_key {
        Some(path) => Some(PublicKey::parse(&read(path)?).map_err(|e| format!("{}: {e}", path.display()))?),
        None => public_key(&args.folder.storage_path, None).ok(),
    };
    let report = verify(&log, key.as_ref(), &anchored).map_err(|e| e.to_string())?;
    for fault in &report.faults {
        println!("{fault}");
    }
    let signed = if key.is_some() { "signed" } else { "unsigned, since no key is there," };
    if !report.faults.is_empty() {
        println!("the audit is not what was written");
        return Ok(FAILED);
    }
    println!(
        "{} rows in order; {} {signed} checkpoints agree, the last at row {}",
        report.rows, report.checkpoints, report.covered
    );
    if anchored.is_empty() {
        println!(
            "no checkpoint from elsewhere was given (--checkpoint): whoever can write the folder could have \
             written all of it anew"
        );
    }
    Ok(exit::PASS)
}

fn read(path: &Path) -> Result<String, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    if fs::metadata(path).map_err(|e| wrong(&e))?.len() > FILE_BYTES_MAX {
        return Err(wrong(&format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    fs::read_to_string(path).map_err(|e| wrong(&e))
}

fn read_checkpoints(path: &Path) -> Result<Vec<Checkpoint>, String> {
    let text = read(path)?;
    let line = |(i, line): (usize, &str)| {
        let parsed: Option<Line> = serde_json::from_str(line).ok();
        parsed.and_then(|l| l.checkpoint()).ok_or_else(|| {
            format!(
                "{}:{}: expected a checkpoint as davy writes it, {{\"size\":…,\"head\":…}}",
                path.display(),
                i + 1
            )
        })
    };
    text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(line).collect()
}

#[derive(Serialize)]
struct Row<'a> {
    number: i64,
    at: String,
    actor: &'a str,
    action: &'a str,
    target: &'a str,
    reason: &'a str,
    outcome: &'a str,
    hash: Option<String>,
}

fn export(args: &FolderArgs) -> Result<u8, String> {
    let log = open(args)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let wrote = |e: io::Error| e.to_string();
    log.each(|Linked { number, row, hash }| {
        let line = Row {
            number,
            at: davy_api::wire::rfc3339(row.at),
            actor: &row.actor,
            action: &row.action,
            target: &row.target,
            reason: &row.reason,
            outcome: &row.outcome,
            hash: hash.map(|h| hex(&h)),
        };
        let text = serde_json::to_string(&line).map_err(|e| Stop(e.to_string()))?;
        writeln!(out, "{text}").map_err(|e| Stop(e.to_string()))
    })
    .map_err(|Stop(e)| e)?;
    for checkpoint in log.checkpoints().map_err(|e| e.to_string())? {
        let text = serde_json::to_string(&Line::of(&checkpoint)).map_err(|e| e.to_string())?;
        writeln!(out, "{text}").map_err(wrote)?;
    }
    out.flush().map_err(wrote)?;
    Ok(exit::PASS)
}

struct Stop(String);

impl From<davy_store::Error> for Stop {
    fn from(error: davy_store::Error) -> Self {
        Self(error.to_string())
    }
}
