//! Small words that the tests share: where they work, what they are asked for, and a folder held against a ledger.

use std::path::{Path, PathBuf};

use davy_model::Timestamp;
use davy_store::control::Control;
use davy_store::{Options, Store};

use crate::check::{self, Wrong};
use crate::ledger::Entry;

/// In memory where there is such a place: what is tortured is thrown away.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("there is a place for temporary folders")
}

/// A number from the environment: how long, or which seed.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().expect("the variable is a number"))
}

/// A long form says now and then how far it is, so that one that is stopped has told something.
pub fn tell(done: u64, outcome: &impl std::fmt::Debug) {
    const EVERY: u64 = 1000;
    if done.is_multiple_of(EVERY) {
        println!("so far: {outcome:?}");
    }
}

/// Puts files that lay below `worked` below `to`.
pub fn lay_out(worked: &Path, to: &Path, files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) {
    let make = |folder: &Path| std::fs::create_dir_all(folder).expect("the scratch folder takes folders");
    make(&to.join("data/partitions"));
    for (path, bytes) in files {
        let Ok(inside) = path.strip_prefix(worked) else { continue };
        std::fs::write(to.join(inside), bytes).expect("the scratch folder takes files");
    }
}

/// Opens `data` and `control.db` of a folder, and everything acknowledged is there once and as it was written.
pub fn check_folder(
    folder: &Path,
    now: Timestamp,
    options: &Options,
    acked: &[Entry],
    may_be_gone: impl Fn(&Entry) -> bool,
) -> Result<(), Wrong> {
    let (store, recovery) = Store::open(&folder.join("data"), now, options.clone())?;
    if recovery.quarantined > 0 {
        return Err(Wrong::Unreadable(format!("{} blocks were quarantined", recovery.quarantined)));
    }
    let telemetry = check::telemetry(&store.snapshot(), acked)?;
    let decisions = check::decisions(&Control::open(&folder.join("control.db"))?)?;
    check::all_there(acked, &telemetry, &decisions, may_be_gone)
}

/// Whoever waits for the store's writer would wait for ever if it panicked: the process ends instead, and fails.
pub fn stop_on_writer_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if std::thread::current().name() == Some("store-writer") {
            std::process::abort();
        }
    }));
}
