//! One target ramps its series without end, or replaces all of them every minute: its newest are refused and named,
//! what exists goes on, other targets notice nothing, and memory stays bounded.
//!
//! Virtual time only. `DAVY_TORTURE_SERIES=1000000 cargo test --release -p davy-torture --test cardinality` is the
//! long form, against the limits that Davy has by default, with memory measured.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::time::Duration;

use davy_model::{Labels, Matcher, Timestamp, Value};
use davy_store::{Durability, Limits, Options, Refusal, SeriesRef, Store};
use davy_torture::{START, number, scratch};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const GOOD_TARGETS: usize = 20;
const GOOD_SERIES: usize = 50;
/// Series in one scrape of the offender.
const SCRAPE: usize = 2_000;

/// What holds the offender back: a limit of its own scope, once there are several.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Most series that one target may have in the end.
    series: usize,
    limits: fn(usize) -> Limits,
}

/// All limits that can hold one target; a new one is a line here.
const HELD: [Held; 1] =
    [Held { series: 20_000, limits: |n| Limits { series_per_service_max: n, ..limits() } }];

fn limits() -> Limits {
    Limits { free_disk_bytes_min: 0, ..Limits::default() }
}

fn options(limits: Limits) -> Options {
    Options { commit_interval: Duration::from_millis(20), limits, ..Options::default() }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

fn good(target: usize, n: usize) -> Labels {
    let (instance, n) = (format!("good-{target}:80"), n.to_string());
    Labels::from_pairs([("__name__", "up_and_well"), ("job", "good"), ("instance", &instance), ("n", &n)])
}

fn bad(n: usize) -> Labels {
    let id = n.to_string();
    Labels::from_pairs([("__name__", "requests"), ("job", "bad"), ("instance", "bad:80"), ("user_id", &id)])
}

#[derive(Default, Debug)]
struct Outcome {
    tried: usize,
    taken: usize,
    refused: usize,
    /// What a refusal says.
    refusal: Option<String>,
    /// Samples of other targets, all of which were taken.
    others: usize,
    rss_bytes: usize,
    rss_bytes_before: usize,
}

struct Fleet {
    store: Store,
    good: Vec<SeriesRef>,
    outcome: Outcome,
    _dir: tempfile::TempDir,
}

impl Fleet {
    fn new(limits: Limits) -> Self {
        let dir = scratch();
        let store = Store::open(dir.path(), at(0), options(limits)).unwrap().0;
        let outcome = Outcome { rss_bytes_before: rss_bytes(), ..Outcome::default() };
        let mut fleet = Self { store, good: Vec::new(), outcome, _dir: dir };
        fleet.scrape_others(0);
        fleet
    }

    /// Every other target is taken in full, whatever the offender does.
    fn scrape_others(&mut self, ms: i64) {
        for target in 0..GOOD_TARGETS {
            let mut batch = self.store.appender(at(ms));
            for n in 0..GOOD_SERIES {
                let series = batch.series(&good(target, n)).unwrap();
                batch.append(series, at(ms), Value::Float(ms as f64 + n as f64)).unwrap();
                if ms == 0 {
                    self.good.push(series);
                }
                self.outcome.others += 1;
            }
            batch.commit(Durability::Group).unwrap();
        }
    }

    /// One scrape of the offender; returns the series that were taken.
    fn scrape_offender(&mut self, ms: i64, series: impl Iterator<Item = usize>) -> Vec<SeriesRef> {
        let mut batch = self.store.appender(at(ms));
        let mut taken = Vec::new();
        for n in series {
            self.outcome.tried += 1;
            match batch.series(&bad(n)) {
                Ok(series) => {
                    batch.append(series, at(ms), Value::Float(n as f64)).unwrap();
                    taken.push(series);
                }
                Err(refusal) => {
                    self.outcome.refused += 1;
                    assert!(matches!(refusal, Refusal::SeriesLimit { .. }), "{refusal}");
                    self.outcome.refusal.get_or_insert_with(|| refusal.to_string());
                }
            }
        }
        batch.commit(Durability::Group).unwrap();
        self.outcome.taken += taken.len();
        taken
    }

    fn newest(&self, matcher: Matcher, ms: i64) -> usize {
        self.store.snapshot().select(&[matcher], at(ms), at(ms)).unwrap().len()
    }
}

/// Up to so many series on one target. Returns what happened, and whether all that must hold did.
fn ramp(series: usize, most: usize, limits: Limits) -> Result<Outcome, String> {
    let mut fleet = Fleet::new(limits);
    let mut first = Vec::new();
    for (round, from) in (0..series).step_by(SCRAPE).enumerate() {
        // A target is scraped every 15 s, and each time there are more.
        let ms = (round as i64 + 1) * 15_000;
        let taken = fleet.scrape_offender(ms, from..(from + SCRAPE).min(series));
        if round == 0 {
            first = taken;
        }
        fleet.scrape_others(ms);
        if round % 4 == 3 {
            fleet.store.maintain(at(ms)).unwrap();
        }
    }
    let end = (series.div_ceil(SCRAPE) as i64 + 1) * 15_000;
    // The first series of the offender were there before the limit: they go on.
    let mut batch = fleet.store.appender(at(end));
    for series in &first {
        batch.append(*series, at(end), Value::Float(1.0)).map_err(|r| format!("an existing series: {r}"))?;
    }
    batch.commit(Durability::Sync).unwrap();
    fleet.scrape_others(end);
    fleet.outcome.rss_bytes = rss_bytes();
    if fleet.newest(Matcher::equal("job", "good"), end) != GOOD_TARGETS * GOOD_SERIES {
        return Err("a sample of another target is missing".to_owned());
    }
    if fleet.newest(Matcher::equal("job", "bad"), end) != first.len() {
        return Err("an existing series of the offender is missing".to_owned());
    }
    let active = fleet.store.stats().series_active;
    if active > most + GOOD_TARGETS * GOOD_SERIES {
        return Err(format!("{active} series are active, {most} of one target are allowed"));
    }
    let says = fleet.outcome.refusal.clone().unwrap_or_default();
    if !says.contains("\"bad\"") || !says.contains(&most.to_string()) {
        return Err(format!("the refusal names no offender or no limit: {says:?}"));
    }
    Ok(fleet.outcome)
}

/// Bytes of this process in memory, as the kernel counts them.
fn rss_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0) * 1024
}

#[test]
fn a_target_that_ramps_is_held_named_and_alone() {
    let long = std::env::var_os("DAVY_TORTURE_SERIES").is_some();
    let series = number("DAVY_TORTURE_SERIES", 60_000) as usize;
    for held in HELD {
        // The long form is held by what Davy has by default.
        let limits = if long { limits() } else { (held.limits)(held.series) };
        let most = if long { limits.series_per_service_max } else { held.series };
        let outcome = ramp(series, most, limits).unwrap();
        println!("ramp to {series} series: {outcome:?}");
        assert_eq!((outcome.taken, outcome.refused), (most.min(series), series.saturating_sub(most)));
        // The bound that Davy promises by default, and most of it is needed in the long form only.
        assert!(outcome.rss_bytes - outcome.rss_bytes_before < 512 << 20, "{outcome:?}");
    }
}

#[test]
fn a_target_that_replaces_its_series_every_minute_is_held_until_they_are_forgotten() {
    let per_minute = 500;
    let most = 15_000;
    let mut fleet = Fleet::new(Limits { series_per_service_max: most, ..limits() });
    let mut active_most = 0;
    let mut accepted_in_hour = [0; 6];
    for minute in 1..=6 * 60 {
        let ms = minute * MINUTE;
        let from = minute as usize * per_minute;
        let taken = fleet.scrape_offender(ms, from..from + per_minute);
        accepted_in_hour[((minute - 1) / 60) as usize] += taken.len();
        fleet.scrape_others(ms);
        fleet.store.maintain(at(ms)).unwrap();
        active_most = active_most.max(fleet.store.stats().series_active);
    }
    fleet.outcome.rss_bytes = rss_bytes();
    println!(
        "churn of 100 %/min: {active_most} active at most, by hour {accepted_in_hour:?}, {:?}",
        fleet.outcome
    );
    assert!(active_most <= most + GOOD_TARGETS * GOOD_SERIES);
    assert!(fleet.outcome.refused > 0, "{:?}", fleet.outcome);
    assert!(
        accepted_in_hour[3..].iter().sum::<usize>() > 0,
        "forgotten series make room: {accepted_in_hour:?}"
    );
    let end = 6 * HOUR;
    let all = fleet.store.snapshot().select(&[Matcher::equal("job", "good")], at(0), at(end)).unwrap();
    let whole = all.iter().filter(|s| s.samples.len() == 361).count();
    assert_eq!(whole, GOOD_TARGETS * GOOD_SERIES, "every sample of every other target is there");
}

#[test]
fn without_the_limit_it_would_be_noticed() {
    let off = Limits { series_per_service_max: usize::MAX, ..limits() };
    let result = ramp(30_000, 20_000, off);
    println!("without the limit: {result:?}");
    assert!(result.is_err(), "the torture has no teeth");
}
