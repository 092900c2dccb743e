//! Nothing acknowledged is lost, altered, torn or doubled by a power cut at any moment; and the test can tell.
//!
//! `DAVY_TORTURE_IMAGES=100000 cargo test --release -p davy-torture --test power_loss` is the long form;
//! `DAVY_TORTURE_SEED` is the first seed.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;

use davy_torture::{
    Acknowledge, Entry, Habits, Ledger, Load, Rng, Strength, check_folder, image, lay_out, may_be_expired,
    number, options, record, scratch, stop_on_writer_panic, tell,
};

/// Images opened of each recording.
const PER_RECORDING: u64 = 100;
const STEPS: usize = 80;
/// Of so many images, one is also worked on with.
const WORKED_ON: u64 = 4;

#[derive(Default, Debug)]
struct Outcome {
    images: u64,
    ops: u64,
    acked: u64,
    bad: u64,
    /// What was wrong with the first.
    first: Option<String>,
}

fn cut(images: u64, strength: Strength, acknowledge: Acknowledge) -> Outcome {
    stop_on_writer_panic();
    let mut outcome = Outcome::default();
    let first_seed = number("DAVY_TORTURE_SEED", 1);
    for seed in first_seed..first_seed + images.div_ceil(PER_RECORDING) {
        let dir = scratch();
        let worked = dir.path().join("worked");
        std::fs::create_dir(&worked).unwrap();
        // Each with the number of operations that were recorded before it was acknowledged.
        let mut acked: Vec<(usize, Entry)> = Vec::new();
        let mut ended = 0;
        let ops = record(&worked, strength, None, |r| {
            let mut sink = |e| acked.push((r.ops(), e));
            ended = work(&worked, seed, &mut Ledger::new(acknowledge, &mut sink));
        });
        outcome.ops += ops.len() as u64;
        outcome.acked += acked.len() as u64;
        let mut rng = Rng(seed);
        for n in 0..PER_RECORDING.min(images - outcome.images) {
            let cut = rng.below(ops.len() + 1);
            let before: Vec<Entry> = acked.iter().filter(|(at, _)| *at <= cut).map(|(_, e)| *e).collect();
            let to = dir.path().join(n.to_string());
            lay_out(&worked, &to, image(&ops[..cut], &mut rng));
            outcome.images += 1;
            let result = open(&to, ended, &before);
            let result = if n.is_multiple_of(WORKED_ON) {
                result.and_then(|()| work_on(&to, seed, ended))
            } else {
                result
            };
            if let Err(why) = result {
                outcome.bad += 1;
                outcome.first.get_or_insert(format!(
                    "DAVY_TORTURE_SEED={seed}, image {n}, cut at {cut} of {}: {why}",
                    ops.len()
                ));
            }
            std::fs::remove_dir_all(&to).unwrap();
            tell(outcome.images, &outcome);
        }
    }
    outcome
}

/// Returns the time at the end.
fn work(folder: &Path, seed: u64, ledger: &mut Ledger) -> i64 {
    let mut load = Load::new(folder, seed, Habits::ALL);
    for _ in 0..STEPS {
        load.step(ledger).unwrap_or_else(|e| panic!("a sound disk takes everything (seed {seed}): {e}"));
    }
    assert_eq!(load.broken, [""; 0], "seed {seed}");
    load.close();
    load.now_millis()
}

fn open(folder: &Path, ended: i64, acked: &[Entry]) -> Result<(), String> {
    let now = davy_model::Timestamp::from_millis(ended);
    let gone = |e: &Entry| may_be_expired(e.at, ended, &options());
    check_folder(folder, now, &options(), acked, gone).map_err(|w| w.to_string())
}

fn work_on(folder: &Path, seed: u64, ended: i64) -> Result<(), String> {
    let mut load = Load::resume(folder, seed, Habits::ALL, ended, 1 << 32);
    let mut nothing = |_| {};
    let mut ledger = Ledger::new(Acknowledge::OnReturn, &mut nothing);
    (0..3).try_for_each(|_| load.step(&mut ledger)).map_err(|e| format!("it does not work on: {e}"))
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let images = number("DAVY_TORTURE_IMAGES", 800);
    let outcome = cut(images, Strength::AsSet, Acknowledge::OnReturn);
    println!("power loss: {outcome:?}");
    assert_eq!((outcome.bad, outcome.first), (0, None));
}

#[test]
fn synchronous_normal_would_lose_what_was_acknowledged() {
    let outcome = cut(200, Strength::Normal, Acknowledge::OnReturn);
    println!("synchronous=NORMAL: {outcome:?}");
    assert!(outcome.bad * 2 > outcome.images, "the torture has no teeth: {outcome:?}");
}

#[test]
fn acknowledging_before_the_commit_would_be_noticed() {
    let outcome = cut(200, Strength::AsSet, Acknowledge::TooEarly);
    println!("acknowledged too early: {outcome:?}");
    assert!(outcome.bad * 10 > outcome.images, "the torture has no teeth: {outcome:?}");
}
