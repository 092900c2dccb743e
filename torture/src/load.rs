//! A load of one thread that follows from its seed: ingest, late samples, decisions, sealing, retention, backups and
//! restarts, step by step. What is acknowledged goes to a ledger; what is refused is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use davy_model::Timestamp;
use davy_store::control::Control;
use davy_store::{Durability, Error, Limits, Options, Store};

use crate::check::{self, Wrong};
use crate::ledger::{Entry, Ledger, Refused, What};
use crate::payload::START;
use crate::rng::Rng;
use crate::writes;

const SECOND: i64 = 1000;
/// Sources of scrapes and of pushes; those of decisions are the first few.
const SOURCES: u64 = 4;
const PARTITION: i64 = 20 * SECOND;

/// Small ranges, so that everything happens often. Nothing is committed behind the load's back: a seed repeats
/// every call into the disk.
pub fn options() -> Options {
    Options {
        commit_interval: Duration::from_secs(3600),
        head_range: Duration::from_secs(10),
        partition_range: Duration::from_millis(PARTITION as u64),
        retention: Duration::from_secs(90),
        limits: Limits { free_disk_bytes_min: 0, ..Limits::default() },
        ..Options::default()
    }
}

/// Whether retention may have taken what was written for `at`, given the latest time it was asked to look from.
pub fn may_be_expired(at: i64, latest: i64, options: &Options) -> bool {
    let partition = options.partition_range.as_millis() as i64;
    let end = (at.div_euclid(partition) + 1) * partition;
    end <= latest.saturating_sub(options.retention.as_millis() as i64)
}

/// What a load does beside pushes, decisions and maintenance.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Samples that are a little older than others; scrapes, that wait for others to be written.
    pub late: bool,
    pub restarts: bool,
    pub backups: bool,
}

impl Habits {
    pub const ALL: Self = Self { late: true, restarts: true, backups: true };
    /// What is acknowledged reaches the log in order of time.
    pub const IN_ORDER: Self = Self { late: false, restarts: false, backups: false };
}

pub struct Load {
    folder: PathBuf,
    rng: Rng,
    habits: Habits,
    now: i64,
    sequence: u64,
    store: Option<Store>,
    control: Option<Control>,
    /// Scrapes that are visible and not on disk yet.
    waiting: Vec<Entry>,
    backups: u64,
    /// After a failed fsync the store must take nothing that is waited for until it is opened again.
    latched: bool,
    /// What the store did that it must not, whatever the disk does.
    pub broken: Vec<String>,
    /// Errors of the control database, which is on the same disk, but not in the same files.
    pub control_errors: Vec<String>,
    pub errors: u64,
}

impl Load {
    pub fn new(folder: &Path, seed: u64, habits: Habits) -> Self {
        Self {
            folder: folder.to_owned(),
            rng: Rng(seed),
            habits,
            now: START,
            sequence: 0,
            store: None,
            control: None,
            waiting: Vec::new(),
            backups: 0,
            latched: false,
            broken: Vec::new(),
            control_errors: Vec::new(),
            errors: 0,
        }
    }

    /// Continues on a folder, beyond all that was written before.
    pub fn resume(folder: &Path, seed: u64, habits: Habits, after: i64, sequence: u64) -> Self {
        Self { now: after, sequence, ..Self::new(folder, seed, habits) }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    pub fn now_millis(&self) -> i64 {
        self.now
    }

    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// One step; an error is what the store says, and counted.
    pub fn step(&mut self, ledger: &mut Ledger) -> Result<(), Refused> {
        let result = self.act(ledger);
        if let Err(e) = &result {
            self.errors += 1;
            if let Refused::Store(Error::Sqlite { cause, .. }) = e
                && cause.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC)
                && e.to_string().contains("telemetry.db")
            {
                self.latched |= self.pushing();
            }
        }
        result
    }

    fn act(&mut self, ledger: &mut Ledger) -> Result<(), Refused> {
        self.now += 10 * (1 + self.rng.below(60) as i64);
        let (dice, source) = (self.rng.below(24), (self.rng.draw() % SOURCES) as u32);
        if self.control.is_none() {
            let opened = Control::open(&self.folder.join("control.db"));
            self.control = Some(opened.inspect_err(|e| self.control_errors.push(e.to_string()))?);
        }
        if self.store.is_none() {
            self.latched = false;
            self.store = Some(Store::open(&self.folder.join("data"), self.now(), options())?.0);
        }
        self.sequence += 1;
        let entry = |what| Entry { what, source, sequence: self.sequence, at: self.now };
        match dice {
            0..8 => self.push(entry(What::Push), ledger),
            8..11 => self.scrape(entry(What::Scrape)),
            11 => self.flush(ledger),
            12..14 if self.habits.late => {
                // Between the times of all others, which end in zero.
                let at = self.now - 4 * SECOND + 5;
                self.push(Entry { at, ..entry(What::Push) }, ledger)
            }
            14..17 => self.decide(entry(What::Decision), ledger),
            17 => self.decide(entry(What::Release), ledger),
            18..21 => Ok(self.opened().maintain(self.now())?),
            21 => self.read(),
            22 if self.habits.backups => self.back_up(),
            23 if self.habits.restarts && self.rng.coin() => {
                self.close();
                Ok(())
            }
            _ => self.push(entry(What::Push), ledger),
        }
    }

    /// Lets go of the store and the control database, which writes what waits.
    pub fn close(&mut self) {
        self.store = None;
        self.control = None;
        self.waiting.clear();
    }

    fn opened(&self) -> &Store {
        self.store.as_ref().expect("opened at the start of the step")
    }

    /// Whether the last thing asked of the log was to take a batch.
    fn pushing(&self) -> bool {
        self.store.as_ref().is_some_and(|s| s.stats().write_errors > 0)
    }

    fn push(&mut self, entry: Entry, ledger: &mut Ledger) -> Result<(), Refused> {
        // What waits goes to disk with it, and before it.
        let mut entries = std::mem::take(&mut self.waiting);
        entries.push(entry);
        let (store, now) = (self.opened().clone(), self.now());
        let result = ledger.attempt(&entries, || writes::telemetry(&store, now, &entry, Durability::Sync));
        if result.is_err() {
            entries.pop();
            self.waiting = entries;
        } else if self.latched {
            self.broken.push(format!("{entry} was taken after a failed fsync"));
        }
        result
    }

    fn scrape(&mut self, entry: Entry) -> Result<(), Refused> {
        writes::telemetry(self.opened(), self.now(), &entry, Durability::Group)?;
        self.waiting.push(entry);
        Ok(())
    }

    fn flush(&mut self, ledger: &mut Ledger) -> Result<(), Refused> {
        let (store, entries) = (self.opened().clone(), std::mem::take(&mut self.waiting));
        let result = ledger.attempt(&entries, || Ok(store.flush()?));
        if result.is_err() {
            self.waiting = entries;
        }
        result
    }

    fn decide(&mut self, entry: Entry, ledger: &mut Ledger) -> Result<(), Refused> {
        let control = self.control.clone().expect("opened at the start of the step");
        let result = ledger.attempt(&[entry], || writes::control(&control, &entry));
        if let Err(e) = &result {
            self.control_errors.push(e.to_string());
        }
        result
    }

    fn read(&mut self) -> Result<(), Refused> {
        match check::telemetry(&self.opened().snapshot(), &[]) {
            Ok(_) | Err(Wrong::Unreadable(_)) => Ok(()),
            Err(wrong) => {
                self.broken.push(format!("a reader was served: {wrong}"));
                Ok(())
            }
        }
    }

    /// A backup is made and let go; that it opens and is complete is what `store/tests/backup.rs` shows.
    fn back_up(&mut self) -> Result<(), Refused> {
        self.backups += 1;
        let to = self.folder.with_extension(format!("backup-{}", self.backups));
        let result = self.opened().backup_to(&to);
        let _ = std::fs::remove_dir_all(&to);
        Ok(result?)
    }
}
