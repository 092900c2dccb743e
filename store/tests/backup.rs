//! A backup taken under load holds everything that was acknowledged before, once, and opens like any folder.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use common::{at, float, labels, options, samples, span};
use davy_store::control::{Control, ControlBatch, VersionRecord};
use davy_store::{Durability, Options, Store};

const SERIES: usize = 10;

fn small() -> Options {
    Options { head_range: Duration::from_secs(20), partition_range: Duration::from_secs(60), ..options() }
}

fn version(i: i64) -> VersionRecord {
    VersionRecord { service: "s".into(), version: i.to_string(), first_seen: at(i), last_seen: at(i) }
}

#[test]
fn a_backup_under_load_holds_what_was_acknowledged_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data"), at(0), small()).unwrap().0;
    let control = Control::open(&dir.path().join("control.db")).unwrap();
    let (acked, stop) = (AtomicI64::new(-1), AtomicBool::new(false));
    std::thread::scope(|s| {
        s.spawn(|| {
            for i in 0.. {
                let mut a = store.appender(at(i * 1000));
                for n in 0..SERIES {
                    let series = a.series(&labels("m", n)).unwrap();
                    a.append(series, at(i * 1000), float(i as f64 + n as f64)).unwrap();
                }
                a.spans(vec![span((i % 250) as u8 + 1, "cart", i * 1000, 1)]);
                a.commit(Durability::Sync).unwrap();
                control
                    .write(&ControlBatch { versions: vec![version(i)], ..ControlBatch::default() })
                    .unwrap();
                acked.store(i, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for n in 0..6 {
            while acked.load(Ordering::SeqCst) < n * 30 + 20 {
                std::thread::yield_now();
            }
            let before = acked.load(Ordering::SeqCst);
            let to = dir.path().join(format!("backup-{n}"));
            store.backup_to(&to).unwrap();
            control.backup_to(&to.join("control.db")).unwrap();
            store.maintain(at(acked.load(Ordering::SeqCst) * 1000)).unwrap();
            let (restored, recovery) = Store::open(&to, at(before * 1000), small()).unwrap();
            assert_eq!(recovery.quarantined, 0);
            let found = samples(&restored.snapshot(), "m");
            let rounds: Vec<i64> = found.iter().filter(|s| s.0 == 3).map(|s| s.1 / 1000).collect();
            assert!(rounds.len() as i64 > before && rounds == (0..rounds.len() as i64).collect::<Vec<_>>());
            let right =
                |(n, t, bits): &(usize, i64, u64)| (*t as f64 / 1000.0 + *n as f64).to_bits() == *bits;
            assert!(found.iter().all(right) && found.len() == rounds.len() * SERIES);
            // Ids come again after 250 rounds, times do not.
            let want = span((before % 250) as u8 + 1, "cart", before * 1000, 1);
            let spans = restored.snapshot().trace(want.trace_id).unwrap();
            assert_eq!(spans.iter().filter(|s| **s == want).count(), 1);
            let versions = Control::open(&to.join("control.db")).unwrap().versions().unwrap();
            assert!((0..=before).all(|i| versions.contains(&version(i))));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(
        std::fs::read_dir(dir.path().join("backup-5/partitions")).unwrap().count() > 1,
        "some was sealed"
    );
}

#[test]
fn a_backup_never_writes_over_anything() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data"), at(0), small()).unwrap().0;
    let control = Control::open(&dir.path().join("control.db")).unwrap();
    assert!(store.backup_to(dir.path()).is_err());
    std::fs::write(dir.path().join("precious"), "x").unwrap();
    assert!(control.backup_to(&dir.path().join("precious")).is_err());
    assert_eq!(std::fs::read_to_string(dir.path().join("precious")).unwrap(), "x");
}
