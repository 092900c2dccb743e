//! `ServiceGraph`: who calls whom, from the two spans of a call: the caller's and that of whoever answered.
//!
//! Names and labels are those that Grafana's service graph queries (Tempo's metrics generator writes the same). The two
//! spans come from two processes and seldom in one request, so each waits a while for the other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use davy_model::{Labels, SpanId, Timestamp, TraceId, Value, name};

use super::cumulative::IDLE_MAX;
use super::half::{Half, Peer, Side};
use super::ledger::Ledger;
use super::point::{KnownSeries, Point};

pub const SERVICE_GRAPH_REQUESTS: &str = "traces_service_graph_request_total";
const FAILED: &str = "traces_service_graph_request_failed_total";
const SECONDS: &str = "traces_service_graph_request_server_seconds";

/// How long a span waits for the other of its call.
const WAIT: Duration = Duration::from_secs(10);
/// Spans that wait; more are not counted.
const WAITING_MAX: usize = 50_000;
/// Pairs of services; calls of further ones are not counted.
const EDGES_MAX: usize = 2_000;
/// Buckets from 1 ms to 16.384 s, each twice the one before.
const BUCKETS: usize = 15;

/// Calls that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Edge {
    client: Arc<str>,
    server: Arc<str>,
    connection: &'static str,
}

/// A call whose two sides are known.
#[derive(Debug)]
struct Call {
    edge: Edge,
    nanos: u64,
    failed: bool,
}

/// The trace and the caller's span.
type Key = (TraceId, SpanId);

/// A span that waits for the other of its call, and until when.
#[derive(Debug, Clone)]
struct Waiting {
    half: Half,
    until: Timestamp,
}

#[derive(Debug)]
pub(crate) struct ServiceGraph {
    edges: Ledger<Edge, Totals>,
    waiting: HashMap<Key, Waiting>,
    /// In the order in which they began to wait; those that were found are still in it.
    order: VecDeque<(Timestamp, Key)>,
    /// What stood there before this batch, newest last.
    undo: Vec<(Key, Option<Waiting>)>,
    /// Taken out of `order` in this batch.
    expired: Vec<(Timestamp, Key)>,
    dropped: u64,
}

#[derive(Debug, Clone)]
struct Totals {
    counts: [u64; BUCKETS],
    count: u64,
    failed: u64,
    sum_nanos: u128,
    /// Time of the newest sample: the next one must be newer.
    last: Timestamp,
    series: Arc<[Labels]>,
    known: KnownSeries,
}

impl ServiceGraph {
    pub(crate) fn new() -> Self {
        Self {
            edges: Ledger::new(EDGES_MAX),
            waiting: HashMap::new(),
            order: VecDeque::new(),
            undo: Vec::new(),
            expired: Vec::new(),
            dropped: 0,
        }
    }

    /// The new totals of every edge that got a call, to be committed with the spans. An edge's first point says that
    /// it stood at zero a moment before.
    pub(crate) fn observe(&mut self, halves: Vec<Half>, now: Timestamp) -> Vec<Point> {
        let mut calls = Vec::new();
        self.expire(now, &mut calls);
        for half in halves {
            self.take(half, now, &mut calls);
        }
        let mut touched: HashMap<Edge, Totals> = HashMap::new();
        for call in calls {
            let totals = touched.entry(call.edge).or_insert_with_key(|edge| {
                self.edges.get(edge).cloned().unwrap_or_else(|| Totals::new(edge, now))
            });
            totals.add(call.nanos, call.failed);
        }
        let mut touched: Vec<_> = touched.into_iter().collect();
        touched.sort_by(|(_, a), (_, b)| a.series[0].cmp(&b.series[0]));
        touched.into_iter().filter_map(|(edge, totals)| self.write(&edge, totals, now)).collect()
    }

    /// Spans and calls that were not counted since it was last asked: too many waited, or there were too many edges.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn write(&mut self, edge: &Edge, mut totals: Totals, now: Timestamp) -> Option<Point> {
        let is_new = self.edges.get(edge).is_none();
        // Two batches within a millisecond: a series cannot hold two values of one time.
        let at = now.max(totals.last + Duration::from_millis(1));
        totals.last = at;
        let mut point = totals.point(at);
        point.zero_at = is_new.then(|| at - Duration::from_millis(1));
        let is_kept = self.edges.put(edge, totals, now);
        self.dropped += u64::from(!is_kept);
        is_kept.then_some(point)
    }

    fn take(&mut self, half: Half, now: Timestamp, calls: &mut Vec<Call>) {
        // A database sends no spans, and whoever calls a service first neither.
        if let (Side::Client, Some(Peer::Database(_))) | (Side::Server, Some(Peer::User)) =
            (half.side, &half.peer)
        {
            calls.extend(half.alone());
            return;
        }
        let key = (half.trace_id, half.call);
        match self.waiting.get(&key) {
            Some(other) if other.half.side != half.side => {
                calls.push(Call::between(&other.half, &half));
                self.set(key, None);
            }
            None if self.waiting.len() >= WAITING_MAX => self.dropped += 1,
            _ => {
                let until = now + WAIT;
                self.order.push_back((until, key));
                self.set(key, Some(Waiting { half, until }));
            }
        }
    }

    /// Whoever waited in vain was called by, or calls, somebody who sends no spans.
    fn expire(&mut self, now: Timestamp, calls: &mut Vec<Call>) {
        while let Some((until, key)) = self.order.front().copied().filter(|(until, _)| *until <= now) {
            self.order.pop_front();
            self.expired.push((until, key));
            if let Some(waiting) = self.waiting.get(&key).filter(|w| w.until == until) {
                calls.extend(waiting.half.alone());
                self.set(key, None);
            }
        }
    }

    fn set(&mut self, key: Key, waiting: Option<Waiting>) {
        let before = match waiting {
            Some(waiting) => self.waiting.insert(key, waiting),
            None => self.waiting.remove(&key),
        };
        self.undo.push((key, before));
    }

    pub(crate) fn commit(&mut self) {
        self.edges.commit();
        self.undo.clear();
        self.expired.clear();
    }

    /// The batch is lost and will be sent again. What it added to `order` points at nothing then.
    pub(crate) fn rollback(&mut self) {
        self.edges.rollback();
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(waiting) => self.waiting.insert(key, waiting),
                None => self.waiting.remove(&key),
            };
        }
        while let Some(entry) = self.expired.pop() {
            self.order.push_front(entry);
        }
    }

    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.edges.sweep(now - IDLE_MAX);
    }
}

impl Half {
    /// The call as far as one side tells, if it says who the other is.
    fn alone(&self) -> Option<Call> {
        let (other, connection) = match self.peer.as_ref()? {
            Peer::Database(name) => (name.clone(), "database"),
            Peer::Service(name) => (name.clone(), "virtual_node"),
            Peer::User => ("user".into(), "virtual_node"),
        };
        let (client, server) = match self.side {
            Side::Client => (self.service.clone(), other),
            Side::Server => (other, self.service.clone()),
        };
        Some(Call { edge: Edge { client, server, connection }, nanos: self.nanos, failed: self.failed })
    }
}

impl Call {
    fn between(one: &Half, other: &Half) -> Self {
        let (client, server) = if one.side == Side::Client { (one, other) } else { (other, one) };
        let connection = if server.is_messaging { "messaging_system" } else { "" };
        let edge = Edge { client: client.service.clone(), server: server.service.clone(), connection };
        Self { edge, nanos: server.nanos, failed: client.failed || server.failed }
    }
}

fn bound_nanos(bucket: usize) -> u64 {
    1_000_000 << bucket
}

impl Totals {
    fn new(edge: &Edge, now: Timestamp) -> Self {
        Self {
            counts: [0; BUCKETS],
            count: 0,
            failed: 0,
            sum_nanos: 0,
            last: now - Duration::from_millis(1),
            series: edge.series(),
            known: KnownSeries::default(),
        }
    }

    fn add(&mut self, nanos: u64, failed: bool) {
        let bucket = (0..BUCKETS).find(|b| nanos <= bound_nanos(*b));
        if let Some(bucket) = bucket {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.failed += u64::from(failed);
        self.sum_nanos += u128::from(nanos);
    }

    fn point(&self, at: Timestamp) -> Point {
        let float = |n: u64| Value::Float(n as f64);
        let mut cumulative = 0;
        let buckets = self.counts.iter().map(|count| {
            cumulative += count;
            float(cumulative)
        });
        let seconds = Value::Float(self.sum_nanos as f64 / 1e9);
        let totals = [float(self.count), float(self.count), seconds, float(self.count), float(self.failed)];
        let mut point = Point::new(at, self.series.iter().cloned().zip(buckets.chain(totals)).collect());
        point.known = Some(self.known.clone());
        point
    }
}

impl Edge {
    /// A bucket for each bound, +Inf, count, sum, requests, failed ones.
    fn series(&self) -> Arc<[Labels]> {
        let base = Labels::from_pairs([
            ("client", &*self.client),
            ("server", &*self.server),
            ("connection_type", self.connection),
        ]);
        let named = |metric: &str, le: &str| {
            let mut labels = base.builder();
            labels.set(name::METRIC, metric);
            labels.set(name::LE, le);
            labels.build()
        };
        let les = (0..BUCKETS).map(|b| (bound_nanos(b) as f64 / 1e9).to_string()).chain(["+Inf".to_owned()]);
        let buckets = les.map(|le| named(&format!("{SECONDS}_bucket"), &le));
        let [count, sum] = ["count", "sum"].map(|suffix| format!("{SECONDS}_{suffix}"));
        let others = [count.as_str(), &sum, SERVICE_GRAPH_REQUESTS, FAILED].map(|metric| named(metric, ""));
        buckets.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn half(side: Side, service: &str, call: u8) -> Half {
        Half {
            trace_id: TraceId([1; 16]),
            call: SpanId([call; 8]),
            side,
            is_messaging: false,
            service: service.into(),
            nanos: 3_000_000,
            failed: false,
            peer: None,
        }
    }

    fn after(seconds: u64) -> Timestamp {
        NOW + Duration::from_secs(seconds)
    }

    /// `client>server:connection requests failed`
    fn shown(points: &[Point]) -> Vec<String> {
        let show = |point: &Point| {
            let of = |metric: &str| {
                let found = point.series.iter().find(|(l, _)| l.metric_name() == metric);
                found.expect("each edge has it")
            };
            let (labels, requests) = of(SERVICE_GRAPH_REQUESTS);
            let label = |name| labels.get(name).unwrap_or("");
            let [requests, failed] = [requests, &of(FAILED).1].map(|v| v.as_float().expect("a float"));
            let [client, server, connection] = ["client", "server", "connection_type"].map(label);
            format!("{client}>{server}:{connection} {requests} {failed}")
        };
        points.iter().map(show).collect()
    }

    #[test]
    fn two_spans_of_a_call_are_an_edge_in_whichever_order_and_batch_they_come() {
        let mut graph = ServiceGraph::new();
        let failed = Half { failed: true, ..half(Side::Client, "shop", 2) };
        let points =
            graph.observe(vec![half(Side::Client, "shop", 1), half(Side::Server, "cart", 1), failed], NOW);
        assert_eq!(shown(&points), ["shop>cart: 1 0"]);
        assert_eq!(points[0].zero_at, Some(NOW - Duration::from_millis(1)));
        graph.commit();
        let points =
            graph.observe(vec![half(Side::Server, "cart", 2), half(Side::Server, "cart", 3)], after(9));
        assert_eq!((shown(&points), points[0].zero_at), (vec!["shop>cart: 2 1".to_owned()], None));
        graph.commit();
        let points = graph.observe(vec![half(Side::Client, "shop", 3)], after(18));
        assert_eq!(shown(&points), ["shop>cart: 3 1"]);
        let buckets: Vec<_> = points[0].series.iter().filter(|(l, _)| l.get("le") == Some("0.004")).collect();
        assert_eq!(buckets[0].1.as_float(), Some(3.0));
    }

    #[test]
    fn who_waits_in_vain_is_forgotten_or_counted_with_the_peer_it_names() {
        let mut graph = ServiceGraph::new();
        let named = Half { peer: Some(Peer::Service("mail".into())), ..half(Side::Client, "shop", 1) };
        graph.observe(vec![named, half(Side::Client, "shop", 2), half(Side::Server, "cart", 3)], NOW);
        graph.commit();
        assert_eq!(shown(&graph.observe(vec![], after(9))), Vec::<String>::new());
        assert_eq!(shown(&graph.observe(vec![], after(10))), ["shop>mail:virtual_node 1 0"]);
        assert!(graph.waiting.is_empty() && graph.order.is_empty());
        assert_eq!(
            shown(&graph.observe(vec![half(Side::Server, "cart", 2)], after(10))),
            Vec::<String>::new()
        );
    }

    #[test]
    fn databases_queues_and_users_are_edges_too() {
        let mut graph = ServiceGraph::new();
        let halves = vec![
            Half { peer: Some(Peer::Database("orders".into())), ..half(Side::Client, "shop", 1) },
            Half { peer: Some(Peer::User), ..half(Side::Server, "shop", 2) },
            half(Side::Client, "shop", 3),
            Half { is_messaging: true, ..half(Side::Server, "mailer", 3) },
        ];
        let want =
            ["shop>mailer:messaging_system 1 0", "shop>orders:database 1 0", "user>shop:virtual_node 1 0"];
        let mut found = shown(&graph.observe(halves, NOW));
        found.sort();
        assert_eq!(found, want);
    }

    #[test]
    fn a_lost_batch_was_never_seen() {
        let mut graph = ServiceGraph::new();
        graph.observe(vec![half(Side::Client, "shop", 1)], NOW);
        graph.commit();
        for _ in 0..2 {
            graph.observe(vec![half(Side::Server, "cart", 1), half(Side::Client, "shop", 2)], after(1));
            graph.rollback();
        }
        graph.observe(vec![], after(20));
        graph.rollback();
        let points = graph.observe(vec![half(Side::Server, "cart", 1)], after(2));
        assert_eq!(shown(&points), ["shop>cart: 1 0"]);
        graph.commit();
        graph.observe(vec![], after(40));
        assert!(graph.waiting.is_empty() && graph.order.is_empty());
    }

    #[test]
    fn waiting_and_edges_are_bounded_and_what_is_beyond_is_counted() {
        let mut graph = ServiceGraph::new();
        let many = (0..WAITING_MAX as u64 + 7)
            .map(|n| Half { call: SpanId((n + 1).to_le_bytes()), ..half(Side::Client, "shop", 1) });
        graph.observe(many.collect(), NOW);
        assert_eq!((graph.waiting.len(), graph.take_dropped()), (WAITING_MAX, 7));
        let many = (0..EDGES_MAX + 5).map(|n| Half {
            peer: Some(Peer::Database(format!("db{n}").into())),
            ..half(Side::Client, "shop", 1)
        });
        assert_eq!(graph.observe(many.collect(), NOW).len(), EDGES_MAX);
        assert_eq!(graph.take_dropped(), 5);
    }
}
