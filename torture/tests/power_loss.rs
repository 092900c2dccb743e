//! Nothing acknowledged is lost, altered or doubled by a power cut at any moment; and the test can tell.
//!
//! `DAVY_TORTURE_IMAGES=100000 cargo test --release -p davy-torture` is the long form; `DAVY_TORTURE_SEED` repeats one.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};

use davy_torture::{Acked, Acknowledge, Rng, Strength, check, image, record, work};

/// Images opened of each recording.
const PER_RECORDING: u64 = 100;

#[derive(Default, Debug)]
struct Outcome {
    images: u64,
    /// With what was wrong with the first.
    bad: u64,
    first: Option<String>,
}

/// In memory where there is such a place: what is opened is thrown away.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap())
}

fn cut(images: u64, strength: Strength, acknowledge: Acknowledge) -> Outcome {
    let mut outcome = Outcome::default();
    let first_seed = number("DAVY_TORTURE_SEED", 1);
    for seed in first_seed..first_seed + images.div_ceil(PER_RECORDING) {
        let dir = scratch();
        let worked = dir.path().join("worked");
        std::fs::create_dir(&worked).unwrap();
        let mut ledger = Vec::new();
        let ops = record(&worked, strength, |r| ledger = work(&worked, seed, acknowledge, r));
        let mut rng = Rng(seed);
        for n in 0..PER_RECORDING {
            let cut = rng.below(ops.len() + 1);
            let acked: Vec<Acked> =
                ledger.iter().filter(|(at, _)| *at <= cut).map(|(_, a)| a.clone()).collect();
            let to = dir.path().join(n.to_string());
            lay_out(&worked, &to, image(&ops[..cut], &mut rng));
            outcome.images += 1;
            if let Err(why) = check(&to, &acked) {
                outcome.bad += 1;
                outcome.first.get_or_insert(format!(
                    "DAVY_TORTURE_SEED={seed}, image {n}, cut at {cut} of {}: {why}",
                    ops.len()
                ));
            }
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
    outcome
}

fn lay_out(worked: &Path, to: &Path, files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) {
    std::fs::create_dir_all(to.join("data/partitions")).unwrap();
    for (path, bytes) in files {
        std::fs::write(to.join(path.strip_prefix(worked).unwrap()), bytes).unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let images = number("DAVY_TORTURE_IMAGES", 2000);
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
