//! What storing costs: append, log, head, sealing, reading. `cargo bench --bench append`; under `cargo test` a small
//! form runs, so that it keeps compiling and working.
//!
//! The mix is that of the study: a quarter histogram buckets, 45 % whole counters, a fifth gauges, the rest constant.
//! CPU seconds of the whole process, so that the writer's thread counts and a busy machine does not.
#![allow(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::time::Duration;

use davy_model::{Labels, Matcher, Timestamp, Value};
use davy_store::{Durability, Limits, Options, SeriesRef, Store};

const START: i64 = 1_767_225_600_000;
const INTERVAL: i64 = 15_000;
/// Half an hour a chunk: 120 points.
const RANGE: Duration = Duration::from_secs(1800);

/// How often a read is repeated.
const TIMES: usize = 50;

struct Size {
    targets: usize,
    series: usize,
    rounds: i64,
}

fn main() {
    let full = std::env::args().any(|a| a == "--bench");
    let size = if full {
        Size { targets: 200, series: 1000, rounds: 190 }
    } else {
        Size { targets: 3, series: 100, rounds: 190 }
    };
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
    let options = Options { head_range: RANGE, limits, ..Options::default() };
    let store = Store::open(dir.path(), at(0), options.clone()).unwrap().0;
    let samples = (size.targets * size.series) as f64 * size.rounds as f64;
    println!("{} targets x {} series x {} rounds", size.targets, size.series, size.rounds);

    let before = cpu();
    let refs = create(&store, &size);
    let series = (size.targets * size.series) as f64;
    row("create a series", (cpu() - before) * 1e9 / series, "ns");

    let before = cpu();
    for round in 0..size.rounds {
        for (target, refs) in refs.iter().enumerate() {
            let mut a = store.appender(at(round));
            for (n, series) in refs.iter().enumerate() {
                a.append(*series, at(round), Value::Float(value(target, n, round))).unwrap();
            }
            a.commit(Durability::Group).unwrap();
        }
        store.flush().unwrap();
    }
    row("append, log and head", (cpu() - before) * 1e9 / samples, "ns/sample");
    row("log", bytes(dir.path().join("telemetry.db")) / samples, "bytes/sample");
    row("resident", resident() / series, "bytes/series");

    read(&store, &size, "head", "service-1");
    let before = cpu();
    store.maintain(at(size.rounds)).unwrap();
    let sealed = (size.targets * size.series) as f64 * 120.0;
    row("seal", sealed / (cpu() - before) / 1e6, "M samples/s");
    row("sealed", bytes(dir.path().join(format!("partitions/{}.db", START / 1000))) / sealed, "bytes/sample");
    read(&store, &size, "partition and head", "service-1");

    drop(store);
    let before = cpu();
    let (store, recovery) = Store::open(dir.path(), at(size.rounds), options).unwrap();
    row("open", cpu() - before, "s");
    row("of it replayed", recovery.samples as f64 / 1e6, "M samples");
    drop(store);
    day(if full { 1000 } else { 20 });
}

/// One target for a day, sealed and compacted: what a dashboard of a day reads.
fn day(series: usize) {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
    let store = Store::open(dir.path(), at(0), Options { limits, ..Options::default() }).unwrap().0;
    let size = Size { targets: 1, series, rounds: 24 * 240 };
    let refs = create(&store, &size).remove(0);
    for round in 0..size.rounds {
        let mut a = store.appender(at(round));
        for (n, series) in refs.iter().enumerate() {
            a.append(*series, at(round), Value::Float(value(0, n, round))).unwrap();
        }
        a.commit(Durability::Group).unwrap();
        if round % 240 == 0 {
            store.maintain(at(round)).unwrap();
        }
    }
    store.maintain(at(size.rounds)).unwrap();
    read(&store, &size, "a day", "service-0");
    store.compact(at(size.rounds)).unwrap();
    read(&store, &size, "a day, compacted", "service-0");
}

fn create(store: &Store, size: &Size) -> Vec<Vec<SeriesRef>> {
    let target = |t: usize| {
        let mut a = store.appender(at(0));
        let refs = (0..size.series).map(|n| a.series(&labels(t, n)).unwrap()).collect();
        a.commit(Durability::Group).unwrap();
        refs
    };
    (0..size.targets).map(target).collect()
}

fn read(store: &Store, size: &Size, from: &str, service: &str) {
    let snapshot = store.snapshot();
    let service = Matcher::equal("service", service);
    let matchers = std::slice::from_ref(&service);
    let columns = |from| snapshot.columns(matchers, from, at(size.rounds)).unwrap();
    let before = cpu();
    let found = columns(at(0));
    row(&format!("first read from {from}"), (cpu() - before) * 1e3, "ms");
    let all: usize = found.iter().map(|s| s.samples.len()).sum();
    let rate = |took: f64| all as f64 * TIMES as f64 / took / 1e6;
    let before = cpu();
    (0..TIMES).for_each(|_| assert_eq!(columns(at(0)).len(), found.len()));
    row(&format!("{} series from {from}, by column", found.len()), rate(cpu() - before), "M samples/s");
    let select = || snapshot.select(matchers, at(0), at(size.rounds)).unwrap();
    let before = cpu();
    (0..TIMES).for_each(|_| assert_eq!(select().len(), found.len()));
    row("  one by one", rate(cpu() - before), "M samples/s");
    let last = at(size.rounds - 2);
    let before = cpu();
    (0..TIMES).for_each(|_| assert_eq!(columns(last).len(), found.len()));
    row("  their last two samples", (cpu() - before) * 1e3 / TIMES as f64, "ms");
}

fn at(round: i64) -> Timestamp {
    Timestamp::from_millis(START + round * INTERVAL)
}

fn labels(target: usize, n: usize) -> Labels {
    let (metric, le) = if n % 20 < 5 { (n / 20 * 20, format!("{}", n % 5)) } else { (n, String::new()) };
    Labels::from_pairs([
        ("__name__", format!("metric_{metric}").as_str()),
        ("le", &le),
        ("job", "bench"),
        ("instance", &format!("10.0.0.{target}:9100")),
        ("service", &format!("service-{}", target / 2)),
        ("version", if target.is_multiple_of(2) { "1.0" } else { "1.1" }),
        ("path", &format!("/api/{}", n % 7)),
    ])
}

fn value(target: usize, n: usize, round: i64) -> f64 {
    let noise = hash(target as u64, n as u64, round as u64);
    let rate = hash(target as u64, n as u64, 0) % 50;
    let counted = (round as u64 * rate + noise % (rate + 1)) as f64;
    match n % 20 {
        le @ 0..5 => counted + (round as u64 * le as u64) as f64,
        5..14 => counted,
        14..16 => (noise % 300) as f64,
        16..18 => (noise % 100_000) as f64 / 1000.0,
        _ => 1.0,
    }
}

fn hash(a: u64, b: u64, c: u64) -> u64 {
    let mut h = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ c;
    for _ in 0..2 {
        h = (h ^ (h >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    }
    h ^ (h >> 29)
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = procfs::process::Process::myself().and_then(|p| p.stat()).unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

fn resident() -> f64 {
    procfs::process::Process::myself().and_then(|p| p.status()).unwrap().vmrss.unwrap() as f64 * 1024.0
}

fn bytes(path: std::path::PathBuf) -> f64 {
    std::fs::metadata(path).map_or(0.0, |m| m.len() as f64)
}

fn row(what: &str, figure: f64, unit: &str) {
    println!("{what:<45} {figure:>10.2} {unit}");
}
