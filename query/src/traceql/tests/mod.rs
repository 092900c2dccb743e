//! Reading queries, evaluating them on a trace, and finding the same in a store as span by span.

mod errors;
mod found;
mod picked;

use std::sync::Arc;

use davy_model::{
    AttributeValue, Resource, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId,
};

/// 2026-01-01T00:00:00Z in nanoseconds.
const START: u64 = 1_767_225_600_000_000_000;
const MS: u64 = 1_000_000;

fn text(s: &str) -> AttributeValue {
    AttributeValue::String(s.into())
}

/// Begins and lasts so many milliseconds.
fn span(trace: u8, id: u8, parent: u8, service: &str, name: &str, [begin, lasts]: [u64; 2]) -> Span {
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: SpanId([parent; 8]),
        trace_state: "".into(),
        resource: Arc::new(Resource { attributes: vec![("service.name".into(), text(service))] }),
        scope: "http".into(),
        name: name.into(),
        kind: SpanKind::Internal,
        start_nanos: START + begin * MS,
        end_nanos: START + (begin + lasts) * MS,
        status: SpanStatus::Unset,
        status_message: "".into(),
        attributes: vec![],
        events: vec![],
        links: vec![],
    }
}

/// ```text
/// root   shop  server, 100 ms
/// ├ call shop  client, 60 ms
/// │ └ get cart server, 50 ms, error
/// │   └ select cart client, 10 ms
/// └ draw shop  internal, 20 ms
/// ```
fn shop() -> Vec<Span> {
    let mut root = span(1, 1, 0, "shop", "root", [0, 100]);
    root.kind = SpanKind::Server;
    root.attributes = vec![
        ("http.status_code".into(), AttributeValue::Int(500)),
        ("http.route".into(), text("/buy")),
        ("with space".into(), text("yes")),
    ];
    let mut call = span(1, 2, 1, "shop", "call", [5, 60]);
    call.kind = SpanKind::Client;
    call.links = vec![SpanLink { trace_id: TraceId([9; 16]), span_id: SpanId([9; 8]), attributes: vec![] }];
    let mut get = span(1, 3, 2, "cart", "get", [10, 50]);
    (get.kind, get.status, get.status_message) = (SpanKind::Server, SpanStatus::Error, "card refused".into());
    get.attributes = vec![
        ("http.status_code".into(), AttributeValue::Int(503)),
        ("retry".into(), AttributeValue::Bool(true)),
        ("share".into(), AttributeValue::Double(0.25)),
        ("service.name".into(), text("overridden")),
    ];
    let event = |name: &str, at: u64, kind: &str| SpanEvent {
        time_nanos: START + at * MS,
        name: name.into(),
        attributes: vec![("exception.type".into(), text(kind))],
    };
    get.events = vec![event("retry", 20, "Timeout"), event("exception", 50, "Refused")];
    let mut select = span(1, 4, 3, "cart", "select", [20, 10]);
    select.kind = SpanKind::Client;
    select.attributes = vec![("db.system".into(), text("postgresql"))];
    let draw = span(1, 5, 1, "shop", "draw", [70, 20]);
    vec![root, call, get, select, draw]
}
