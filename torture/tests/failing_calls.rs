//! Every n-th call into the disk fails, once or from then on: nothing acknowledged is missing when the store is opened
//! on a sound disk again, errors are told, and the control database does not notice what happens to telemetry.
//!
//! `DAVY_TORTURE_CALLS=20000 cargo test --release -p davy-torture --test failing_calls` is the long form;
//! `DAVY_TORTURE_SEED` is the first seed. A sweep fails call 1, 2, 3 and so on until a run comes to its end unharmed.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use davy_torture::{
    Acknowledge, Call, Entry, Fault, Habits, Ledger, Load, Plan, Strength, Tally, check_folder, lay_out,
    least, may_be_expired, number, options, record, scratch, stop_on_writer_panic, tell,
};

const STEPS: usize = 40;

/// How calls fail, and below which folder.
#[derive(Debug, Clone, Copy)]
struct Way {
    fault: Fault,
    only: Option<Call>,
    sticky: bool,
    /// Also in the control database.
    everywhere: bool,
}

const WAYS: [Way; 8] = [
    Way { fault: Fault::Io, only: Some(Call::Sync), sticky: false, everywhere: false },
    Way { fault: Fault::Io, only: Some(Call::Sync), sticky: false, everywhere: true },
    Way { fault: Fault::Io, only: None, sticky: false, everywhere: false },
    Way { fault: Fault::Io, only: None, sticky: true, everywhere: false },
    Way { fault: Fault::NoSpace, only: None, sticky: false, everywhere: false },
    Way { fault: Fault::NoSpace, only: None, sticky: true, everywhere: false },
    Way { fault: Fault::Io, only: None, sticky: false, everywhere: true },
    Way { fault: Fault::Io, only: None, sticky: true, everywhere: true },
];

#[derive(Default, Debug)]
struct Outcome {
    /// Runs in which a call failed.
    points: u64,
    /// By the call that failed first.
    by_call: BTreeMap<Call, u64>,
    acked: u64,
    /// What the store told.
    errors: u64,
    bad: u64,
    first: Option<String>,
}

struct Run {
    tally: Tally,
    acked: u64,
    errors: u64,
    wrong: Option<String>,
}

fn run(seed: u64, way: Way, at: u64, concealed: bool, acknowledge: Acknowledge) -> Run {
    let dir = scratch();
    let worked = dir.path().join("worked");
    std::fs::create_dir(&worked).unwrap();
    let below = if way.everywhere { worked.clone() } else { worked.join("data") };
    let plan = Plan { fault: way.fault, below, only: way.only, at, sticky: way.sticky, concealed };
    let mut acked: Vec<Entry> = Vec::new();
    let mut load = Load::new(&worked, seed, Habits::ALL);
    let (mut tally, mut cut) = (Tally::default(), 0);
    let ops = record(&worked, Strength::AsSet, Some(plan), |r| {
        let mut sink = |e| acked.push(e);
        let mut ledger = Ledger::new(acknowledge, &mut sink);
        for _ in 0..STEPS {
            // What it says is counted; whether it lied is looked at below.
            let _ = load.step(&mut ledger);
        }
        // Closing moves what is in the log to where a lost sync no longer matters.
        cut = r.ops();
        load.close();
        tally = r.tally();
        r.set_faulty(false);
    });
    let mut wrong = load.broken.first().cloned();
    if !way.everywhere && wrong.is_none() {
        wrong = load.control_errors.first().map(|e| format!("control heard of it: {e}"));
    }
    if wrong.is_none() {
        wrong = look(&load, &worked, &acked).map(|w| format!("{w}, on a sound disk"));
    }
    // Where a sync failed, the disk need not hold what readers saw.
    if wrong.is_none() && tally.first.as_ref().is_some_and(|(call, _)| *call == Call::Sync) {
        let to = dir.path().join("after");
        lay_out(&worked, &to, least(&ops[..cut]));
        wrong = look(&load, &to, &acked).map(|w| format!("{w}, after a power cut"));
    }
    Run { tally, acked: acked.len() as u64, errors: load.errors, wrong }
}

fn look(load: &Load, folder: &Path, acked: &[Entry]) -> Option<String> {
    let gone = |e: &Entry| may_be_expired(e.at, load.now_millis(), &options());
    check_folder(folder, load.now(), &options(), acked, gone).err().map(|w| w.to_string())
}

/// Sweeps until so many calls have failed. `stride` leaves calls out, so that a short form sees all of a run.
fn sweep(points: u64, stride: u64, ways: &[Way], concealed: bool, acknowledge: Acknowledge) -> Outcome {
    stop_on_writer_panic();
    let mut outcome = Outcome::default();
    'seeds: for seed in number("DAVY_TORTURE_SEED", 1).. {
        for way in ways {
            let mut at = 1 + seed % stride;
            loop {
                let run = run(seed, *way, at, concealed, acknowledge);
                let Some((call, path)) = run.tally.first else { break };
                outcome.points += 1;
                *outcome.by_call.entry(call).or_default() += 1;
                outcome.acked += run.acked;
                outcome.errors += run.errors;
                if let Some(why) = run.wrong {
                    outcome.bad += 1;
                    let name = PathBuf::from(path.file_name().unwrap_or_default());
                    outcome.first.get_or_insert(format!(
                        "DAVY_TORTURE_SEED={seed}, {way:?}, call {at} ({call:?} of {}): {why}",
                        name.display()
                    ));
                    if std::env::var_os("DAVY_TORTURE_ALL").is_some() {
                        println!("seed {seed}, {way:?}, call {at} ({call:?} of {}): {why}", name.display());
                    }
                }
                tell(outcome.points, &outcome);
                if outcome.points >= points {
                    break 'seeds;
                }
                at += stride;
            }
        }
    }
    outcome
}

#[test]
fn a_failing_call_costs_nothing_that_was_acknowledged() {
    let points = number("DAVY_TORTURE_CALLS", 400);
    // The short form spreads its points over all ways; the long one leaves nothing out.
    let stride = if points < 5_000 { 41 } else { 1 };
    let outcome = sweep(points, stride, &WAYS, false, Acknowledge::OnReturn);
    println!("failing calls: {outcome:?}");
    assert_eq!((outcome.bad, outcome.first), (0, None));
    assert!(outcome.errors > 0 && outcome.acked > 0, "something failed, something went well");
}

#[test]
fn a_build_that_ignores_errors_would_be_noticed() {
    let ways = &WAYS[3..4];
    let outcome = sweep(40, 97, ways, false, Acknowledge::DespiteErrors);
    println!("acknowledged despite errors: {outcome:?}");
    assert!(outcome.bad * 2 > outcome.points, "the torture has no teeth: {outcome:?}");
}

#[test]
fn a_build_that_takes_a_failed_sync_for_done_would_be_noticed() {
    let ways = &WAYS[..1];
    let outcome = sweep(60, 3, ways, true, Acknowledge::OnReturn);
    println!("failed calls taken for done: {outcome:?}");
    assert!(outcome.bad * 5 > outcome.points, "the torture has no teeth: {outcome:?}");
}
