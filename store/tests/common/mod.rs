//! Small words that the store's tests share.
#![allow(dead_code, reason = "each test file uses some of them")]

use std::time::Duration;

use davy_model::{
    AttributeValue, Labels, Matcher, Resource, Span, SpanId, SpanKind, SpanStatus, Timestamp, TraceId, Value,
};
use davy_store::{Limits, Options, Snapshot};

/// 2026-01-01T00:00:00Z: a multiple of two hours and of a day.
pub(crate) const START: i64 = 1_767_225_600_000;

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

/// No floor on the disk, so that the tests do not depend on the machine.
pub(crate) fn options() -> Options {
    let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
    Options { commit_interval: Duration::from_millis(20), limits, ..Options::default() }
}

pub(crate) fn labels(metric: &str, n: usize) -> Labels {
    Labels::from_pairs([("__name__", metric), ("job", "api"), ("instance", "a:1"), ("n", &n.to_string())])
}

pub(crate) fn float(v: f64) -> Value {
    Value::Float(v)
}

/// Every sample of the metric as `(n, time, bits)`.
pub(crate) fn samples(snapshot: &Snapshot, metric: &str) -> Vec<(usize, i64, u64)> {
    let all = snapshot.select(&[Matcher::equal("__name__", metric)], Timestamp::MIN, Timestamp::MAX).unwrap();
    let mut out: Vec<_> = all
        .iter()
        .flat_map(|s| {
            let n: usize = s.labels.get("n").unwrap().parse().unwrap();
            s.samples
                .iter()
                .map(move |s| (n, s.timestamp.as_millis() - START, s.value.as_float().unwrap().to_bits()))
        })
        .collect();
    out.sort_unstable();
    out
}

pub(crate) fn span(trace: u8, service: &str, start_ms: i64, duration_ms: u64) -> Span {
    let start_nanos = (START + start_ms) as u64 * 1_000_000;
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([1; 8]),
        parent_span_id: SpanId::default(),
        trace_state: "".into(),
        resource: std::sync::Arc::new(Resource {
            attributes: vec![("service.name".into(), AttributeValue::String(service.into()))],
        }),
        scope: "".into(),
        name: "GET /".into(),
        kind: SpanKind::Server,
        start_nanos,
        end_nanos: start_nanos + duration_ms * 1_000_000,
        status: SpanStatus::Ok,
        status_message: "".into(),
        attributes: vec![("http.route".into(), AttributeValue::String("/".into()))],
        events: vec![],
        links: vec![],
    }
}
