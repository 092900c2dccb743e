//! `SpanMetrics`: spans into call counts and latency histograms, so that a service that only traces can be judged.
//!
//! Names and labels are those that Grafana's trace views query (Tempo's metrics generator writes the same).
//! The counts are of the spans that arrive: a service that samples its traces is counted by its sample.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use davy_model::{Exemplar, Labels, Span, SpanKind, SpanStatus, Timestamp, Value, name};

use super::cumulative::IDLE_MAX;
use super::ledger::Ledger;
use super::point::Point;
use super::resource::instance;

/// Distinct combinations of labels; each is some sixty series. Calls beyond it are not counted.
const GROUPS_MAX: usize = 5_000;
/// Groups with a span name of their own; the rest is kept for [`OTHER`].
const NAMED_GROUPS_MAX: usize = 4_500;
/// Span names of one service; further ones are counted together.
const NAMES_PER_SERVICE_MAX: usize = 200;
/// Stands for the names beyond the limits.
const OTHER: &str = "other";
/// Four buckets an octave from 1 ms to 16.384 s: neighbours differ by 19 %.
const BUCKETS_PER_OCTAVE: u32 = 4;
const OCTAVES: u32 = 14;
const BUCKETS: usize = (BUCKETS_PER_OCTAVE * OCTAVES + 1) as usize;

pub const CALLS: &str = "traces_spanmetrics_calls_total";
pub const LATENCY: &str = "traces_spanmetrics_latency";

/// Running totals since this process started; readers see a restart as a counter reset.
#[derive(Debug)]
pub struct SpanMetrics {
    groups: Ledger<Group, Totals>,
    /// Span names in use, by service.
    names: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// Upper bounds in nanoseconds and as `le` writes them.
    bounds: Vec<(u64, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    service: Arc<str>,
    version: Arc<str>,
    instance: Arc<str>,
    span_name: Arc<str>,
    kind: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone)]
struct Totals {
    counts: [u64; BUCKETS],
    count: u64,
    sum_nanos: u128,
    /// Time of the newest sample: the next one must be newer.
    last: Timestamp,
    /// The slowest span of this batch.
    slowest: Option<Slowest>,
}

#[derive(Debug, Clone)]
struct Slowest {
    nanos: u64,
    bucket: usize,
    labels: [String; 2],
}

impl Default for SpanMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl SpanMetrics {
    pub fn new() -> Self {
        let bound = |i: usize| {
            let nanos = (1e6 * (i as f64 / f64::from(BUCKETS_PER_OCTAVE)).exp2()).round();
            (nanos as u64, (nanos / 1e9).to_string())
        };
        Self {
            groups: Ledger::new(GROUPS_MAX),
            names: HashMap::new(),
            bounds: (0..BUCKETS).map(bound).collect(),
        }
    }

    /// Counts server and consumer spans and gives the new totals of every group they touched, to be committed
    /// with the spans. A group's first point says that it stood at zero a moment before.
    pub fn observe(&mut self, spans: &[Span], now: Timestamp) -> Vec<Point> {
        let mut touched: HashMap<Group, Totals> = HashMap::new();
        for span in spans {
            let Some(kind) = counted_kind(span.kind) else { continue };
            let mut group = group_of(span, kind);
            let is_new = !touched.contains_key(&group) && self.groups.get(&group).is_none();
            if is_new && !self.takes_name(&group, self.groups.len() + touched.len()) {
                group.span_name = OTHER.into();
            }
            let totals = touched.entry(group).or_insert_with_key(|group| self.totals_of(group, now));
            totals.count_span(span, &self.bounds);
        }
        let mut touched: Vec<_> = touched.into_iter().collect();
        touched.sort_by(|(a, _), (b, _)| a.labels().cmp(&b.labels()));
        touched.into_iter().filter_map(|(group, totals)| self.write(&group, totals, now)).collect()
    }

    fn write(&mut self, group: &Group, mut totals: Totals, now: Timestamp) -> Option<Point> {
        let is_new = self.groups.get(group).is_none();
        // Two batches within a millisecond: the clock gives way, a series cannot hold two values of one time.
        let at = now.max(totals.last + Duration::from_millis(1));
        totals.last = at;
        let mut point = self.point(group, &totals, at);
        point.zero_at = is_new.then(|| at - Duration::from_millis(1));
        totals.slowest = None;
        self.groups.put(group, totals, now).then_some(point)
    }

    fn point(&self, group: &Group, totals: &Totals, at: Timestamp) -> Point {
        let base = group.labels();
        let named = |metric: &str| {
            let mut labels = base.builder();
            labels.set(name::METRIC, metric);
            labels
        };
        let float = |n: u64| Value::Float(n as f64);
        let mut cumulative = 0;
        let mut series: Vec<_> = self
            .bounds
            .iter()
            .zip(totals.counts)
            .map(|((_, le), count)| {
                cumulative += count;
                let mut labels = named("traces_spanmetrics_latency_bucket");
                labels.set(name::LE, le);
                (labels.build(), float(cumulative))
            })
            .collect();
        let mut infinite = named("traces_spanmetrics_latency_bucket");
        infinite.set(name::LE, "+Inf");
        let seconds = totals.sum_nanos as f64 / 1e9;
        series.extend([
            (infinite.build(), float(totals.count)),
            (named("traces_spanmetrics_latency_count").build(), float(totals.count)),
            (named("traces_spanmetrics_latency_sum").build(), Value::Float(seconds)),
            (named(CALLS).build(), float(totals.count)),
        ]);
        let exemplar = totals.slowest.as_ref().map(|s| {
            let [trace_id, span_id] = &s.labels;
            let labels = Labels::from_pairs([("trace_id", trace_id), ("span_id", span_id)]);
            (s.bucket, Exemplar { labels, value: s.nanos as f64 / 1e9, timestamp: at })
        });
        Point { at, zero_at: None, series, exemplars: exemplar.into_iter().collect() }
    }

    fn totals_of(&self, group: &Group, now: Timestamp) -> Totals {
        self.groups.get(group).cloned().unwrap_or_else(|| Totals {
            counts: [0; BUCKETS],
            count: 0,
            sum_nanos: 0,
            last: now - Duration::from_millis(1),
            slowest: None,
        })
    }

    /// Whether a new group may carry its span name; if so the name is noted.
    fn takes_name(&mut self, group: &Group, groups: usize) -> bool {
        if groups >= NAMED_GROUPS_MAX {
            return false;
        }
        let names = self.names.entry(group.service.clone()).or_default();
        names.contains(&group.span_name)
            || names.len() < NAMES_PER_SERVICE_MAX && names.insert(group.span_name.clone())
    }

    pub(crate) fn commit(&mut self) {
        self.groups.commit();
    }

    pub(crate) fn rollback(&mut self) {
        self.groups.rollback();
    }

    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.groups.sweep(now - IDLE_MAX);
        self.names.clear();
        for group in self.groups.keys() {
            self.names.entry(group.service.clone()).or_default().insert(group.span_name.clone());
        }
    }
}

impl Totals {
    fn count_span(&mut self, span: &Span, bounds: &[(u64, String)]) {
        let nanos = span.duration_nanos();
        let bucket = bounds.partition_point(|(bound, _)| *bound < nanos);
        // The last bucket, +Inf, is the count itself.
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum_nanos += u128::from(nanos);
        if self.slowest.as_ref().is_none_or(|s| nanos > s.nanos) {
            let labels = [span.trace_id.to_string(), span.span_id.to_string()];
            self.slowest = Some(Slowest { nanos, bucket, labels });
        }
    }
}

impl Group {
    fn labels(&self) -> Labels {
        Labels::from_pairs([
            (name::SERVICE, &*self.service),
            (name::VERSION, &*self.version),
            (name::INSTANCE, &*self.instance),
            ("span_name", &*self.span_name),
            ("span_kind", self.kind),
            ("status_code", self.status),
        ])
    }
}

fn group_of(span: &Span, kind: &'static str) -> Group {
    Group {
        service: span.resource.service().into(),
        version: span.resource.version().into(),
        instance: instance(&span.resource).into(),
        span_name: span.name.clone(),
        kind,
        status: match span.status {
            SpanStatus::Unset => "STATUS_CODE_UNSET",
            SpanStatus::Ok => "STATUS_CODE_OK",
            SpanStatus::Error => "STATUS_CODE_ERROR",
        },
    }
}

/// Spans in which the service answers somebody.
fn counted_kind(kind: SpanKind) -> Option<&'static str> {
    match kind {
        SpanKind::Server => Some("SPAN_KIND_SERVER"),
        SpanKind::Consumer => Some("SPAN_KIND_CONSUMER"),
        SpanKind::Unspecified | SpanKind::Internal | SpanKind::Client | SpanKind::Producer => None,
    }
}
