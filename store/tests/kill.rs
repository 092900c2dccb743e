//! What was acknowledged survives `kill -9`. The child is this test binary again.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{at, float, labels, options, samples};
use davy_store::control::Control;
use davy_store::{Durability, Options, Store};

const DIR: &str = "DAVY_STORE_KILL_DIR";
const KILLS: u64 = 12;

fn small() -> Options {
    Options { head_range: Duration::from_secs(10), partition_range: Duration::from_secs(60), ..options() }
}

/// Not a test of its own: appends until it is killed, and says what was acknowledged.
#[test]
fn child_appends_until_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = std::path::Path::new(&dir);
    let from: i64 = std::fs::read_to_string(dir.join("from")).unwrap().parse().unwrap();
    let store = Store::open(&dir.join("data"), at(from * 1000), small()).unwrap().0;
    let control = Control::open(&dir.join("control.db")).unwrap();
    let mut out = std::io::stdout();
    for i in from.. {
        let mut a = store.appender(at(i * 1000));
        for n in 0..20 {
            let s = a.series(&labels("m", n)).unwrap();
            a.append(s, at(i * 1000), float(i as f64 * 0.1 + n as f64)).unwrap();
        }
        a.commit(Durability::Sync).unwrap();
        writeln!(out, "ack {i}").unwrap();
        if i % 5 == 0 {
            store.maintain(at(i * 1000)).unwrap();
            let version = davy_store::control::VersionRecord {
                service: "s".into(),
                version: i.to_string(),
                first_seen: at(i),
                last_seen: at(i),
            };
            control
                .write(&davy_store::control::ControlBatch { versions: vec![version], ..Default::default() })
                .unwrap();
            writeln!(out, "version {i}").unwrap();
        }
    }
}

#[test]
fn every_acknowledged_batch_is_there_once_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acks, mut versions): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
    for kill in 0..KILLS {
        let from = acks.last().map_or(0, |l| l + 1000);
        std::fs::write(dir.path().join("from"), from.to_string()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_appends_until_killed", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A different number of acknowledgements each time, then at once.
        let mut left = 3 + kill * 7 % 40;
        for line in lines.map_while(Result::ok) {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["ack", i] => acks.push(i.parse().unwrap()),
                ["version", i] => versions.push(i.parse().unwrap()),
                _ => continue,
            }
            left = left.saturating_sub(1);
            if left == 0 {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success(), "it was killed");
    }
    let store = Store::open(&dir.path().join("data"), at(acks[acks.len() - 1] * 1000), small()).unwrap().0;
    let found = samples(&store.snapshot(), "m");
    let bits = |n: usize, i: i64| (i as f64 * 0.1 + n as f64).to_bits();
    let want: Vec<_> = (0..20).flat_map(|n| acks.iter().map(move |i| (n, i * 1000, bits(n, *i)))).collect();
    assert!(
        acks.len() as u64 >= KILLS * 3 && want.iter().all(|w| found.binary_search(w).is_ok()),
        "an acknowledged sample is missing"
    );
    assert!(found.windows(2).all(|w| (w[0].0, w[0].1) < (w[1].0, w[1].1)), "a sample is there twice");
    assert!(found.iter().all(|(n, t, b)| *b == bits(*n, t / 1000)), "a sample was altered");
    let control = Control::open(&dir.path().join("control.db")).unwrap();
    let stored: Vec<String> = control.versions().unwrap().into_iter().map(|v| v.version).collect();
    assert!(versions.iter().all(|v| stored.contains(&v.to_string())), "an acknowledged version is missing");
}
