//! The checker: reads everything that a store serves and holds it against what was written and acknowledged.

use std::collections::{HashMap, HashSet};
use std::fmt;

use davy_model::{Matcher, Span, Timestamp, Value};
use davy_store::control::Control;
use davy_store::{Error, SeriesSamples, Snapshot, SpanQuery};

use crate::ledger::{Entry, What};
use crate::payload::{
    self, CONTROL_SOURCES, SERIES, START, epoch, exemplar, from_trace_id, generation, labels, source_of,
    value,
};

/// Most spans that one query of the store returns.
const SPANS_MAX: usize = 10_000;
const ROWS_MAX: usize = 100_000;
/// Traces that are also looked up by their id.
const LOOKED_UP: usize = 5;

/// What must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// Acknowledged, and not there.
    Missing(Entry),
    /// Something is there more than once.
    Twice(String),
    /// Something is there that was never written so.
    Altered(String),
    /// A part of what was written as one.
    Torn(String),
    /// It could not be read at all.
    Unreadable(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(e) => write!(f, "missing: {e}"),
            Self::Twice(s) => write!(f, "twice: {s}"),
            Self::Altered(s) => write!(f, "altered: {s}"),
            Self::Torn(s) => write!(f, "torn: {s}"),
            Self::Unreadable(s) => write!(f, "unreadable: {s}"),
        }
    }
}

impl From<Error> for Wrong {
    fn from(e: Error) -> Self {
        Self::Unreadable(e.to_string())
    }
}

/// What was found of the telemetry; everything in it is as it was written.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Complete sets of samples.
    rows: HashSet<(u32, u64, i64)>,
    traces: HashSet<(u32, u64)>,
    pub samples: u64,
    pub spans: u64,
}

impl Telemetry {
    /// Whether all of it is there.
    pub fn holds(&self, e: &Entry) -> bool {
        self.holds_samples(e) && self.holds_spans(e)
    }

    pub fn holds_samples(&self, e: &Entry) -> bool {
        self.rows.contains(&(e.source, epoch(e.sequence), e.at))
    }

    pub fn holds_spans(&self, e: &Entry) -> bool {
        e.what != What::Push || self.traces.contains(&(e.source, e.sequence))
    }
}

/// What was found in the control database.
#[derive(Debug, Default)]
pub struct Decisions {
    found: HashSet<(What, u32, u64)>,
    pub rows: u64,
}

impl Decisions {
    pub fn holds(&self, e: &Entry) -> bool {
        self.found.contains(&(e.what, e.source, e.sequence))
    }
}

/// Everything acknowledged is there, but for what may be gone.
pub fn all_there(
    acked: &[Entry],
    telemetry: &Telemetry,
    decisions: &Decisions,
    may_be_gone: impl Fn(&Entry) -> bool,
) -> Result<(), Wrong> {
    let there = |e: &Entry| if e.is_telemetry() { telemetry.holds(e) } else { decisions.holds(e) };
    match acked.iter().find(|e| !there(e) && !may_be_gone(e)) {
        Some(e) => Err(Wrong::Missing(*e)),
        None => Ok(()),
    }
}

/// Reads all samples, exemplars and spans. `acked` is only needed to look some of them up by their trace.
pub fn telemetry(snapshot: &Snapshot, acked: &[Entry]) -> Result<Telemetry, Wrong> {
    let mut found = Telemetry::default();
    samples(snapshot, &mut found)?;
    exemplars(snapshot)?;
    let mut spans = Vec::new();
    all_spans(snapshot, START - (1 << 41), START + (1 << 41), &mut spans)?;
    traces(&spans, &mut found)?;
    let pushed: Vec<&Entry> = acked.iter().filter(|e| e.what == What::Push && found.holds_spans(e)).collect();
    for e in pushed.iter().rev().step_by(pushed.len() / LOOKED_UP + 1) {
        if snapshot.trace(payload::trace_id(e.source, e.sequence))?
            != payload::spans(e.source, e.sequence, e.at)
        {
            return Err(Wrong::Altered(format!("the trace of {e}, looked up by its id")));
        }
    }
    Ok(found)
}

fn samples(snapshot: &Snapshot, found: &mut Telemetry) -> Result<(), Wrong> {
    let all = snapshot.select(&[Matcher::metric("torture")], Timestamp::MIN, Timestamp::MAX)?;
    let mut masks: HashMap<(u32, u64, i64), u32> = HashMap::new();
    for SeriesSamples { labels: got, samples } in &all {
        let number = |name| got.get(name).and_then(|v| v.parse::<u64>().ok());
        let series = (|| Some((u32::try_from(number("source")?).ok()?, number("epoch")?, number("n")?)))();
        let Some((source, epoch, n)) = series.filter(|(s, e, n)| labels(*s, *e, *n as usize) == *got) else {
            return Err(Wrong::Altered(format!("series {got:?}")));
        };
        for pair in samples.windows(2) {
            if pair[0].timestamp >= pair[1].timestamp {
                return Err(Wrong::Twice(format!("{got:?} at {}", pair[0].timestamp)));
            }
        }
        for s in samples {
            let at = s.timestamp.as_millis();
            if !same(&s.value, &value(source, epoch, n as usize, at)) {
                return Err(Wrong::Altered(format!("{got:?} at {}: {:?}", s.timestamp, s.value)));
            }
            *masks.entry((source, epoch, at)).or_default() |= 1 << n;
            found.samples += 1;
        }
    }
    for (row, mask) in masks {
        if mask != (1 << SERIES) - 1 {
            return Err(Wrong::Torn(format!("source, epoch, time {row:?} has only series {mask:b}")));
        }
        found.rows.insert(row);
    }
    Ok(())
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Histogram(a), Value::Histogram(b)) => a == b,
        (Value::Float(_), Value::Histogram(_)) | (Value::Histogram(_), Value::Float(_)) => false,
    }
}

/// Exemplars are kept for a while only: those that are there are right, and there once.
fn exemplars(snapshot: &Snapshot) -> Result<(), Wrong> {
    let all = snapshot.exemplars(&[Matcher::metric("torture")], Timestamp::MIN, Timestamp::MAX);
    for (labels, exemplars) in all {
        let number = |name| labels.get(name).and_then(|v| v.parse::<u64>().ok());
        let (source, epoch) = (number("source").unwrap_or(0) as u32, number("epoch").unwrap_or(0));
        let mut times = HashSet::new();
        for e in exemplars {
            if e != exemplar(source, epoch, e.timestamp.as_millis()) {
                return Err(Wrong::Altered(format!("exemplar of {labels:?}: {e:?}")));
            }
            if !times.insert(e.timestamp.as_millis()) {
                return Err(Wrong::Twice(format!("exemplar of {labels:?}: {e:?}")));
            }
        }
    }
    Ok(())
}

/// Half of the time and the other half, until a query holds all of its part.
fn all_spans(snapshot: &Snapshot, from: i64, to: i64, out: &mut Vec<Span>) -> Result<(), Wrong> {
    let query = SpanQuery::default();
    let some = snapshot.spans(&query, Timestamp::from_millis(from), Timestamp::from_millis(to))?;
    if some.len() < SPANS_MAX || from == to {
        out.extend(some);
        return Ok(());
    }
    let middle = from + (to - from) / 2;
    all_spans(snapshot, from, middle, out)?;
    all_spans(snapshot, middle + 1, to, out)
}

fn traces(spans: &[Span], found: &mut Telemetry) -> Result<(), Wrong> {
    let mut seen: HashMap<(u32, u64), u32> = HashMap::new();
    for span in spans {
        let at = (span.start_nanos / 1_000_000) as i64;
        let altered = || Wrong::Altered(format!("{span:?}"));
        let (source, sequence) = from_trace_id(span.trace_id).ok_or_else(altered)?;
        let number =
            payload::spans(source, sequence, at).iter().position(|s| s == span).ok_or_else(altered)?;
        let mask = seen.entry((source, sequence)).or_default();
        if *mask & 1 << number != 0 {
            return Err(Wrong::Twice(format!("{span:?}")));
        }
        *mask |= 1 << number;
        found.spans += 1;
    }
    for (trace, mask) in seen {
        if mask != 0b11 {
            return Err(Wrong::Torn(format!("one span of two of source, sequence {trace:?}")));
        }
        found.traces.insert(trace);
    }
    Ok(())
}

/// Reads every table of the control database that has a list.
pub fn decisions(control: &Control) -> Result<Decisions, Wrong> {
    let mut tables: [HashMap<(u32, u64), i64>; 6] = Default::default();
    let mut found = Decisions::default();
    let mut enter = |table: usize, key: Option<(u32, u64)>, at: Timestamp, row: &dyn fmt::Debug| {
        let (source, sequence) = key.ok_or_else(|| Wrong::Altered(format!("{row:?}")))?;
        found.rows += 1;
        match tables[table].insert((source, sequence), at.as_millis()) {
            None => Ok(payload::decision(source, sequence, at.as_millis())),
            Some(_) => Err(Wrong::Twice(format!("{row:?}"))),
        }
    };
    let right = |is: bool, row: &dyn fmt::Debug| {
        if is { Ok(()) } else { Err(Wrong::Altered(format!("{row:?}"))) }
    };
    for v in control.versions()? {
        let key = source_of(&v.service).zip(v.version.parse().ok());
        let want = enter(0, key, v.first_seen, &v)?;
        right(want.versions[0] == v, &v)?;
    }
    for source in 0..CONTROL_SOURCES {
        for (at, detail) in control.verdicts(generation(source))? {
            let sequence = detail.split(' ').next().and_then(|n| n.parse().ok());
            let want = enter(1, sequence.map(|s| (source, s)), at, &detail)?;
            right(want.verdicts[0] == (generation(source), at, detail.clone()), &detail)?;
        }
        for a in control.actions(generation(source))? {
            let want = enter(2, by_id(&a.id), a.at, &a)?;
            right(want.actions[0] == a, &a)?;
        }
    }
    for a in control.open_alerts()? {
        let want = enter(3, by_id(&a.id), a.starts_at, &a)?;
        right(want.alerts[0] == a, &a)?;
    }
    for m in control.outbox_due(Timestamp::MAX, &[], ROWS_MAX)? {
        let want = enter(4, by_id(&m.id), m.created_at, &m)?;
        right(want.outbox[0] == m, &m)?;
    }
    let (mut creations, mut releases) = (HashSet::new(), HashSet::new());
    for a in control.audit(ROWS_MAX)? {
        let key = a.target.parse().ok().zip(a.reason.parse().ok());
        if a.action == "create" {
            let (source, sequence) = key.ok_or_else(|| Wrong::Altered(format!("{a:?}")))?;
            right(payload::audit(source, sequence, a.at.as_millis(), What::Release) == a, &a)?;
            if !creations.insert((source, sequence)) {
                return Err(Wrong::Twice(format!("{a:?}")));
            }
            continue;
        }
        let want = enter(5, key, a.at, &a)?;
        right(want.audit[0] == a, &a)?;
    }
    let mut generations = HashSet::new();
    for r in control.releases(ROWS_MAX)? {
        let key = source_of(&r.service).zip(r.canary.parse().ok());
        let (source, sequence) = key.ok_or_else(|| Wrong::Altered(format!("{r:?}")))?;
        let mut want = payload::release(source, sequence, r.started_at.as_millis());
        (want.generation, want.id) = (r.generation, format!("{}-{}-{}", r.service, r.canary, r.generation));
        right(want == r, &r)?;
        if !generations.insert(r.generation) || !releases.insert((source, sequence)) {
            return Err(Wrong::Twice(format!("{r:?}")));
        }
    }
    if let Some(table) = tables.iter().position(|t| *t != tables[0]) {
        return Err(Wrong::Torn(format!("tables 0 and {table} hold different decisions")));
    }
    if creations != releases {
        return Err(Wrong::Torn("releases and their audit rows differ".to_owned()));
    }
    found.rows += creations.len() as u64 * 2;
    found.found.extend(tables[0].keys().map(|(s, n)| (What::Decision, *s, *n)));
    found.found.extend(releases.into_iter().map(|(s, n)| (What::Release, s, n)));
    Ok(found)
}

fn by_id(id: &str) -> Option<(u32, u64)> {
    let (source, sequence) = id.split_once('/')?;
    Some((source.parse().ok()?, sequence.parse().ok()?))
}
