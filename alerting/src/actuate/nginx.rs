//! A file of nginx with one `split_clients`, which Davy owns. Level B: written under a lock, by a rename, only over
//! what was read, tried by `nginx -t` before the reload; but who else has the right to write it is not locked out.
//!
//! The first line is Davy's: generation and marker. uid is the file, token a hash of all of it. No shell anywhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::alert::Fnv1a;
use crate::config::NginxAction;
use crate::release::{ActRequest, CallOutcome, Live, ReadError, TargetState};

const FILE_BYTES_MAX: u64 = 64 * 1024;
const POLL: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(super) struct Nginx(NginxAction);

impl Nginx {
    pub(super) fn new(config: &NginxAction) -> Self {
        Self(config.clone())
    }

    pub(super) async fn read(&self) -> Result<TargetState, ReadError> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read_file());
        read.await.map_err(|e| ReadError::Unreachable(e.to_string()))?
    }

    pub(super) async fn call(&self, request: &ActRequest) -> CallOutcome {
        let (this, request) = (self.clone(), request.clone());
        let called = tokio::task::spawn_blocking(move || this.write_file(&request));
        called.await.unwrap_or_else(|e| CallOutcome::Unknown { detail: e.to_string() })
    }

    fn read_file(&self) -> Result<TargetState, ReadError> {
        let path = &self.0.file;
        let unusable = |why: &str| ReadError::Unusable(format!("{}: {why}", path.display()));
        let text = match read_text(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(unusable("does not exist; write it once, as docs/actuators/nginx.md shows"));
            }
            Err(e) => return Err(ReadError::Unreachable(format!("{}: {e}", path.display()))),
        };
        let head = text.lines().next().and_then(|l| l.strip_prefix("# davy generation="));
        let (generation, marker) = match head.and_then(|h| h.split_once(" marker=")) {
            Some((generation, marker)) => (generation.to_owned(), marker.to_owned()),
            // Written by a human, who begins at nothing.
            None => ("0".to_owned(), String::new()),
        };
        let live = self.live(&text).ok_or_else(|| {
            unusable(&format!(
                "has no split_clients for ${} between {} and {}",
                self.0.variable, self.0.baseline, self.0.canary
            ))
        })?;
        let token = format!("{:016x}", Fnv1a::default().write(text.as_bytes()).0);
        Ok(TargetState {
            uid: path.display().to_string(),
            // A change by someone else keeps the first line and moves the hash.
            generation: format!("{generation}.{token}"),
            token,
            live,
            marker: Some(marker).filter(|m| !m.is_empty()),
            refusal: None,
        })
    }

    /// What the lines of the block say.
    fn live(&self, text: &str) -> Option<Live> {
        let (_, block) = text.split_once("split_clients")?;
        let (head, body) = block.split_once('{')?;
        let (body, _) = body.split_once('}')?;
        if !head.trim_end().ends_with(&format!("${}", self.0.variable)) {
            return None;
        }
        let mut canary = 0.0;
        for line in body.split(';').map(str::trim).filter(|l| !l.is_empty()) {
            let (share, to) = line.split_once(char::is_whitespace)?;
            let to = to.trim().trim_matches('"');
            match (share, to) {
                ("*", to) if to == self.0.canary => canary = 100.0,
                (percent, to) if to == self.0.canary => {
                    canary = percent.strip_suffix('%')?.parse::<f64>().ok()?;
                }
                (_, to) if to == self.0.baseline => {}
                (_, to) => return Some(Live::Other(to.to_owned())),
            }
        }
        Some(if canary > 0.0 { Live::Share(canary / 100.0) } else { Live::Baseline })
    }

    fn write_file(&self, request: &ActRequest) -> CallOutcome {
        let path = &self.0.file;
        let not_sent = |e: io::Error| CallOutcome::NotSent { detail: format!("{}: {e}", path.display()) };
        let _lock = match lock(path) {
            Ok(lock) => lock,
            Err(e) => return not_sent(e),
        };
        let now = match self.read_file() {
            Ok(now) => now,
            Err(ReadError::Unreachable(detail)) => return CallOutcome::NotSent { detail },
            Err(ReadError::Unusable(detail)) => return CallOutcome::Rejected { detail },
        };
        if let Some(outcome) = super::conflict(request, &now) {
            return outcome;
        }
        let before = match read_text(path) {
            Ok(before) => before,
            Err(e) => return not_sent(e),
        };
        let text = self.text(request, &now.generation);
        if let Err(e) = replace(path, &text) {
            return not_sent(e);
        }
        if let Err(why) = run(&self.0.test, self.0.timeout) {
            // What runs still has the old file's rules; the file goes back to them.
            return match replace(path, &before) {
                Ok(()) => CallOutcome::Rejected { detail: format!("nginx does not take it: {why}") },
                Err(e) => CallOutcome::Unknown { detail: format!("{why}; and the old file: {e}") },
            };
        }
        match run(&self.0.reload, self.0.timeout) {
            Ok(()) => CallOutcome::Accepted { detail: "written and reloaded".to_owned(), state: None },
            // It may have been reloaded: the file stays, and says what is wanted.
            Err(why) => CallOutcome::Unknown { detail: format!("the reload: {why}") },
        }
    }

    fn text(&self, request: &ActRequest, generation: &str) -> String {
        let counted = generation.split('.').next().and_then(|g| g.parse::<u64>().ok()).unwrap_or(0) + 1;
        let marker: String = request.marker.chars().filter(|c| !c.is_control()).collect();
        let NginxAction { key, variable, baseline, canary, .. } = &self.0;
        let split = match request.desired.percent() {
            0 => format!("    * {baseline};\n"),
            100 => format!("    * {canary};\n"),
            percent => format!("    {percent}% {canary};\n    * {baseline};\n"),
        };
        format!(
            "# davy generation={counted} marker={marker}\nsplit_clients \"{key}\" ${variable} {{\n{split}}}\n"
        )
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("is larger than a split needs"));
    }
    fs::read_to_string(path)
}

/// Beside the file: a rename would take a lock on the file itself away.
fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, "lock"))?;
    file.try_lock().map_err(|_| io::Error::other("another process is changing it"))?;
    Ok(file)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden: an include of `*.conf` must not read it.
    path.with_file_name(format!(".{name}.{suffix}"))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = beside(path, "new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// A program with fixed arguments; its last words if it fails.
fn run(command: &[String], timeout: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let mut waited = Duration::ZERO;
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let mut said = String::new();
                if let Some(stderr) = child.stderr.take() {
                    let _ = io::Read::read_to_string(&mut io::Read::take(stderr, FILE_BYTES_MAX), &mut said);
                }
                return Err(format!("{program}: {status}: {}", crate::text::one_line(&said, 300)));
            }
            None if waited >= timeout => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program}: timed out"));
            }
            None => {
                std::thread::sleep(POLL);
                waited += POLL;
            }
        }
    }
}
