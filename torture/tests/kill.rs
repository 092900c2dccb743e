//! `kill -9` at random moments of mixed ingest, sealing, retention, decisions, backups and starting up: everything
//! acknowledged is there once and as it was written.
//!
//! `DAVY_TORTURE_KILLS=1000 cargo test --release -p davy-torture --test kill` is the long form; `DAVY_TORTURE_SEED`
//! repeats the same moments, as far as a machine repeats anything. Moments are spread evenly over time, not over
//! what the victim does; a third of them lie so early that the victim still reads what the kill before left.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use davy_model::Timestamp;
use davy_torture::{Entry, Rng, START, What, check_folder, may_be_expired, number, options, scratch};

/// Kills of one folder, one after the other; then a fresh one.
const PER_FOLDER: u64 = 12;
const SOON_MILLIS: usize = 25;
const LATE_MILLIS: usize = 300;
/// Virtual time that may pass during one maintenance.
const MAINTENANCE_MILLIS: i64 = 40_000;

#[derive(Default, Debug)]
struct Outcome {
    kills: u64,
    /// Before the victim had read what was there.
    while_starting: u64,
    acked: u64,
    bad: u64,
    first: Option<String>,
}

/// What the parent knows of one folder.
struct Known {
    acked: Vec<Entry>,
    /// The latest time from which retention may have looked.
    maintained: i64,
    now: i64,
}

impl Known {
    /// Spans lie in the partition of the time that maintenance was given, and they can come while it is at work.
    fn may_be_gone(&self, e: &Entry) -> bool {
        let at = if e.what == What::Push { e.at - MAINTENANCE_MILLIS } else { e.at };
        may_be_expired(at, self.maintained, &options())
    }
}

fn kill(kills: u64, early: bool) -> Outcome {
    let seed = number("DAVY_TORTURE_SEED", 1);
    let mut rng = Rng(seed);
    let mut outcome = Outcome::default();
    while outcome.kills < kills && outcome.bad == 0 {
        let dir = scratch();
        let folder = dir.path().join("killed");
        std::fs::create_dir(&folder).unwrap();
        let mut known = Known { acked: Vec::new(), maintained: START, now: START };
        for n in 0..PER_FOLDER.min(kills - outcome.kills) {
            let range = if rng.below(3) == 0 { SOON_MILLIS } else { LATE_MILLIS };
            let delay = Duration::from_micros(rng.below(range * 1000) as u64);
            outcome.kills += 1;
            let before = known.acked.len();
            let said = run_and_kill(&folder, n * 1_000_000, known.now, delay, early);
            let wrong = hear(&said, &mut known).and_then(|ready| {
                outcome.while_starting += u64::from(!ready);
                // On a copy: the next victim starts on what the kill left, not on what a check tidied up.
                let copy = dir.path().join("copy");
                copy_folder(&folder, &copy);
                let gone = |e: &Entry| known.may_be_gone(e);
                let now = Timestamp::from_millis(known.now);
                let result = check_folder(&copy, now, &options(), &known.acked, gone);
                std::fs::remove_dir_all(&copy).unwrap();
                result.map_err(|w| w.to_string())
            });
            outcome.acked += (known.acked.len() - before) as u64;
            if let Err(why) = wrong {
                outcome.bad += 1;
                let first =
                    format!("DAVY_TORTURE_SEED={seed}, kill {} after {delay:?}: {why}", outcome.kills);
                outcome.first.get_or_insert(first);
                break;
            }
        }
        if outcome.bad > 0 && !early {
            println!("what was killed is kept in {}", dir.keep().display());
        }
    }
    outcome
}

/// Everything that the victim said until it was killed.
fn run_and_kill(folder: &Path, sequence: u64, now: i64, delay: Duration, early: bool) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_victim"));
    command.arg(folder).arg(sequence.to_string()).arg(now.to_string());
    if early {
        command.arg("early");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        out.read_to_end(&mut said).map(|_| said)
    });
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    String::from_utf8(reader.join().unwrap().unwrap()).unwrap()
}

/// Whether it was ready; or what it complained of.
fn hear(said: &str, known: &mut Known) -> Result<bool, String> {
    let mut ready = false;
    // A last line without an end was not said.
    for line in said.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')) {
        match line.split_once(' ') {
            Some(("acked", entry)) => {
                let entry: Entry = entry.parse()?;
                known.now = known.now.max(entry.at);
                known.acked.push(entry);
            }
            Some(("maintain", now)) => {
                let now: i64 = now.parse().map_err(|_| format!("{line:?}"))?;
                known.maintained = known.maintained.max(now);
                known.now = known.now.max(now);
            }
            Some(("wrong", why)) => return Err(format!("a reader in the victim: {why}")),
            _ if line == "ready" => ready = true,
            _ => return Err(format!("the victim said {line:?}")),
        }
    }
    // Beyond whatever was begun and not acknowledged; times end in zero.
    known.now = (known.now / 10 + 100) * 10;
    Ok(ready)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_name().to_string_lossy().starts_with("backup-") {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_nine() {
    let outcome = kill(number("DAVY_TORTURE_KILLS", 50), false);
    println!("kill -9: {outcome:?}");
    assert_eq!((outcome.bad, &outcome.first), (0, &None));
    assert!(outcome.while_starting * 20 > outcome.kills, "some are killed while they start: {outcome:?}");
}

#[test]
fn acknowledging_before_the_commit_would_be_noticed() {
    let outcome = kill(50, true);
    println!("acknowledged too early: {outcome:?}");
    assert!(outcome.bad > 0, "the torture has no teeth: {outcome:?}");
}
