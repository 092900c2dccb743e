//! Spans of every kind for the tests of this folder.

use std::sync::Arc;

use davy_model::{AttributeValue, Attributes, Resource, Span, SpanEvent, SpanId, SpanLink, TraceId};
use proptest::prelude::*;

use super::open::{KINDS, STATUSES};

fn any_attributes(most: usize) -> impl Strategy<Value = Attributes> {
    let text = "[a-zü]{0,2}".prop_map(Arc::<str>::from);
    let value = prop_oneof![
        text.clone().prop_map(AttributeValue::String),
        any::<bool>().prop_map(AttributeValue::Bool),
        prop_oneof![any::<i64>(), 0..3i64].prop_map(AttributeValue::Int),
        (-1e9..1e9).prop_map(AttributeValue::Double),
        text.clone().prop_map(AttributeValue::Json),
    ];
    proptest::collection::vec(("[a-c]".prop_map(Arc::<str>::from), value), 0..most)
}

/// Few ids, so that traces and parents meet.
pub(crate) fn any_span() -> impl Strategy<Value = Span> {
    let ids = (prop_oneof![any::<[u8; 16]>(), (0..3u8).prop_map(|t| [t; 16])], 0..4u8, 0..4u8);
    let texts = any::<[bool; 4]>().prop_map(|t| t.map(|b| Arc::<str>::from(if b { "op" } else { "" })));
    let times = prop_oneof![any::<[u64; 2]>(), [1_000u64..9_000_000, 1_000u64..9_000_000]];
    let event = (any::<u64>(), any_attributes(3)).prop_map(|(time_nanos, attributes)| SpanEvent {
        time_nanos,
        name: "e".into(),
        attributes,
    });
    let link = (any::<[u8; 16]>(), any_attributes(3)).prop_map(|(id, attributes)| SpanLink {
        trace_id: TraceId(id),
        span_id: SpanId([1; 8]),
        attributes,
    });
    let extras = (proptest::collection::vec(event, 0..2), proptest::collection::vec(link, 0..2));
    (ids, texts, times, 0..6usize, 0..3usize, any_attributes(6), any_attributes(3), extras).prop_map(
        |((trace, span, parent), [name, scope, trace_state, status_message], [start, end], k, s, a, r, x)| {
            Span {
                trace_id: TraceId(trace),
                span_id: SpanId([span; 8]),
                parent_span_id: SpanId([parent; 8]),
                trace_state,
                resource: Arc::new(Resource { attributes: r }),
                scope,
                name,
                kind: KINDS[k],
                start_nanos: start,
                end_nanos: end,
                status: STATUSES[s],
                status_message,
                attributes: a,
                events: x.0,
                links: x.1,
            }
        },
    )
}
