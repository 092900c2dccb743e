//! A full disk: what was acknowledged stays, reads and decisions go on, what comes is refused with a reason, and
//! ingest resumes when there is room.
//!
//! Once in the recorded file system with a quota at every size (`DAVY_TORTURE_QUOTAS=2000 cargo test --release
//! -p davy-torture --test disk_full` is the long form, `DAVY_TORTURE_SEED` the first seed), and once on a real small
//! one, where what maps memory and what waits for a floor of free space take part as well.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::process::{Command, Output};

use davy_torture::{
    Acknowledge, Entry, Fault, Habits, Ledger, Load, Plan, Strength, check_folder, may_be_expired, number,
    options, record, scratch, stop_on_writer_panic, telemetry,
};

const STEPS_WHILE_FULL: usize = 50;
const STEPS_WITH_ROOM: usize = 12;

#[derive(Default, Debug)]
struct Outcome {
    quotas: u64,
    /// Of them, those at which the disk was full in the end.
    full: u64,
    refused_calls: u64,
    acked: u64,
    resumed: u64,
    bad: u64,
    first: Option<String>,
}

fn fill(quotas: u64, concealed: bool) -> Outcome {
    stop_on_writer_panic();
    let mut outcome = Outcome::default();
    let first_seed = number("DAVY_TORTURE_SEED", 1);
    for n in 0..quotas {
        let seed = first_seed + n / 8;
        // From too little for the tables to more than all of it takes.
        let bytes = 24_000 + (n % 8) * 90_000 + seed * 1_009 % 90_000;
        outcome.quotas += 1;
        if let Err(why) = one(seed, bytes, concealed, &mut outcome) {
            outcome.bad += 1;
            let first = format!("DAVY_TORTURE_SEED={seed}, {bytes} bytes: {why}");
            if std::env::var_os("DAVY_TORTURE_ALL").is_some() {
                println!("{first}");
            }
            outcome.first.get_or_insert(first);
        }
    }
    outcome
}

fn one(seed: u64, bytes: u64, concealed: bool, outcome: &mut Outcome) -> Result<(), String> {
    let dir = scratch();
    let worked = dir.path().join("worked");
    std::fs::create_dir(&worked).unwrap();
    // Only telemetry: that its floor keeps room for decisions is what the real file system shows.
    let below = worked.join("data");
    let plan = Plan { fault: Fault::Quota { bytes }, below, only: None, at: 0, sticky: true, concealed };
    let mut load = Load::new(&worked, seed, Habits::ALL);
    let mut acked: Vec<Entry> = Vec::new();
    let mut result = Ok(());
    record(&worked, Strength::AsSet, Some(plan), |r| {
        let mut sink = |e| acked.push(e);
        let mut ledger = Ledger::new(Acknowledge::OnReturn, &mut sink);
        for _ in 0..STEPS_WHILE_FULL {
            let _ = load.step(&mut ledger);
        }
        let tally = r.tally();
        outcome.full += u64::from(tally.failed > 0);
        outcome.refused_calls += tally.failed;
        // Room again: the same store takes everything, without being opened anew.
        r.set_faulty(false);
        result = (0..STEPS_WITH_ROOM)
            .try_for_each(|_| load.step(&mut ledger))
            .map_err(|e| format!("there is room, and still: {e}"));
    });
    result?;
    outcome.resumed += 1;
    outcome.acked += acked.len() as u64;
    let told = load.broken.first().or(load.control_errors.first());
    told.map_or(Ok(()), |b| Err(b.clone()))?;
    let ended = load.now_millis();
    let gone = |e: &Entry| may_be_expired(e.at, ended, &options());
    if let Some(store) = load.store() {
        let found = telemetry(&store.snapshot(), &acked).map_err(|w| w.to_string())?;
        let missing = acked.iter().find(|e| e.is_telemetry() && !gone(e) && !found.holds(e));
        missing.map_or(Ok(()), |e| Err(format!("missing before reopening: {e}")))?;
    }
    load.close();
    check_folder(&worked, load.now(), &options(), &acked, gone).map_err(|w| w.to_string())
}

#[test]
fn a_full_disk_costs_nothing_that_was_acknowledged_and_passes() {
    let outcome = fill(number("DAVY_TORTURE_QUOTAS", 64), false);
    println!("disk full: {outcome:?}");
    assert_eq!((outcome.bad, &outcome.first), (0, &None));
    assert!(outcome.full * 2 > outcome.quotas && outcome.acked > 0, "{outcome:?}");
}

#[test]
fn a_build_that_does_not_look_whether_a_write_went_well_would_be_noticed() {
    let outcome = fill(24, true);
    println!("full, and taken for written: {outcome:?}");
    assert!(outcome.bad * 2 > outcome.full, "the torture has no teeth: {outcome:?}");
}

/// On 24 MB of memory, in a name space of its own; `None` where that cannot be had.
fn on_a_small_disk(floor_bytes: u64, ballast_bytes: u64) -> Option<Output> {
    let works = |c: &mut Command| c.output().is_ok_and(|o| o.status.success());
    if !works(Command::new("unshare").args(["-rm", "true"])) {
        return None;
    }
    let dir = scratch();
    let script = format!(
        "mount -t tmpfs -o size=24m tmpfs {0} && exec {1} {0} {floor_bytes} {ballast_bytes}",
        Path::new(dir.path()).display(),
        env!("CARGO_BIN_EXE_full")
    );
    Some(Command::new("unshare").args(["-rm", "--kill-child", "sh", "-c", &script]).output().unwrap())
}

#[test]
fn on_a_real_small_disk_decisions_go_on_and_without_the_floor_they_would_not() {
    let Some(kept) = on_a_small_disk(6 << 20, 12 << 20) else {
        // Said where it shows; everywhere else the quota above stands for it.
        eprintln!("skipped: unshare -rm does not work here");
        return;
    };
    let text =
        |o: &Output| format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    println!("small disk: {}", text(&kept));
    assert!(kept.status.success(), "{}", text(&kept));
    let broken = on_a_small_disk(0, 18 << 20).expect("it worked just above");
    println!("small disk without a floor: {}", text(&broken));
    assert!(!broken.status.success() && text(&broken).contains("on a full disk"), "{}", text(&broken));
}
