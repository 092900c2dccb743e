//! The main job on software that nobody here wrote: two versions of a Python service (prometheus_client, the
//! OpenTelemetry SDK) behind nginx `split_clients`, mail through aiosmtpd, and `davy run` on a file of ten lines.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{Davy, Http, Inbox, Process, Smtp, free_port, peer, python, wait_for, wait_for_port, write};

/// nginx in front of two versions; rewriting the split and reloading is how this team rolls back.
struct Split {
    nginx: PathBuf,
    dir: PathBuf,
    port: u16,
    stable: Vec<u16>,
    canary: Vec<u16>,
}

impl Split {
    fn write(&self, canary_percent: u32) {
        let upstream = |name: &str, ports: &[u16]| {
            let servers: String = ports.iter().map(|p| format!("    server 127.0.0.1:{p};\n")).collect();
            format!("  upstream {name} {{\n{servers}    keepalive 32;\n  }}\n")
        };
        let share =
            if canary_percent > 0 { format!("    {canary_percent}% canary;\n") } else { String::new() };
        let dir = self.dir.display();
        let config = format!(
            "worker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx-error.log;\n\
             events {{ worker_connections 512; }}\nhttp {{\n  access_log off;\n\
             \x20 client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
             \x20 uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
             {}{}  split_clients \"$request_id\" $backend {{\n{share}    * stable;\n  }}\n\
             \x20 server {{\n    listen 127.0.0.1:{};\n    location / {{\n      proxy_pass http://$backend;\n\
             \x20     proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n",
            upstream("stable", &self.stable),
            upstream("canary", &self.canary),
            self.port
        );
        write(&self.dir.join("nginx.conf"), &config);
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.nginx);
        command.arg("-c").arg(self.dir.join("nginx.conf")).args(["-g", "daemon off;"]);
        command
    }

    fn reload(&self) {
        let status = Command::new(&self.nginx)
            .arg("-c")
            .arg(self.dir.join("nginx.conf"))
            .args(["-s", "reload"])
            .status();
        assert!(status.expect("nginx runs").success(), "nginx reloads");
    }
}

fn checkout(python: &Path, dir: &Path, version: &str, port: u16, otlp: u16) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python/checkout.py");
    let mut command = Command::new(python);
    command.arg(script).args([
        "--version",
        version,
        "--port",
        &port.to_string(),
        "--seed",
        &port.to_string(),
    ]);
    command.args(["--otlp", &format!("http://127.0.0.1:{otlp}")]);
    let process = Process::start(&format!("{version}-{port}"), dir, &mut command);
    wait_for_port(port);
    process
}

#[test]
fn a_bad_canary_behind_nginx_is_rolled_back_and_people_are_told() {
    let (Some(nginx), Some(python)) = (peer("nginx"), python()) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let http = Http::new();
    let split = Arc::new(Split {
        nginx,
        dir: dir.path().to_owned(),
        port: free_port(),
        stable: vec![free_port(), free_port()],
        canary: vec![free_port(), free_port()],
    });
    split.write(50);

    let on_rollback = split.clone();
    let inbox = Inbox::start(
        &http,
        Arc::new(move |request| {
            if request.path == "/rollback" {
                on_rollback.write(0);
                on_rollback.reload();
            }
        }),
    );
    let smtp = Smtp::start(&python, dir.path());

    let targets =
        |ports: &[u16]| ports.iter().map(|p| format!("\"127.0.0.1:{p}\"")).collect::<Vec<_>>().join(", ");
    let (stable, canary, inbox_port, smtp_port) =
        (targets(&split.stable), targets(&split.canary), inbox.port, smtp.port);
    let config = format!(
        "global: {{scrape_interval: 1s, smtp_smarthost: \"127.0.0.1:{smtp_port}\", smtp_from: davy@example.org, smtp_require_tls: false}}\n\
         {{otlp}}\n\
         scrape_configs:\n\
         - {{job_name: checkout, static_configs: [{{targets: [{stable}], labels: {{version: v1}}}}, {{targets: [{canary}], labels: {{version: v2}}}}]}}\n\
         releases:\n\
         - {{service: checkout, policy: {{interval: 1s, warm_up: 3s, on_fail: rollback, verify_timeout: 30s}}, actions: {{rollback: to-stable}}}}\n\
         actions: {{to-stable: {{webhook: {{url: \"http://127.0.0.1:{inbox_port}/rollback\"}}}}}}\n\
         route: {{receiver: team}}\n\
         receivers:\n\
         - {{name: team, webhook_configs: [{{url: \"http://127.0.0.1:{inbox_port}/alerts\"}}], slack_configs: [{{api_url: \"http://127.0.0.1:{inbox_port}/slack\"}}], email_configs: [{{to: team@example.org}}]}}\n"
    );
    let mut davy = Davy::start(dir.path(), &config);

    // The baseline lives first, and is seen to.
    let mut services: Vec<Process> =
        split.stable.iter().map(|p| checkout(&python, dir.path(), "v1", *p, davy.otlp_http)).collect();
    wait_for("the baseline to be seen", 30, || {
        (davy.query("sum(up{version=\"v1\"})").first()?.1 == 2.0).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    services.extend(split.canary.iter().map(|p| checkout(&python, dir.path(), "v2", *p, davy.otlp_http)));
    let _nginx = Process::start("nginx", dir.path(), &mut split.command());
    wait_for_port(split.port);
    let _load =
        http.load(&format!("http://127.0.0.1:{}/checkout", split.port), 12, Duration::from_millis(40));

    let release = wait_for("the release to be seen", 60, || {
        davy.releases().into_iter().find(|r| r["intervals"].as_u64().unwrap_or(0) >= 8)
    });
    assert_eq!(
        (&release["service"], &release["baseline"], &release["canary"]),
        (&"checkout".into(), &"v1".into(), &"v2".into())
    );
    assert_ne!(release["verdict"], "fail", "a healthy canary does not fail: {release:#}");
    assert!(inbox.received("/rollback").is_empty(), "nothing is rolled back before there is a regression");

    for port in &split.canary {
        http.send("PUT", &format!("http://127.0.0.1:{port}/error-rate/0.05"), "")
            .expect("the fault is injected");
    }
    let done = wait_for("the rollback to be verified", 120, || {
        davy.releases().into_iter().find(|r| r["phase"] == "rolled_back" || r["phase"] == "needs_human")
    });
    assert_eq!(done["phase"], "rolled_back", "{done:#}\n{}", davy.process.log());

    let calls = inbox.received("/rollback");
    assert_eq!(calls.len(), 1, "the webhook is called once");
    let call = &calls[0];
    assert_eq!(call.body["action"], "rollback");
    assert_eq!((&call.body["from_version"], &call.body["to_version"]), (&"v2".into(), &"v1".into()));
    assert_eq!(call.body["expect"]["generation"], done["generation"]);
    assert!(call.headers.contains_key("idempotency-key"));

    let errors =
        done["metrics"].as_array().expect("metrics").iter().find(|m| m["name"] == "errors").expect("errors");
    assert!(errors["canary"].as_f64() > errors["baseline"].as_f64(), "{errors:#}");

    let firing = |r: &common::Received| r.body["status"] == "firing" && r.body["version"] == "4";
    wait_for("the webhook's alert", 20, || inbox.received("/alerts").iter().find(|r| firing(r)).cloned());
    wait_for("Slack's shape of body", 20, || {
        inbox
            .received("/slack")
            .into_iter()
            .find(|r| r.body["text"].as_str().is_some_and(|t| t.contains("checkout")))
    });
    wait_for("the mail", 20, || {
        smtp.mails().into_iter().find(|m| m.contains("To: team@example.org") && m.contains("checkout"))
    });

    // Spans of both versions arrived by the OpenTelemetry SDK and are on disk.
    let spans = davy.query("count by (version) (traces_spanmetrics_calls_total{service=\"checkout\"})");
    assert_eq!(spans.len(), 2, "{spans:?}");

    // What was decided survives a kill, and is not done twice.
    davy.restart();
    let after = davy.releases();
    assert_eq!(after[0]["phase"], "rolled_back", "{after:#?}");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(inbox.received("/rollback").len(), 1, "a restart rolls nothing back again");
}
