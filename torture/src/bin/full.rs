//! A disk that really is full: `full FOLDER FLOOR_BYTES BALLAST_BYTES` on a small file system, which the test mounts.
//!
//! Ingests until the store refuses, then holds it to its word: reads and decisions go on, nothing acknowledged is
//! missing, and ingest resumes when there is room. Ends with an error that says what did not hold.

use std::path::{Path, PathBuf};

use davy_model::Timestamp;
use davy_store::control::Control;
use davy_store::{Durability, Limits, Options, Store};
use davy_torture::{
    Entry, START, Telemetry, What, check_folder, options, telemetry, write_control, write_telemetry,
};

const DECISIONS: u64 = 200;
/// The store looks at free space every so often; a refusal may last until it has looked again.
const TRIES_MAX: usize = 200;

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(&args[0]);
    let number = |n: usize| args[n].parse::<u64>().map_err(|e| e.to_string());
    let floor = number(1)?;
    let acked = fill(&folder, floor, number(2)? as usize)?;
    let reopened = check_folder(&folder, at(acked.len()), &with_floor(floor), &acked, |_| false)
        .map_err(|w| w.to_string());
    println!("{} acknowledged, after reopening: {reopened:?}", acked.len());
    reopened
}

/// The ballast takes room away and gives it back.
fn fill(folder: &Path, floor: u64, ballast_bytes: usize) -> Result<Vec<Entry>, String> {
    let open = Store::open(&folder.join("data"), at(0), with_floor(floor));
    let store = open.map_err(|e| e.to_string())?.0;
    let control = Control::open(&folder.join("control.db")).map_err(|e| e.to_string())?;
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; ballast_bytes]).map_err(|e| e.to_string())?;
    let mut acked = Vec::new();
    let refusal = loop {
        match push(&store, acked.len() as u64) {
            Ok(entry) => acked.push(entry),
            Err(e) => break e,
        }
        if acked.len() > 100_000 {
            return Err("the disk never filled".to_owned());
        }
    };
    println!("{} acknowledged, then: {refusal}", acked.len());
    // More is refused, not half taken; and nobody falls.
    let refused = (0..20).filter(|n| push(&store, acked.len() as u64 + 1000 + n).is_err()).count();
    println!("{refused} of 20 more were refused");
    holds(&telemetry(&store.snapshot(), &acked).map_err(|w| w.to_string())?, &acked)?;
    for sequence in 0..DECISIONS {
        let entry = Entry { what: What::Decision, source: 1, sequence, at: START + sequence as i64 * 10 };
        write_control(&control, &entry).map_err(|e| format!("decision {sequence} on a full disk: {e}"))?;
        acked.push(entry);
    }
    println!("{DECISIONS} decisions were taken");
    std::fs::remove_file(&ballast).map_err(|e| e.to_string())?;
    let from = acked.len() as u64 + 5000;
    for n in 0.. {
        match push(&store, from + n) {
            Ok(entry) => {
                acked.push(entry);
                break;
            }
            Err(e) if n as usize > TRIES_MAX => return Err(format!("there is room, and still: {e}")),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
    println!("ingest resumed");
    Ok(acked)
}

fn holds(found: &Telemetry, acked: &[Entry]) -> Result<(), String> {
    acked.iter().find(|e| !found.holds(e)).map_or(Ok(()), |e| Err(format!("missing while full: {e}")))
}

fn push(store: &Store, sequence: u64) -> Result<Entry, String> {
    let entry = Entry { what: What::Push, source: 0, sequence, at: at(sequence as usize).as_millis() };
    let pushed = write_telemetry(store, at(sequence as usize), &entry, Durability::Sync);
    pushed.map(|()| entry).map_err(|e| e.to_string())
}

/// The floor is looked at every commit interval.
fn with_floor(floor: u64) -> Options {
    Options {
        commit_interval: std::time::Duration::from_millis(5),
        limits: Limits { free_disk_bytes_min: floor, ..Limits::default() },
        ..options()
    }
}

fn at(write: usize) -> Timestamp {
    Timestamp::from_millis(START + write as i64 * 10)
}
