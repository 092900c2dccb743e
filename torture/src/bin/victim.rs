//! What the tests kill: ingests from several threads at once, seals, compacts, retains, decides and reads, until it
//! is killed; says on standard output what was acknowledged, a line each.
//!
//! `victim FOLDER FIRST_SEQUENCE FIRST_TIME [early]`, where `early` acknowledges before the commit.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use davy_model::Timestamp;
use davy_store::control::Control;
use davy_store::{Durability, Options, Store};
use davy_torture::{
    Acknowledge, Entry, Ledger, Refused, What, options, telemetry, write_control, write_telemetry,
};

/// Virtual time that passes with each write.
const STEP_MILLIS: i64 = 40;
/// Commits of a scraper that are made durable together.
const SCRAPES: usize = 4;

struct Victim {
    folder: PathBuf,
    store: Store,
    control: Control,
    first: u64,
    now: AtomicI64,
    acknowledge: Acknowledge,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize| args[n].parse::<i64>().expect("a number");
    let (folder, first, now) = (PathBuf::from(&args[0]), number(1) as u64, number(2));
    let early = args.get(3).is_some_and(|a| a == "early");
    let options = Options { commit_interval: std::time::Duration::from_millis(2), ..options() };
    let open = Store::open(&folder.join("data"), Timestamp::from_millis(now), options);
    let (store, _) = open.expect("what a kill left can be opened");
    let control = Control::open(&folder.join("control.db")).expect("what a kill left can be opened");
    say("ready");
    let victim = Victim {
        folder,
        store,
        control,
        first,
        now: AtomicI64::new(now),
        acknowledge: if early { Acknowledge::TooEarly } else { Acknowledge::OnReturn },
    };
    let victim = &victim;
    std::thread::scope(|s| {
        for source in 0..2 {
            s.spawn(move || victim.scrape(source));
        }
        for source in 2..4 {
            s.spawn(move || victim.push(source));
        }
        s.spawn(move || victim.decide(4));
        s.spawn(move || victim.maintain());
        s.spawn(move || victim.read());
    });
}

impl Victim {
    fn scrape(&self, source: u32) {
        let mut waiting = Vec::new();
        for sequence in self.first.. {
            let entry = Entry { what: What::Scrape, source, sequence, at: self.tick() };
            // Refused is one that maintenance overtook; it is not acknowledged.
            if write_telemetry(&self.store, self.now(), &entry, Durability::Group).is_ok() {
                waiting.push(entry);
            }
            if waiting.len() >= SCRAPES {
                self.acknowledge(&std::mem::take(&mut waiting), || Ok(self.store.flush()?));
            }
        }
    }

    fn push(&self, source: u32) {
        for sequence in self.first.. {
            let at = self.tick();
            // Every fifth is late, and between the times of all others.
            let at = if sequence.is_multiple_of(5) { at - 3005 } else { at };
            let entry = Entry { what: What::Push, source, sequence, at };
            self.acknowledge(&[entry], || write_telemetry(&self.store, self.now(), &entry, Durability::Sync));
        }
    }

    fn decide(&self, source: u32) {
        for sequence in self.first.. {
            let what = if sequence.is_multiple_of(3) { What::Release } else { What::Decision };
            let entry = Entry { what, source, sequence, at: self.tick() };
            self.acknowledge(&[entry], || write_control(&self.control, &entry));
        }
    }

    fn maintain(&self) {
        for round in 0u64.. {
            let now = self.now();
            say(&format!("maintain {}", now.as_millis()));
            self.store.maintain(now).expect("a sound disk takes it");
            if round.is_multiple_of(16) {
                let to = self.folder.join(format!("backup-{}-{round}", self.first));
                self.store.backup_to(&to).expect("a sound disk takes it");
                std::fs::remove_dir_all(&to).expect("the backup can be let go");
            }
            std::thread::yield_now();
        }
    }

    fn read(&self) {
        loop {
            // Whoever reads while others write sees nothing altered, doubled or torn.
            if let Err(wrong) = telemetry(&self.store.snapshot(), &[]) {
                say(&format!("wrong {wrong}"));
                std::process::exit(3);
            }
        }
    }

    fn acknowledge(&self, entries: &[Entry], write: impl FnOnce() -> Result<(), Refused>) {
        let mut sink = |e: Entry| say(&format!("acked {e}"));
        // A refusal is no failure here: it acknowledges nothing.
        let _ = Ledger::new(self.acknowledge, &mut sink).attempt(entries, write);
    }

    /// The next time, which ends in zero.
    fn tick(&self) -> i64 {
        self.now.fetch_add(STEP_MILLIS, Ordering::Relaxed)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }
}

/// One write into the pipe, so that a line is there or not.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).expect("whoever reads is there as long as this is");
    out.flush().expect("whoever reads is there as long as this is");
}
