//! `davy judge` and `davy replay` on the real binary: the same release out of OpenMetrics text, out of a data folder,
//! and out of a real Prometheus that holds it, with the same verdict from each.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use common::{Process, free_port, peer, wait_for_port, write};
use serde_json::Value;

/// Version 2 comes after ten minutes and fails more often by as much as is asked.
fn exposition(start: i64, errors: [f64; 2]) -> String {
    let mut series: Vec<(String, Vec<(i64, f64)>)> = Vec::new();
    for (version, begins) in [("1", 0), ("2", 600)] {
        let rate = errors[usize::from(version == "2")];
        for instance in 0..3 {
            let labels =
                format!("service=\"checkout\",instance=\"{version}-{instance}\",version=\"{version}\"");
            let mut up = Vec::new();
            let (mut ok, mut failed, mut buckets) = (Vec::new(), Vec::new(), vec![Vec::new(); EDGES.len()]);
            let (mut n, mut e, mut below) = (0.0, 0.0, [0.0; EDGES.len()]);
            for t in (begins..=2400).step_by(15) {
                let at = start + t;
                let noise = |k: i64| unit(t * 1000 + k * 7 + i64::from(instance) * 31 + begins);
                let requests = 40.0 + (noise(1) * 20.0).round();
                for r in 0..requests as i64 {
                    e += f64::from(u8::from(noise(1000 + r) < rate));
                    let seconds = 0.02 * (noise(5000 + r) * 3.0).exp();
                    for (i, edge) in EDGES.iter().enumerate() {
                        below[i] += f64::from(u8::from(seconds <= *edge));
                    }
                }
                n += requests;
                up.push((at, 1.0));
                ok.push((at, n - e));
                failed.push((at, e));
                buckets.iter_mut().zip(below).for_each(|(b, v)| b.push((at, v)));
            }
            series.push((format!("up{{{labels}}}"), up));
            series.push((format!("http_requests_total{{{labels},code=\"200\"}}"), ok));
            series.push((format!("http_requests_total{{{labels},code=\"500\"}}"), failed));
            for (edge, values) in EDGES.iter().zip(buckets) {
                let le = if edge.is_finite() { edge.to_string() } else { "+Inf".to_owned() };
                series
                    .push((format!("http_request_duration_seconds_bucket{{{labels},le=\"{le}\"}}"), values));
            }
        }
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::new();
    let mut family = "";
    for (name, values) in &series {
        let of = ["up", "http_requests", "http_request_duration_seconds"];
        let found = of.into_iter().rfind(|f| name.starts_with(f)).unwrap();
        if found != family {
            let kind = ["gauge", "counter", "histogram"][of.iter().position(|f| *f == found).unwrap()];
            writeln!(out, "# TYPE {found} {kind}").unwrap();
            family = found;
        }
        values.iter().for_each(|(at, v)| writeln!(out, "{name} {v} {at}").unwrap());
    }
    out.push_str("# EOF\n");
    out
}

const EDGES: [f64; 6] = [0.025, 0.05, 0.1, 0.25, 0.5, f64::INFINITY];

/// Splitmix: the same on every machine.
fn unit(seed: i64) -> f64 {
    let mut z = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn davy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_davy")).args(args).output().expect("davy starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn judged(args: &[&str]) -> (Option<i32>, Value) {
    let output = davy(&[&["judge", "--service", "checkout", "--format", "json"], args].concat());
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|e| panic!("{e}: {output:?}")))
}

/// An hour and a half ago, on a full interval, so that a Prometheus takes it.
fn recent() -> i64 {
    let now = std::fs::metadata("/proc/self").and_then(|m| m.modified()).unwrap();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    now / 15 * 15 - 5400
}

#[test]
fn one_release_gives_one_verdict_wherever_it_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("release.txt");
    std::fs::write(&file, exposition(recent(), [0.01, 0.06])).unwrap();
    let (code, from_text) = judged(&["--openmetrics", text(&file)]);
    assert_eq!((code, from_text["verdict"].as_str()), (Some(1), Some("fail")), "{from_text}");
    assert!(from_text["reason"].as_str().unwrap().contains("errors"), "{from_text}");
    assert_eq!((from_text["baseline"].as_str(), from_text["canary"].as_str()), (Some("1"), Some("2")));

    let folder = dir.path().join("data");
    let imported = davy(&["import", "openmetrics", "--storage.path", text(&folder), text(&file)]);
    assert!(imported.status.success(), "{imported:?}");
    let (code, from_folder) = judged(&["--storage.path", text(&folder)]);
    assert_eq!((code, &from_folder["metrics"]), (Some(1), &from_text["metrics"]));

    let replayed = davy(&["replay", "--storage.path", text(&folder)]);
    let shown = String::from_utf8_lossy(&replayed.stdout);
    assert_eq!(replayed.status.code(), Some(1), "{shown}");
    assert!(shown.contains("checkout 1 → 2") && shown.contains("fail"), "{shown}");

    let (Some(prometheus), Some(promtool)) = (peer("prometheus"), peer("promtool")) else { return };
    let blocks = dir.path().join("blocks");
    let made = Command::new(promtool)
        .args(["tsdb", "create-blocks-from", "openmetrics", text(&file), text(&blocks)])
        .output()
        .expect("promtool starts");
    assert!(made.status.success(), "{made:?}");
    write(&dir.path().join("prometheus.yml"), "scrape_configs: []\n");
    let port = free_port();
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", blocks.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _prometheus = Process::start("prometheus", dir.path(), &mut command);
    wait_for_port(port);
    let url = format!("http://127.0.0.1:{port}");
    let (code, from_prometheus) = judged(&["--prometheus.url", &url, "--from", "2h"]);
    assert_eq!((code, &from_prometheus["metrics"]), (Some(1), &from_text["metrics"]));
}

#[test]
fn equal_versions_pass_or_say_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("release.txt");
    std::fs::write(&file, exposition(recent(), [0.01, 0.01])).unwrap();
    let (code, report) = judged(&["--openmetrics", text(&file)]);
    assert!(matches!(code, Some(0 | 3)), "{report}");
    let page = dir.path().join("report.html");
    let output = davy(&[
        "judge",
        "--openmetrics",
        text(&file),
        "--format",
        "html",
        "--report",
        text(&page),
        "--explain",
    ]);
    assert_eq!(output.status.code(), code, "{output:?}");
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("<svg") && page.contains("In plain words") && !page.contains("src="), "{page}");
    let explained = davy(&["judge", "--openmetrics", text(&file), "--explain"]);
    let explained = String::from_utf8_lossy(&explained.stdout);
    assert!(explained.contains("looks again every 15 s"), "{explained}");
}

#[test]
fn a_question_that_cannot_be_answered_says_what_would_help() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("release.txt");
    std::fs::write(&file, exposition(recent(), [0.01, 0.01])).unwrap();
    let file = text(&file);
    for (args, want) in [
        (vec!["judge"], "--prometheus.url"),
        (vec!["judge", "--openmetrics", file, "--canary", "9"], "its versions by `version`: 1, 2"),
        (vec!["judge", "--openmetrics", file, "--service", "cart"], "no versions"),
        (vec!["judge", "--openmetrics", file, "--baseline", "2", "--canary", "2"], "nothing to compare"),
        (vec!["judge", "--storage.path", "/nowhere"], "no such folder"),
        (vec!["judge", "--openmetrics", "/nowhere"], "/nowhere"),
        (vec!["judge", "--openmetrics", file, "--from", "soon"], "how long ago"),
        (vec!["judge", "--prometheus.url", "http://127.0.0.1:1", "--service", "x"], "127.0.0.1"),
        (vec!["gate", "--service", "x", "--url", "http://127.0.0.1:1"], "say where it listens"),
    ] {
        let output = davy(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(want), "{args:?}: {said}");
    }
}
