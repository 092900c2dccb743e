//! What goes into blocks comes out of them, whichever way it takes.

use std::collections::HashSet;
use std::time::Duration;

use davy_model::{Span, SpanId, Timestamp, TraceId};
use proptest::prelude::*;

use super::batch::{COLUMNS_MAX, SpanBatch};
use super::block::SpanBlock;
use super::filter::{FieldValue, SpanField, SpanFilter, SpanParts, SpanSearch};
use super::query::SpanQuery;
use super::sealed::Sealed;
use super::testing::any_span;

fn block(spans: &[Span]) -> SpanBlock {
    let mut batch = SpanBatch::new();
    spans.iter().for_each(|span| batch.push_span(span));
    batch.seal()
}

fn all(block: &SpanBlock) -> Vec<Span> {
    block.spans().unwrap()
}

/// In an order that does not depend on how blocks are cut.
fn sorted(mut spans: Vec<Span>) -> Vec<String> {
    spans.sort_by_key(|s| s.start_nanos);
    let mut texts: Vec<String> = spans.iter().map(|s| format!("{s:?}")).collect();
    texts.sort();
    texts
}

fn found(block: &SpanBlock, search: &SpanSearch) -> Vec<Span> {
    let open = block.open().unwrap();
    open.spans(&open.rows(search).unwrap()).unwrap()
}

/// Tests that some values pass and others do not, and what is absent either.
fn any_filter() -> impl Strategy<Value = SpanFilter> {
    let field = prop_oneof![
        Just(SpanField::Name),
        Just(SpanField::Scope),
        Just(SpanField::Kind),
        Just(SpanField::Status),
        Just(SpanField::StatusMessage),
        Just(SpanField::Duration),
        Just(SpanField::IsRoot),
        Just(SpanField::HasEvents),
        Just(SpanField::HasLinks),
        "[a-c]".prop_map(SpanField::Resource),
        "[a-c]".prop_map(SpanField::Span),
        "[a-c]".prop_map(SpanField::Any),
    ];
    let test = (field, 0u64..4, any::<bool>()).prop_map(|(field, rest, absent)| {
        SpanFilter::test(field, move |value| match value {
            None => absent,
            Some(FieldValue::Nanos(n)) => n % 4 == rest,
            Some(value) => format!("{value:?}").len() as u64 % 4 == rest,
        })
    });
    prop_oneof![1 => Just(SpanFilter::All), 5 => test].prop_recursive(3, 12, 3, |inner| {
        let several = || proptest::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            several().prop_map(SpanFilter::And),
            several().prop_map(SpanFilter::Or),
            inner.clone().prop_map(|f| SpanFilter::Not(Box::new(f))),
        ]
    })
}

fn any_query() -> impl Strategy<Value = SpanQuery> {
    let some = |text: &'static str| proptest::option::of(Just(text.to_owned()));
    let attribute = ("[a-c]", prop_oneof!["[a-zü]{0,2}", "[0-2]", Just("true".to_owned())]);
    let attributes = proptest::collection::vec(attribute, 0..3);
    (some("op"), any::<bool>(), proptest::option::of(0u64..5_000_000), attributes).prop_map(
        |(operation, errors_only, duration, attributes)| SpanQuery {
            operation,
            errors_only,
            duration_min: duration.map(Duration::from_nanos),
            attributes,
            ..SpanQuery::default()
        },
    )
}

proptest! {
    #[test]
    fn spans_come_back_from_the_log_and_from_merged_blocks(
        batches in proptest::collection::vec(proptest::collection::vec(any_span(), 1..12), 1..5),
    ) {
        let blocks: Vec<SpanBlock> = batches.iter().map(|spans| block(spans)).collect();
        for (block, spans) in blocks.iter().zip(&batches) {
            prop_assert_eq!(&all(block), spans);
            prop_assert_eq!(&all(&SpanBlock::from_record(&block.to_record()).unwrap()), spans);
        }
        let sealed = Sealed::new(blocks.iter());
        let merged: Vec<Span> = sealed.blocks.iter().flat_map(all).collect();
        prop_assert_eq!(sorted(merged), sorted(batches.concat()));
    }

    #[test]
    fn a_search_finds_what_matches_span_by_span(
        spans in proptest::collection::vec(any_span(), 0..40),
        filter in any_filter(),
        query in any_query(),
        times in [0i64..10, 0i64..10],
        duration_nanos_min in prop_oneof![Just(0), 0u64..5_000_000],
    ) {
        let (from, to) = (Timestamp::from_millis(times[0]), Timestamp::from_millis(times[0].max(times[1])));
        let filtered = SpanSearch { filter, duration_nanos_min, from, to };
        for search in [filtered, query.search(from, to).unwrap()] {
            let want: Vec<Span> = spans.iter().filter(|s| search.matches(s)).cloned().collect();
            let recent = block(&spans);
            prop_assert_eq!(found(&recent, &search), want.clone());
            let sealed = Sealed::new([recent].iter());
            prop_assert_eq!(sorted(sealed.blocks.iter().flat_map(|b| found(b, &search)).collect()), sorted(want));
        }
    }

    #[test]
    fn traces_and_parts_of_spans_are_those_of_the_spans(
        spans in proptest::collection::vec(any_span(), 1..40),
    ) {
        let sealed = Sealed::new([block(&spans)].iter());
        for (block, traces) in sealed.blocks.iter().zip(&sealed.traces) {
            prop_assert!(traces.iter().all(|id| block.trace_ids().any(|t| t == *id)));
            prop_assert!(block.trace_ids().all(|id| traces.contains(&id)));
            let replayed = SpanBlock::from_record(&block.to_record()).unwrap();
            prop_assert!(replayed.trace_ids().eq(block.trace_ids()));
            let open = block.open().unwrap();
            for id in traces {
                let found = open.traces_among(&HashSet::from([*id])).unwrap();
                let want = all(block).into_iter().filter(|s| s.trace_id == *id).collect::<Vec<_>>();
                prop_assert_eq!(found, want);
            }
            let rows: Vec<usize> = (0..block.len()).collect();
            let parts = SpanParts { attributes: Some(vec!["a".into()]), without_extras: true };
            for (part, mut whole) in open.spans_in_part(&rows, &parts).unwrap().into_iter().zip(all(block)) {
                whole.attributes.retain(|(key, _)| &**key == "a");
                (whole.events, whole.links) = (vec![], vec![]);
                prop_assert_eq!(part, whole);
            }
        }
    }

    #[test]
    fn broken_blocks_never_panic(
        spans in proptest::collection::vec(any_span(), 1..6),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        query in any_query(),
    ) {
        let recent = block(&spans);
        let sealed = Sealed::new([recent.clone()].iter());
        for block in sealed.blocks.iter().chain([&recent]) {
            let mut record = block.to_record();
            let at = at.index(record.len());
            record[at] = byte;
            for bytes in [&record[..], &record[..at]] {
                if let Ok(block) = SpanBlock::from_record(bytes) {
                    let open = block.open().unwrap();
                    let _ = open.rows(&query.search(Timestamp::MIN, Timestamp::MAX).unwrap());
                    let rows: Vec<usize> = (0..block.len()).collect();
                    let _ = (open.spans(&rows), open.traces_among(&HashSet::from([TraceId([1; 16])])));
                    let _ = open.traces_of(&[0]);
                }
            }
        }
    }
}

/// A span of a trace with the number `n`, its parent the one before.
fn chained(trace: u8, n: u64, trace_len: u64) -> Span {
    let mut span = plain();
    span.trace_id = TraceId([trace; 16]);
    span.span_id = SpanId((n + 1).to_le_bytes());
    span.parent_span_id = SpanId(n.to_le_bytes());
    span.start_nanos = 1_000_000 * (trace_len - n);
    span.end_nanos = span.start_nanos + n;
    span
}

fn plain() -> Span {
    Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([1; 8]),
        parent_span_id: SpanId::default(),
        trace_state: "".into(),
        resource: Default::default(),
        scope: "".into(),
        name: "op".into(),
        kind: Default::default(),
        start_nanos: 0,
        end_nanos: 0,
        status: Default::default(),
        status_message: "".into(),
        attributes: vec![],
        events: vec![],
        links: vec![],
    }
}

#[test]
fn parents_of_long_and_short_traces_are_found_again() {
    for len in [1u64, 2, 31, 32, 33, 500] {
        let spans: Vec<Span> = (0..len).map(|n| chained(7, n, len)).collect();
        let sealed = Sealed::new([block(&spans)].iter());
        assert_eq!(sorted(sealed.blocks.iter().flat_map(all).collect()), sorted(spans), "{len} spans");
    }
}

#[test]
fn keys_made_up_without_end_keep_their_order_and_are_found() {
    let mut spans = Vec::new();
    for n in 0..COLUMNS_MAX {
        let mut span = plain();
        span.attributes =
            (0..3).map(|i| (format!("k{}", n * 3 + i).into(), davy_model::AttributeValue::Int(7))).collect();
        span.attributes.push(("k0".into(), davy_model::AttributeValue::Int(n as i64)));
        spans.push(span);
    }
    let recent = block(&spans);
    assert_eq!(all(&recent), spans);
    let sealed = Sealed::new([recent.clone(), block(&spans[..2])].iter());
    let merged: Vec<Span> = sealed.blocks.iter().flat_map(all).collect();
    assert_eq!(merged.len(), COLUMNS_MAX + 2);
    for (key, value) in [("k3000", "7"), ("k0", "1000"), ("k4", "7")] {
        let query = SpanQuery { attributes: vec![(key.into(), value.into())], ..SpanQuery::default() };
        let search = query.search(Timestamp::MIN, Timestamp::MAX).unwrap();
        assert_eq!(spans.iter().filter(|s| search.matches(s)).count(), 1);
        assert_eq!(found(&recent, &search).len(), 1, "{key}");
    }
}
