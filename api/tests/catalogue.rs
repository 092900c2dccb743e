//! Which series there are, what they mean, what is scraped and what fires: over the router.

mod common;

use axum::body::Body;
use axum::http::Request;
use common::{NOW, Server, escape};
use davy_api::View;
use davy_api::wire::rules::{NEVER, RecordingRule, Rule, RuleGroup};
use expect_test::expect;
use serde_json::{Value, json};

#[tokio::test]
async fn series_are_listed_by_selectors() {
    let server = Server::start().await;
    let both = server
        .data("/api/v1/series?match[]=memory_bytes&match[]=%7B__name__%3D~%22memory.*%7Codd%22%7D")
        .await;
    let labels = |name: &str| json!({"__name__": name, "instance": "127.0.0.1:1", "job": "api"});
    assert_eq!(both, json!([labels("memory_bytes"), labels("odd")]));
    let all = server.data("/api/v1/series?match[]=%7B__name__!%3D%22%22%7D").await;
    assert_eq!(all.as_array().unwrap().len(), 6);
    let cut = server.post("/api/v1/series", "match[]={__name__!=\"\"}&limit=1").await.json();
    assert_eq!(cut["data"].as_array().unwrap().len(), 1);
    assert_eq!(cut["warnings"], json!(["results truncated due to limit"]));
    let before = format!("/api/v1/series?match[]=memory_bytes&end={}", NOW - 86_400);
    assert_eq!(server.data(&before).await, json!([]));
}

#[tokio::test]
async fn label_names_and_values() {
    let server = Server::start().await;
    let names = json!(["__name__", "code", "http.status", "instance", "job"]);
    assert_eq!(server.data("/api/v1/labels").await, names);
    assert_eq!(server.post("/api/v1/labels", "limit=40000").await.json()["data"], names);
    let of = server.data("/api/v1/labels?match[]=odd&match[]=http_requests_total").await;
    assert_eq!(of, json!(["__name__", "code", "instance", "job"]));
    let metrics = server.data("/api/v1/label/__name__/values").await;
    assert_eq!(
        metrics,
        json!(["http.requests", "http_requests_total", "latency_seconds", "memory_bytes", "odd"])
    );
    assert_eq!(server.data("/api/v1/label/code/values?match[]=odd").await, json!([]));
    assert_eq!(server.data("/api/v1/label/U__http_2e_status/values").await, json!(["ok"]));
    assert_eq!(server.data("/api/v1/label/http.status/values").await, json!(["ok"]));
    assert_eq!(server.data("/api/v1/label/nosuch/values").await, json!([]));
    let cut = server.get("/api/v1/label/code/values?limit=1").await.json();
    assert_eq!(
        (&cut["data"], &cut["warnings"]),
        (&json!(["200"]), &json!(["results truncated due to limit"]))
    );
}

#[tokio::test]
async fn times_that_make_no_sense_are_no_errors() {
    let server = Server::start().await;
    let (ms, s) = (NOW * 1000, NOW);
    for path in ["labels?", "label/job/values?", "series?match[]=odd&", "query_exemplars?query=test&"] {
        for range in [
            format!("start={}&end={ms}", ms - 1_800_000),
            "start=-1&end=0".to_owned(),
            "start=-9223372036854775&end=9223372036854775".to_owned(),
            "start=-292273086-05-16T16:47:06Z&end=292277025-08-18T07:12:54.999999999Z".to_owned(),
            format!("start={s}&end={s}"),
        ] {
            assert!(server.data(&format!("/api/v1/{path}{range}")).await.is_array());
        }
    }
}

#[tokio::test]
async fn bad_catalogue_requests_are_refused() {
    let server = Server::start().await;
    for (path, want) in [
        ("series", "no match[] parameter provided"),
        ("series?match[]=up%5B5m%5D", "invalid parameter \"match[]\": 1:1: parse error: "),
        ("series?match[]=%7Bjob%3D~%22.*%22%7D", "at least one non-empty matcher"),
        ("labels?match[]=%7B", "invalid parameter \"match[]\": 1:1: parse error: "),
        ("labels?limit=-1", "limit must be non-negative"),
        ("labels?start=x", "invalid parameter \"start\": cannot parse \"x\""),
        ("label/job/values?end=x", "invalid parameter \"end\": cannot parse \"x\""),
        ("label/%FF/values", "invalid label name"),
        ("metadata?limit=x", "expected a whole number"),
        ("metadata?limit_per_metric=x", "expected a whole number"),
        ("query_exemplars?query=sum(", "parse error"),
        ("query_exemplars?query=a&start=2&end=1", "must not be before"),
        ("targets/metadata?match_target=%7B", "invalid parameter \"match_target\""),
        ("rules?type=x", "invalid parameter \"type\""),
        ("rules?group_next_token=x", "group_limit needs to be present"),
        ("status/tsdb?limit=0", "limit must be a positive number"),
    ] {
        let (status, kind, error) = server.error(&format!("/api/v1/{path}")).await;
        assert_eq!((status, kind.as_str()), (400, "bad_data"), "{path}: {error}");
        assert!(error.contains(want), "{path}: {error}");
    }
    let many = "match[]=up&".repeat(1_001);
    assert_eq!(server.post("/api/v1/series", &many).await.status.as_u16(), 400);
}

#[tokio::test]
async fn metadata_of_metrics_and_of_targets() {
    let server = Server::start().await;
    let counter = json!([{"type": "counter", "help": "Requests.", "unit": ""}]);
    let gauge = json!([{"type": "gauge", "help": "Memory in use.", "unit": ""}]);
    let all = server.data("/api/v1/metadata").await;
    assert_eq!(all, json!({"http_requests_total": counter, "memory_bytes": gauge}));
    assert_eq!(server.data("/api/v1/metadata?limit=1").await, json!({"http_requests_total": counter}));
    assert_eq!(server.data("/api/v1/metadata?metric=memory_bytes").await, json!({"memory_bytes": gauge}));
    assert_eq!(server.data("/api/v1/metadata?metric=nosuch").await, json!({}));
    let target = json!({"instance": "127.0.0.1:1", "job": "api"});
    let of_target = server.data("/api/v1/targets/metadata?metric=memory_bytes").await;
    assert_eq!(of_target, json!([{"target": target, "type": "gauge", "help": "Memory in use.", "unit": ""}]));
    let all =
        server.data(&format!("/api/v1/targets/metadata?match_target={}", escape("{job=\"api\"}"))).await;
    let metrics: Vec<&Value> = all.as_array().unwrap().iter().map(|m| &m["metric"]).collect();
    assert_eq!(metrics, [&json!("http_requests_total"), &json!("memory_bytes")]);
    assert_eq!(server.data("/api/v1/targets/metadata?match_target=%7Bjob%3D%22other%22%7D").await, json!([]));
}

#[tokio::test]
async fn exemplars_are_found_within_any_expression() {
    let server = Server::start().await;
    let query = escape("sum by (job) (rate(http_requests_total[5m])) / sum by (job) (memory_bytes)");
    let want = json!([{
        "seriesLabels": {"__name__": "http_requests_total", "code": "500", "instance": "127.0.0.1:1", "job": "api"},
        "exemplars": [{"labels": {"trace_id": "ab12"}, "value": "0.3", "timestamp": NOW - 5}],
    }]);
    let range = format!("start={}&end={NOW}", NOW - 60);
    assert_eq!(server.data(&format!("/api/v1/query_exemplars?query={query}&{range}")).await, want);
    let posted = server.post("/api/v1/query_exemplars", &format!("query={query}&{range}")).await;
    assert_eq!(posted.json()["data"], want);
    let later = format!("/api/v1/query_exemplars?query={query}&start={NOW}");
    assert_eq!(server.data(&later).await, json!([]));
}

#[tokio::test]
async fn targets_are_shown_by_state_and_pool() {
    let server = Server::start().await;
    let all = server.data("/api/v1/targets").await;
    let count = |json: &Value, field: &str| json[field].as_array().unwrap().len();
    assert_eq!((count(&all, "activeTargets"), count(&all, "droppedTargets")), (2, 2));
    assert_eq!(all["droppedTargetCounts"], json!({"api": 1, "other": 1}));
    let first = &all["activeTargets"][0];
    for (field, want) in [
        ("scrapePool", json!("api")),
        ("scrapeUrl", json!("http://127.0.0.1:1/metrics")),
        ("globalUrl", json!("http://127.0.0.1:1/metrics")),
        ("labels", json!({"instance": "127.0.0.1:1", "job": "api"})),
        ("scrapeInterval", json!("15s")),
        ("scrapeTimeout", json!("10s")),
    ] {
        assert_eq!(first[field], want, "{field}");
    }
    assert!(first["lastError"].is_string() && first["lastScrape"].is_string() && first["health"].is_string());
    let active = server.data("/api/v1/targets?state=active&scrapePool=other").await;
    assert_eq!((count(&active, "activeTargets"), count(&active, "droppedTargets")), (1, 0));
    let dropped = server.data("/api/v1/targets?state=dropped").await;
    assert_eq!((count(&dropped, "activeTargets"), count(&dropped, "droppedTargets")), (0, 2));
    assert_eq!(server.data("/api/v1/scrape_pools").await, json!({"scrapePools": ["api", "other"]}));
}

#[tokio::test]
async fn rules_and_alerts_are_those_of_the_view() {
    let server = Server::start().await;
    assert_eq!(server.data("/api/v1/rules").await, json!({"groups": []}));
    assert_eq!(
        server.data("/api/v1/rules?group_limit=1&file[]=x&exclude_alerts=true").await,
        json!({"groups": []})
    );
    assert_eq!(server.data("/api/v1/alerts").await, json!({"alerts": []}));
    assert_eq!(
        server.data("/api/v1/alertmanagers").await,
        json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})
    );
    let rule = Rule::Recording(RecordingRule {
        name: "job:up:sum".into(),
        query: "sum by (job) (up)".into(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        health: "ok".into(),
        last_error: None,
        evaluation_time: 0.25,
        last_evaluation: NEVER.into(),
    });
    let group = RuleGroup {
        name: "g".into(),
        file: "rules.yml".into(),
        rules: vec![rule],
        interval: 15.0,
        limit: 0,
        evaluation_time: 0.5,
        last_evaluation: NEVER.into(),
    };
    server.view.store(View { rules: vec![group], ..View::default() });
    let shown = serde_json::to_string_pretty(&server.data("/api/v1/rules").await).unwrap();
    expect![[r#"
        {
          "groups": [
            {
              "evaluationTime": 0.5,
              "file": "rules.yml",
              "interval": 15.0,
              "lastEvaluation": "0001-01-01T00:00:00Z",
              "limit": 0,
              "name": "g",
              "rules": [
                {
                  "evaluationTime": 0.25,
                  "health": "ok",
                  "labels": {
                    "team": "a"
                  },
                  "lastEvaluation": "0001-01-01T00:00:00Z",
                  "name": "job:up:sum",
                  "query": "sum by (job) (up)",
                  "type": "recording"
                }
              ]
            }
          ]
        }"#]]
    .assert_eq(&shown);
}

#[tokio::test]
async fn status_says_what_grafana_must_hear() {
    let server = Server::start().await;
    let build = server.data("/api/v1/status/buildinfo").await;
    assert_eq!((&build["version"], &build["revision"]), (&json!("3.5.0"), &json!("davy 9.9.9")));
    assert_eq!(build["features"], Value::Null);
    assert_eq!(server.error("/api/v1/status/flags").await.0, 404);
    let runtime = server.data("/api/v1/status/runtimeinfo").await;
    assert_eq!(runtime["startTime"], "2025-12-31T23:00:00.000Z");
    assert_eq!(runtime["storageRetention"], "15d");
    let tsdb = server.data("/api/v1/status/tsdb?limit=1").await;
    assert_eq!(tsdb["headStats"]["numSeries"], 6);
    assert_eq!(tsdb["seriesCountByMetricName"], json!([{"name": "http_requests_total", "value": 2}]));
    assert_eq!(tsdb["seriesCountByLabelValuePair"], json!([{"name": "instance=127.0.0.1:1", "value": 6}]));
}

#[tokio::test]
async fn federation_gives_the_newest_samples() {
    let server = Server::start().await;
    let path =
        format!("/federate?match[]=memory_bytes&match[]={}", escape("{__name__=~\"http.*|latency.*\"}"));
    let answer = server.get(&path).await;
    let kind = answer.headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let at = NOW * 1000;
    let want = format!(
        "# TYPE http_requests untyped\n\
         http_requests{{http_status=\"ok\",instance=\"127.0.0.1:1\",job=\"api\",region=\"eu\"}} 39 {at}\n\
         # TYPE http_requests_total untyped\n\
         http_requests_total{{code=\"200\",instance=\"127.0.0.1:1\",job=\"api\",region=\"eu\"}} 390 {at}\n\
         http_requests_total{{code=\"500\",instance=\"127.0.0.1:1\",job=\"api\",region=\"eu\"}} 19.5 {at}\n\
         # TYPE memory_bytes untyped\n\
         memory_bytes{{instance=\"127.0.0.1:1\",job=\"api\",region=\"eu\"}} 1000000039 {at}\n"
    );
    assert_eq!(answer.text(), want);
    let modern = Request::get(path).header("accept", "text/plain;version=1.0.0; escaping=allow-utf-8");
    let modern = server.send(modern.body(Body::empty()).unwrap()).await.text();
    assert!(modern.contains("{\"http.requests\",\"http.status\"=\"ok\","), "{modern}");
    assert_eq!(server.get("/federate").await.text(), "");
    assert_eq!(server.get("/federate?match[]=%7B").await.status.as_u16(), 400);
}
