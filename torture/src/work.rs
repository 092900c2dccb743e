//! What the store is made to do while it is recorded, and the ledger of what it acknowledged.

use std::path::Path;
use std::time::Duration;

use davy_model::{Labels, Matcher, Resource, Span, SpanId, SpanKind, SpanStatus, Timestamp, TraceId, Value};
use davy_store::control::{AuditRecord, Control, ControlBatch, ReleaseRecord, VersionRecord};
use davy_store::{Durability, Limits, Options, Store};

use crate::image::Rng;
use crate::vfs::Record;

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;
const ROUNDS: i64 = 34;
const SERIES: usize = 12;

/// When a write is taken for acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// Once the store says so.
    OnReturn,
    /// Before it was committed: what must be caught.
    TooEarly,
}

/// One acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acked {
    /// All samples and the span of a round.
    Round(i64),
    Version(i64),
    Release(String),
}

/// Acknowledged writes, each with the number of operations recorded before.
pub type Ledger = Vec<(usize, Acked)>;

fn at(round: i64) -> Timestamp {
    Timestamp::from_millis(START + round * 1000)
}

fn options() -> Options {
    Options {
        commit_interval: Duration::from_millis(5),
        head_range: Duration::from_secs(10),
        partition_range: Duration::from_secs(20),
        limits: Limits { free_disk_bytes_min: 0, ..Limits::default() },
        ..Options::default()
    }
}

fn value(round: i64, n: usize) -> f64 {
    round as f64 * if n.is_multiple_of(3) { 0.1 } else { 7.0 } + n as f64
}

/// Ingests, seals, decides and restarts once; the ledger says what was acknowledged when.
pub fn work(folder: &Path, seed: u64, acknowledge: Acknowledge, record: &Record) -> Ledger {
    let mut rng = Rng(seed);
    let mut ledger = Ledger::new();
    let mut say = |what: Acked, write: &mut dyn FnMut()| {
        let early = record.ops();
        write();
        let on_return = record.ops();
        ledger.push((if acknowledge == Acknowledge::TooEarly { early } else { on_return }, what));
    };
    let restart = rng.below(ROUNDS as usize) as i64;
    let open = |now| Store::open(&folder.join("data"), now, options()).expect("a sound folder opens").0;
    let control = Control::open(&folder.join("control.db")).expect("a sound file opens");
    let mut store = Some(open(at(0)));
    for round in 0..ROUNDS {
        if round == restart {
            drop(store.take());
        }
        let store = store.get_or_insert_with(|| open(at(round)));
        say(Acked::Round(round), &mut || append(store, round));
        if rng.below(4) == 0 {
            let decided = ControlBatch {
                versions: vec![version(round)],
                audit: vec![audit(round)],
                ..ControlBatch::default()
            };
            say(Acked::Version(round), &mut || control.write(&decided).expect("a sound disk takes it"));
        }
        if rng.below(8) == 0 {
            let release = release(round);
            let id = format!("cart-{round}-");
            say(Acked::Release(id), &mut || {
                control.create_release(release.clone(), audit(round)).expect("a sound disk takes it");
            });
        }
        if rng.below(3) == 0 {
            store.maintain(at(round)).expect("a sound disk takes it");
        }
    }
    ledger
}

/// Opens what a cut left, and says what is wrong with it: something acknowledged missing, altered or twice.
pub fn check(folder: &Path, acked: &[Acked]) -> Result<(), String> {
    let text = |e: davy_store::Error| e.to_string();
    let (store, recovery) = Store::open(&folder.join("data"), at(ROUNDS), options()).map_err(text)?;
    if recovery.quarantined > 0 {
        return Err(format!("{} blocks were quarantined", recovery.quarantined));
    }
    let snapshot = store.snapshot();
    let metric = Matcher::equal("__name__", "m");
    let found =
        snapshot.select(std::slice::from_ref(&metric), Timestamp::MIN, Timestamp::MAX).map_err(text)?;
    for series in &found {
        let n: usize = series.labels.get("n").and_then(|n| n.parse().ok()).ok_or("a series without n")?;
        for pair in series.samples.windows(2) {
            if pair[0].timestamp >= pair[1].timestamp {
                return Err(format!("series {n} has a sample twice at {}", pair[0].timestamp));
            }
        }
        for sample in &series.samples {
            let round = (sample.timestamp.as_millis() - START) / 1000;
            if sample.value.as_float().map(f64::to_bits) != Some(value(round, n).to_bits()) {
                return Err(format!("series {n} was altered in round {round}"));
            }
        }
    }
    let control = Control::open(&folder.join("control.db")).map_err(text)?;
    let versions = control.versions().map_err(text)?;
    let releases = control.releases(1000).map_err(text)?;
    let audited = control.audit(1000).map_err(text)?;
    for what in acked {
        let there = match what {
            Acked::Round(round) => {
                let has = |s: &davy_store::SeriesSamples| {
                    s.samples.binary_search_by_key(&at(*round), |s| s.timestamp).is_ok()
                };
                found.iter().filter(|s| has(s)).count() == SERIES
                    && snapshot.trace(trace(*round)).map_err(text)?.len() == 1
            }
            Acked::Version(round) => versions.contains(&version(*round)) && audited.contains(&audit(*round)),
            Acked::Release(id) => releases.iter().any(|r| r.id.starts_with(id.as_str())),
        };
        if !there {
            return Err(format!("{what:?} was acknowledged and is missing"));
        }
    }
    // And it works on.
    append_to(&store, ROUNDS).map_err(text)
}

fn append(store: &Store, round: i64) {
    append_to(store, round).expect("a sound disk takes it");
}

fn append_to(store: &Store, round: i64) -> Result<(), davy_store::Error> {
    let mut a = store.appender(at(round));
    for n in 0..SERIES {
        let labels = Labels::from_pairs([("__name__", "m"), ("job", "api"), ("n", n.to_string().as_str())]);
        let series = a.series(&labels).expect("far below the limits");
        a.append(series, at(round), Value::Float(value(round, n))).expect("in order");
    }
    a.spans(vec![span(round)]);
    a.commit(Durability::Sync)
}

fn trace(round: i64) -> TraceId {
    TraceId([round as u8 + 1; 16])
}

fn span(round: i64) -> Span {
    let start_nanos = at(round).as_millis() as u64 * 1_000_000;
    Span {
        trace_id: trace(round),
        span_id: SpanId([1; 8]),
        parent_span_id: SpanId::default(),
        trace_state: "".into(),
        resource: std::sync::Arc::new(Resource { attributes: vec![] }),
        scope: "".into(),
        name: "GET /".into(),
        kind: SpanKind::Server,
        start_nanos,
        end_nanos: start_nanos + 1_000_000,
        status: SpanStatus::Ok,
        status_message: "".into(),
        attributes: vec![],
        events: vec![],
        links: vec![],
    }
}

fn version(round: i64) -> VersionRecord {
    VersionRecord {
        service: "cart".into(),
        version: round.to_string(),
        first_seen: at(round),
        last_seen: at(round),
    }
}

fn audit(round: i64) -> AuditRecord {
    AuditRecord {
        at: at(round),
        actor: "davy".into(),
        action: "see".into(),
        target: "cart".into(),
        reason: "torture".into(),
        outcome: "ok".into(),
    }
}

fn release(round: i64) -> ReleaseRecord {
    ReleaseRecord {
        generation: 0,
        id: String::new(),
        service: "cart".into(),
        baseline: "1".into(),
        canary: round.to_string(),
        phase: "watching".into(),
        verdict: "insufficient".into(),
        reason: String::new(),
        started_at: at(round),
        decided_at: None,
        detail: "{}".into(),
    }
}
