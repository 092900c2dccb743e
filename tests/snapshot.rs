//! `davy snapshot` on the real binary: what was acknowledged before it is in it, and davy starts on it.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Davy, Http};
use davy_model::Clock as _;
use serde_json::json;

fn davy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_davy")).args(args).output().expect("davy starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// Acknowledged, so on disk.
fn push(http: &Http, davy: &Davy, value: f64) {
    let now = davy::clock::SystemClock.now().as_millis().to_string() + "000000";
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeMetrics": [{"metrics": [{"name": "orders", "gauge": {"dataPoints": [
            {"timeUnixNano": now, "asDouble": value}]}}]}]}]});
    let url = format!("http://127.0.0.1:{}/v1/metrics", davy.otlp_http);
    let (status, answer) = http.send("POST", &url, &body.to_string()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

fn orders(davy: &Davy) -> f64 {
    davy.query("max_over_time(orders[1h])").first().expect("orders were stored").1
}

#[test]
fn a_snapshot_of_the_running_davy_is_a_folder_to_start_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (here, there, third) = (dir.path().join("here"), dir.path().join("there"), dir.path().join("third"));
    for folder in [&here, &there, &third] {
        std::fs::create_dir(folder).expect("a new folder");
    }
    let http = Http::new();
    let mut running = Davy::start(&here, "{otlp}\n");
    push(&http, &running, 1.0);
    let address = format!("--web.address=127.0.0.1:{}", running.port);
    let to = there.join("data");
    let done = davy(&["snapshot", text(&to), &address]);
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains("decisions") && said.contains("davy run --storage.path"), "{said}");
    let left = std::fs::read_dir(here.join("data/snapshots")).expect("the folder is there").count();
    assert_eq!(left, 0, "it was moved away");
    push(&http, &running, 2.0);

    // Never over anything, and never a folder that somebody holds.
    let again = davy(&["snapshot", text(&to), &address]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("exists already"));
    let held = davy(&["snapshot", text(&dir.path().join("x")), "--storage.path", text(&here.join("data"))]);
    let why = String::from_utf8_lossy(&held.stderr).into_owned();
    assert!(!held.status.success() && why.contains("leave --storage.path out"), "{why}");

    let restored = Davy::start(&there, "{otlp}\n");
    assert_eq!(orders(&restored), 1.0, "as it was at the time of the snapshot");
    assert_eq!(orders(&running), 2.0, "the other goes on");
    let (status, compacted) = running.post("/api/davy/v1/storage/compact", "");
    assert!(status == 200 && compacted.contains("bytes_on_disk"), "{status}: {compacted}");

    running.process.kill();
    let gone = davy(&["snapshot", text(&dir.path().join("x")), &address]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no davy answers on"), "{gone:?}");
    let stopped = davy(&["snapshot", text(&third.join("data")), "--storage.path", text(&here.join("data"))]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(orders(&Davy::start(&third, "{otlp}\n")), 2.0);
}
