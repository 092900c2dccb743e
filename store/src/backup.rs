//! Backups while running: copies of live databases, each as it was at one moment.
//!
//! `VACUUM INTO` reads in one transaction, so that writers neither wait nor make it begin anew, as they would
//! SQLite's page-by-page backup; and the copy is as small as can be.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::{At, Error};
use crate::sqlite;

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
