//! Bit rot: single bits flipped anywhere in the files of a data folder, pages zeroed, pages that a disk wrote to the
//! place of another; nothing altered is ever served.
//!
//! Lives in the crate because its teeth are the checksums switched off, which nothing else may do.
//! `DAVY_ROT_FLIPS=10000 DAVY_ROT_PAGES=1000 cargo test --release -p davy-store rot` is the long form;
//! `DAVY_ROT_SEED` is the seed.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use davy_model::{AttributeValue, Labels, Matcher, Resource, Span, SpanId, SpanKind, SpanStatus};
use davy_model::{Timestamp, TraceId, Value};

use crate::control::{Control, ControlBatch, VersionRecord};
use crate::{Durability, Limits, Options, Store};

thread_local! {
    /// Whether this thread looks at checksums.
    static VERIFY: Cell<bool> = const { Cell::new(true) };
}

pub(crate) fn verifies() -> bool {
    VERIFY.get()
}

const MINUTE: i64 = 60_000;
const ROUNDS: i64 = 50;
const SERIES: usize = 60;
const PAGE: usize = 4096;

fn at(round: i64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + round * MINUTE)
}

fn options() -> Options {
    Options {
        commit_interval: Duration::from_millis(1),
        head_range: Duration::from_secs(600),
        partition_range: Duration::from_secs(1200),
        limits: Limits { free_disk_bytes_min: 0, ..Limits::default() },
        ..Options::default()
    }
}

fn value(round: i64, n: usize) -> f64 {
    let noise = (round as u64 * 31 + n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    match n % 3 {
        0 => round as f64 * 17.0 + (noise % 5) as f64,
        1 => noise as f64 / 1e6,
        _ => f64::from_bits(0x3ff0_0000_0000_0000 | noise << 20),
    }
}

fn text(round: i64) -> String {
    format!("version {round} of the cart that people push around")
}

fn version(round: i64) -> VersionRecord {
    VersionRecord {
        service: "cart".into(),
        version: text(round),
        first_seen: at(round),
        last_seen: at(round),
    }
}

fn span(round: i64) -> Span {
    let start_nanos = at(round).as_millis() as u64 * 1_000_000;
    Span {
        trace_id: TraceId([round as u8 + 1; 16]),
        span_id: SpanId([9; 8]),
        parent_span_id: SpanId::default(),
        trace_state: "".into(),
        resource: std::sync::Arc::new(Resource { attributes: vec![] }),
        scope: "".into(),
        name: text(round).into(),
        kind: SpanKind::Server,
        start_nanos,
        end_nanos: start_nanos + 1_000_000,
        status: SpanStatus::Ok,
        status_message: "".into(),
        attributes: vec![("round".into(), AttributeValue::Int(round))],
        events: vec![],
        links: vec![],
    }
}

/// A folder with samples and spans in the log and in partitions, and a control database.
fn fill(dir: &Path) {
    let control = Control::open(&dir.join("control.db")).unwrap();
    let store = Store::open(&dir.join("data"), at(0), options()).unwrap().0;
    for round in 0..ROUNDS {
        let mut a = store.appender(at(round));
        for n in 0..SERIES {
            let labels = Labels::from_pairs([("m", text(n as i64).as_str()), ("n", n.to_string().as_str())]);
            let series = a.series(&labels).unwrap();
            a.append(series, at(round), Value::Float(value(round, n))).unwrap();
        }
        a.spans(vec![span(round)]);
        a.commit(Durability::Sync).unwrap();
        store.maintain(at(round)).unwrap();
        let batch = ControlBatch { versions: vec![version(round)], ..ControlBatch::default() };
        control.write(&batch).unwrap();
    }
}

#[derive(Debug, Default)]
struct Outcome {
    damaged: u64,
    /// Something was served that was never written.
    altered: u64,
    /// The store or the control database said so, by an error or its count of quarantined blocks.
    reported: u64,
    /// Of all samples of all openable stores, those served.
    served: u64,
    samples: u64,
    first: Option<String>,
}

/// Everything that is served, held against what was written: what was altered, and how many samples there were.
fn read(dir: &Path, reported: &mut bool) -> Result<u64, String> {
    let mut samples = 0;
    match Store::open(&dir.join("data"), at(ROUNDS), options()) {
        Err(_) => *reported = true,
        Ok((store, _)) => {
            let snapshot = store.snapshot();
            let all = snapshot.select(
                &[Matcher::new("n", davy_model::MatchOp::Regex, ".*").unwrap()],
                Timestamp::MIN,
                Timestamp::MAX,
            );
            for series in all.unwrap_or_default() {
                let n: usize =
                    series.labels.get("n").and_then(|n| n.parse().ok()).ok_or("a series without n")?;
                let labels =
                    Labels::from_pairs([("m", text(n as i64).as_str()), ("n", n.to_string().as_str())]);
                if series.labels != labels || n >= SERIES {
                    return Err(format!("series {:?}", series.labels));
                }
                for pair in series.samples.windows(2) {
                    if pair[0].timestamp >= pair[1].timestamp {
                        return Err(format!("series {n} twice at {}", pair[0].timestamp));
                    }
                }
                for s in &series.samples {
                    let round = (s.timestamp.as_millis() - at(0).as_millis()) / MINUTE;
                    let right = s.timestamp == at(round)
                        && s.value.as_float().map(f64::to_bits) == Some(value(round, n).to_bits());
                    if !right {
                        return Err(format!("series {n} at {}: {:?}", s.timestamp, s.value));
                    }
                }
                samples += series.samples.len() as u64;
            }
            for round in 0..ROUNDS {
                let found = snapshot.trace(TraceId([round as u8 + 1; 16])).unwrap_or_default();
                if found.len() > 1 || found.iter().any(|s| *s != span(round)) {
                    return Err(format!("span {found:?}"));
                }
            }
            *reported |= store.stats().quarantined_chunks > 0;
        }
    }
    match Control::open(&dir.join("control.db")).and_then(|c| c.versions()) {
        Err(_) => *reported = true,
        Ok(versions) => {
            let mut rounds: HashMap<String, VersionRecord> =
                (0..ROUNDS).map(|r| (text(r), version(r))).collect();
            for v in versions {
                if rounds.remove(&v.version).as_ref() != Some(&v) {
                    return Err(format!("{v:?}"));
                }
            }
        }
    }
    Ok(samples)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(dir.join("data/partitions")).unwrap().map(|e| e.unwrap().path()).collect();
    all.extend([dir.join("data/telemetry.db"), dir.join("control.db")]);
    all.retain(|p| p.extension().is_some_and(|e| e == "db"));
    all.sort();
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("data/partitions")).unwrap();
    for file in files(from) {
        fs::copy(&file, to.join(file.strip_prefix(from).unwrap())).unwrap();
    }
}

fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// What happens to one file, of a folder with these; returns which file, its bytes, and words for it.
type Damage = fn(&[(PathBuf, Vec<u8>)], u64) -> (usize, Vec<u8>, String);

fn flip_bit(files: &[(PathBuf, Vec<u8>)], random: u64) -> (usize, Vec<u8>, String) {
    // Most zeros are pages that nothing uses.
    let used = |bytes: &[u8]| bytes.iter().filter(|b| **b != 0).count();
    let mut nth = (random >> 3) as usize % files.iter().map(|(_, b)| used(b)).sum::<usize>();
    let mut within = |(_, bytes): &&(PathBuf, Vec<u8>)| {
        let here = nth < used(bytes);
        nth -= if here { 0 } else { used(bytes) };
        here
    };
    let file = files.iter().take_while(|f| !within(f)).count();
    let mut bytes = files[file].1.clone();
    let byte = (0..bytes.len()).filter(|at| bytes[*at] != 0).nth(nth).expect("counted just above");
    bytes[byte] ^= 1 << (random % 8);
    (file, bytes, format!("bit {} of byte {byte}", random % 8))
}

/// Any page of any file.
fn page(files: &[(PathBuf, Vec<u8>)], random: u64) -> (usize, usize) {
    let pages = |bytes: &[u8]| bytes.len() / PAGE;
    let mut nth = random as usize % files.iter().map(|(_, b)| pages(b)).sum::<usize>();
    let mut file = 0;
    while nth >= pages(&files[file].1) {
        nth -= pages(&files[file].1);
        file += 1;
    }
    (file, nth)
}

fn zero_page(files: &[(PathBuf, Vec<u8>)], random: u64) -> (usize, Vec<u8>, String) {
    let (file, page) = page(files, random);
    let mut bytes = files[file].1.clone();
    bytes[page * PAGE..(page + 1) * PAGE].fill(0);
    (file, bytes, format!("page {page} zeroed"))
}

/// A page comes to lie where another belongs, of the same file or of another.
fn misdirect_page(files: &[(PathBuf, Vec<u8>)], random: u64) -> (usize, Vec<u8>, String) {
    let (from_file, from) = page(files, random >> 32);
    let (mut file, mut to) = page(files, random & 0xffff_ffff);
    // Mostly within a file, as a wrong block number would have it.
    if !random.count_ones().is_multiple_of(4) {
        file = from_file;
        to %= files[file].1.len() / PAGE;
    }
    let moved = &files[from_file].1[from * PAGE..(from + 1) * PAGE];
    let mut bytes = files[file].1.clone();
    bytes[to * PAGE..(to + 1) * PAGE].copy_from_slice(moved);
    (file, bytes, format!("page {to} replaced by page {from} of {}", name(&files[from_file].0)))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn damage(times: u64, seed: u64, how: Damage) -> Outcome {
    let dir = scratch();
    let whole = dir.path().join("whole");
    fs::create_dir(&whole).unwrap();
    fill(&whole);
    let whole_files: Vec<(PathBuf, Vec<u8>)> =
        files(&whole).into_iter().map(|p| (p.clone(), fs::read(&p).unwrap())).collect();
    let mut outcome = Outcome { damaged: times, ..Outcome::default() };
    for n in 0..times {
        let (file, bytes, what) = how(&whole_files, hash(seed, n));
        let to = dir.path().join("rotten");
        copy(&whole, &to);
        let rotten = to.join(whole_files[file].0.strip_prefix(&whole).unwrap());
        fs::write(&rotten, bytes).unwrap();
        let mut reported = false;
        match read(&to, &mut reported) {
            Ok(samples) if samples > 0 => {
                outcome.served += samples;
                outcome.samples += ROUNDS as u64 * SERIES as u64;
            }
            Ok(_) => {}
            Err(why) => {
                outcome.altered += 1;
                let first = format!("DAVY_ROT_SEED={seed}, number {n}: {what} of {}: {why}", name(&rotten));
                outcome.first.get_or_insert(first);
            }
        }
        outcome.reported += u64::from(reported);
        fs::remove_dir_all(&to).unwrap();
    }
    outcome
}

fn hash(seed: u64, n: u64) -> u64 {
    let z = (seed << 32 ^ n).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap())
}

fn seed() -> u64 {
    number("DAVY_ROT_SEED", 6)
}

#[test]
fn a_flipped_bit_is_never_served() {
    let outcome = damage(number("DAVY_ROT_FLIPS", 400), seed(), flip_bit);
    println!("bit rot: {outcome:?}");
    assert!(outcome.altered == 0 && outcome.first.is_none(), "{outcome:?}");
    // One block is a good part of so small a store.
    assert!(outcome.reported > 0 && outcome.served * 100 >= outcome.samples * 85, "{outcome:?}");
}

#[test]
fn a_zeroed_page_is_never_served() {
    let outcome = damage(number("DAVY_ROT_PAGES", 80) / 2, seed(), zero_page);
    println!("zeroed pages: {outcome:?}");
    assert!(outcome.altered == 0 && outcome.first.is_none() && outcome.reported > 0, "{outcome:?}");
}

#[test]
fn a_misdirected_page_is_never_served() {
    let outcome = damage(number("DAVY_ROT_PAGES", 80).div_ceil(2), seed(), misdirect_page);
    println!("misdirected pages: {outcome:?}");
    assert!(outcome.altered == 0 && outcome.first.is_none() && outcome.reported > 0, "{outcome:?}");
}

#[test]
fn without_checksums_it_would_be() {
    VERIFY.set(false);
    let outcome = damage(300, seed(), flip_bit);
    VERIFY.set(true);
    println!("bit rot without checksums: {outcome:?}");
    assert!(outcome.altered * 20 > outcome.damaged, "the test has no teeth: {outcome:?}");
}

/// Every byte of a row's text, in turn: the row is an error that names its table and key, and the others are served.
#[test]
fn a_rotten_control_row_is_an_error_that_names_table_and_key() {
    let dir = scratch();
    let whole = dir.path().join("control.db");
    let control = Control::open(&whole).unwrap();
    let batch = ControlBatch { versions: (0..20).map(version).collect(), ..ControlBatch::default() };
    control.write(&batch).unwrap();
    drop(control);
    let bytes = fs::read(&whole).unwrap();
    let (wanted, mut named) = (text(7), 0);
    let places = bytes.windows(wanted.len()).enumerate().filter(|(_, w)| *w == wanted.as_bytes());
    for place in places.map(|(at, _)| at) {
        for (n, bit) in (0..wanted.len()).map(|n| (n, n % 6)) {
            let mut rotten = bytes.clone();
            rotten[place + n] ^= 1 << bit;
            let path = dir.path().join("rotten.db");
            fs::write(&path, rotten).unwrap();
            match Control::open(&path).unwrap().versions() {
                // The key is as it reads now: that is what an operator finds in the file.
                Err(crate::Error::CorruptRow { table: "version", key, .. }) => {
                    assert!(key.starts_with("cart/") && key.len() == "cart/".len() + wanted.len(), "{key}");
                    named += 1;
                }
                // A copy of the key in an index, by which nothing was read.
                Ok(versions) => assert_eq!(versions, batch.versions),
                Err(e) => panic!("{e}"),
            }
            for end in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(dir.path().join(format!("rotten.db{end}")));
            }
        }
    }
    assert!(named >= wanted.len(), "{named} of {} bytes were noticed", wanted.len());
}
