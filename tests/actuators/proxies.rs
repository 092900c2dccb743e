//! HAProxy, nginx and etcd from Debian.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use davy_alerting::config::{ActuatorConfig, EtcdAction, HaproxyAction, HaproxySocket, NginxAction};
use davy_alerting::release::{CallOutcome, Desired};
use serde_json::json;

use crate::common::{Http, Process, free_port, peer, wait_for, wait_for_port, write};
use crate::kit::{Target, actuator, conforms, expect, is_away, request, subject};

const TIMEOUT: Duration = Duration::from_secs(5);

fn talk(socket: &Path, command: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("HAProxy listens");
    stream.write_all(format!("{command}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn haproxy_conforms() {
    let Some(haproxy) = peer("haproxy") else { return };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let config = format!(
        "global\n  stats socket {} mode 600 level admin\ndefaults\n  mode http\n  timeout connect 1s\n  \
         timeout client 5s\n  timeout server 5s\nfrontend in\n  bind 127.0.0.1:{}\n  default_backend shop\n\
         backend shop\n  server stable1 127.0.0.1:1 weight 100\n  server stable2 127.0.0.1:1 weight 100\n  \
         server canary1 127.0.0.1:1 weight 0\n",
        socket.display(),
        free_port()
    );
    write(&dir.path().join("haproxy.cfg"), &config);
    let mut command = Command::new(haproxy);
    command.arg("-f").arg(dir.path().join("haproxy.cfg")).arg("-db");
    let mut process = Process::start("haproxy", dir.path(), &mut command);
    wait_for("HAProxy's socket", 10, || socket.exists().then_some(()));

    let config = ActuatorConfig::Haproxy(HaproxyAction {
        socket: HaproxySocket::Unix(socket.clone()),
        backend: "shop".into(),
        baseline: vec!["stable1".into(), "stable2".into()],
        canary: vec!["canary1".into()],
        timeout: TIMEOUT,
    });
    let someone_sets = move |percent: u8| {
        let (b, c) = ((100 - u32::from(percent)) / 2, percent);
        let said = talk(
            &socket,
            &format!("set weight shop/stable1 {b}; set weight shop/stable2 {b}; set weight shop/canary1 {c}"),
        );
        assert_eq!(said.trim(), "");
    };
    // Two servers of the baseline: 74 to 25 is what whole weights allow.
    (someone_sets)(25);
    let davy = actuator(&config);
    let first = davy.read(&subject()).await.unwrap();
    let outcome = davy.call(&request(Desired::Share(25), Some(expect(&first)))).await;
    assert!(matches!(outcome, CallOutcome::Accepted { .. }), "{outcome:?}");
    let exact = move |percent: u8| {
        let (b, c) = if percent == 25 { (3, 2) } else { (u32::from(100 - percent), 2 * u32::from(percent)) };
        let socket = dir.path().join("admin.sock");
        talk(
            &socket,
            &format!("set weight shop/stable1 {b}; set weight shop/stable2 {b}; set weight shop/canary1 {c}"),
        );
    };
    conforms(&Target { config: config.clone(), someone_sets: Box::new(exact) }).await;
    process.kill();
    is_away(&config).await;
}

#[tokio::test]
async fn nginx_conforms_and_keeps_its_rules_when_the_new_ones_are_wrong() {
    let Some(nginx) = peer("nginx") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (file, main) = (dir.path().join("split.conf"), dir.path().join("nginx.conf"));
    let d = dir.path().display();
    let conf = format!(
        "worker_processes 1;\npid {d}/nginx.pid;\nerror_log {d}/error.log;\nevents {{ worker_connections 64; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;\n  \
         uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;\n  upstream stable {{ server 127.0.0.1:1; }}\n  \
         upstream canary {{ server 127.0.0.1:1; }}\n  include {d}/split.conf;\n  server {{\n    \
         listen 127.0.0.1:{};\n    location / {{ proxy_pass http://$arm; }}\n  }}\n}}\n",
        free_port()
    );
    write(&main, &conf);
    write(&file, "split_clients \"$request_id\" $arm {\n    * stable;\n}\n");
    let mut command = Command::new(&nginx);
    command.arg("-c").arg(&main).args(["-g", "daemon off;"]);
    let _process = Process::start("nginx", dir.path(), &mut command);
    wait_for("nginx", 10, || dir.path().join("nginx.pid").exists().then_some(()));

    let program = |arguments: &[&str]| {
        let first = [nginx.display().to_string(), "-c".into(), main.display().to_string()];
        first.into_iter().chain(arguments.iter().map(|a| (*a).to_owned())).collect::<Vec<String>>()
    };
    let good = NginxAction {
        file: file.clone(),
        key: "$request_id".into(),
        variable: "arm".into(),
        baseline: "stable".into(),
        canary: "canary".into(),
        test: program(&["-t"]),
        reload: program(&["-s", "reload"]),
        timeout: TIMEOUT,
    };
    let config = ActuatorConfig::Nginx(good.clone());
    let by_hand = file.clone();
    let edits = AtomicU64::new(0);
    let someone_sets = Box::new(move |percent: u8| {
        let text = format!("split_clients \"$request_id\" $arm {{\n  {percent}% canary;\n  * stable;\n}}\n");
        // An editor leaves its own marks.
        let edit = edits.fetch_add(1, Ordering::Relaxed);
        write(&by_hand, &format!("# by hand, {edit}\n{text}"));
    });
    conforms(&Target { config, someone_sets }).await;

    // A test that fails: the old file stays.
    let wrong = ActuatorConfig::Nginx(NginxAction { test: vec!["false".into()], ..good });
    let davy = actuator(&wrong);
    let before = davy.read(&subject()).await.unwrap();
    let outcome = davy.call(&request(Desired::Share(50), Some(expect(&before)))).await;
    assert!(
        matches!(&outcome, CallOutcome::Rejected { detail } if detail.contains("does not take it")),
        "{outcome:?}"
    );
    assert_eq!(davy.read(&subject()).await.unwrap(), before);
}

#[tokio::test]
async fn etcd_conforms() {
    let Some(etcd) = peer("etcd") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (client, other) = (free_port(), free_port());
    let url = format!("http://127.0.0.1:{client}");
    let mut command = Command::new(etcd);
    command.arg("--data-dir").arg(dir.path().join("data"));
    for (flag, value) in [
        ("--listen-client-urls", url.clone()),
        ("--advertise-client-urls", url.clone()),
        ("--listen-peer-urls", format!("http://127.0.0.1:{other}")),
        ("--initial-advertise-peer-urls", format!("http://127.0.0.1:{other}")),
        ("--initial-cluster", format!("default=http://127.0.0.1:{other}")),
    ] {
        command.arg(flag).arg(value);
    }
    let mut process = Process::start("etcd", dir.path(), &mut command);
    wait_for_port(client);

    let config = ActuatorConfig::Etcd(EtcdAction {
        endpoint: url.clone().into(),
        key: "/releases/checkout".into(),
        auth: None,
        timeout: TIMEOUT,
        http: Default::default(),
    });
    let put = move |percent: u8| {
        use base64::Engine as _;
        let base64 = |t: &str| base64::engine::general_purpose::STANDARD.encode(t);
        let value = json!({"baseline": "v1", "canary": "v2", "share": percent}).to_string();
        let body = json!({"key": base64("/releases/checkout"), "value": base64(&value)}).to_string();
        // The test's own runtime must not be blocked within itself.
        let url = format!("{url}/v3/kv/put");
        std::thread::spawn(move || {
            wait_for("etcd", 10, || Http::new().send("POST", &url, &body).filter(|r| r.0 == 200))
        })
        .join()
        .unwrap();
    };
    put(0);
    conforms(&Target { config: config.clone(), someone_sets: Box::new(put) }).await;
    process.kill();
    is_away(&config).await;
}
