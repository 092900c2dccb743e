//! `/api/v1/query` and its kin over the router: what clients send, well and badly formed, and what they get.

mod common;

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use common::{NOW, Server, escape};
use davy_api::QueryLimits;
use davy_query::Engine;
use serde_json::{Value, json};

#[tokio::test]
async fn an_instant_query_is_answered_by_get_and_post_alike() {
    let server = Server::start().await;
    let want = json!({"resultType": "vector", "result": [
        {"metric": {"__name__": "http_requests_total", "code": "200", "instance": "127.0.0.1:1", "job": "api"},
         "value": [NOW, "390"]},
        {"metric": {"__name__": "http_requests_total", "code": "500", "instance": "127.0.0.1:1", "job": "api"},
         "value": [NOW, "19.5"]},
    ]});
    assert_eq!(server.data("/api/v1/query?query=http_requests_total").await, want);
    let posted = server.post("/api/v1/query", "query=http_requests_total").await;
    assert_eq!(posted.json()["data"], want);
    let dated = server.data("/api/v1/query?query=http_requests_total&time=2026-01-01T00:00:00.5Z").await;
    assert_eq!(dated["result"][0]["value"], json!([NOW as f64 + 0.5, "390"]));
    let sum = server.data(&format!("/api/v1/query?query=sum(http_requests_total)&time={}.5", NOW - 10)).await;
    assert_eq!(sum["result"], json!([{"metric": {}, "value": [NOW as f64 - 9.5, "399"]}]));
}

#[tokio::test]
async fn the_result_follows_its_type_and_values_are_texts() {
    let server = Server::start().await;
    let text = server.get("/api/v1/query?query=odd").await.text();
    assert!(
        text.starts_with(r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":"#),
        "{text}"
    );
    assert!(text.contains(r#""NaN"]"#), "{text}");
}

#[tokio::test]
async fn a_range_query_gives_a_matrix() {
    let server = Server::start().await;
    let query = format!("query=memory_bytes&start={}&end={NOW}&step=15", NOW - 30);
    let want = json!({"resultType": "matrix", "result": [
        {"metric": {"__name__": "memory_bytes", "instance": "127.0.0.1:1", "job": "api"},
         "values": [[NOW - 30, "1000000037"], [NOW - 15, "1000000038"], [NOW, "1000000039"]]},
    ]});
    assert_eq!(server.data(&format!("/api/v1/query_range?{query}")).await, want);
    assert_eq!(server.post("/api/v1/query_range", &query).await.json()["data"], want);
    for step in ["0.5", "1m0s", "1h0m0s", "250ms", "1e1"] {
        let query = format!(
            "/api/v1/query_range?query=sum(memory_bytes)&start={}.25&end={NOW}&step={step}",
            NOW - 30
        );
        assert_eq!(server.data(&query).await["resultType"], "matrix", "{step}");
    }
}

#[tokio::test]
async fn bad_parameters_say_which_and_why() {
    let server = Server::start().await;
    let instant = |more: &str| format!("/api/v1/query?query=memory_bytes&{more}");
    let range = |more: &str| format!("/api/v1/query_range?query=memory_bytes&{more}");
    for (path, want) in [
        ("/api/v1/query".to_owned(), "invalid parameter \"query\": 1:1: parse error: "),
        ("/api/v1/query?query=sum(".to_owned(), "invalid parameter \"query\": 1:4: parse error: "),
        (
            format!("/api/v1/query?query={}", escape("up +\n  nosuch(up)")),
            "invalid parameter \"query\": 2:3: parse error: unknown function",
        ),
        (
            instant("time=yesterday"),
            "invalid parameter \"time\": cannot parse \"yesterday\" to a valid timestamp",
        ),
        (instant("time=NaN"), "invalid parameter \"time\": "),
        (instant("timeout=x"), "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration"),
        (instant("limit=-1"), "invalid parameter \"limit\": limit must be non-negative"),
        (instant("limit=x"), "invalid parameter \"limit\": "),
        (instant("lookback_delta=x"), "invalid parameter \"lookback_delta\": "),
        (range("end=2&step=1"), "invalid parameter \"start\": cannot parse \"\" to a valid timestamp"),
        (range("start=1&step=1"), "invalid parameter \"end\": "),
        (
            range("start=3&end=2&step=1"),
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (range("start=1&end=2"), "invalid parameter \"step\": cannot parse \"\" to a valid duration"),
        (
            range("start=1&end=2&step=0"),
            "invalid parameter \"step\": zero or negative query resolution step widths",
        ),
        (range("start=1&end=2&step=-1m"), "invalid parameter \"step\": cannot parse"),
        (range("start=1&end=2&step=-5"), "invalid parameter \"step\": zero or negative"),
        (range("start=1&end=2&step=0.0001"), "invalid parameter \"step\": zero or negative"),
        (range("start=1&end=2&step=1e300"), "invalid parameter \"step\": "),
        (
            range("start=0&end=11001&step=1"),
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "/api/v1/query_range?query=odd%5B5m%5D&start=1&end=2&step=1".to_owned(),
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query",
        ),
        (range("start=-Inf&end=Inf&step=1"), "exceeded maximum resolution"),
    ] {
        let (status, kind, error) = server.error(&path).await;
        assert_eq!((status, kind.as_str()), (400, "bad_data"), "{path}: {error}");
        assert!(error.starts_with(want), "{path}: {error}");
    }
    let most = server.data(&range("start=0&end=11000&step=1")).await;
    assert_eq!(most["resultType"], "matrix");
}

#[tokio::test]
async fn what_cannot_be_evaluated_is_an_execution_error() {
    let few =
        QueryLimits { engine: Engine { samples_max: 3, ..Engine::default() }, ..QueryLimits::default() };
    let server = Server::with(few).await;
    let (status, kind, _) = server.error("/api/v1/query?query=sum_over_time(http_requests_total[5m])").await;
    assert_eq!((status, kind.as_str()), (422, "execution"));
}

#[tokio::test]
async fn a_query_whose_time_is_over_is_a_timeout() {
    let server = Server::with(QueryLimits { timeout: Duration::ZERO, ..QueryLimits::default() }).await;
    let (status, kind, error) = server.error("/api/v1/query?query=memory_bytes&timeout=1h").await;
    assert_eq!((status, kind.as_str()), (503, "timeout"), "{error}");
}

#[tokio::test]
async fn a_limit_cuts_series_and_warns() {
    let server = Server::start().await;
    let range =
        format!("/api/v1/query_range?query=http_requests_total&start={}&end={NOW}&step=15&limit=1", NOW - 30);
    for path in ["/api/v1/query?query=http_requests_total&limit=1", &range] {
        let answer = server.get(path).await.json();
        assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1);
        assert_eq!(answer["warnings"], json!(["results truncated due to limit"]));
    }
    let whole = server.get("/api/v1/query?query=http_requests_total&limit=2").await.json();
    assert_eq!(whole["warnings"], Value::Null);
}

#[tokio::test]
async fn the_lookback_can_be_another() {
    let server = Server::start().await;
    let late = format!("/api/v1/query?query=memory_bytes&time={}", NOW + 60);
    assert_eq!(server.data(&late).await["result"].as_array().unwrap().len(), 1);
    let short = server.data(&format!("{late}&lookback_delta=30s")).await;
    assert_eq!(short["result"], json!([]));
}

#[tokio::test]
async fn stats_come_on_request() {
    let server = Server::start().await;
    let path = "/api/v1/query?query=memory_bytes";
    assert_eq!(server.data(path).await["stats"], Value::Null);
    let stats = server.data(&format!("{path}&stats=all")).await["stats"].clone();
    assert!(stats["samples"]["totalQueryableSamples"].is_u64(), "{stats}");
    assert!(
        stats["samples"]["peakSamples"].is_u64() && stats["timings"]["evalTotalTime"].is_f64(),
        "{stats}"
    );
}

#[tokio::test]
async fn queries_are_formatted_and_parsed() {
    let server = Server::start().await;
    assert_eq!(server.data("/api/v1/format_query?query=a%2Bb").await, "a + b");
    let tree = server.data("/api/v1/parse_query?query=up%7Bjob%3D%22x%22%7D").await;
    assert_eq!(tree["type"], "vectorSelector");
    assert_eq!(tree["matchers"][0], json!({"name": "job", "value": "x", "type": "="}));
    for path in ["/api/v1/format_query?query=a%2B", "/api/v1/parse_query?query=a%2B"] {
        assert_eq!(server.error(path).await.0, 400);
    }
}

#[tokio::test]
async fn large_answers_are_compressed_for_whoever_accepts_it() {
    let server = Server::start().await;
    let path = format!("/api/v1/query_range?query=http_requests_total&start={}&end={NOW}&step=1", NOW - 500);
    let plain = server.get(&path).await;
    assert!(plain.headers.get("content-encoding").is_none());
    for coding in ["gzip", "zstd"] {
        let request =
            Request::get(path.as_str()).header("accept-encoding", coding).body(Body::empty()).unwrap();
        let answer = server.send(request).await;
        assert_eq!(answer.headers["content-encoding"], coding);
        assert!(answer.body.len() < plain.body.len() / 4);
    }
    let small = Request::get("/api/v1/query?query=nothing").header("accept-encoding", "gzip");
    let small = server.send(small.body(Body::empty()).unwrap()).await;
    assert!(small.headers.get("content-encoding").is_none());
}

#[tokio::test]
async fn a_path_prefix_is_no_obstacle() {
    let server = Server::start().await.nested("/prom");
    assert_eq!(server.data("/prom/api/v1/query?query=memory_bytes").await["resultType"], "vector");
    assert_eq!(server.data("/prom/api/v1/label/job/values").await, json!(["api"]));
}

#[tokio::test]
async fn hostile_queries_are_refused_and_nothing_else() {
    let server = Server::start().await;
    let deep = "(".repeat(60_000);
    let balanced = format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000));
    let flat = "1+".repeat(8_000) + "1";
    let minus = "-".repeat(16_000) + "1";
    let chain = vec!["a"; 900].join(" or ");
    let bomb = r#"up{job=~"(a{500}){500}"}"#.to_owned();
    let long = format!("up{{job=\"{}\"}}", "x".repeat(20_000));
    for query in [deep, balanced, flat, minus, chain, bomb, long, "\u{0}".to_owned(), "é".repeat(5_000)] {
        for path in ["query", "query_range", "query_exemplars", "format_query", "parse_query"] {
            let form = format!("query={}&start=1&end=2&step=1", escape(&query));
            let answer = server.post(&format!("/api/v1/{path}"), &form).await;
            let status = answer.status.as_u16();
            assert!(matches!(status, 200 | 400 | 413 | 422), "{path}: {status}: {query:.40}");
            answer.json();
        }
        let answer = server.post("/api/v1/series", &format!("match[]={}", escape(&query))).await;
        assert!(matches!(answer.status.as_u16(), 400 | 413), "{query:.40}");
    }
    let too_large = server.post("/api/v1/query", &format!("query={}", "a".repeat(100_000))).await;
    assert_eq!(too_large.status.as_u16(), 413);
    assert_eq!(too_large.json()["errorType"], "bad_data");
}
