//! How Davy opens SQLite: bundled and recent, WAL, every commit fsynced, files readable by their owner only.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{At, Error};

/// Before 3.51.3 two connections could lose pages when one reset the WAL.
const VERSION_MIN: i32 = 3_051_003;
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const WAL_BYTES_KEPT: i64 = 64 << 20;

/// How far a commit goes; both reach the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Synchronous {
    Full,
    /// Also fsyncs the folder when a journal goes: for what must survive a power loss right after creation.
    Extra,
}

/// Opens or creates `path` for writing. `schema` creates format `format`; a file of a newer one is refused, one of an
/// older one is of this from then on.
pub(crate) fn open(path: &Path, sync: Synchronous, format: i32, schema: &str) -> Result<Connection, Error> {
    check_version(rusqlite::version_number())?;
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).at(path)?;
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .at(path)?;
    // EXTRA until the schema is there: a new file must not vanish after its first acknowledged commit.
    configure(&conn, path, Synchronous::Extra)?;
    let got = check_format(&conn, path, format)?;
    if got == 0 {
        let create = format!("BEGIN IMMEDIATE; {schema} PRAGMA user_version = {format}; COMMIT;");
        conn.execute_batch(&create).at(path)?;
        sync_folder(path)?;
    } else if got < format {
        conn.pragma_update(None, "user_version", format).at(path)?;
    }
    if matches!(sync, Synchronous::Full) {
        conn.pragma_update(None, "synchronous", "FULL").at(path)?;
    }
    Ok(conn)
}

/// Opens an existing file for reading beside its writer.
pub(crate) fn open_reader(path: &Path, format: i32) -> Result<Connection, Error> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .at(path)?;
    configure(&conn, path, Synchronous::Full)?;
    check_format(&conn, path, format)?;
    conn.pragma_update(None, "query_only", true).at(path)?;
    Ok(conn)
}

/// Creates a folder that only its owner enters; an existing one is left as it is.
pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at(path)
}

/// For its owner only.
pub(crate) fn restrict(path: &Path) -> Result<(), Error> {
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at(path)
}

fn configure(conn: &Connection, path: &Path, sync: Synchronous) -> Result<(), Error> {
    conn.busy_timeout(BUSY_TIMEOUT).at(path)?;
    let journal = switch_to_wal(conn).at(path)?;
    if journal != "wal" {
        return Err(Error::NoWal { path: path.to_owned(), got: journal });
    }
    let sync = match sync {
        Synchronous::Full => "FULL",
        Synchronous::Extra => "EXTRA",
    };
    conn.pragma_update(None, "synchronous", sync).at(path)?;
    conn.pragma_update(None, "mmap_size", 0).at(path)?;
    conn.pragma_update(None, "cell_size_check", true).at(path)?;
    conn.pragma_update(None, "trusted_schema", false).at(path)?;
    conn.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT).at(path)
}

/// The row that says `wal` comes before the switch is committed: only the end of the statement says whether it was.
fn switch_to_wal(conn: &Connection) -> rusqlite::Result<String> {
    let mut statement = conn.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query(())?;
    let mut journal = String::new();
    while let Some(row) = rows.next()? {
        journal = row.get(0)?;
    }
    Ok(journal)
}

/// The file's format, zero for a new one.
fn check_format(conn: &Connection, path: &Path, format: i32) -> Result<i32, Error> {
    let got = conn.pragma_query_value(None, "user_version", |r| r.get::<_, i32>(0)).at(path)?;
    if got > format {
        return Err(Error::NewerFormat { path: path.to_owned(), got, max: format });
    }
    Ok(got)
}

fn check_version(got: i32) -> Result<(), Error> {
    if got < VERSION_MIN {
        return Err(Error::SqliteTooOld { got: rusqlite::version().to_owned(), min: "3.51.3" });
    }
    Ok(())
}

fn sync_folder(file: &Path) -> Result<(), Error> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|f| f.sync_all()).at(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused() {
        assert!(matches!(check_version(3_051_002), Err(Error::SqliteTooOld { .. })));
        assert!(check_version(rusqlite::version_number()).is_ok());
    }

    #[test]
    fn files_are_private_and_a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.db");
        create_folder(&dir.path().join("a")).unwrap();
        let conn = open(&path, Synchronous::Extra, 1, "CREATE TABLE t(x);").unwrap();
        conn.execute("INSERT INTO t VALUES (1)", ()).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("a")), 0o700);
        for file in ["a/b.db", "a/b.db-wal"] {
            assert_eq!(mode(&dir.path().join(file)), 0o600, "{file}");
        }
        conn.pragma_update(None, "user_version", 2).unwrap();
        drop(conn);
        let err = open(&path, Synchronous::Extra, 1, "").unwrap_err();
        assert!(matches!(err, Error::NewerFormat { got: 2, max: 1, .. }), "{err}");
        // One of an older format holds what the newer one writes once it is open.
        drop(open(&path, Synchronous::Full, 3, "").unwrap());
        assert!(matches!(open_reader(&path, 2).unwrap_err(), Error::NewerFormat { got: 3, max: 2, .. }));
    }
}
