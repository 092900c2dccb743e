//! What can go wrong in the store. Cheap to clone, because one failed transaction answers many callers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{}: {cause}", path.display())]
    Sqlite { path: PathBuf, cause: Arc<rusqlite::Error> },
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: Arc<io::Error> },
    #[error("data folder {} is in use by another davy", path.display())]
    Locked { path: PathBuf },
    #[error("SQLite {got} loses data under concurrent checkpoints; at least {min} is needed")]
    SqliteTooOld { got: String, min: &'static str },
    #[error("{}: journal mode is {got} where wal is needed; is this a network file system?", path.display())]
    NoWal { path: PathBuf, got: String },
    #[error("{}: format {got} was written by a newer davy; this one reads up to {max}", path.display())]
    NewerFormat { path: PathBuf, got: i32, max: i32 },
    #[error("{}: row {key} of {table} failed its checksum", path.display())]
    CorruptRow { path: PathBuf, table: &'static str, key: String },
    #[error("partition range {partition:?} is not a multiple of head range {head:?} of a second or more")]
    Ranges { head: std::time::Duration, partition: std::time::Duration },
    #[error("free disk space is below the floor of {floor_bytes} bytes")]
    DiskFull { floor_bytes: u64 },
    #[error("an import may touch {partitions_max} partitions (days, by default); split the file by time")]
    ImportTooLong { partitions_max: usize },
    /// The disk has not taken anything for so long that no more may wait in memory.
    #[error("{samples} samples wait for the disk already")]
    Backlog { samples: usize },
    #[error("a sample at {got} lies before {sealed_until}, up to which everything is sealed")]
    Sealed { got: davy_model::Timestamp, sealed_until: davy_model::Timestamp },
    #[error("a series was forgotten while the batch was made; look it up again")]
    SeriesForgotten,
    /// After a failed fsync nobody knows what is on disk: only a restart reads it again.
    #[error("an earlier fsync failed ({cause}); restart to read back what is on disk")]
    FsyncFailed { cause: Arc<rusqlite::Error> },
}

/// Names the file in which it happened.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for Result<T, rusqlite::Error> {
    fn at(self, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::Sqlite { path: path.to_owned(), cause: Arc::new(e) })
    }
}

impl<T> At<T> for Result<T, io::Error> {
    fn at(self, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::Io { path: path.to_owned(), cause: Arc::new(e) })
    }
}
