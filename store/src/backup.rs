//! Backups while running: copies of live databases, each as it was at one moment.
//!
//! `VACUUM INTO` reads in one transaction, so that writers neither wait nor make it begin anew, as they would
//! SQLite's page-by-page backup; and the copy is as small as can be.

use std::fs::{self, File};
use std::path::Path;

use davy_model::Timestamp;
use rusqlite::{Connection, OpenFlags};

use crate::error::{At, Error};
use crate::sqlite;
use crate::store::{PARTITIONS, TELEMETRY, lock};

/// What a data folder, or a copy of one, holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderSummary {
    pub bytes: u64,
    /// When each partition begins, the oldest first.
    pub partitions: Vec<Timestamp>,
}

/// Reads nothing but the folder itself.
pub fn summary(dir: &Path) -> Result<FolderSummary, Error> {
    let mut summary = FolderSummary::default();
    for folder in [dir.to_owned(), dir.join(PARTITIONS)] {
        for entry in fs::read_dir(&folder).at(&folder)? {
            let entry = entry.at(&folder)?;
            let metadata = entry.metadata().at(&folder)?;
            if metadata.is_file() {
                summary.bytes += metadata.len();
            }
            let name = entry.file_name();
            let start = name.to_str().and_then(|n| n.strip_suffix(".db")?.parse::<i64>().ok());
            summary.partitions.extend(start.map(|s| Timestamp::from_millis(s.saturating_mul(1000))));
        }
    }
    summary.partitions.sort_unstable();
    Ok(summary)
}

/// Copies a data folder that no davy holds into the folder `to`, which must not exist yet; `databases` beside the
/// telemetry are copied if they are there.
pub fn backup_stopped(from: &Path, to: &Path, databases: &[&str]) -> Result<(), Error> {
    let telemetry = from.join(TELEMETRY);
    fs::metadata(&telemetry).at(&telemetry)?;
    let _lock = lock(from)?;
    let there = databases.iter().copied().filter(|name| from.join(name).exists());
    let all: Vec<&str> = std::iter::once(TELEMETRY).chain(there).collect();
    folder(from, to, &all, PARTITIONS)
}

/// Copies the named databases of `from`, and all of the folder `partitions` below it, into the new folder `to`.
pub(crate) fn folder(from: &Path, to: &Path, databases: &[&str], partitions: &str) -> Result<(), Error> {
    fs::create_dir(to).at(to)?;
    sqlite::restrict(to)?;
    sqlite::create_folder(&to.join(partitions))?;
    let folder = from.join(partitions);
    for entry in fs::read_dir(&folder).at(&folder)? {
        let path = entry.at(&folder)?.path();
        if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|e| e == "db")) {
            copy(&path, &to.join(partitions).join(name))?;
        }
    }
    for name in databases {
        copy(&from.join(name), &to.join(name))?;
    }
    sync(&to.join(partitions))?;
    sync(to)
}

/// Copies a live database to a file that must not exist yet; on disk on return.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let file = File::create_new(to).at(to)?;
    sqlite::restrict(to)?;
    let conn = Connection::open_with_flags(
        from,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .at(from)?;
    conn.busy_timeout(sqlite::BUSY_TIMEOUT).at(from)?;
    // An empty file counts as new; the copy keeps `user_version`.
    let target = to.to_string_lossy();
    conn.execute("VACUUM INTO ?1", [&*target]).at(to)?;
    file.sync_all().at(to)?;
    sync(to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|f| f.sync_all()).at(folder)
}
