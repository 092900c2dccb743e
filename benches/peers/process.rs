//! A system under measurement as a child process: what it used, and its end on every path.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::net::wait_for;

/// A system that does not stop by itself is killed after this.
const STOP_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

/// Bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) anonymous: f64,
}

impl Process {
    /// Its output goes to `log`. If this program dies, so does the child.
    pub(crate) fn start(program: &Path, arguments: &[String], log: PathBuf) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("setpriv (of util-linux) starts {}: {e}", program.display()));
        Self { child, log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU seconds so far, user and system.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = self.procfs().stat().unwrap();
        (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
    }

    pub(crate) fn memory(&self) -> Memory {
        let status = self.procfs().status().unwrap();
        let bytes = |kib: Option<u64>| kib.unwrap_or(0) as f64 * 1024.0;
        Memory { resident: bytes(status.vmrss), anonymous: bytes(status.rssanon) }
    }

    /// The most that was resident since its start, in bytes.
    pub(crate) fn resident_peak(&self) -> f64 {
        self.procfs().status().unwrap().vmhwm.unwrap_or(0) as f64 * 1024.0
    }

    fn procfs(&self) -> procfs::process::Process {
        procfs::process::Process::new(self.id().cast_signed())
            .unwrap_or_else(|e| panic!("the system ended early: {e}\n{}", self.log_tail()))
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// `SIGTERM`, and the time to write down what is in memory.
    pub(crate) fn stop(mut self) {
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        wait_for(Duration::from_millis(50), STOP_MAX, || self.ended().then_some(()));
    }

    /// `kill -9`.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Load of the machine over the last minute: how much others disturbed.
pub(crate) fn machine_load() -> f64 {
    use procfs::Current;
    f64::from(procfs::LoadAverage::current().unwrap().one)
}

/// Bytes of the files below `dir` whose path within it `wanted` takes.
pub(crate) fn bytes_below(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> u64 {
    let (mut total, mut folders) = (0, vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.metadata() {
                Ok(m) if m.is_dir() => folders.push(path),
                Ok(m) if wanted(path.strip_prefix(dir).unwrap()) => total += m.len(),
                // A file that went while it was looked at, or is not wanted.
                _ => {}
            }
        }
    }
    total
}
