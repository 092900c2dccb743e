//! `davy snapshot DIR`: a backup of the running davy, or of the folder of a stopped one.
//!
//! The running davy writes it below its own data folder; this command moves it to where the user wants it.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

const CONTROL: &str = "control.db";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A large store is copied at the speed of the disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// Where the snapshot goes; must not exist yet.
    dir: PathBuf,
    /// Where the running davy listens.
    #[arg(long = "web.address", default_value = "127.0.0.1:9600", value_parser = crate::config::check_listen)]
    address: SocketAddr,
    /// Copy this data folder of a davy that does not run, instead of asking one that does.
    #[arg(long = "storage.path")]
    storage_path: Option<PathBuf>,
}

pub fn run(args: &SnapshotArgs) -> ExitCode {
    match snapshot(args) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("davy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn snapshot(args: &SnapshotArgs) -> Result<String, String> {
    let to = &args.dir;
    if to.symlink_metadata().is_ok() {
        return Err(format!("{} exists already; a snapshot goes into a new folder", to.display()));
    }
    match &args.storage_path {
        Some(from) => davy_store::backup_stopped(from, to, &[CONTROL]).map_err(|e| match e {
            davy_store::Error::Locked { .. } => {
                format!("{e}; leave --storage.path out, and say where it listens with --web.address")
            }
            e => e.to_string(),
        })?,
        None => {
            let made = ask(args.address)?;
            place(&made, to).map_err(|e| format!("moving {} to {}: {e}", made.display(), to.display()))?;
        }
    }
    let summary = davy_store::summary(to).map_err(|e| e.to_string())?;
    let days = match (summary.partitions.first(), summary.partitions.last()) {
        (Some(first), Some(last)) if summary.partitions.len() > 1 => {
            format!(" from {} to {}", date(*first), date(*last))
        }
        (Some(only), _) => format!(" of {}", date(*only)),
        _ => String::new(),
    };
    Ok(format!(
        "{}: {} bytes, log and {} partitions{days}{}\nstart on it with `davy run --storage.path {}`",
        to.display(),
        summary.bytes,
        summary.partitions.len(),
        if to.join(CONTROL).exists() { ", decisions" } else { "" },
        to.display()
    ))
}

fn date(t: davy_model::Timestamp) -> String {
    jiff::Timestamp::from_millisecond(t.as_millis())
        .map_or_else(|_| t.to_string(), |t| t.strftime("%Y-%m-%d").to_string())
}

/// Has the running davy write a snapshot; returns the folder.
fn ask(address: SocketAddr) -> Result<PathBuf, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let url = format!("http://{address}/api/davy/v1/storage/snapshot");
    let answer = runtime.block_on(async {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .no_proxy()
            .build()?;
        let response = client.post(&url).send().await?;
        let ok = response.status().is_success();
        Ok::<_, reqwest::Error>((ok, response.text().await?))
    });
    let (ok, body) = answer.map_err(|e| {
        let hint =
            "say where davy listens with --web.address, or its folder with --storage.path if it is stopped";
        if e.is_connect() { format!("no davy answers on {address}; {hint}") } else { format!("{url}: {e}") }
    })?;
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    match (ok, body["path"].as_str()) {
        (true, Some(path)) => Ok(path.into()),
        (true, None) => Err(format!("{url}: the answer names no folder; is this davy?")),
        (false, _) => Err(body["error"].as_str().unwrap_or("refused without a reason").to_owned()),
    }
}

/// Moves the folder; copies it if it lies on another file system.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            copy(from, to)?;
            fs::remove_dir_all(from)?;
        }
        other => other?,
    }
    File::open(parent)?.sync_all()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_copied_whole_where_it_cannot_be_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(from.join("partitions")).unwrap();
        fs::write(from.join("x.db"), "1").unwrap();
        fs::write(from.join("partitions/0.db"), "2").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("partitions/0.db")).unwrap(), "2");
        assert_eq!(fs::read_to_string(to.join("x.db")).unwrap(), "1");
        assert!(copy(&from, &to).is_err(), "never over anything");
        fs::remove_dir_all(&to).unwrap();
        place(&from, &to).unwrap();
        assert!(!from.exists() && to.join("partitions/0.db").exists());
    }
}
