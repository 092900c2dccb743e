//! The clock jumps by a second up to ten years, ahead and back, while Davy ingests, seals, retains and restarts:
//! nothing acknowledged is lost beyond what retention may take as it is stated, nothing is altered, and when the
//! clock is right again everything is taken again.
//!
//! Virtual time only. `DAVY_TORTURE_CLOCKS=10000 cargo test --release -p davy-torture --test clock_jumps` is the
//! long form; `DAVY_TORTURE_SEED` is the first seed.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::time::Duration;

use davy_model::Timestamp;
use davy_store::{Durability, Options, Store};
use davy_torture::{
    Entry, Rng, START, What, may_be_expired, number, options, scratch, stop_on_writer_panic, telemetry, tell,
    write_telemetry,
};

const SECOND: i64 = 1000;
const YEAR: i64 = 365 * 24 * 3600 * SECOND;
const STEPS: usize = 60;
const SOURCES: u32 = 3;

fn wide() -> Options {
    Options {
        head_range: Duration::from_secs(60),
        partition_range: Duration::from_secs(300),
        retention: Duration::from_secs(24 * 3600),
        ..options()
    }
}

#[derive(Default, Debug)]
struct Outcome {
    seeds: u64,
    jumps: u64,
    acked: u64,
    refused: u64,
    /// Acknowledged, and taken by retention when a wrong clock said so.
    expired: u64,
    bad: u64,
    first: Option<String>,
}

/// An acknowledged write, and the clocks that have looked at it since.
struct Acked {
    entry: Entry,
    earliest: i64,
    /// The latest time from which retention looked.
    latest: i64,
}

impl Acked {
    /// As it is stated: a partition that ended longer ago than `retention` is deleted. Samples lie in the partition
    /// of their time, spans in that of their arrival, which is when they were sealed at the latest.
    fn may_be_gone(&self) -> bool {
        may_be_expired(self.entry.at.min(self.earliest), self.latest, &wide())
    }
}

struct Clocked<'a> {
    folder: &'a Path,
    rng: Rng,
    store: Store,
    /// What time it is.
    right: i64,
    /// What the clock says beside that.
    ahead: i64,
    sequence: u64,
    acked: Vec<Acked>,
    outcome: &'a mut Outcome,
    /// A build that deletes a partition that retention does not name.
    wipes: bool,
}

fn clocks(seeds: u64, wipes: bool) -> Outcome {
    stop_on_writer_panic();
    let mut outcome = Outcome::default();
    let first_seed = number("DAVY_TORTURE_SEED", 1);
    for seed in first_seed..first_seed + seeds {
        outcome.seeds += 1;
        let dir = scratch();
        let open = Store::open(&dir.path().join("data"), Timestamp::from_millis(START), wide());
        let mut clocked = Clocked {
            folder: dir.path(),
            rng: Rng(seed),
            store: open.unwrap().0,
            right: START,
            ahead: 0,
            sequence: 0,
            acked: Vec::new(),
            outcome: &mut outcome,
            wipes,
        };
        let result = (0..STEPS).try_for_each(|_| clocked.step()).and_then(|()| clocked.right_again());
        if let Err(why) = result {
            outcome.bad += 1;
            if std::env::var_os("DAVY_TORTURE_ALL").is_some() {
                println!("seed {seed}: {why}");
            }
            outcome.first.get_or_insert(format!("DAVY_TORTURE_SEED={seed}: {why}"));
        }
        tell(outcome.seeds, &outcome);
    }
    outcome
}

impl Clocked<'_> {
    fn step(&mut self) -> Result<(), String> {
        self.right += SECOND * (1 + self.rng.below(60) as i64);
        match self.rng.below(12) {
            0 => self.jump(),
            1 => self.restart()?,
            2..5 => self.maintain()?,
            _ => {
                // What a wrong clock refuses is counted, and not acknowledged.
                let _ = self.write();
            }
        }
        Ok(())
    }

    /// By a second up to ten years, each power of ten as likely; or to the right time.
    fn jump(&mut self) {
        self.outcome.jumps += 1;
        let magnitude = 10i64.pow(self.rng.below(9) as u32) * SECOND;
        let by = (magnitude * (1 + self.rng.below(9) as i64)).min(10 * YEAR);
        self.ahead = match self.rng.below(3) {
            0 => 0,
            1 => by,
            _ => -by,
        };
    }

    fn restart(&mut self) -> Result<(), String> {
        let elsewhere = scratch();
        let other =
            Store::open(&elsewhere.path().join("other"), self.now(), wide()).map_err(|e| e.to_string())?;
        // The old one must be gone before the new one takes the lock.
        drop(std::mem::replace(&mut self.store, other.0));
        let opened = Store::open(&self.folder.join("data"), self.now(), wide());
        self.store = opened.map_err(|e| format!("it does not open at {}: {e}", self.now()))?.0;
        self.look()
    }

    fn maintain(&mut self) -> Result<(), String> {
        let now = self.now().as_millis();
        for a in &mut self.acked {
            a.earliest = a.earliest.min(now);
            a.latest = a.latest.max(now);
        }
        self.store.maintain(self.now()).map_err(|e| format!("maintenance at {}: {e}", self.now()))?;
        if self.wipes && self.rng.below(4) == 0 {
            self.wipe()?;
        }
        self.look()
    }

    /// Whether it was taken. What the clock's own limits refuse is not acknowledged.
    fn write(&mut self) -> Result<(), String> {
        self.sequence += 1;
        let now = self.now().as_millis();
        let source = (self.rng.draw() % u64::from(SOURCES)) as u32;
        // Every write has a time of its own: those of the same second differ by their number.
        let at = now / SECOND * SECOND + (self.sequence % 1000) as i64;
        let entry = Entry { what: What::Push, source, sequence: self.sequence, at };
        match write_telemetry(&self.store, self.now(), &entry, Durability::Sync) {
            Ok(()) => {
                self.outcome.acked += 1;
                self.acked.push(Acked { entry, earliest: now, latest: i64::MIN });
                Ok(())
            }
            Err(e) => {
                self.outcome.refused += 1;
                Err(e.to_string())
            }
        }
    }

    fn look(&mut self) -> Result<(), String> {
        let found = telemetry(&self.store.snapshot(), &[]).map_err(|w| w.to_string())?;
        let missing = self.acked.iter().find(|a| !found.holds(&a.entry) && !a.may_be_gone());
        if let Some(a) = missing {
            let (samples, spans) = (found.holds_samples(&a.entry), found.holds_spans(&a.entry));
            return Err(format!("missing: {} (samples {samples}, spans {spans})", a.entry));
        }
        self.outcome.expired += self.acked.iter().filter(|a| !found.holds(&a.entry)).count() as u64;
        self.acked.retain(|a| found.holds(&a.entry));
        Ok(())
    }

    /// The clock is right: after one maintenance, every source is heard again, and after a restart as well.
    fn right_again(&mut self) -> Result<(), String> {
        self.ahead = 0;
        self.maintain()?;
        for round in 0..2 {
            for _ in 0..SOURCES * 4 {
                self.right += SECOND;
                self.write().map_err(|e| format!("the clock is right, round {round}: {e}"))?;
            }
            self.maintain()?;
            self.restart()?;
        }
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), String> {
        let folder = self.folder.join("data/partitions");
        let files =
            std::fs::read_dir(folder).map_err(|e| e.to_string())?.filter_map(Result::ok).map(|e| e.path());
        if let Some(oldest) = files.filter(|p| p.extension().is_some_and(|e| e == "db")).min() {
            std::fs::remove_file(oldest).map_err(|e| e.to_string())?;
            return self.restart();
        }
        Ok(())
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.right + self.ahead)
    }
}

#[test]
fn a_jumping_clock_costs_nothing_beyond_retention() {
    let outcome = clocks(number("DAVY_TORTURE_CLOCKS", 60), false);
    println!("clock jumps: {outcome:?}");
    assert_eq!((outcome.bad, &outcome.first), (0, &None));
    assert!(outcome.refused > 0 && outcome.expired > 0, "the clock was wrong: {outcome:?}");
}

#[test]
fn a_partition_that_is_wiped_would_be_noticed() {
    let outcome = clocks(10, true);
    println!("a partition wiped: {outcome:?}");
    assert!(outcome.bad * 2 > outcome.seeds, "the torture has no teeth: {outcome:?}");
}
