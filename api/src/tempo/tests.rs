//! What the data sources ask, and what they are answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use davy_model::{
    AttributeValue, Labels, ManualClock, Resource, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus,
    Timestamp, TraceId, Value as SampleValue,
};
use davy_store::{Durability, Limits, Options, Store};
use expect_test::{Expect, expect};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::{Traces, router};

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;
const ID: &str = "00000000000000000000000000000abc";

fn span(id: u8, parent: u8, service: &str, name: &str, [begin, lasts]: [u64; 2]) -> Span {
    let text = |s: &str| AttributeValue::String(s.into());
    let start_nanos = (START as u64 + begin) * 1_000_000;
    Span {
        trace_id: TraceId::from_hex(ID).expect("it has 32 digits"),
        span_id: SpanId([id; 8]),
        parent_span_id: SpanId([parent; 8]),
        trace_state: "".into(),
        resource: Arc::new(Resource { attributes: vec![("service.name".into(), text(service))] }),
        scope: "lib".into(),
        name: name.into(),
        kind: SpanKind::Server,
        start_nanos,
        end_nanos: start_nanos + lasts * 1_000_000,
        status: SpanStatus::Unset,
        status_message: "".into(),
        attributes: vec![("http.route".into(), text("/buy"))],
        events: vec![],
        links: vec![],
    }
}

struct Fixture {
    traces: Traces,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let limits = Limits { free_disk_bytes_min: 0, ..Limits::default() };
        let now = Timestamp::from_millis(START);
        let store =
            Store::open(dir.path(), now, Options { limits, ..Options::default() }).expect("it opens").0;
        let mut failed = span(2, 1, "cart", "GET /cart", [10, 50]);
        (failed.status, failed.status_message) = (SpanStatus::Error, "card refused".into());
        let items = r#"{"arrayValue":{"values":[{"stringValue":"pen"},{"intValue":"7"}]}}"#;
        failed.attributes = vec![
            ("http.status_code".into(), AttributeValue::Int(503)),
            ("share".into(), AttributeValue::Double(0.5)),
            ("retry".into(), AttributeValue::Bool(true)),
            ("items".into(), AttributeValue::Json(items.into())),
        ];
        failed.events = vec![SpanEvent {
            time_nanos: failed.start_nanos + 1_000_000,
            name: "exception".into(),
            attributes: vec![("exception.type".into(), AttributeValue::String("Refused".into()))],
        }];
        failed.links =
            vec![SpanLink { trace_id: TraceId([9; 16]), span_id: SpanId([9; 8]), attributes: vec![] }];
        let mut appender = store.appender(now);
        appender.spans(vec![span(1, 0, "shop", "GET /", [0, 100]), failed]);
        let labels = [
            ("__name__", "traces_service_graph_request_total"),
            ("client", "shop"),
            ("server", "cart"),
            ("connection_type", ""),
        ];
        let series = appender.series(&Labels::from_pairs(labels)).expect("there is room");
        for (seconds, value) in [(0, 0.0), (60, 5.0), (120, 2.0)] {
            let at = now + Duration::from_secs(seconds);
            appender.append(series, at, SampleValue::Float(value)).expect("in order");
        }
        appender.commit(Durability::Sync).expect("stored");
        let clock = Arc::new(ManualClock::new(now + Duration::from_secs(120)));
        Self { traces: Traces::new(store, clock, "1.2.3"), _dir: dir }
    }

    async fn ask(&self, path: &str, accept: &str) -> (StatusCode, Vec<u8>) {
        let request =
            Request::get(path).header(header::ACCEPT, accept).body(Body::empty()).expect("a request");
        let response = router(self.traces.clone()).oneshot(request).await.expect("it answers");
        let status = response.status();
        (status, to_bytes(response.into_body(), 1 << 20).await.expect("a body").to_vec())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.ask(path, "application/json").await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    async fn check(&self, path: &str, want: Expect) {
        let json = self.json(path).await;
        want.assert_eq(&serde_json::to_string(&json).expect("JSON").replace("},{", "},\n{"));
    }

    async fn refused(&self, path: &str, want_status: u16, want: Expect) {
        let (status, body) = self.ask(path, "application/json").await;
        assert_eq!(status.as_u16(), want_status, "{path}");
        want.assert_eq(&String::from_utf8_lossy(&body));
    }
}

#[tokio::test]
async fn tempo_searches() {
    let f = Fixture::new();
    f.check(
        "/api/search?q=%7Bresource.service.name%3D%22cart%22%20%26%26%20status%3Derror%7D%20%7C%20select(span.http.status_code)&limit=20&spss=3&start=1767225500&end=1767225720",
        expect![[r#"
            {"metrics":{},"traces":[{"durationMs":100,"rootServiceName":"shop","rootTraceName":"GET /","serviceStats":{"cart":{"errorCount":1,"spanCount":1},"shop":{"spanCount":1}},"spanSets":[{"matched":1,"spans":[{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},
            {"key":"status","value":{"stringValue":"error"}},
            {"key":"http.status_code","value":{"intValue":"503"}}],"durationNanos":"50000000","name":"GET /cart","spanID":"0202020202020202","startTimeUnixNano":"1767225600010000000"}]}],"startTimeUnixNano":"1767225600000000000","traceID":"00000000000000000000000000000abc"}]}"#]],
    )
    .await;
    let count = async |path: &str| f.json(path).await["traces"].as_array().expect("a list").len();
    assert_eq!(count("/api/search?q=%7B%7D").await, 1);
    assert_eq!(count("/api/search").await, 1, "the old form without a tag");
    assert_eq!(
        count("/api/search?tags=service.name%3Dcart%20http.status_code%3D%22503%22").await,
        0,
        "it is a number"
    );
    assert_eq!(count("/api/search?tags=service.name%3Dcart&minDuration=100ms&maxDuration=1s").await, 1);
    assert_eq!(count("/api/search?tags=service.name%3Dcart&minDuration=101ms").await, 0);
    assert_eq!(count("/api/search?q=%7B%7D&start=1767225601&end=1767225720").await, 0);
    assert_eq!(
        count("/api/search?q=%7B%7D&start=1767225590&end=1767225600").await,
        1,
        "the end's whole second counts"
    );
    f.refused("/api/search?q=%7B%20nonsense", 400, expect![[r#"invalid TraceQL query: line 1, column 3: unknown field "nonsense": expected a scope (span.nonsense, resource.nonsense, .nonsense) or an intrinsic (name, status, kind, duration …)"#]]).await;
    f.refused(
        "/api/search?q=%7B%7D&start=now",
        400,
        expect![[r#"invalid parameter "start": expected a Unix time in seconds, got "now""#]],
    )
    .await;
    f.refused("/api/search?q=%7B%7D&start=9&end=3", 400, expect!["start is after end"]).await;
    f.refused(
        "/api/search?tags=cart",
        400,
        expect![[r#"invalid parameter "tags": expected key=value pairs, got "cart""#]],
    )
    .await;
    f.refused(
        "/api/search?q=%7B%7D%7Crate()",
        400,
        expect!["the query asks for metrics: use /api/metrics/query_range"],
    )
    .await;
    assert_eq!(f.ask("/api/echo", "*/*").await, (StatusCode::OK, b"echo".to_vec()));
    assert_eq!(f.json("/api/status/buildinfo").await["version"], "1.2.3");
}

#[tokio::test]
async fn tempo_gives_a_trace_as_it_was_received() {
    let f = Fixture::new();
    let (status, body) = f.ask(&format!("/api/v2/traces/{ID}"), "application/protobuf").await;
    assert_eq!(status, StatusCode::OK);
    let answer = super::trace::TraceByIdResponse::decode(&body[..]).expect("it is one");
    let of_services = answer.trace.expect("it has a trace").resource_spans;
    assert_eq!(of_services.len(), 2);
    let failed = &of_services[1].scope_spans[0].spans[0];
    assert_eq!(
        (failed.name.as_str(), failed.kind, failed.parent_span_id.as_slice()),
        ("GET /cart", 2, &[1; 8][..])
    );
    assert_eq!(failed.status.as_ref().map(|s| (s.code, s.message.as_str())), Some((2, "card refused")));
    assert_eq!((failed.events.len(), failed.links.len()), (1, 1));
    let items = failed.attributes.iter().find(|kv| kv.key == "items").and_then(|kv| kv.value.as_ref());
    let Some(Any::ArrayValue(items)) = items.and_then(|v| v.value.as_ref()) else {
        panic!("an array: {items:?}")
    };
    assert_eq!(items.values[1].value, Some(Any::IntValue(7)));
    let root = &of_services[0].scope_spans[0].spans[0];
    assert!(root.parent_span_id.is_empty());

    let (_, body) = f.ask("/api/traces/abc", "application/protobuf").await;
    assert_eq!(TracesData::decode(&body[..]).expect("it is one").resource_spans, of_services);
    let json = f.json(&format!("/api/v2/traces/{ID}")).await;
    let span = &json["trace"]["resourceSpans"][1]["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["traceId"], &span["parentSpanId"]), (&ID.into(), &"0101010101010101".into()));
    assert_eq!(span["attributes"][3]["value"]["arrayValue"]["values"][0]["stringValue"], "pen");

    let unknown = "0".repeat(31) + "1";
    for path in [format!("/api/v2/traces/{unknown}"), format!("/api/traces/{unknown}")] {
        assert_eq!(f.ask(&path, "application/protobuf").await.0, StatusCode::NOT_FOUND);
    }
    f.refused(
        "/api/v2/traces/xyz",
        400,
        expect![[r#"invalid trace id "xyz": expected up to 32 hexadecimal digits"#]],
    )
    .await;
}

#[tokio::test]
async fn tempo_lists_tags() {
    let f = Fixture::new();
    let scopes = f.json("/api/v2/search/tags?limit=5000").await["scopes"].clone();
    let names: Vec<&str> =
        scopes.as_array().expect("a list").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names, ["resource", "span", "event", "link", "instrumentation", "intrinsic"]);
    f.check("/api/v2/search/tags?scope=span", expect![[r#"{"metrics":{},"scopes":[{"name":"span","tags":["http.route","http.status_code","items","retry","share"]}]}"#]]).await;
    f.check("/api/search/tags", expect![[r#"{"tagNames":["exception.type","http.route","http.status_code","items","retry","service.name","share"]}"#]]).await;
    f.check(
        "/api/v2/search/tag/resource.service.name/values?limit=5000&tag=resource.service.name",
        expect![[r#"
            {"metrics":{},"tagValues":[{"type":"string","value":"cart"},
            {"type":"string","value":"shop"}]}"#]],
    )
    .await;
    f.check(
        "/api/v2/search/tag/resource.service.name/values?q=%7Bstatus%3Derror%7D",
        expect![[r#"{"metrics":{},"tagValues":[{"type":"string","value":"cart"}]}"#]],
    )
    .await;
    f.check(
        "/api/v2/search/tag/span.http.status_code/values?q=%7Bsta",
        expect![[r#"{"metrics":{},"tagValues":[{"type":"int","value":"503"}]}"#]],
    )
    .await;
    f.check(
        "/api/v2/search/tag/status/values",
        expect![[r#"
        {"metrics":{},"tagValues":[{"type":"keyword","value":"error"},
        {"type":"keyword","value":"unset"}]}"#]],
    )
    .await;
    f.check("/api/search/tag/service.name/values", expect![[r#"{"tagValues":["cart","shop"]}"#]]).await;
    f.refused("/api/v2/search/tag/a%20b/values", 400, expect![[r#"invalid tag "a b": line 1, column 1: unknown field "a": expected a scope (span.a, resource.a, .a) or an intrinsic (name, status, kind, duration …)"#]]).await;
}

#[tokio::test]
async fn tempo_counts_spans() {
    let f = Fixture::new();
    let range = "start=1767225590&end=1767225610&step=10s";
    f.check(
        &format!("/api/metrics/query_range?q=%7B%7D%7Ccount_over_time()by(resource.service.name)&{range}"),
        expect![[r#"
            {"metrics":{},"series":[{"exemplars":[],"labels":[{"key":"resource.service.name","value":{"stringValue":"cart"}}],"promLabels":"{\"resource.service.name\"=\"cart\"}","samples":[{"timestampMs":"1767225600000","value":0.0},
            {"timestampMs":"1767225610000","value":1.0}]},
            {"exemplars":[],"labels":[{"key":"resource.service.name","value":{"stringValue":"shop"}}],"promLabels":"{\"resource.service.name\"=\"shop\"}","samples":[{"timestampMs":"1767225600000","value":1.0},
            {"timestampMs":"1767225610000","value":0.0}]}]}"#]],
    )
    .await;
    f.check("/api/metrics/query?q=%7B%7D%7Crate()&start=1767225590&end=1767225610", expect![[r#"{"metrics":{},"series":[{"labels":[{"key":"__name__","value":{"stringValue":"rate"}}],"promLabels":"{__name__=\"rate\"}","value":0.1}]}"#]]).await;
    f.refused(
        "/api/metrics/query_range?q=%7B%7D",
        400,
        expect!["the query asks for traces: add a function of metrics, as in | rate()"],
    )
    .await;
    f.refused(
        "/api/metrics/query_range?q=%7B%7D%7Ccompare(%7B%7D)",
        400,
        expect!["invalid TraceQL query: line 1, column 4: compare() is not supported"],
    )
    .await;
    f.refused(
        "/api/metrics/query_range?q=%7B%7D%7Crate()&start=1&end=1767225610&step=1s",
        400,
        expect!["the answer has more than 11000 steps: narrow the range, use a longer step or group by less"],
    )
    .await;
}

#[tokio::test]
async fn jaeger_asks() {
    let f = Fixture::new();
    f.check(
        "/api/services",
        expect![[r#"{"data":["cart","shop"],"errors":null,"limit":0,"offset":0,"total":2}"#]],
    )
    .await;
    f.check(
        "/api/services/cart/operations",
        expect![[r#"{"data":["GET /cart"],"errors":null,"limit":0,"offset":0,"total":1}"#]],
    )
    .await;
    f.check("/api/operations?service=cart", expect![[r#"{"data":[{"name":"GET /cart","spanKind":"server"}],"errors":null,"limit":0,"offset":0,"total":1}"#]]).await;
    f.check("/api/dependencies?endTs=1767225720000&lookback=3600000", expect![[r#"{"data":[{"callCount":7,"child":"cart","parent":"shop"}],"errors":null,"limit":0,"offset":0,"total":1}"#]]).await;
    f.check(&format!("/api/traces/{ID}"), expect![[r#"
        {"data":[{"processes":{"p1":{"serviceName":"shop","tags":[]},"p2":{"serviceName":"cart","tags":[]}},"spans":[{"duration":100000,"logs":[],"operationName":"GET /","processID":"p1","references":[],"spanID":"0101010101010101","startTime":1767225600000000,"tags":[{"key":"http.route","type":"string","value":"/buy"},
        {"key":"otel.scope.name","type":"string","value":"lib"},
        {"key":"span.kind","type":"string","value":"server"}],"traceID":"00000000000000000000000000000abc","warnings":null},
        {"duration":50000,"logs":[{"fields":[{"key":"event","type":"string","value":"exception"},
        {"key":"exception.type","type":"string","value":"Refused"}],"timestamp":1767225600011000}],"operationName":"GET /cart","processID":"p2","references":[{"refType":"CHILD_OF","spanID":"0101010101010101","traceID":"00000000000000000000000000000abc"},
        {"refType":"FOLLOWS_FROM","spanID":"0909090909090909","traceID":"09090909090909090909090909090909"}],"spanID":"0202020202020202","startTime":1767225600010000,"tags":[{"key":"http.status_code","type":"int64","value":503},
        {"key":"share","type":"float64","value":0.5},
        {"key":"retry","type":"bool","value":true},
        {"key":"items","type":"string","value":"{\"arrayValue\":{\"values\":[{\"stringValue\":\"pen\"},
        {\"intValue\":\"7\"}]}}"},
        {"key":"otel.scope.name","type":"string","value":"lib"},
        {"key":"span.kind","type":"string","value":"server"},
        {"key":"otel.status_code","type":"string","value":"ERROR"},
        {"key":"otel.status_description","type":"string","value":"card refused"},
        {"key":"error","type":"bool","value":true}],"traceID":"00000000000000000000000000000abc","warnings":null}],"traceID":"00000000000000000000000000000abc","warnings":null}],"errors":null,"limit":0,"offset":0,"total":1}"#]]).await;
    let search = "/api/traces?service=cart&limit=20&start=1767225500000000&end=1767225720000000";
    let count =
        async |more: &str| f.json(&format!("{search}{more}")).await["data"].as_array().expect("a list").len();
    assert_eq!(count("").await, 1);
    assert_eq!(count("&operation=GET%20%2Fcart&minDuration=50ms&maxDuration=1s").await, 1);
    assert_eq!(count("&minDuration=51ms").await, 0);
    let tags = "&tags=%7B%22error%22%3A%22true%22%2C%22http.status_code%22%3A%22503%22%2C%22retry%22%3A%22true%22%2C%22share%22%3A%220.5%22%7D";
    assert_eq!(count(tags).await, 1, "tags are texts whatever the attributes are");
    assert_eq!(count("&tags=%7B%22http.status_code%22%3A%22500%22%7D").await, 0);
    assert_eq!(f.json("/api/traces?traceID=abc").await["data"][0]["traceID"], ID);
    f.refused(
        "/api/traces/1",
        404,
        expect![[
            r#"{"data":null,"errors":[{"code":404,"msg":"trace not found"}],"limit":0,"offset":0,"total":0}"#
        ]],
    )
    .await;
    f.refused("/api/traces", 400, expect![[r#"{"data":null,"errors":[{"code":400,"msg":"parameter \"service\" is required"}],"limit":0,"offset":0,"total":0}"#]]).await;
    f.refused("/api/traces?service=x&tags=y", 400, expect![[r#"{"data":null,"errors":[{"code":400,"msg":"invalid parameter \"tags\": expected a JSON object of texts: expected value at line 1 column 1"}],"limit":0,"offset":0,"total":0}"#]]).await;
}
