//! The folder that holds one story's files; gone with the story unless it is to be kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) struct Workdir {
    path: PathBuf,
    keep: bool,
}

impl Workdir {
    /// Makes `keep`, which must be new or empty, or a folder of its own below the system's temporary one.
    pub(super) fn create(keep: Option<&Path>) -> io::Result<Self> {
        if let Some(path) = keep {
            fs::create_dir_all(path)?;
            if fs::read_dir(path)?.next().is_some() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder must be empty"));
            }
            // `davy run` is given absolute paths: file_sd paths would count from the configuration's folder.
            return Ok(Self { path: fs::canonicalize(path)?, keep: true });
        }
        let path = std::env::temp_dir().join(format!("davy-demo-{}", std::process::id()));
        if path.exists() {
            // The process of that number has ended, or this would not be it.
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(Self { path, keep: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_kept(&self) -> bool {
        self.keep
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if !self.keep {
            // Nobody is left to tell; the system cleans its temporary folder.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_kept_one_stays() {
        let temporary = Workdir::create(None).unwrap();
        let path = temporary.path().to_owned();
        assert!(path.is_dir());
        drop(temporary);
        assert!(!path.exists());

        let parent = tempfile::tempdir().unwrap();
        let kept = parent.path().join("kept");
        drop(Workdir::create(Some(&kept)).unwrap());
        assert!(kept.is_dir());
        fs::write(kept.join("file"), "").unwrap();
        assert!(Workdir::create(Some(&kept)).is_err(), "a folder in use must not be mixed with");
    }
}
