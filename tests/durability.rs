//! What was acknowledged is on disk: OTLP requests against `kill -9`, and against a full disk.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Davy, Http, Process, free_port, wait_for, write};
use serde_json::json;

/// One OTLP/HTTP JSON request with a gauge of one point; its value and its `seq` attribute are `seq`.
fn point(seq: u64, now_nanos: u128, padding: usize) -> String {
    json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "ledger"}}]},
        "scopeMetrics": [{"metrics": [{"name": "acked", "gauge": {"dataPoints": [{
            "timeUnixNano": now_nanos.to_string(), "asDouble": seq as f64,
            "attributes": [{"key": "seq", "value": {"stringValue": seq.to_string()}},
                           {"key": "padding", "value": {"stringValue": noise(seq, padding)}}]}]}}]}]}]})
    .to_string()
}

/// Text that does not compress.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"[(state % 64) as usize])
    };
    (0..length).map(|_| next()).collect()
}

#[expect(clippy::disallowed_methods, reason = "the sender stamps its points as any sender does")]
fn now_nanos() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos()
}

#[test]
fn acknowledged_points_survive_kill_nine() {
    const KILLS: usize = 8;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut davy = Davy::start(dir.path(), "{otlp}\n");
    let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let url = format!("http://127.0.0.1:{}/v1/metrics", davy.otlp_http);
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let (next, stop, url) = (next.clone(), stop.clone(), url.clone());
            std::thread::spawn(move || {
                let (http, mut acked) = (Http::new(), BTreeSet::new());
                while !stop.load(Ordering::SeqCst) {
                    let seq = next.fetch_add(1, Ordering::SeqCst);
                    if http
                        .send("POST", &url, &point(seq, now_nanos(), 8))
                        .is_some_and(|(status, _)| status == 200)
                    {
                        acked.insert(seq);
                    }
                }
                acked
            })
        })
        .collect();
    for kill in 0..KILLS {
        // Moments spread over the commit interval, without a random source.
        std::thread::sleep(std::time::Duration::from_millis(300 + 137 * kill as u64));
        davy.restart();
    }
    stop.store(true, Ordering::SeqCst);
    let acked: BTreeSet<u64> =
        senders.into_iter().flat_map(|s| s.join().expect("senders do not panic")).collect();
    davy.restart();
    let stored: BTreeSet<u64> = davy.query("acked").iter().map(|(_, v)| *v as u64).collect();
    let missing: Vec<_> = acked.difference(&stored).collect();
    assert!(acked.len() > 50, "the senders got through: {}", acked.len());
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged points are missing: {missing:?}",
        missing.len(),
        acked.len()
    );
    eprintln!("{} acknowledged over {KILLS} kills, none missing", acked.len());
}

#[test]
fn a_full_disk_refuses_telemetry_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    // A file system of its own, in a mount namespace of its own: nothing outside sees it.
    let can = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|s| s.success());
    if !can {
        assert!(std::env::var_os("DAVY_REQUIRE_PEERS").is_none(), "unshare -rm does not work here");
        eprintln!("skipped: unshare -rm does not work here");
        return;
    }
    let (port, otlp_http) = (free_port(), free_port());
    let config = format!(
        "otlp: {{grpc: \"127.0.0.1:{}\", http: \"127.0.0.1:{otlp_http}\"}}\nstorage: {{min_free_disk: 4MB}}\n",
        free_port()
    );
    write(&dir.path().join("davy.yaml"), &config);
    let start = |dir: &Path| {
        let script = format!(
            "mkdir -p {0}/data && mount -t tmpfs -o size=24m tmpfs {0}/data && \
             exec {1} run --headless --config.file {0}/davy.yaml --storage.path {0}/data/davy \
             --web.listen-address 127.0.0.1:{port}",
            dir.display(),
            env!("CARGO_BIN_EXE_davy")
        );
        let mut command = Command::new("unshare");
        command.args(["-rm", "--kill-child", "sh", "-c", &script]);
        Process::start("davy", dir, &mut command)
    };
    let process = start(dir.path());
    let http = Http::new();
    let ready = format!("http://127.0.0.1:{port}/-/ready");
    wait_for("davy to be ready", 30, || http.get(&ready).filter(|(s, _)| *s == 200));

    let url = format!("http://127.0.0.1:{otlp_http}/v1/metrics");
    let (mut acked, mut refused) = (BTreeSet::new(), 0);
    for seq in 0..20_000 {
        match http.send("POST", &url, &point(seq, now_nanos(), 1_500)) {
            Some((200, body)) if !body.contains("rejected") => {
                acked.insert(seq);
            }
            Some((status, body)) => {
                assert!(status == 200 || status == 503, "a full disk is retryable: {status} {body}");
                refused += 1;
                if refused > 5 {
                    break;
                }
            }
            None => panic!("davy went away on a full disk:\n{}", process.log()),
        }
    }
    assert!(refused > 0, "24 MB filled up after {} points", acked.len());
    let query = format!("http://127.0.0.1:{port}/api/v1/query?query=acked");
    let (status, body) = http.get(&query).expect("queries go on");
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let rows = answer["data"]["result"].as_array().expect("a list");
    let stored: BTreeSet<u64> =
        rows.iter().map(|r| r["value"][1].as_str().expect("a string").parse().expect("a number")).collect();
    let missing: Vec<_> = acked.difference(&stored).collect();
    assert!(missing.is_empty(), "{missing:?} of {} are missing", acked.len());
    let releases =
        http.get(&format!("http://127.0.0.1:{port}/api/davy/v1/releases")).expect("the API goes on");
    assert_eq!(releases.0, 200);
    eprintln!("{} points acknowledged until the disk was full, none missing", acked.len());
}
