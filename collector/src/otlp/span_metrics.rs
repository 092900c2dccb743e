//! `SpanMetrics`: spans into call counts and latency histograms, so that a service that only traces can be judged.
//!
//! Names and labels are those that Grafana's trace views query (Tempo's metrics generator writes the same).
//! The counts are of the spans that arrive: a service that samples its traces is counted by its sample.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use davy_model::{Exemplar, Labels, Span, Timestamp, Value, name};

use super::calls::{BUCKETS, Calls, Group, Slowest, bounds};
use super::cumulative::IDLE_MAX;
use super::ledger::Ledger;
use super::point::{KnownSeries, Point};

/// Distinct combinations of labels; each is some sixty series. Calls beyond it are not counted.
const GROUPS_MAX: usize = 5_000;
/// Groups with a span name of their own; the rest is kept for [`OTHER`].
const NAMED_GROUPS_MAX: usize = 4_500;
/// Span names of one service; further ones are counted together.
const NAMES_PER_SERVICE_MAX: usize = 200;
/// Stands for the names beyond the limits.
const OTHER: &str = "other";
pub const CALLS: &str = "traces_spanmetrics_calls_total";
pub const LATENCY: &str = "traces_spanmetrics_latency";

/// Running totals since this process started; readers see a restart as a counter reset.
#[derive(Debug)]
pub struct SpanMetrics {
    groups: Ledger<Group, Totals>,
    /// Span names in use, by service.
    names: HashMap<Arc<str>, HashSet<Arc<str>>>,
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
    /// Labels of the group's series, in the order in which their values are written.
    series: Arc<[Labels]>,
    /// The store's names of them.
    known: KnownSeries,
}

impl Default for SpanMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl SpanMetrics {
    pub fn new() -> Self {
        Self { groups: Ledger::new(GROUPS_MAX), names: HashMap::new() }
    }

    /// Counts server and consumer spans and gives the new totals of every group they touched, to be committed
    /// with the spans. A group's first point says that it stood at zero a moment before.
    pub fn observe(&mut self, spans: &[Span], now: Timestamp) -> Vec<Point> {
        self.observe_calls(&Calls::of(spans), now)
    }

    /// The same for what was counted before.
    pub(crate) fn observe_calls(&mut self, calls: &[Calls], now: Timestamp) -> Vec<Point> {
        let mut touched: HashMap<Group, Totals> = HashMap::new();
        for calls in calls {
            let mut group = calls.group.clone();
            let is_new = !touched.contains_key(&group) && self.groups.get(&group).is_none();
            if is_new && !self.takes_name(&group, self.groups.len() + touched.len()) {
                group.span_name = OTHER.into();
            }
            let totals = touched.entry(group).or_insert_with_key(|group| self.totals_of(group, now));
            totals.add(calls);
        }
        let mut touched: Vec<_> = touched.into_iter().collect();
        touched.sort_by(|(_, a), (_, b)| a.series[0].cmp(&b.series[0]));
        touched.into_iter().filter_map(|(group, totals)| self.write(&group, totals, now)).collect()
    }

    fn write(&mut self, group: &Group, mut totals: Totals, now: Timestamp) -> Option<Point> {
        let is_new = self.groups.get(group).is_none();
        // Two batches within a millisecond: the clock gives way, a series cannot hold two values of one time.
        let at = now.max(totals.last + Duration::from_millis(1));
        totals.last = at;
        let mut point = totals.point(at);
        point.zero_at = is_new.then(|| at - Duration::from_millis(1));
        totals.slowest = None;
        self.groups.put(group, totals, now).then_some(point)
    }

    fn totals_of(&self, group: &Group, now: Timestamp) -> Totals {
        self.groups.get(group).cloned().unwrap_or_else(|| Totals {
            counts: [0; BUCKETS],
            count: 0,
            sum_nanos: 0,
            last: now - Duration::from_millis(1),
            slowest: None,
            series: group.series(),
            known: KnownSeries::default(),
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
    fn add(&mut self, calls: &Calls) {
        self.counts.iter_mut().zip(calls.counts).for_each(|(total, n)| *total += n);
        self.count += calls.count;
        self.sum_nanos += calls.sum_nanos;
        if let Some(slow) = calls.slowest
            && self.slowest.is_none_or(|s| slow.nanos > s.nanos)
        {
            self.slowest = Some(slow);
        }
    }

    fn point(&self, at: Timestamp) -> Point {
        let float = |n: u64| Value::Float(n as f64);
        let mut cumulative = 0;
        let buckets = self.counts.iter().map(|count| {
            cumulative += count;
            float(cumulative)
        });
        let seconds = Value::Float(self.sum_nanos as f64 / 1e9);
        let values = buckets.chain([float(self.count), float(self.count), seconds, float(self.count)]);
        let series = self.series.iter().cloned().zip(values).collect();
        let exemplar = self.slowest.as_ref().map(|s| {
            let ids = [("trace_id", s.trace_id.to_string()), ("span_id", s.span_id.to_string())];
            let exemplar =
                Exemplar { labels: Labels::from_pairs(ids), value: s.nanos as f64 / 1e9, timestamp: at };
            (s.bucket, exemplar)
        });
        let exemplars = exemplar.into_iter().collect();
        Point { at, zero_at: None, series, exemplars, known: Some(self.known.clone()) }
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

    /// A bucket for each bound, +Inf, count, sum, calls.
    fn series(&self) -> Arc<[Labels]> {
        let base = self.labels();
        let named = |metric: &str, le: &str| {
            let mut labels = base.builder();
            labels.set(name::METRIC, metric);
            labels.set(name::LE, le);
            labels.build()
        };
        let les = bounds().iter().map(|(_, le)| &**le).chain(["+Inf"]);
        let buckets = les.map(|le| named("traces_spanmetrics_latency_bucket", le));
        let others = ["traces_spanmetrics_latency_count", "traces_spanmetrics_latency_sum", CALLS];
        buckets.chain(others.map(|metric| named(metric, ""))).collect()
    }
}

#[cfg(test)]
mod tests {
    use davy_model::{AttributeValue, Resource, SpanId, SpanKind, SpanStatus, TraceId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn span(name: &str, kind: SpanKind, status: SpanStatus, millis: u64) -> Span {
        let text = |s: &str| AttributeValue::String(s.into());
        let resource = Resource {
            attributes: vec![
                ("service.name".into(), text("cart")),
                ("service.version".into(), text("2")),
                ("host.name".into(), text("h")),
            ],
        };
        Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            parent_span_id: SpanId::default(),
            trace_state: "".into(),
            resource: Arc::new(resource),
            scope: "".into(),
            name: name.into(),
            kind,
            start_nanos: 0,
            end_nanos: millis * 1_000_000,
            status,
            status_message: "".into(),
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
        }
    }

    fn value(point: &Point, metric: &str, le: Option<&str>) -> f64 {
        let found = point.series.iter().find(|(l, _)| l.metric_name() == metric && l.get("le") == le);
        found.and_then(|(_, v)| v.as_float()).expect("the series is there")
    }

    #[test]
    fn calls_and_latencies_are_counted_with_a_zero_first() {
        let mut metrics = SpanMetrics::new();
        let spans = [
            span("GET /", SpanKind::Server, SpanStatus::Unset, 1),
            span("GET /", SpanKind::Server, SpanStatus::Unset, 3),
            span("GET /", SpanKind::Server, SpanStatus::Error, 60_000),
            span("inner", SpanKind::Internal, SpanStatus::Unset, 1),
            span("out", SpanKind::Client, SpanStatus::Error, 1),
        ];
        let points = metrics.observe(&spans, NOW);
        let [failed, fine] = &points[..] else { panic!("two groups, got {}", points.len()) };
        assert_eq!(
            fine.series.last().expect("calls").0.to_string(),
            r#"traces_spanmetrics_calls_total{instance="h", service="cart", span_kind="SPAN_KIND_SERVER", span_name="GET /", status_code="STATUS_CODE_UNSET", version="2"}"#
        );
        assert_eq!((fine.at, fine.zero_at), (NOW, Some(NOW - Duration::from_millis(1))));
        let bucket = "traces_spanmetrics_latency_bucket";
        assert_eq!(value(fine, bucket, Some("0.001")), 1.0, "1 ms lies within its bound");
        assert_eq!(value(fine, bucket, Some("0.002828427")), 1.0);
        assert_eq!(value(fine, bucket, Some("0.003363586")), 2.0);
        assert_eq!(value(fine, bucket, Some("16.384")), 2.0);
        assert_eq!(value(fine, "traces_spanmetrics_latency_sum", None), 0.004);
        assert_eq!(value(failed, bucket, Some("16.384")), 0.0);
        assert_eq!(value(failed, bucket, Some("+Inf")), 1.0);
        assert_eq!(value(failed, CALLS, None), 1.0);
        let (index, exemplar) = &failed.exemplars[0];
        assert_eq!(failed.series[*index].0.get("le"), Some("+Inf"));
        assert_eq!(exemplar.value, 60.0);
    }

    #[test]
    fn totals_grow_and_times_never_repeat() {
        let mut metrics = SpanMetrics::new();
        let spans = [span("GET /", SpanKind::Consumer, SpanStatus::Ok, 1)];
        metrics.observe(&spans, NOW);
        let second = metrics.observe(&spans, NOW);
        assert_eq!(value(&second[0], CALLS, None), 2.0);
        assert_eq!((second[0].at, second[0].zero_at), (NOW + Duration::from_millis(1), None));
    }

    #[test]
    fn a_lost_batch_was_never_counted() {
        let mut metrics = SpanMetrics::new();
        let spans = [span("GET /", SpanKind::Server, SpanStatus::Ok, 1)];
        metrics.observe(&spans, NOW);
        metrics.commit();
        metrics.observe(&spans, NOW + Duration::from_secs(1));
        metrics.rollback();
        let again = metrics.observe(&spans, NOW + Duration::from_secs(2));
        assert_eq!(value(&again[0], CALLS, None), 2.0);
    }

    #[test]
    fn names_beyond_the_limit_are_counted_together() {
        let mut metrics = SpanMetrics::new();
        let spans: Vec<_> = (0..NAMES_PER_SERVICE_MAX + 50)
            .map(|i| span(&format!("GET /{i}"), SpanKind::Server, SpanStatus::Ok, 1))
            .collect();
        let points = metrics.observe(&spans, NOW);
        assert_eq!(points.len(), NAMES_PER_SERVICE_MAX + 1);
        let of_other = |p: &&Point| p.series[0].0.get("span_name") == Some(OTHER);
        assert_eq!(value(points.iter().find(of_other).expect("other"), CALLS, None), 50.0);
        metrics.commit();
        metrics.sweep(NOW + IDLE_MAX * 2);
        assert_eq!(
            metrics.observe(&spans[..1], NOW + IDLE_MAX * 2)[0].series[0].0.get("span_name"),
            Some("GET /0")
        );
    }
}
