//! What the whole-app tests share: real programs as child processes that end with the test, free ports, an inbox
//! for webhooks, and the release API.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde_json::Value;

/// Steps of a wait; with [`wait_for`] a deadline is a number of steps, so that no test reads a clock.
const STEP: Duration = Duration::from_millis(100);

/// A program of the machine, or `None` with a word on standard error. With `DAVY_REQUIRE_PEERS=1`, as in
/// `.ci/run`, a missing program fails the test.
pub fn peer(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = path.split(':').map(|d| Path::new(d).join(program)).find(|p| p.is_file());
    missing(found, program, "apt-get install it, or run .ci/peers")
}

/// A program that no package brings everywhere: by the path in the variable, or by its name. Skipped without it.
pub fn optional_peer(program: &str, variable: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let named = std::env::var_os(variable).map(PathBuf::from);
    let found =
        named.into_iter().chain(path.split(':').map(|d| Path::new(d).join(program))).find(|p| p.is_file());
    if found.is_none() {
        eprintln!("skipped in part: no {program}; name one in {variable}");
    }
    found
}

/// A Python with the packages of fixtures/python/requirements.txt.
pub fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = std::env::var("DAVY_TEST_PYTHON").ok().map(PathBuf::from);
    let candidates =
        candidates.into_iter().chain([root.join("target/peers/venv/bin/python"), "python3".into()]);
    let probe = "import prometheus_client, opentelemetry.sdk, aiosmtpd";
    let usable = |p: &PathBuf| {
        let run = Command::new(p).args(["-c", probe]).stderr(Stdio::null()).status();
        run.is_ok_and(|s| s.success())
    };
    missing(
        candidates.into_iter().find(usable),
        "python with fixtures/python/requirements.txt",
        "run .ci/peers",
    )
}

fn missing(found: Option<PathBuf>, what: &str, how: &str) -> Option<PathBuf> {
    if found.is_none() {
        assert!(std::env::var_os("DAVY_REQUIRE_PEERS").is_none(), "{what} is missing: {how}");
        eprintln!("skipped: {what} is missing: {how}");
    }
    found
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A child process that is killed when the test ends, however it ends.
pub struct Process {
    pub child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `dir/name.log`.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file =
            std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("the log can be created");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be cloned"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Polls until `probe` gives something; panics with `what` after `seconds`.
pub fn wait_for<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let steps = seconds * 1000 / STEP.as_millis() as u64;
    for _ in 0..steps {
        if let Some(found) = probe() {
            return found;
        }
        thread::sleep(STEP);
    }
    panic!("waited {seconds} s for {what}");
}

pub fn wait_for_port(port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_for(&format!("{address} to listen"), 20, || TcpStream::connect_timeout(&address, STEP).ok());
}

/// `davy run` as a user starts it.
pub struct Davy {
    pub process: Process,
    pub port: u16,
    pub otlp_http: u16,
    pub otlp_grpc: u16,
    dir: PathBuf,
    http: Http,
}

impl Davy {
    /// Starts on `dir/davy.yaml`; `{otlp}` in `config` becomes the `otlp:` section with free ports.
    pub fn start(dir: &Path, config: &str) -> Self {
        let (port, otlp_grpc, otlp_http) = (free_port(), free_port(), free_port());
        let otlp = format!("otlp: {{grpc: \"127.0.0.1:{otlp_grpc}\", http: \"127.0.0.1:{otlp_http}\"}}");
        std::fs::write(dir.join("davy.yaml"), config.replace("{otlp}", &otlp))
            .expect("the file can be written");
        let mut davy = Self {
            process: spawn(dir, port),
            port,
            otlp_http,
            otlp_grpc,
            dir: dir.to_owned(),
            http: Http::new(),
        };
        davy.wait_ready();
        davy
    }

    /// The same command again, on the same file and data.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.dir, self.port);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        let url = self.url("/-/ready");
        wait_for("davy to be ready", 30, || {
            if let Ok(Some(status)) = self.process.child.try_wait() {
                panic!("davy ended with {status}:\n{}", self.process.log());
            }
            self.http.get(&url).filter(|(status, _)| *status == 200)
        });
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn json(&self, path: &str) -> Value {
        let (status, body) =
            self.http.get(&self.url(path)).unwrap_or_else(|| panic!("{path} gives no answer"));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    pub fn releases(&self) -> Vec<Value> {
        self.json("/api/davy/v1/releases").as_array().expect("releases are a list").clone()
    }

    /// Values of an instant query, by their labels.
    pub fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let answer = self.json(&format!("/api/v1/query?query={}", escape(query)));
        let rows = answer["data"]["result"].as_array().expect("a vector is a list").clone();
        let value = |r: &Value| {
            r["value"][1].as_str().expect("values are strings").parse().expect("values are numbers")
        };
        rows.iter().map(|r| (r["metric"].clone(), value(r))).collect()
    }

    pub fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.http.send("POST", &self.url(path), body).unwrap_or_else(|| panic!("{path} gives no answer"))
    }
}

fn spawn(dir: &Path, port: u16) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_davy"));
    command
        .args(["run", "--headless", "--config.file"])
        .arg(dir.join("davy.yaml"))
        .arg("--storage.path")
        .arg(dir.join("data"))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Process::start("davy", dir, &mut command)
}

pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A blocking client with short time-outs.
#[derive(Clone)]
pub struct Http {
    runtime: Arc<tokio::runtime::Runtime>,
    client: reqwest::Client,
}

impl Http {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build();
        Self {
            runtime: Arc::new(runtime.expect("a runtime can be built")),
            client: client.expect("a client can be built"),
        }
    }

    pub fn get(&self, url: &str) -> Option<(u16, String)> {
        self.send("GET", url, "")
    }

    pub fn send(&self, method: &str, url: &str, body: &str) -> Option<(u16, String)> {
        let request = self
            .client
            .request(method.parse().expect("a method of HTTP"), url)
            .header("content-type", "application/json")
            .body(body.to_owned());
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            Some((response.status().as_u16(), response.text().await.ok()?))
        })
    }

    /// A body that is not text.
    pub fn bytes(&self, url: &str, body: &[u8]) -> Option<(u16, String)> {
        let request = self.client.post(url).body(body.to_owned());
        let request =
            request.header("content-type", "application/x-protobuf").header("content-encoding", "snappy");
        let request = request.header("x-prometheus-remote-write-version", "0.1.0");
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            Some((response.status().as_u16(), response.text().await.ok()?))
        })
    }

    /// `clients` loops of GETs until the returned guard is dropped.
    pub fn load(&self, url: &str, clients: usize, pause: Duration) -> Load {
        let stop = tokio_util::sync::CancellationToken::new();
        for _ in 0..clients {
            let (client, url, stop) = (self.client.clone(), url.to_owned(), stop.clone());
            self.runtime.spawn(async move {
                while !stop.is_cancelled() {
                    let _ = client.get(&url).send().await;
                    tokio::time::sleep(pause).await;
                }
            });
        }
        Load { stop, _http: self.clone() }
    }
}

pub struct Load {
    stop: tokio_util::sync::CancellationToken,
    _http: Http,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One request that the inbox took.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// An HTTP server that keeps every request and answers 200 `ok`, as Slack does.
pub struct Inbox {
    pub port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    _http: Http,
}

/// What happens besides keeping a request: a test's rollback.
pub type Hook = Arc<dyn Fn(&Received) + Send + Sync>;

impl Inbox {
    pub fn start(http: &Http, hook: Hook) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let listener = http.runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let app = Router::new().fallback(keep).with_state((received.clone(), hook));
        http.runtime.spawn(async move { axum::serve(listener, app).await });
        Self { port, received, _http: http.clone() }
    }

    pub fn received(&self, path: &str) -> Vec<Received> {
        let all = self.received.lock().expect("no handler panics");
        all.iter().filter(|r| r.path == path).cloned().collect()
    }
}

async fn keep(
    State((received, hook)): State<(Arc<Mutex<Vec<Received>>>, Hook)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> &'static str {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let request = Received { path: uri.path().to_owned(), headers, body };
    let hooked = request.clone();
    let _ = tokio::task::spawn_blocking(move || hook(&hooked)).await;
    received.lock().expect("no handler panics").push(request);
    "ok"
}

/// A real SMTP server (aiosmtpd) that keeps mails in a Maildir.
pub struct Smtp {
    pub port: u16,
    maildir: PathBuf,
    _process: Process,
}

impl Smtp {
    pub fn start(python: &Path, dir: &Path) -> Self {
        let (port, maildir) = (free_port(), dir.join("mail"));
        let mut command = Command::new(python);
        command
            .args(["-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Mailbox"])
            .arg(&maildir)
            .args(["-l", &format!("127.0.0.1:{port}")]);
        let process = Process::start("smtp", dir, &mut command);
        wait_for_port(port);
        Self { port, maildir, _process: process }
    }

    pub fn mails(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.maildir.join("new")) else { return Vec::new() };
        entries.filter_map(|e| std::fs::read_to_string(e.ok()?.path()).ok()).collect()
    }
}

pub fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).expect("the file can be created");
    file.write_all(text.as_bytes()).expect("the file can be written");
}
