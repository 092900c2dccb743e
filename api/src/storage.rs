//! Storage on request: a snapshot of the running databases, and maintenance now rather than within the minute.
//!
//! A snapshot goes into a folder that Davy names, below its own: whoever may ask cannot say where anything is written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, TryLockError};

use axum::Json;
use axum::extract::State;
use davy_model::Timestamp;
use davy_store::Store;
use davy_store::control::Control;
use serde_json::{Value, json};

use crate::blocking::blocking;
use crate::error::ApiError;
use crate::router::ApiState;
use crate::wire::rfc3339;

/// Folder of snapshots, within the data folder.
const SNAPSHOTS: &str = "snapshots";
/// Snapshots that may lie there: each is as large as the store. `davy snapshot` moves its own away.
const SNAPSHOTS_MAX: usize = 3;
/// What a snapshot is called until it is complete.
const UNFINISHED: &str = ".unfinished";
const CONTROL: &str = "control.db";

/// The data folder; one snapshot of it at a time.
#[derive(Debug, Clone)]
pub struct Storage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    one: Mutex<()>,
}

impl Storage {
    pub fn new(path: PathBuf) -> Self {
        Self(Arc::new(Inner { path, one: Mutex::default() }))
    }

    fn snapshot(&self, store: &Store, control: &Control, now: Timestamp) -> Result<Value, ApiError> {
        let _one = match self.0.one.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(one)) => one.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(ApiError::Conflict("a snapshot is being taken already".into()));
            }
        };
        let stats = store.stats();
        if stats.disk_low {
            return Err(ApiError::Unavailable(
                "free disk space is below the floor (storage.min_free_disk)".into(),
            ));
        }
        let folder = self.0.path.join(SNAPSHOTS);
        let internal = |e: io::Error| ApiError::Internal(format!("{}: {e}", folder.display()));
        fs::create_dir_all(&folder).map_err(internal)?;
        let waiting = sweep(&folder).map_err(internal)?;
        if waiting >= SNAPSHOTS_MAX {
            return Err(ApiError::Conflict(format!(
                "{waiting} snapshots lie in {} already, at most {SNAPSHOTS_MAX}; move or delete one",
                folder.display()
            )));
        }
        let name: String = rfc3339(now).chars().filter(char::is_ascii_alphanumeric).collect();
        let (path, unfinished) = (folder.join(&name), folder.join(format!("{name}{UNFINISHED}")));
        if path.exists() {
            return Err(ApiError::Conflict(format!("{} is there already", path.display())));
        }
        let written =
            store.backup_to(&unfinished).and_then(|()| control.backup_to(&unfinished.join(CONTROL)));
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&unfinished);
            return Err(ApiError::Internal(error.to_string()));
        }
        fs::rename(&unfinished, &path).map_err(internal)?;
        File::open(&folder).and_then(|f| f.sync_all()).map_err(internal)?;
        describe(&name, &path).map_err(|e| ApiError::Internal(e.to_string()))
    }
}

/// Takes away what a crash left unfinished; returns how many complete snapshots there are.
fn sweep(folder: &Path) -> io::Result<usize> {
    let mut complete = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_dir_all(&path)?;
        } else {
            complete += 1;
        }
    }
    Ok(complete)
}

fn describe(name: &str, path: &Path) -> Result<Value, davy_store::Error> {
    let summary = davy_store::summary(path)?;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Ok(json!({
        "name": name,
        "path": path.to_string_lossy(),
        "bytes": summary.bytes,
        "partitions": summary.partitions.len(),
        "oldest": summary.partitions.first().copied().map(rfc3339),
    }))
}

/// `POST /api/davy/v1/storage/snapshot`: everything committed before the request, in a folder that can be opened.
pub(crate) async fn snapshot(State(state): State<ApiState>) -> Result<Json<Value>, ApiError> {
    let ApiState { storage, store, control, clock, .. } = state;
    let now = clock.now();
    blocking(move || storage.snapshot(&store, &control, now)).await.map(Json)
}

/// `POST /api/davy/v1/storage/compact`: seals, drops and tidies what is due, and answers when that is done.
pub(crate) async fn compact(State(state): State<ApiState>) -> Result<Json<Value>, ApiError> {
    let ApiState { store, clock, .. } = state;
    let work = move || -> Result<Value, ApiError> {
        store.compact(clock.now())?;
        let stats = store.stats();
        Ok(json!({"series_active": stats.series_active, "bytes_on_disk": stats.bytes_on_disk}))
    };
    blocking(work).await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use davy_store::Options;

    #[test]
    fn snapshots_are_bounded_and_leftovers_swept() {
        let dir = tempfile::tempdir().unwrap();
        let now = |n: i64| Timestamp::from_millis(1_767_225_600_000 + n);
        let mut options = Options::default();
        options.limits.free_disk_bytes_min = 0;
        let store = Store::open(dir.path(), now(0), options.clone()).unwrap().0;
        let control = Control::open(&dir.path().join(CONTROL)).unwrap();
        let storage = Storage::new(dir.path().to_owned());
        fs::create_dir_all(dir.path().join("snapshots/x.unfinished/partitions")).unwrap();
        for n in 0..SNAPSHOTS_MAX as i64 {
            let taken = storage.snapshot(&store, &control, now(n)).unwrap();
            assert_eq!(taken["name"], format!("20260101T00000000{n}Z"));
            let path = PathBuf::from(taken["path"].as_str().unwrap());
            assert!(Store::open(&path, now(0), options.clone()).is_ok());
            assert!(Control::open(&path.join(CONTROL)).is_ok());
        }
        let refused = storage.snapshot(&store, &control, now(9));
        assert!(matches!(&refused, Err(ApiError::Conflict(why)) if why.contains("move or delete one")));
        assert!(!dir.path().join("snapshots/x.unfinished").exists());
    }
}
