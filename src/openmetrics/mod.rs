//! `davy import openmetrics` and `davy export openmetrics`: samples in and out as text that other systems read.
//!
//! Both work on a data folder that no davy holds, or on a snapshot of one.

mod export;
mod family;
mod import;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use davy_model::{Clock as _, Timestamp};
use davy_store::{Options, Store};

use crate::clock::SystemClock;
use crate::config::Config;

pub use export::ExportArgs;
pub use import::ImportArgs;

/// Which folder, and how it is kept.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The data folder; no davy may hold it.
    #[arg(long = "storage.path", default_value = "davy-data")]
    storage_path: PathBuf,
    /// Whose `storage` section says how the folder is kept (retention, limits); the defaults unless given.
    #[arg(long = "config.file")]
    config_file: Option<PathBuf>,
}

impl FolderArgs {
    fn open(&self, must_exist: bool) -> Result<(Store, Options), String> {
        let options = match &self.config_file {
            Some(file) => Config::load(file).map_err(|e| e.to_string())?.storage,
            None => Options::default(),
        };
        let store = open_folder(&self.storage_path, &options, must_exist)?;
        Ok((store, options))
    }
}

/// The data folder of a davy that does not run, or a snapshot.
pub fn open_folder(path: &Path, options: &Options, must_exist: bool) -> Result<Store, String> {
    if must_exist && !path.is_dir() {
        return Err(format!("{}: no such folder (--storage.path)", path.display()));
    }
    let opened = Store::open(path, SystemClock.now(), options.clone());
    let (store, recovery) = opened.map_err(|e| match e {
        davy_store::Error::Locked { .. } => {
            format!("{e}; stop it, or take a snapshot (`davy snapshot DIR`) and give that as --storage.path")
        }
        e => e.to_string(),
    })?;
    if recovery.quarantined > 0 {
        eprintln!("davy: {} records failed their checksum and were set aside", recovery.quarantined);
    }
    Ok(store)
}

/// Everything that the files hold into a store, or nothing.
pub fn read_into(store: &Store, files: &[PathBuf], now: Timestamp) -> Result<(), String> {
    import::import_files(store, files, now).map(|_| ())
}

pub fn import(args: &ImportArgs) -> ExitCode {
    done(import::run(args))
}

pub fn export(args: &ExportArgs) -> ExitCode {
    done(export::run(args))
}

/// What was done goes to standard error: standard output may be the export.
fn done(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(report) => {
            eprintln!("davy: {report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("davy: {error}");
            ExitCode::FAILURE
        }
    }
}
