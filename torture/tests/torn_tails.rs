//! Torn ends of files: a log or a database truncated, zeroed or garbled from any 64-byte step on, a log that is gone,
//! an index of the log that is stale. What opens serves a prefix of what was written, and nothing altered; what does
//! not open says why.
//!
//! `DAVY_TORTURE_CUTS=65536 cargo test --release -p davy-torture --test torn_tails` is the long form, which takes
//! every step of every file, recording after recording; `DAVY_TORTURE_SEED` is the first seed.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod wal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use davy_model::Timestamp;
use davy_store::Store;
use davy_store::control::Control;
use davy_torture::{
    Acknowledge, Entry, Habits, Ledger, Load, Rng, Wrong, decisions, may_be_expired, number, options,
    scratch, telemetry, tell,
};

const STEP: usize = 64;
const STEPS_BEFORE: usize = 25;
const STEPS_AFTER: usize = 45;
/// So many cuts, one is also worked on with.
const WORKED_ON: u64 = 8;

#[derive(Debug, Clone, Copy)]
enum Damage {
    Truncate,
    /// From there to the end.
    Zero,
    Garble,
    /// 64 bytes only.
    Spot,
}

const DAMAGES: [Damage; 4] = [Damage::Truncate, Damage::Zero, Damage::Garble, Damage::Spot];

#[derive(Default, Debug)]
struct Outcome {
    cuts: u64,
    by_file: BTreeMap<String, u64>,
    /// Did not open, or not in all parts, and said so.
    refused: u64,
    /// Served less than all.
    shorter: u64,
    bad: u64,
    first: Option<String>,
}

/// A folder as a kill would leave it: its files, and what was acknowledged in the order of the log.
struct Recording {
    files: Vec<(PathBuf, Vec<u8>)>,
    acked: Vec<Entry>,
    now: i64,
}

fn recording(seed: u64) -> Recording {
    let dir = scratch();
    let mut acked = Vec::new();
    let mut sink = |e| acked.push(e);
    let mut ledger = Ledger::new(Acknowledge::OnReturn, &mut sink);
    let mut load = Load::new(dir.path(), seed, Habits::IN_ORDER);
    (0..STEPS_BEFORE).for_each(|_| load.step(&mut ledger).unwrap());
    // From here on all lies in logs that nothing has moved from yet.
    load.close();
    (0..STEPS_AFTER).for_each(|_| load.step(&mut ledger).unwrap());
    let mut files = Vec::new();
    for folder in ["data/partitions", "data", ""].map(|f| dir.path().join(f)) {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files
                    .push((path.strip_prefix(dir.path()).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    Recording { files, acked, now: load.now_millis() }
}

impl Recording {
    fn file(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|(p, _)| p == Path::new(name)).unwrap().1
    }

    fn lay_out(&self, to: &Path) {
        std::fs::create_dir_all(to.join("data/partitions")).unwrap();
        self.files.iter().for_each(|(path, bytes)| std::fs::write(to.join(path), bytes).unwrap());
    }

    /// Whether it was refused, and whether it was shorter than what was written.
    fn look(&self, folder: &Path, is_log: bool) -> Result<(bool, bool), String> {
        let (mut refused, mut shorter) = (false, false);
        let (sequences, control): (Vec<&Entry>, Vec<&Entry>) =
            self.acked.iter().partition(|e| e.is_telemetry());
        let gone = |e: &Entry| may_be_expired(e.at, self.now, &options());
        let is_shorter = |there: Vec<bool>| {
            let first_missing = there.iter().position(|t| !t);
            match first_missing.and_then(|from| there[from..].iter().position(|t| *t).map(|n| from + n)) {
                Some(n) if is_log => Err(format!("write {n} is there, one before it is not")),
                _ => Ok(first_missing.is_some()),
            }
        };
        match Store::open(&folder.join("data"), Timestamp::from_millis(self.now), options()) {
            Ok((store, _)) => {
                match telemetry(&store.snapshot(), &[]) {
                    Ok(found) => {
                        let there = sequences.iter().filter(|e| !gone(e)).map(|e| found.holds(e));
                        shorter |= is_shorter(there.collect())?;
                    }
                    Err(Wrong::Torn(_)) if !is_log && store.stats().quarantined_chunks > 0 => shorter = true,
                    Err(wrong) => return Err(wrong.to_string()),
                }
                refused |= store.stats().quarantined_chunks > 0;
            }
            Err(e) => refused |= clear(&e.to_string())?,
        }
        match Control::open(&folder.join("control.db")).map_err(Wrong::from).and_then(|c| decisions(&c)) {
            Ok(found) => shorter |= is_shorter(control.iter().map(|e| found.holds(e)).collect())?,
            Err(Wrong::Unreadable(why)) => refused |= clear(&why)?,
            // Pages of one table can be gone while those of another are there.
            Err(Wrong::Torn(_)) if !is_log => shorter = true,
            Err(wrong) => return Err(wrong.to_string()),
        }
        Ok((refused, shorter))
    }

    /// New series, sealed among the old ones, are served as they were written, also after another start.
    fn work_on(&self, folder: &Path, seed: u64) -> Result<(), String> {
        let mut acked = Vec::new();
        let mut sink = |e| acked.push(e);
        let mut ledger = Ledger::new(Acknowledge::OnReturn, &mut sink);
        let mut load = Load::resume(folder, seed ^ 77, Habits::IN_ORDER, self.now, 1 << 20);
        for _ in 0..30 {
            load.step(&mut ledger).map_err(|e| format!("it does not work on: {e}"))?;
        }
        load.close();
        let now = load.now_millis() + 16_000;
        let (store, _) = Store::open(&folder.join("data"), Timestamp::from_millis(now), options())
            .map_err(|e| e.to_string())?;
        store.maintain(Timestamp::from_millis(now)).map_err(|e| e.to_string())?;
        for store in [store, load_again(folder, now)?] {
            let found = telemetry(&store.snapshot(), &acked).map_err(|w| format!("after working on: {w}"))?;
            let gone = |e: &Entry| !e.is_telemetry() || may_be_expired(e.at, now, &options());
            if let Some(e) = acked.iter().find(|e| !gone(e) && !found.holds(e)) {
                return Err(format!("after working on, missing: {e}"));
            }
        }
        Ok(())
    }
}

fn load_again(folder: &Path, now: i64) -> Result<Store, String> {
    // A copy, because the first is still held open: what a kill would leave.
    let copy = folder.with_extension("again");
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir_all(copy.join("partitions")).unwrap();
    for below in ["", "partitions"] {
        for entry in std::fs::read_dir(folder.join("data").join(below)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, copy.join(below).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    Ok(Store::open(&copy, Timestamp::from_millis(now), options()).map_err(|e| e.to_string())?.0)
}

/// An error that names the file.
fn clear(error: &str) -> Result<bool, String> {
    if error.contains(".db") { Ok(true) } else { Err(format!("an error that does not say where: {error}")) }
}

fn damaged(bytes: &[u8], at: usize, damage: Damage, rng: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    match damage {
        Damage::Truncate => out.truncate(at),
        Damage::Zero => out[at..].fill(0),
        Damage::Garble => out[at..].iter_mut().for_each(|b| *b = rng.draw() as u8),
        Damage::Spot => out[at..].iter_mut().take(STEP).for_each(|b| *b = rng.draw() as u8),
    }
    out
}

const FILES: [&str; 4] = ["data/telemetry.db-wal", "control.db-wal", "data/telemetry.db", "control.db"];

/// Every step of the file's end, in every way, until there are enough.
fn tear(cuts: u64, stride: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut offset = 0;
    'seeds: for seed in number("DAVY_TORTURE_SEED", 1).. {
        let recorded = recording(seed);
        let dir = scratch();
        let mut rng = Rng(seed);
        for name in FILES {
            let bytes = recorded.file(name);
            // Of a database, the end only: what it means to lose its beginning is no torn tail.
            let from = if name.ends_with("-wal") { 0 } else { bytes.len() / 2 };
            let cells = (from / STEP..bytes.len() / STEP).flat_map(|at| DAMAGES.map(|d| (at * STEP, d)));
            for (at, damage) in cells.skip(offset % stride).step_by(stride) {
                let to = dir.path().join("torn");
                recorded.lay_out(&to);
                std::fs::write(to.join(name), damaged(bytes, at, damage, &mut rng)).unwrap();
                outcome.cuts += 1;
                *outcome.by_file.entry(name.to_owned()).or_default() += 1;
                let mut result = recorded.look(&to, name.ends_with("-wal"));
                if result == Ok((false, true)) && outcome.cuts.is_multiple_of(WORKED_ON) {
                    result = recorded.work_on(&to, seed).map(|()| (false, true));
                }
                let what = format!("{damage:?} of {name} from {at} of {}", bytes.len());
                outcome.count(result, seed, &what);
                std::fs::remove_dir_all(&to).unwrap();
                tell(outcome.cuts, &outcome);
                if outcome.cuts >= cuts {
                    break 'seeds;
                }
            }
            offset += 7;
        }
    }
    outcome
}

impl Outcome {
    fn count(&mut self, result: Result<(bool, bool), String>, seed: u64, what: &str) {
        match result {
            Ok((refused, shorter)) => {
                self.refused += u64::from(refused);
                self.shorter += u64::from(shorter);
            }
            Err(why) => {
                self.bad += 1;
                if std::env::var_os("DAVY_TORTURE_ALL").is_some() {
                    println!("seed {seed}, {what}: {why}");
                }
                self.first.get_or_insert(format!("DAVY_TORTURE_SEED={seed}, {what}: {why}"));
            }
        }
    }
}

#[test]
fn a_torn_tail_leaves_a_prefix_or_a_clear_error() {
    let cuts = number("DAVY_TORTURE_CUTS", 1000);
    // The short form goes over all of each file in larger strides.
    let stride = if cuts < 10_000 { 61 } else { 1 };
    let outcome = tear(cuts, stride);
    println!("torn tails: {outcome:?}");
    assert_eq!((outcome.bad, &outcome.first), (0, &None));
    assert!(outcome.shorter > 0 && outcome.refused > 0, "damage was done: {outcome:?}");
}

#[test]
fn a_lost_log_or_a_stale_index_of_it_leaves_a_prefix() {
    let mut outcome = Outcome::default();
    let first_seed = number("DAVY_TORTURE_SEED", 1);
    for seed in first_seed..first_seed + 10 {
        let (recorded, earlier) = (recording(seed), recording(seed + 1000));
        for name in ["data/telemetry.db", "control.db"] {
            for what in ["log lost", "index lost", "index of another log", "index garbled"] {
                let dir = scratch();
                recorded.lay_out(dir.path());
                let [log, index] = ["-wal", "-shm"].map(|end| format!("{name}{end}"));
                match what {
                    "log lost" => std::fs::remove_file(dir.path().join(&log)).unwrap(),
                    "index lost" => std::fs::remove_file(dir.path().join(&index)).unwrap(),
                    "index of another log" => {
                        std::fs::write(dir.path().join(&index), earlier.file(&index)).unwrap();
                    }
                    _ => {
                        let bytes = damaged(recorded.file(&index), 0, Damage::Garble, &mut Rng(seed));
                        std::fs::write(dir.path().join(&index), bytes).unwrap();
                    }
                }
                outcome.cuts += 1;
                let result = recorded.look(dir.path(), true).and_then(|(refused, shorter)| match what {
                    "log lost" => recorded.work_on(dir.path(), seed).map(|()| (refused, shorter)),
                    _ if refused || shorter => Err("the log was whole".to_owned()),
                    _ => Ok((refused, shorter)),
                });
                outcome.count(result, seed, &format!("{name}: {what}"));
            }
        }
    }
    println!("lost logs and indexes: {outcome:?}");
    assert_eq!((outcome.bad, &outcome.first), (0, &None));
    assert!(outcome.shorter > 0, "{outcome:?}");
}

/// A build whose log does not check what it reads: the damage is signed anew, so that SQLite takes it.
#[test]
fn a_log_that_is_not_checked_would_be_noticed() {
    let mut outcome = Outcome::default();
    let recorded = recording(1);
    let mut rng = Rng(1);
    let dir = scratch();
    for _ in 0..200 {
        let name = FILES[rng.below(2)];
        let bytes = recorded.file(name);
        // Of a page that counts, where something is written.
        let pages = wal::last_pages(bytes);
        let at = pages[rng.below(pages.len())] + rng.below(4096 / STEP) * STEP;
        if bytes[at..at + STEP].iter().all(|b| *b == 0) {
            continue;
        }
        let to = dir.path().join("torn");
        recorded.lay_out(&to);
        std::fs::write(to.join(name), wal::signed(damaged(bytes, at, Damage::Spot, &mut rng))).unwrap();
        outcome.cuts += 1;
        let result = recorded.look(&to, true);
        outcome.count(result, 1, &format!("signed anew, {name} at {at}"));
        std::fs::remove_dir_all(&to).unwrap();
    }
    println!("torn and signed anew: {outcome:?}");
    assert!(
        (outcome.bad + outcome.refused) * 5 > outcome.cuts && outcome.bad * 20 > outcome.cuts,
        "{outcome:?}"
    );
}
