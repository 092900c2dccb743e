//! `davy judge`: a verdict on recorded intervals, by the same code that judges in production.
//!
//! One run a file, one line of results a file; the exit code of a single file is the verdict, so that a pipeline
//! can act on it: 0 pass, 1 fail, 3 insufficient, and 2 for wrong use or bad input.

pub mod intervals;
mod score;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;
use davy_detector::config::JudgeSpec;

use crate::exit;

use score::Scored;

/// A larger file is not one run of a release.
const FILE_BYTES_MAX: u64 = 4 << 30;

#[derive(Args)]
pub struct JudgeArgs {
    /// Recorded intervals: a file, or a folder whose files are judged in sorted order.
    #[arg(long, value_name = "FILE_OR_DIR", conflicts_with = "history")]
    intervals: Option<PathBuf>,
    /// Where the results go, a JSON line a file; `-` is standard output.
    #[arg(long, value_name = "RESULTS.jsonl", default_value = "-")]
    out: PathBuf,
    /// Probability that a canary at the edge of the margin is ever called worse.
    #[arg(long, value_parser = alpha, default_value_t = JudgeSpec::default().alpha)]
    alpha: f64,
    /// Start of the canary in which only a gross regression fails, such as 3m.
    #[arg(long, value_parser = duration)]
    warm_up: Option<Duration>,
}

fn alpha(text: &str) -> Result<f64, String> {
    let a: f64 = text.parse().map_err(|_| "expected a number between 0 and 1, such as 0.05".to_owned())?;
    if a > 0.0 && a < 1.0 { Ok(a) } else { Err("expected a number between 0 and 1, such as 0.05".to_owned()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || "expected a duration, such as 3m, 90s or 0s".to_owned();
    let d: jiff::SignedDuration = text.parse().map_err(|_| wanted())?;
    Duration::try_from(d).map_err(|_| wanted())
}

impl JudgeArgs {
    /// Which intervals, if it is they that are judged.
    pub fn intervals(&self) -> Option<&Path> {
        self.intervals.as_deref()
    }
}

pub fn run(args: &JudgeArgs, intervals: &Path) -> ExitCode {
    exit::with(judge(args, intervals))
}

fn judge(args: &JudgeArgs, intervals: &Path) -> Result<u8, String> {
    let files = files(intervals)?;
    let mut out = open(&args.out)?;
    let defaults = JudgeSpec::default();
    let spec = JudgeSpec { alpha: args.alpha, warm_up: args.warm_up.unwrap_or(defaults.warm_up), ..defaults };
    let mut code = exit::PASS;
    let cannot_write = |e: std::io::Error| format!("{}: {e}", args.out.display());
    in_parallel(&files, &spec, |file, result| {
        match result {
            Ok(scored) => {
                writeln!(out, "{}", scored.line(file)).map_err(cannot_write)?;
                if files.len() == 1 && !intervals.is_dir() {
                    code = exit::code(scored.outcome.as_str());
                }
            }
            Err(problem) => {
                eprintln!("davy: {}: {problem}", file.display());
                code = exit::NO_ANSWER;
            }
        }
        Ok(())
    })?;
    out.flush().map_err(cannot_write)?;
    Ok(code)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let problem = |e: std::io::Error| format!("{}: {e} (--intervals)", path.display());
    if !std::fs::metadata(path).map_err(problem)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(problem)? {
        let file = entry.map_err(problem)?.path();
        if file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(format!("{}: no file to judge (--intervals)", path.display()));
    }
    files.sort();
    Ok(files)
}

fn open(path: &Path) -> Result<Box<dyn Write>, String> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::BufWriter::new(std::io::stdout())));
    }
    let file = std::fs::File::create(path).map_err(|e| format!("{}: {e} (--out)", path.display()))?;
    Ok(Box::new(std::io::BufWriter::new(file)))
}

fn score_file(file: &Path, spec: &JudgeSpec) -> Result<Scored, String> {
    let bytes = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("expected one run of a release, found {bytes} bytes"));
    }
    let text = std::fs::read(file).map_err(|e| e.to_string())?;
    let text = String::from_utf8(text).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("line {line}: not UTF-8; expected JSON lines")
    })?;
    let recording = intervals::read(&text).map_err(|e| e.to_string())?;
    Ok(Scored::of(&recording, spec))
}

/// Judges the files on all cores and hands the results over in the order of the files.
fn in_parallel(
    files: &[PathBuf],
    spec: &JudgeSpec,
    mut take: impl FnMut(&Path, Result<Scored, String>) -> Result<(), String>,
) -> Result<(), String> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
    let next = AtomicUsize::new(0);
    let (send, receive) = std::sync::mpsc::sync_channel(2 * workers);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let send = send.clone();
            let next = &next;
            scope.spawn(move || {
                while let i = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(file) = files.get(i)
                {
                    // Nobody receives any more once a result could not be taken.
                    if send.send((i, score_file(file, spec))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut waiting = std::collections::BTreeMap::new();
        let mut due = 0;
        for (i, result) in receive {
            waiting.insert(i, result);
            while let Some(result) = waiting.remove(&due) {
                take(&files[due], result)?;
                due += 1;
            }
        }
        Ok(())
    })
}
