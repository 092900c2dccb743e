//! A search of the store finds what looking at every trace finds.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_model::{AttributeValue, Span, SpanKind, SpanStatus, Timestamp, TraceId};
use davy_store::{Durability, Options, Snapshot, Store};
use proptest::prelude::*;

use super::super::{
    Limits, MetricSteps, Query, Range, SearchError, Trace, TraceHit, parse_field, search, tag_names,
    tag_values,
};
use super::{START, shop, span, text};
use crate::Cancel;

const T0: Timestamp = Timestamp::from_nanos(START);
const EVERYTHING: Range = Range { from: Timestamp::MIN, to: Timestamp::MAX };

/// A batch is a log record; what comes before `seal` lies in partitions.
fn stored(batches: &[Vec<Span>], seal: usize) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let limits = davy_store::Limits { free_disk_bytes_min: 0, ..davy_store::Limits::default() };
    let options = Options {
        limits,
        head_range: Duration::from_secs(600),
        partition_range: Duration::from_secs(3600),
        ..Options::default()
    };
    let store = Store::open(dir.path(), T0, options).unwrap().0;
    let put = |batches: &[Vec<Span>], at: Timestamp| {
        for spans in batches {
            let mut appender = store.appender(at);
            appender.spans(spans.clone());
            appender.commit(Durability::Sync).unwrap();
        }
    };
    put(&batches[..seal], T0);
    let later = T0 + Duration::from_secs(7200);
    if seal > 0 {
        store.maintain(later).unwrap();
    }
    put(&batches[seal..], later);
    (store, dir)
}

fn find(query: &str, snapshot: &Snapshot, range: Range, traces: usize) -> Vec<TraceHit> {
    let query = Query::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    search(&query, snapshot, range, Limits { traces, spans_per_set: 100 }, &Cancel::default()).unwrap()
}

/// By looking at every trace: newest first, as the search does.
fn by_looking(query: &str, spans: &[Span], range: Range, traces: usize) -> Vec<(TraceId, usize)> {
    let query = Query::parse(query).unwrap();
    let mut all: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
    spans.iter().for_each(|s| all.entry(s.trace_id).or_default().push(s.clone()));
    let mut found = Vec::new();
    for trace in all.into_values().filter_map(Trace::new) {
        let sets = query.eval(&trace);
        let picked = sets.iter().flat_map(|s| &s.spans);
        let newest = picked
            .filter(|s| trace.is_within(**s, range.from, range.to))
            .map(|s| trace.spans[*s].start_nanos)
            .max();
        if let Some(newest) = newest {
            found.push((newest, trace.id(), sets.iter().map(|s| s.spans.len()).sum()));
        }
    }
    found.sort_unstable_by_key(|f| std::cmp::Reverse((f.0, f.1)));
    found.into_iter().take(traces).map(|(_, id, n)| (id, n)).collect()
}

fn any_span() -> impl Strategy<Value = Span> {
    let value = prop_oneof![
        "[xyz]".prop_map(|s| text(&s)),
        (0i64..4).prop_map(AttributeValue::Int),
        (0i64..4).prop_map(|n| AttributeValue::Double(n as f64 / 2.0)),
        any::<bool>().prop_map(AttributeValue::Bool),
    ];
    let attributes = proptest::collection::vec(("[abc]", value), 0..4);
    let kinds = [SpanKind::Internal, SpanKind::Server, SpanKind::Client];
    let statuses = [SpanStatus::Unset, SpanStatus::Ok, SpanStatus::Error];
    let ids = (1u8..6, 1u8..6, 0u8..6);
    (ids, "[pq]", "[mno]", [0u64..40, 0u64..8], (0usize..3, 0usize..3), attributes, any::<bool>()).prop_map(
        move |((trace, id, parent), service, name, times, (kind, status), attributes, extras)| {
            let mut span = span(trace, id, parent, &service, &name, times);
            (span.kind, span.status) = (kinds[kind], statuses[status]);
            span.attributes = attributes.into_iter().map(|(k, v)| (k.as_str().into(), v)).collect();
            if extras {
                span.events = shop()[2].events.clone();
                span.links = shop()[1].links.clone();
            }
            span
        },
    )
}

fn any_condition() -> impl Strategy<Value = String> {
    let attribute = prop_oneof![
        "span\\.[abc]",
        "resource\\.[a]",
        "\\.[abc]",
        "parent\\.[abc]",
        "parent\\.span\\.[ab]",
        "event\\.[a]",
        Just("resource.service.name".to_owned()),
        Just(".service.name".to_owned()),
        Just("event.exception.type".to_owned()),
    ];
    let literal = prop_oneof![
        "\"[xyzpq]\"",
        "[0-3]",
        Just("0.5".to_owned()),
        Just("true".to_owned()),
        Just("nil".to_owned()),
        Just("\"Refused\"".to_owned()),
    ];
    let equality = prop_oneof![Just("="), Just("!=")];
    let op = prop_oneof![Just("="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">=")];
    let number = prop_oneof!["[0-8]ms", "[0-3]", Just("-1".to_owned())];
    let numeric = prop_oneof![
        Just("duration"),
        Just("traceDuration"),
        Just("nestedSetParent"),
        Just("nestedSetLeft"),
        Just("span:childCount"),
        Just("span.a + 1"),
        Just("event:timeSinceStart"),
        Just("span.a - span.b"),
    ];
    let textual = prop_oneof![
        Just("name"),
        Just("rootName"),
        Just("rootServiceName"),
        Just("instrumentation:name"),
        Just("statusMessage"),
        Just("event:name"),
        Just("link:spanID"),
        Just("span.b"),
        Just(".c"),
    ];
    prop_oneof![
        (attribute, equality.clone(), literal).prop_map(|(a, o, l)| format!("{a} {o} {l}")),
        (numeric.clone(), op.clone(), number.clone()).prop_map(|(a, o, l)| format!("{a} {o} {l}")),
        (number, op, numeric).prop_map(|(l, o, a)| format!("{l} {o} {a}")),
        (textual.clone(), prop_oneof![Just("=~"), Just("!~")], "[a-z]\\|[a-z]")
            .prop_map(|(a, o, l)| format!("{a} {o} \"{l}\"")),
        (textual, equality.clone(), "\"[mno]\"").prop_map(|(a, o, l)| format!("{a} {o} {l}")),
        (equality.clone(), prop_oneof![Just("error"), Just("ok")])
            .prop_map(|(o, l)| format!("status {o} {l}")),
        (equality, prop_oneof![Just("server"), Just("client")]).prop_map(|(o, l)| format!("kind {o} {l}")),
        Just("true".to_owned()),
        Just(".a".to_owned()),
    ]
}

fn any_filter() -> impl Strategy<Value = String> {
    any_condition().prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), prop_oneof![Just("&&"), Just("||")], inner.clone())
                .prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn any_text() -> impl Strategy<Value = String> {
    let spansets = any_filter().prop_map(|f| format!("{{ {f} }}")).prop_recursive(2, 4, 2, |inner| {
        let op = prop_oneof![
            Just("&&"),
            Just("||"),
            Just(">"),
            Just(">>"),
            Just("<"),
            Just("<<"),
            Just("~"),
            Just("!>"),
            Just("!>>"),
            Just("&>>"),
        ];
        (inner.clone(), op, inner).prop_map(|(a, o, b)| format!("({a} {o} {b})"))
    });
    let stage = prop_oneof![
        any_filter().prop_map(|f| format!(" | {{ {f} }}")),
        Just(" | count() > 1".to_owned()),
        Just(" | avg(duration) > 3ms".to_owned()),
        Just(" | by(name) | count() > 1".to_owned()),
        Just(" | select(span.a)".to_owned()),
        Just(String::new()),
    ];
    (spansets, stage.clone(), stage).prop_map(|(s, a, b)| s + &a + &b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_search_finds_what_looking_at_every_trace_finds(
        batches in proptest::collection::vec(proptest::collection::vec(any_span(), 1..8), 1..5),
        seal in any::<prop::sample::Index>(),
        queries in proptest::collection::vec(any_text(), 12),
        times in [0u64..40, 0u64..40],
        traces in 1usize..7,
    ) {
        let (store, _dir) = stored(&batches, seal.index(batches.len() + 1));
        let snapshot = store.snapshot();
        let at = |ms: u64| T0 + Duration::from_millis(ms);
        let range = Range { from: at(times[0]), to: at(times[0].max(times[1])) };
        for query in &queries {
            for (range, traces) in [(EVERYTHING, 100), (range, traces)] {
                let got: Vec<_> = find(query, &snapshot, range, traces)
                    .iter()
                    .map(|h| (h.id, h.sets.iter().map(|s| s.matched).sum::<usize>()))
                    .collect();
                prop_assert_eq!(got, by_looking(query, &batches.concat(), range, traces), "{}", query);
            }
        }
    }

    #[test]
    fn counting_spans_alone_is_counting_them_in_their_traces(
        batches in proptest::collection::vec(proptest::collection::vec(any_span(), 1..8), 1..4),
        filter in any_filter(),
    ) {
        let (store, _dir) = stored(&batches, batches.len() / 2);
        let steps = MetricSteps::aligned(T0 - Duration::from_millis(10), T0 + Duration::from_millis(50), Duration::from_millis(10)).unwrap();
        // What looks at the trace keeps the second from being counted span by span.
        let [alone, whole] = [format!("{{ {filter} }}"), format!("{{ {filter} }} | {{ traceDuration >= 0ms }}")].map(|spansets| {
            let query = Query::parse(&format!("{spansets} | count_over_time() by(name, status)")).unwrap();
            query.metrics(&store.snapshot(), steps, &Cancel::default()).unwrap()
        });
        prop_assert_eq!(alone, whole, "{}", filter);
    }
}

#[test]
fn a_hit_tells_what_a_list_of_traces_shows() {
    let (store, _dir) = stored(&[shop()], 0);
    let query =
        r#"{ resource.service.name = "cart" && duration > 1ms } | select(span.http.status_code, kind)"#;
    let hits = find(query, &store.snapshot(), EVERYTHING, 20);
    let [hit] = &hits[..] else { panic!("one trace, got {}", hits.len()) };
    assert_eq!((hit.root_service.as_str(), hit.root_name.as_str()), ("shop", "root"));
    assert_eq!((hit.start_nanos, hit.duration_nanos), (START, 100_000_000));
    let services: Vec<_> = hit.services.iter().map(|(s, n)| (s.as_str(), n.spans, n.errors)).collect();
    assert_eq!(services, [("cart", 2, 1), ("shop", 3, 0)]);
    let [set] = &hit.sets[..] else { panic!("one set") };
    let shown: Vec<_> = set
        .spans
        .iter()
        .map(|s| {
            (
                s.name.as_str(),
                s.attributes.iter().map(|(k, v)| format!("{k}={}", v.label())).collect::<Vec<_>>().join(" "),
            )
        })
        .collect();
    let want = [
        ("get", "service.name=cart http.status_code=503 kind=server".to_owned()),
        ("select", "service.name=cart kind=client".to_owned()),
    ];
    assert_eq!(shown, want);
}

#[test]
fn a_search_can_be_stopped_and_says_what_it_is_for() {
    let (store, _dir) = stored(&[shop()], 0);
    let cancel = Cancel::default();
    cancel.raise();
    let limits = Limits { traces: 1, spans_per_set: 1 };
    let run = |query: &str, cancel: &Cancel| {
        search(&Query::parse(query).unwrap(), &store.snapshot(), EVERYTHING, limits, cancel)
    };
    assert_eq!(run("{}", &cancel), Err(SearchError::Canceled));
    assert_eq!(run("{} | rate()", &Cancel::default()), Err(SearchError::IsMetrics));
}

#[test]
fn tags_and_their_values_are_listed() {
    let (store, _dir) = stored(&[shop(), shop()], 1);
    let snapshot = store.snapshot();
    let names = tag_names(&snapshot, None, EVERYTHING, 100, &Cancel::default());
    let of = |scope: &str| names.iter().find(|(s, _)| *s == scope).map(|(_, n)| n.join(" ")).unwrap();
    assert_eq!(of("resource"), "service.name");
    assert_eq!(of("span"), "db.system http.route http.status_code retry service.name share with space");
    assert_eq!(of("event"), "exception.type");
    assert!(of("intrinsic").contains("duration"));
    let only = tag_names(&snapshot, Some("resource"), EVERYTHING, 100, &Cancel::default());
    assert_eq!(only, [("resource", vec!["service.name".to_owned()])]);

    let values = |field: &str, query: Option<&str>| {
        let query = query.map(|q| Query::parse(q).unwrap());
        let field = parse_field(field).unwrap();
        let found = tag_values(&snapshot, &field, query.as_ref(), EVERYTHING, 100, &Cancel::default());
        found.iter().map(|v| format!("{}:{}", v.kind, v.text)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(values("resource.service.name", None), "string:cart string:shop");
    assert_eq!(values(".service.name", None), "string:cart string:overridden string:shop");
    assert_eq!(values("span.http.status_code", None), "int:500 int:503");
    assert_eq!(values("span.http.status_code", Some("{ status = error }")), "int:503");
    assert_eq!(values("resource.service.name", Some("{ kind = client && duration < 20ms }")), "string:cart");
    assert_eq!(values("status", None), "keyword:error keyword:unset");
    assert_eq!(values("status", Some("{ name = \"get\" }")), "keyword:error");
    assert_eq!(values("name", None), "string:call string:draw string:get string:root string:select");
    assert_eq!(values("rootServiceName", None), "string:shop");
    assert_eq!(values("event.exception.type", None), "string:Refused string:Timeout");
    assert_eq!(values("span.share", None), "float:0.25");
    assert_eq!(values("span.nothing", None), "");
    assert_eq!(values("duration", None), "");
}

fn metric(query: &str, spans: &[Span]) -> String {
    let (store, _dir) = stored(&[spans.to_vec()], 0);
    let steps = MetricSteps::aligned(
        T0 - Duration::from_secs(1),
        T0 + Duration::from_secs(2),
        Duration::from_secs(1),
    )
    .unwrap();
    let query = Query::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let series = query.metrics(&store.snapshot(), steps, &Cancel::default()).unwrap();
    let line = |s: &super::super::MetricSeries| {
        let labels: Vec<String> = s.labels.iter().map(|(k, v)| format!("{k}={}", v.label())).collect();
        let rounded = |v: f64| (v * 1e6).round() / 1e6;
        let since = |at: Timestamp| (at.as_millis() - T0.as_millis()) / 1000;
        let samples: Vec<String> =
            s.samples.iter().map(|(at, v)| format!(" {}s:{}", since(*at), rounded(*v))).collect();
        format!("{}{}", labels.join(","), samples.concat())
    };
    series.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn metrics_of_spans() {
    let spans: Vec<Span> = (1..=100)
        .map(|n| {
            let service = if n % 4 == 0 { "cart" } else { "shop" };
            span(n, 1, 0, service, "op", [u64::from(n) * 15, u64::from(n)])
        })
        .collect();
    let check = |query: &str, want: &str| assert_eq!(metric(query, &spans), want, "{query}");
    check("{} | rate()", "__name__=rate 0s:0 1s:66 2s:34");
    check(
        "{} | count_over_time() by(resource.service.name)",
        "resource.service.name=cart 0s:0 1s:16 2s:9\nresource.service.name=shop 0s:0 1s:50 2s:25",
    );
    check(
        "{} | count_over_time() by(resource.service.name) | topk(1)",
        "resource.service.name=cart 0s:0\nresource.service.name=shop 1s:50 2s:25",
    );
    check("{ duration > 99ms } | rate()", "__name__=rate 0s:0 1s:0 2s:1");
    check("{} | max_over_time(duration)", "__name__=max_over_time 1s:0.066 2s:0.1");
    check("{} | avg_over_time(duration) by(kind)", "kind=internal 1s:0.0335 2s:0.0835");
    check("{} | quantile_over_time(duration, 0, 1)", "p=0 1s:0.001 2s:0.067\np=1 1s:0.066 2s:0.1");
    check(
        "{ duration <= 4ms } | histogram_over_time(duration)",
        "__bucket=0.001953125 0s:0 1s:1 2s:0\n__bucket=0.00390625 0s:0 1s:2 2s:0\n__bucket=0.0078125 0s:0 1s:1 2s:0",
    );
    check("{ traceDuration > 99ms } | rate()", "__name__=rate 0s:0 1s:0 2s:1");
    check("{ span.nothing = 1 } | rate()", "");
}

#[test]
fn a_quantile_is_right_within_its_factor() {
    let spans: Vec<Span> =
        (0..200u64).map(|n| span((n + 1) as u8, 1, 0, "a", "op", [n + 1, 1 + n * n])).collect();
    let said = metric("{} | quantile_over_time(duration, .5)", &spans);
    let value: f64 = said.rsplit(':').next().unwrap().parse().unwrap();
    // 99² and 100², one more each.
    assert!((9.802 / 1.02..=10.001 * 1.02).contains(&value), "{said}");
}
