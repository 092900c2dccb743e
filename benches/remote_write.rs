//! Remote write: what the receiver itself costs (unpack, walk, find the series), and the whole way to disk.
//! `cargo bench --bench remote_write`; under `cargo test` a small form runs, so that it keeps compiling and working.
//!
//! Requests of 2,000 samples as Prometheus sends them; eight samples a series, as in a backfill, or one, as live.
//! CPU seconds of the whole process, so that the writer's thread and its fsyncs count and a busy machine does not.
#![allow(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::sync::Arc;
use std::time::Duration;

use davy_collector::remote_write::{Receiver, RemoteWriteLimits};
use davy_model::{Clock, ManualClock, Timestamp};
use davy_store::{Limits, Options, Store};

const START: i64 = 1_767_225_600_000;
const INTERVAL: i64 = 15_000;
/// Samples in a request.
const BATCH: usize = 2000;

struct Size {
    targets: usize,
    series: usize,
    /// Scrapes of every target.
    ticks: i64,
}

fn main() {
    let full = std::env::args().any(|a| a == "--bench");
    let size = if full {
        Size { targets: 50, series: 1000, ticks: 80 }
    } else {
        Size { targets: 2, series: 200, ticks: 16 }
    };
    println!("{} targets x {} series x {} ticks", size.targets, size.series, size.ticks);
    for together in [8, 1] {
        measure(&size, together);
    }
}

fn measure(size: &Size, together: i64) {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(START)));
    let store = Store::open(dir.path(), clock.now(), Options { limits, ..Options::default() }).unwrap().0;
    let receiver = Receiver::new(store, clock.clone(), &RemoteWriteLimits::default());
    let samples = (size.targets * size.series) as f64 * together as f64;
    let what = |stage: &str| format!("{stage}, {together} samples a series a request");

    let first = bodies(size, 0, together);
    let before = cpu();
    write(&receiver, &first);
    row(&what("new series, to disk"), (cpu() - before) * 1e9 / samples, "ns/sample");

    let (mut find, mut store, mut rounds) = (0.0, 0.0, 0.0);
    for tick in (together..size.ticks).step_by(together as usize) {
        clock.advance(Duration::from_millis((together * INTERVAL) as u64));
        let bodies = bodies(size, tick, together);
        let before = cpu();
        let found: u64 = bodies.iter().map(|b| receiver.rehearse(b).unwrap()).sum();
        find += cpu() - before;
        assert_eq!(found, samples as u64);
        let before = cpu();
        write(&receiver, &bodies);
        store += cpu() - before;
        rounds += 1.0;
    }
    row(&what("unpack, walk, find"), find * 1e9 / samples / rounds, "ns/sample");
    row(&what("the same, to disk"), store * 1e9 / samples / rounds, "ns/sample");
}

fn write(receiver: &Receiver, bodies: &[Vec<u8>]) {
    for body in bodies {
        assert_eq!(receiver.write(body).unwrap().refused.samples(), 0);
    }
}

/// Every series with `together` samples from `tick` on, in requests of [`BATCH`] samples.
fn bodies(size: &Size, tick: i64, together: i64) -> Vec<Vec<u8>> {
    let (mut message, mut samples, mut bodies) = (Vec::new(), 0, Vec::new());
    for target in 0..size.targets {
        for n in 0..size.series {
            let mut series = labels(target, n);
            for t in tick..tick + together {
                let mut sample = vec![0x09];
                sample.extend_from_slice(&((t * 7 + n as i64) as f64).to_le_bytes());
                sample.push(0x10);
                varint(&mut sample, (START + t * INTERVAL) as u64);
                field(&mut series, 2, &sample);
            }
            field(&mut message, 1, &series);
            samples += together as usize;
            if samples >= BATCH {
                bodies.push(snap::raw::Encoder::new().compress_vec(&message).unwrap());
                (message, samples) = (Vec::new(), 0);
            }
        }
    }
    if samples > 0 {
        bodies.push(snap::raw::Encoder::new().compress_vec(&message).unwrap());
    }
    bodies
}

fn labels(target: usize, n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in [
        ("__name__", format!("http_requests_of_kind_{}_total", n % 97)),
        ("code", format!("{}", 200 + n % 7)),
        ("instance", format!("10.0.0.{target}:9100")),
        ("job", "bench".to_owned()),
        ("method", "GET".to_owned()),
        ("path", format!("/api/v1/things/{n}")),
        ("version", "1.4.2".to_owned()),
    ] {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut out, 1, &label);
    }
    out
}

fn field(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = procfs::process::Process::myself().and_then(|p| p.stat()).unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

fn row(what: &str, figure: f64, unit: &str) {
    println!("{what:<60} {figure:>10.1} {unit}");
}
