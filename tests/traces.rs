//! Spans of a real OpenTelemetry SDK are found as Grafana's trace views look for them.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Davy, Http, python, wait_for};
use serde_json::Value;

#[test]
fn what_an_sdk_sent_is_found_by_its_attributes() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let davy = Davy::start(dir.path(), "{otlp}\n");
    let http = Http::new();
    let get = |path: &str| -> Value {
        let (status, body) = http.get(&davy.url(path)).expect("davy answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python/otlp_push.py");
    let endpoint = format!("http://127.0.0.1:{}", davy.otlp_http);
    let sent = Command::new(python)
        .arg(script)
        .args(["http", &endpoint, "cumulative", "gzip", "2.0"])
        .output()
        .expect("python runs");
    let failed = String::from_utf8_lossy(&sent.stdout).trim().to_owned();
    assert!(sent.status.success(), "{failed}{}", String::from_utf8_lossy(&sent.stderr));

    // Twenty calls, three of which failed.
    let found = |query: &str| -> Vec<String> {
        let encoded: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
        let answer = get(&format!("/api/search?limit=100&q={encoded}"));
        let ids = answer["traces"].as_array().expect("a list").iter();
        ids.map(|t| t["traceID"].as_str().expect("a text").to_owned()).collect()
    };
    let errors = wait_for("the spans to arrive", 20, || {
        let errors = found(r#"{ resource.service.name = "checkout" && status = error }"#);
        (errors.len() == 3).then_some(errors)
    });
    assert!(errors.contains(&failed));
    assert_eq!(found(r#"{ resource.service.version = "2.0" && kind = server }"#).len(), 20);
    assert_eq!(found(r#"{ status = error } > { name = "charge" }"#).len(), 3);
    assert_eq!(found(r#"{ event.exception.type = "ValueError" }"#).len(), 3);
    assert_eq!(
        found(r#"{ span.http.route = "/checkout" && statusMessage =~ "card.*" } | count() > 0"#).len(),
        3
    );
    assert_eq!(found(r#"{ name = "charge" && rootName = "POST /checkout" }"#).len(), 20);

    let values = get("/api/v2/search/tag/resource.service.name/values");
    assert_eq!(values["tagValues"][0]["value"], "checkout");
    let trace = get(&format!("/api/v2/traces/{failed}"));
    let spans =
        trace["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("a list").len();
    assert_eq!(spans, 2);
    let jaeger = get(&format!("/api/traces/{failed}"));
    assert_eq!(jaeger["data"][0]["processes"]["p1"]["serviceName"], "checkout");
    assert_eq!(jaeger["data"][0]["spans"].as_array().expect("a list").len(), 2);
    assert_eq!(get("/api/services")["data"], serde_json::json!(["checkout"]));

    // Calls without a caller are the user's.
    let requests = davy.query(r#"traces_service_graph_request_total{client="user"}"#);
    assert_eq!(requests.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [20.0]);
    let failures = davy.query(r#"traces_service_graph_request_failed_total{server="checkout"}"#);
    assert_eq!(failures.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [3.0]);
    assert_eq!(get("/api/dependencies")["data"][0]["callCount"], 20);
}
