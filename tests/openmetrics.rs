//! Import and export on the real binary: against promtool, against the strict parser of the Python client, and
//! against `kill -9` in the middle.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{peer, python};
use davy_model::{Clock as _, Timestamp};
use davy_store::{Options, Store};

const START: i64 = 1_767_225_600;

fn davy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_davy")).args(args).output().expect("davy starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Two days of a counter, a histogram and a gauge of two instances.
fn exposition() -> String {
    let mut out = String::new();
    for metric in ["counter", "histogram", "gauge"] {
        match metric {
            "counter" => out.push_str("# TYPE orders counter\n# HELP orders Orders \\\"taken\\\".\n"),
            "histogram" => out.push_str("# TYPE wait_seconds histogram\n# UNIT wait_seconds seconds\n"),
            _ => out.push_str("# TYPE odd gauge\n"),
        }
        for instance in ["a", "b"] {
            for t in (0..2 * 86_400).step_by(600) {
                let (at, n) = (START - 2 * 86_400 + t, t / 600);
                match metric {
                    "counter" => {
                        let exemplar = if n % 7 == 0 { " # {trace_id=\"ab\"} 1.0" } else { "" };
                        writeln!(out, "orders_total{{instance=\"{instance}\"}} {n} {at}.5{exemplar}")
                            .unwrap();
                    }
                    "histogram" => {
                        for (le, v) in [("0.1", n / 2), ("1.0", n), ("+Inf", n + 1)] {
                            writeln!(
                                out,
                                "wait_seconds_bucket{{instance=\"{instance}\",le=\"{le}\"}} {v} {at}"
                            )
                            .unwrap();
                        }
                        writeln!(out, "wait_seconds_count{{instance=\"{instance}\"}} {} {at}", n + 1)
                            .unwrap();
                        writeln!(out, "wait_seconds_sum{{instance=\"{instance}\"}} {}.25 {at}", n * 3)
                            .unwrap();
                    }
                    _ => {
                        let odd = ["NaN", "+Inf", "-Inf", "-0.0", "1e-300", "0.1"][(n % 6) as usize];
                        writeln!(out, "odd{{instance=\"{instance}\",text=\"x\\\\y\\\"z\\n\"}} {odd} {at}")
                            .unwrap();
                    }
                }
            }
        }
    }
    out + "# EOF\n"
}

const SAMPLES: usize = 2 * 288 * 7;

#[test]
fn an_export_is_read_by_promtool_and_by_the_strict_parser_and_imports_as_it_was() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("in.om"), exposition()).expect("the file can be written");
    let said =
        ok(&davy(&["import", "openmetrics", "--storage.path", text(&path("a")), text(&path("in.om"))]));
    assert!(said.contains(&format!("{SAMPLES} samples imported into 2 partitions")), "{said}");
    assert!(said.contains("exemplars left out"), "{said}");
    let out = path("out.om");
    let said =
        ok(&davy(&["export", "openmetrics", "--storage.path", text(&path("a")), "--output", text(&out)]));
    assert!(said.contains(&format!("{SAMPLES} samples of 14 series exported")), "{said}");
    ok(&davy(&["import", "openmetrics", "--storage.path", text(&path("b")), text(&out)]));
    let again = davy(&["export", "openmetrics", "--storage.path", text(&path("b"))]);
    ok(&again);
    let exported = std::fs::read(&out).expect("the export can be read");
    assert!(again.stdout == exported, "export, import, export: the same bytes");

    if let Some(promtool) = peer("promtool") {
        let blocks = path("blocks");
        // Promtool makes blocks without the log that it wants to see when it reads them.
        std::fs::create_dir_all(blocks.join("wal")).expect("the folder can be made");
        let made = Command::new(&promtool)
            .args(["tsdb", "create-blocks-from", "openmetrics", text(&out), text(&blocks)])
            .output()
            .expect("promtool starts");
        ok(&made);
        let dump =
            Command::new(&promtool).args(["tsdb", "dump", text(&blocks)]).output().expect("promtool starts");
        ok(&dump);
        let dumped = String::from_utf8_lossy(&dump.stdout).into_owned();
        assert_eq!(dumped.lines().count(), SAMPLES, "promtool holds every sample");
        let last = format!(" {} {}", 287, (START - 600) * 1000 + 500);
        let found =
            dumped.lines().filter(|l| l.starts_with("{__name__=\"orders_total\"") && l.ends_with(&last));
        assert_eq!(found.count(), 2, "with its value and time");
    }
    if let Some(python) = python() {
        // The parser does not take a histogram at several times, however it is written.
        let script = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as p\n\
                      fs = list(p(''.join(l for l in open(sys.argv[1]) if 'wait_seconds' not in l)))\n\
                      print(sum(len(f.samples) for f in fs), sorted((f.name, f.type, f.unit) for f in fs))";
        let parsed = Command::new(python).args(["-c", script, text(&out)]).output().expect("python starts");
        ok(&parsed);
        // Four of the fourteen series are left.
        let want = format!("{} [('odd', 'gauge', ''), ('orders', 'counter', '')]", SAMPLES / 14 * 4);
        assert_eq!(String::from_utf8_lossy(&parsed.stdout).trim(), want);
    }
}

/// Samples in each of the partitions that a reader sees.
fn held(data: &Path) -> Vec<usize> {
    let now = davy::clock::SystemClock.now();
    let Ok((store, _)) = Store::open(data, now, Options::default()) else { return vec![] };
    let day = |n: i64| Timestamp::from_millis((START - n * 86_400) * 1000);
    let count = |n: i64| {
        let last = day(n - 1) - Duration::from_millis(1);
        let found = store.snapshot().select(&[], day(n), last).expect("the store can be read");
        found.iter().map(|s| s.samples.len()).sum()
    };
    (1..=4).rev().map(count).collect()
}

#[test]
fn an_import_that_is_killed_leaves_whole_partitions_or_none_and_can_be_repeated() {
    const SERIES: usize = 40;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("in.om");
    let mut body = String::new();
    for n in 0..SERIES {
        for t in (0..4 * 86_400).step_by(60) {
            let at = START - 4 * 86_400 + t;
            writeln!(body, "m{{n=\"{n}\"}} {}.{} {at}", t / 60 * 31 % 1009, n).unwrap();
        }
    }
    std::fs::write(&file, body + "# EOF\n").expect("the file can be written");
    let whole = SERIES * 1440;
    let mut cut_short = 0;
    for delay_ms in [20, 60, 150, 250, 400, 700] {
        let data = dir.path().join(format!("data-{delay_ms}"));
        let mut import = Command::new(env!("CARGO_BIN_EXE_davy"))
            .args(["import", "openmetrics", "--storage.path", text(&data), text(&file)])
            .stderr(Stdio::null())
            .spawn()
            .expect("davy starts");
        std::thread::sleep(Duration::from_millis(delay_ms));
        cut_short += usize::from(import.try_wait().expect("a child can be asked").is_none());
        let _ = import.kill();
        let _ = import.wait();
        let days = held(&data);
        assert!(days.iter().all(|n| *n == 0 || *n == whole), "after {delay_ms} ms: {days:?}");
        ok(&davy(&["import", "openmetrics", "--storage.path", text(&data), text(&file)]));
        assert_eq!(held(&data), [whole; 4], "after {delay_ms} ms and once more");
    }
    assert!(cut_short > 0, "no import was killed in its middle");
}
