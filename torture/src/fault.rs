//! Which call into the disk fails, and how: the plan that the VFS asks before each.
//!
//! A failed write has written half of what it was given. A failed sync has lost what was not synced: the kernel
//! marks such pages clean, and a later sync says nothing (Rebello et al., "Can Applications Recover from fsync
//! Failures?", USENIX ATC 2020); `image` plays that back.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::ffi;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO, of any call.
    Io,
    /// ENOSPC, of writes.
    NoSpace,
    /// ENOSPC of every write beyond so many bytes in all files together.
    Quota { bytes: u64 },
}

/// What goes wrong with files below a folder.
#[derive(Debug, Clone)]
pub struct Plan {
    pub fault: Fault,
    pub below: PathBuf,
    /// Of which calls; `None` is of all.
    pub only: Option<Call>,
    /// The call that fails, counted from one; of no matter for a quota.
    pub at: u64,
    /// Whether all later ones fail as well.
    pub sticky: bool,
    /// The caller is told that it went well: a build that does not look at errors, or tries a sync again.
    pub concealed: bool,
}

/// What has come of a plan.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Calls that could have failed.
    pub calls: u64,
    pub failed: u64,
    /// The first that did.
    pub first: Option<(Call, PathBuf)>,
}

pub(crate) struct Faults {
    pub(crate) plan: Plan,
    pub(crate) tally: Tally,
    /// Off while what is done does not count.
    pub(crate) active: bool,
    sizes: HashMap<PathBuf, u64>,
}

/// The bytes a call is about, for a quota.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Faults {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, tally: Tally::default(), active: true, sizes: HashMap::new() }
    }

    /// SQLite's code for the failure, if this call fails.
    pub(crate) fn strike(&mut self, call: Call, path: &Path, extent: Extent) -> Option<i32> {
        if !path.starts_with(&self.plan.below) || self.plan.only.is_some_and(|only| only != call) {
            return None;
        }
        let fails = match self.plan.fault {
            Fault::Quota { bytes } => self.exceeds(bytes, call, path, extent),
            Fault::NoSpace if call != Call::Write => false,
            Fault::NoSpace | Fault::Io => self.count(),
        };
        if !fails {
            return None;
        }
        self.tally.failed += 1;
        self.tally.first.get_or_insert_with(|| (call, path.to_owned()));
        Some(match (self.plan.fault, call) {
            (Fault::NoSpace | Fault::Quota { .. }, _) => ffi::SQLITE_FULL,
            (Fault::Io, Call::Open) => ffi::SQLITE_CANTOPEN,
            (Fault::Io, Call::Read) => ffi::SQLITE_IOERR_READ,
            (Fault::Io, Call::Write) => ffi::SQLITE_IOERR_WRITE,
            (Fault::Io, Call::Truncate) => ffi::SQLITE_IOERR_TRUNCATE,
            (Fault::Io, Call::Sync) => ffi::SQLITE_IOERR_FSYNC,
            (Fault::Io, Call::Delete) => ffi::SQLITE_IOERR_DELETE,
        })
    }

    fn count(&mut self) -> bool {
        if !self.active {
            return false;
        }
        self.tally.calls += 1;
        let (now, at) = (self.tally.calls, self.plan.at);
        if self.plan.sticky { now >= at } else { now == at }
    }

    /// Sizes are followed also while nothing fails.
    fn exceeds(&mut self, quota: u64, call: Call, path: &Path, extent: Extent) -> bool {
        let before = self.sizes.get(path).copied().unwrap_or(0);
        let after = match call {
            Call::Write => before.max(extent.offset + extent.len),
            Call::Truncate => extent.len,
            Call::Delete => 0,
            Call::Open | Call::Read | Call::Sync => return false,
        };
        let total: u64 = self.sizes.values().sum();
        self.tally.calls += 1;
        if self.active && after > before && total - before + after > quota {
            return true;
        }
        self.sizes.insert(path.to_owned(), after);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(fault: Fault, at: u64, sticky: bool) -> Faults {
        Faults::new(Plan { fault, below: "/d".into(), only: None, at, sticky, concealed: false })
    }

    #[test]
    fn the_nth_call_fails_once_or_from_then_on_and_only_below_the_folder() {
        for (sticky, want) in [(false, [0, 1, 0, 0]), (true, [0, 1, 1, 1])] {
            let mut f = faults(Fault::Io, 2, sticky);
            let mut strike =
                |p: &str| f.strike(Call::Read, Path::new(p), Extent { offset: 0, len: 1 }).is_some();
            assert!(!strike("/e/a"));
            assert_eq!([(); 4].map(|()| i32::from(strike("/d/a"))), want);
        }
    }

    #[test]
    fn a_quota_counts_bytes_in_files_and_gives_them_back() {
        let mut f = faults(Fault::Quota { bytes: 10 }, 0, false);
        let mut call =
            |call, p: &str, offset, len| f.strike(call, Path::new(p), Extent { offset, len }).is_some();
        assert!(!call(Call::Write, "/d/a", 0, 8));
        assert!(!call(Call::Write, "/d/a", 0, 8), "the same bytes again");
        assert!(call(Call::Write, "/d/b", 0, 4));
        assert!(!call(Call::Truncate, "/d/a", 0, 2));
        assert!(!call(Call::Write, "/d/b", 0, 8));
        assert!(call(Call::Write, "/d/b", 8, 1));
        assert!(!call(Call::Delete, "/d/a", 0, 0));
        assert!(!call(Call::Write, "/d/b", 8, 1));
    }
}
