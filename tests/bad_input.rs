//! What Davy does when the world misbehaves: every case gets a clear error or a counted refusal, nothing stored is
//! lost, and being unable to see rolls nothing back.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Davy, Http, Inbox, Received, free_port, wait_for, write};

/// A raw HTTP target: each connection is handed to `answer` after its request was read.
fn target(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), answer) = (stream, answer.clone()) else { continue };
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                answer(&mut stream);
            });
        }
    });
    port
}

fn respond(stream: &mut TcpStream, headers: &str, body: &[u8]) {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

const TEXT: &str = "Content-Type: text/plain; version=0.0.4\r\n";

fn run_once(dir: &Path, config: &str, port: u16) -> Output {
    write(&dir.join("davy.yaml"), config);
    Command::new(env!("CARGO_BIN_EXE_davy"))
        .args(["run", "--headless", "--config.file"])
        .arg(dir.join("davy.yaml"))
        .arg("--storage.path")
        .arg(dir.join("data"))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .output()
        .expect("davy starts")
}

#[test]
fn misbehaving_targets_are_down_with_a_reason_and_hurt_nobody_else() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let healthy = target(|s| respond(s, TEXT, b"# TYPE served counter\nserved_total 7\n"));
    let hanging = target(|_| std::thread::sleep(Duration::from_secs(20)));
    let half_line = target(|s| respond(s, TEXT, b"a 1\nb{c=\"d"));
    let not_utf8 = target(|s| respond(s, TEXT, b"a{b=\"\xff\xfe\"} 1\n"));
    let year_9999 = target(|s| respond(s, TEXT, b"far_future 1 253402300799000\nnear 1\n"));
    let duplicates = target(|s| respond(s, TEXT, b"twice 1\ntwice 2\nonce 3\n"));
    let bomb = {
        // A gigabyte of newlines, a megabyte on the wire.
        let mut gz = flate2_bomb();
        gz.shrink_to_fit();
        target(move |s| respond(s, &format!("{TEXT}Content-Encoding: gzip\r\n"), &gz))
    };
    let refused = free_port();
    let job = |name: &str, port: u16| {
        format!(
            "- {{job_name: {name}, scrape_timeout: 900ms, static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]}}\n"
        )
    };
    let jobs: String = [
        ("healthy", healthy),
        ("hanging", hanging),
        ("half_line", half_line),
        ("not_utf8", not_utf8),
        ("year_9999", year_9999),
        ("duplicates", duplicates),
        ("bomb", bomb),
        ("refused", refused),
    ]
    .iter()
    .map(|(n, p)| job(n, *p))
    .collect();
    let davy = Davy::start(
        dir.path(),
        &format!("global: {{scrape_interval: 1s}}\n{{otlp}}\nscrape_configs:\n{jobs}"),
    );

    let jobs = [
        ("healthy", 1.0, ""),
        ("hanging", 0.0, "timeout"),
        ("half_line", 0.0, "parse"),
        ("not_utf8", 0.0, "parse"),
        ("year_9999", 1.0, ""),
        ("duplicates", 1.0, ""),
        ("bomb", 0.0, "limit"),
        ("refused", 0.0, "refused"),
    ];
    let reason = |job: &str| {
        let targets = davy.json("/api/v1/targets");
        let all = targets["data"]["activeTargets"].as_array().expect("a list");
        let t = all.iter().find(|t| t["scrapePool"] == job).expect("the job has a target");
        (t["reason"].as_str().unwrap_or("").to_owned(), t["lastError"].as_str().unwrap_or("").to_owned())
    };
    // On a busy machine a healthy target may be late once, and a hanging one is not known to hang before it has.
    for (job, up, class) in jobs {
        wait_for(&format!("{job} to be up {up} with the reason {class:?}"), 30, || {
            let found = davy.query(&format!("up{{job=\"{job}\"}}"));
            let (got, error) = reason(job);
            let told = got == class && (class.is_empty() || !error.is_empty());
            (found.first().is_some_and(|f| f.1 == up) && told).then_some(())
        });
    }
    assert!(reason("half_line").1.contains("line 2"), "{}", reason("half_line").1);
    assert!(
        davy.query("far_future").is_empty() && davy.query("near").len() == 1,
        "only the impossible time is refused"
    );
    assert_eq!(davy.query("twice")[0].1, 1.0, "the first of a duplicate is kept");
    assert_eq!(davy.query("served_total")[0].1, 7.0);

    let status =
        std::fs::read_to_string(format!("/proc/{}/status", davy.process.child.id())).expect("procfs");
    let peak: u64 = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .expect("procfs names the peak");
    assert!(peak < 400 << 10, "a gigabyte of gzip did not get into memory: peak {peak} KiB");
}

/// One GiB of newlines, gzipped by blocks so that the test itself stays small.
fn flate2_bomb() -> Vec<u8> {
    let mut child = Command::new("sh")
        .args(["-c", "head -c 1073741824 /dev/zero | tr '\\0' '\\n' | gzip -1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut gz = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut gz).expect("gzip writes");
    child.wait().expect("gzip ends");
    gz
}

#[test]
fn a_bad_file_is_refused_with_line_field_and_remedy() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = "scrape_configs:\n- job_name: a\n  scrape_intervall: 15s\n\
                  - job_name: b\n  relabel_configs: [{regex: '(', action: keep}]\n\
                  route: {receiver: team}\nreceivers:\n- {name: team}\n- {name: team}\n";
    let output = run_once(dir.path(), config, free_port());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for part in [
        "davy.yaml:3:",
        "scrape_intervall",
        "scrape_interval",
        "davy.yaml:5:",
        "regex",
        "davy.yaml:9:",
        "team",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    assert!(!dir.path().join("data").exists(), "nothing is created before the file is right");
}

#[test]
fn a_port_in_use_and_a_folder_in_use_are_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let davy = Davy::start(dir.path(), "{otlp}\n");
    let other = tempfile::tempdir().expect("a temporary folder");
    let otlp =
        format!("otlp: {{grpc: \"127.0.0.1:{}\", http: \"127.0.0.1:{}\"}}\n", free_port(), free_port());

    let taken = run_once(other.path(), &otlp, davy.port);
    let said = String::from_utf8_lossy(&taken.stderr);
    assert!(!taken.status.success() && said.contains(&format!("127.0.0.1:{}", davy.port)), "{said}");
    assert!(said.contains("--web.listen-address"), "{said}");

    let locked = run_once(dir.path(), &otlp, free_port());
    let said = String::from_utf8_lossy(&locked.stderr);
    assert!(!locked.status.success() && said.contains("data"), "{said}");

    let exposed = Command::new(env!("CARGO_BIN_EXE_davy"))
        .args(["run", "--headless", "--web.listen-address=0.0.0.0:9600", "--config.file"])
        .arg(other.path().join("davy.yaml"))
        .output()
        .expect("davy starts");
    let said = String::from_utf8_lossy(&exposed.stderr);
    assert!(!exposed.status.success() && said.contains("loopback"), "{said}");
}

#[test]
fn otlp_that_is_not_otlp_gets_the_right_status() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let davy = Davy::start(dir.path(), "{otlp}\n");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client can be built");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be built");
    let post = |path: &str, kind: &str, body: Vec<u8>| {
        let request = client
            .post(format!("http://127.0.0.1:{}{path}", davy.otlp_http))
            .header("content-type", kind)
            .body(body);
        runtime.block_on(async { request.send().await.ok().map(|r| r.status().as_u16()) })
    };
    assert_eq!(post("/v1/traces", "application/x-protobuf", b"not protobuf at all".to_vec()), Some(400));
    assert_eq!(post("/v1/metrics", "application/json", b"{".to_vec()), Some(400));
    assert_eq!(post("/v1/traces", "text/plain", b"x".to_vec()), Some(415));
    // Who is refused while still sending may find the connection closed before reading why.
    let too_large = post("/v1/traces", "application/x-protobuf", vec![0; 6 << 20]);
    assert!(matches!(too_large, Some(413) | None), "{too_large:?}");
    assert_eq!(
        post("/v1/traces", "application/x-protobuf", Vec::new()),
        Some(200),
        "an empty request is right"
    );
}

#[test]
fn a_receiver_that_fails_then_works_gets_its_alert_and_a_dead_one_blocks_nobody() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let http = Http::new();
    let attempts = Arc::new(AtomicU64::new(0));
    let counted = attempts.clone();
    // 500 at first, then 200.
    let flaky = target(move |s| {
        let ok = counted.fetch_add(1, Ordering::SeqCst) >= 2;
        let status = if ok { "200 OK" } else { "500 Internal Server Error" };
        let _ = write!(s, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let never = target(|_| std::thread::sleep(Duration::from_secs(60)));
    let gone = target(|s| {
        let _ = write!(s, "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let inbox = Inbox::start(&http, Arc::new(|_| {}));
    let jump = Arc::new(AtomicBool::new(false));
    let jumped = jump.clone();
    let gauge = target(move |s| {
        let v = if jumped.load(Ordering::SeqCst) { 900.0 } else { 100.0 };
        respond(s, TEXT, format!("# TYPE queue_lag gauge\nqueue_lag {v}\n").as_bytes());
    });
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n{{otlp}}\nscrape_configs:\n\
         - {{job_name: worker, static_configs: [{{targets: [\"127.0.0.1:{gauge}\"]}}]}}\n\
         thresholds:\n- {{name: lag, query: queue_lag, alert: true, for: 2s}}\n\
         route: {{receiver: all}}\nreceivers:\n- name: all\n  webhook_configs:\n\
         \x20 - {{url: \"http://127.0.0.1:{flaky}/\"}}\n  - {{url: \"http://127.0.0.1:{never}/\"}}\n\
         \x20 - {{url: \"http://127.0.0.1:{0}/alerts\"}}\n  - {{url: \"http://127.0.0.1:{gone}/\"}}\n",
        inbox.port
    );
    let davy = Davy::start(dir.path(), &config);
    wait_for("the band to be learned", 120, || {
        let watched = davy.json("/api/davy/v1/thresholds");
        watched.as_array()?.iter().find(|w| w["threshold"] == "lag" && w["upper"].is_number()).map(|_| ())
    });
    assert!(inbox.received("/alerts").is_empty(), "a steady gauge is no anomaly");
    jump.store(true, Ordering::SeqCst);
    let alert =
        wait_for("the alert of the gauge that jumped", 60, || inbox.received("/alerts").into_iter().next());
    assert_eq!(alert.body["alerts"][0]["labels"]["alertname"], "DynamicThreshold", "{:#}", alert.body);
    wait_for("the flaky receiver to have been tried until it worked", 60, || {
        (attempts.load(Ordering::SeqCst) >= 3).then_some(())
    });
    let told = wait_for("an alert about the receiver that refuses", 60, || {
        let labels = |a: &Received| a.body["alerts"][0]["labels"].clone();
        let all = inbox.received("/alerts");
        all.iter().map(labels).find(|l| l["alertname"] == "MessageNotDelivered")
    });
    assert_eq!((&told["receiver"], &told["integration"]), (&"all".into(), &"3".into()));
}

#[test]
fn losing_sight_of_the_canary_rolls_nothing_back() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let http = Http::new();
    let inbox = Inbox::start(&http, Arc::new(|_| {}));
    let blind = Arc::new(AtomicBool::new(false));
    let served = |version: &'static str, blind: Arc<AtomicBool>| {
        let n = AtomicU64::new(0);
        target(move |s| {
            if blind.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_secs(3));
                return;
            }
            let n = n.fetch_add(200, Ordering::SeqCst);
            let body = format!(
                "# TYPE http_requests counter\nhttp_requests_total{{code=\"200\"}} {n}\nhttp_requests_total{{code=\"500\"}} {}\n\
                 # TYPE build_info gauge\nbuild_info{{v=\"{version}\"}} 1\n",
                n / 1000
            );
            respond(s, TEXT, body.as_bytes());
        })
    };
    let v1 = [served("v1", blind.clone()), served("v1", blind.clone())];
    let v2 = [served("v2", blind.clone()), served("v2", blind.clone())];
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n{{otlp}}\nscrape_configs:\n\
         - job_name: checkout\n  static_configs:\n\
         \x20 - {{targets: [\"127.0.0.1:{}\", \"127.0.0.1:{}\"], labels: {{version: v1}}}}\n\
         \x20 - {{targets: [\"127.0.0.1:{}\", \"127.0.0.1:{}\"], labels: {{version: v2}}}}\n\
         releases: [{{service: checkout, baseline: {{version: v1}}, canary: {{version: v2}}, policy: {{interval: 1s, warm_up: 2s, on_fail: rollback}}, actions: {{rollback: r}}}}]\n\
         actions: {{r: {{webhook: {{url: \"http://127.0.0.1:{}/rollback\"}}}}}}\n",
        v1[0], v1[1], v2[0], v2[1], inbox.port
    );
    let davy = Davy::start(dir.path(), &config);
    wait_for("the release to be judged", 60, || {
        davy.releases().into_iter().find(|r| r["intervals"].as_u64().unwrap_or(0) >= 5)
    });
    blind.store(true, Ordering::SeqCst);
    let contract = wait_for("blindness to be said", 60, || {
        davy.releases().into_iter().find(|r| r["contract"] != "ok").map(|r| r["contract"].clone())
    });
    assert!(
        ["blind", "canary_missing", "baseline_missing"].contains(&contract.as_str().unwrap_or("")),
        "{contract}"
    );
    std::thread::sleep(Duration::from_secs(10));
    let release = &davy.releases()[0];
    assert_eq!(release["verdict"], "insufficient", "{release:#}");
    assert!(inbox.received("/rollback").is_empty(), "blindness rolls nothing back");
}
