//! A real HAProxy, started with a file of its own and looked at by its runtime API, as Davy changes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::runtime::{self, Mark, Server};
use super::{Answer, ArmCounts, Change, Found, View};
use crate::demo::DemoError;
use crate::demo::leash::{end, leashed};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(50);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The system's bound is 107, and HAProxy makes a longer name of it while it starts.
const SOCKET_BYTES_MAX: usize = 90;
/// Of each of the baseline's servers, before Davy sets any.
const WEIGHT: u32 = 100;
/// Nobody listens there: where the canary's servers are until they are deployed. Servers that are added later, by
/// `add server`, get a new connection for every request, which costs them CPU that the baseline's do not need.
const NOWHERE: &str = "127.0.0.1:1";

/// Where HAProxy's runtime API will listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::demo) struct Socket(PathBuf);

impl Socket {
    /// In the story's folder.
    pub(in crate::demo) fn within(folder: &Path) -> Result<Self, DemoError> {
        let path = folder.join("haproxy.sock");
        let length = path.as_os_str().len();
        if length > SOCKET_BYTES_MAX {
            let what = format!(
                "the socket's path has {length} bytes, expected at most {SOCKET_BYTES_MAX}: choose a shorter --keep"
            );
            return Err(DemoError::Haproxy { what, log: String::new() });
        }
        Ok(Self(path))
    }

    pub(in crate::demo) fn path(&self) -> &Path {
        &self.0
    }

    /// One line of commands, one connection.
    async fn ask(&self, commands: &str) -> io::Result<String> {
        let exchange = async {
            let mut stream = UnixStream::connect(&self.0).await?;
            stream.write_all(format!("{commands}\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Names of a version's servers, as the file and Davy's action have them.
pub(in crate::demo) fn servers(version: &str, instances: usize) -> Vec<String> {
    (0..instances).map(|i| format!("{version}-{i}")).collect()
}

/// A running HAProxy; dropping it ends it.
pub(in crate::demo) struct Haproxy {
    pub(in crate::demo) traffic: SocketAddr,
    process: Child,
    socket: Socket,
    backend: String,
    baseline: String,
    changes: Vec<Change>,
    seen: Option<Mark>,
    unseen: u64,
    log: PathBuf,
}

impl Haproxy {
    /// Starts it in front of the baseline's instances and waits until it answers.
    pub(in crate::demo) async fn start(
        found: &Found,
        folder: &Path,
        socket: Socket,
        backend: &str,
        (baseline, addresses): (&str, &[&str]),
        canary: &str,
    ) -> Result<Self, DemoError> {
        let held = TcpListener::bind("127.0.0.1:0").await.map_err(DemoError::io("a free port"))?;
        let traffic = held.local_addr().map_err(DemoError::io("a free port"))?;
        drop(held);
        let file = folder.join("haproxy.cfg");
        let text = config(&socket, traffic, backend, (baseline, addresses), canary);
        fs::write(&file, text).map_err(DemoError::io(file.display().to_string()))?;
        let log = folder.join("haproxy.log");
        let out = File::create(&log).map_err(DemoError::io(log.display().to_string()))?;
        let err = out.try_clone().map_err(DemoError::io(log.display().to_string()))?;
        let process = leashed(&found.program)
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(DemoError::io("start of HAProxy"))?;
        let mut haproxy = Self {
            traffic,
            process,
            socket,
            backend: backend.to_owned(),
            baseline: baseline.to_owned(),
            changes: Vec::new(),
            seen: None,
            unseen: 0,
            log,
        };
        haproxy.wait_until_it_answers().await?;
        Ok(haproxy)
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(self.error(format!("ended by itself ({status})")));
            }
            match self.socket.ask("show info").await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    let seconds = START_TIMEOUT.as_secs();
                    return Err(self.error(format!("did not answer within {seconds} s: {error}")));
                }
                Err(_) => sleep(START_POLL).await,
            }
        }
    }

    /// Tells where the canary's servers are; their weights are Davy's to set.
    pub(in crate::demo) async fn deploy(
        &mut self,
        version: &str,
        addresses: &[&str],
    ) -> Result<(), DemoError> {
        for (name, address) in servers(version, addresses.len()).iter().zip(addresses) {
            let server = format!("{}/{name}", self.backend);
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            let said = self.ask(&format!("set server {server} addr {host} port {port}")).await?;
            if !said.contains("changed") {
                return Err(self.error(format!("does not move the server {server}: {}", said.trim())));
            }
        }
        Ok(())
    }

    /// Weights, counts, and what Davy has changed since the last look.
    pub(in crate::demo) async fn look(&mut self) -> Result<View, DemoError> {
        let answer = self.ask(&runtime::question(&self.backend)).await?;
        let (servers, mark) = runtime::read(&answer).map_err(|what| self.error(what))?;
        let counts = counts(&servers);
        let shares = shares(&servers);
        if let Some(mark) = mark.filter(|mark| self.seen.as_ref() != Some(mark)) {
            let before = self.seen.as_ref().map_or(0, |seen| seen.count);
            self.unseen += mark.count.saturating_sub(before + 1);
            let order = runtime::order(&mark.key, &self.baseline);
            let of = |version: &str| counts.get(version).copied().unwrap_or_default();
            self.changes.push(Change {
                at: Instant::now(),
                key: mark.key.clone(),
                baseline: of(&self.baseline),
                canary: order.as_ref().map(|order| of(&order.canary)).unwrap_or_default(),
                order,
                answer: Answer::Applied,
            });
            self.seen = Some(mark);
        }
        Ok(View { shares, counts, changes: self.changes.clone(), unseen: self.unseen })
    }

    /// Ends it and waits for it.
    pub(in crate::demo) async fn stop(self) {
        end(self.process).await;
    }

    async fn ask(&self, commands: &str) -> Result<String, DemoError> {
        self.socket.ask(commands).await.map_err(|error| self.error(format!("does not answer: {error}")))
    }

    fn error(&self, what: String) -> DemoError {
        let log = fs::read(&self.log).unwrap_or_default();
        DemoError::Haproxy { what, log: String::from_utf8_lossy(&log).into_owned() }
    }
}

/// The file that a user would write.
fn config(
    socket: &Socket,
    traffic: SocketAddr,
    backend: &str,
    (baseline, addresses): (&str, &[&str]),
    canary: &str,
) -> String {
    let socket = socket.path().display();
    let mut text = format!(
        "# What `davy demo` runs HAProxy with.\n\
         global\n  stats socket {socket} mode 600 level admin\n  nbthread 1\n\
         defaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n\
         frontend in\n  bind {traffic}\n  default_backend {backend}\n\
         backend {backend}\n  balance roundrobin\n"
    );
    for (name, address) in servers(baseline, addresses.len()).iter().zip(addresses) {
        let _ = writeln!(text, "  server {name} {address} weight {WEIGHT}");
    }
    for name in servers(canary, addresses.len()) {
        let _ = writeln!(text, "  server {name} {NOWHERE} weight 0");
    }
    text
}

/// A server's name is its version, a dash and a number.
fn version(server: &str) -> &str {
    server.rsplit_once('-').map_or(server, |(version, _)| version)
}

fn counts(servers: &[Server]) -> BTreeMap<String, ArmCounts> {
    let mut counts = BTreeMap::<String, ArmCounts>::new();
    for server in servers {
        let arm = counts.entry(version(&server.name).to_owned()).or_default();
        arm.requests += server.counts.requests;
        arm.errors += server.counts.errors;
    }
    counts
}

/// Per cent of the weight, by version.
fn shares(servers: &[Server]) -> BTreeMap<String, u32> {
    let total: u32 = servers.iter().map(|server| server.weight).sum();
    let mut weights = BTreeMap::<String, u32>::new();
    for server in servers {
        *weights.entry(version(&server.name).to_owned()).or_default() += server.weight;
    }
    let percent = |weight: u32| (100.0 * f64::from(weight) / f64::from(total.max(1))).round() as u32;
    weights.into_iter().map(|(version, weight)| (version, percent(weight))).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::demo::splitter::choice::{Asked, Kind, choose};

    #[test]
    fn the_file_names_the_baseline_s_servers_and_where_the_runtime_api_listens() {
        let socket = Socket(PathBuf::from("demo/haproxy.sock"));
        let text = config(
            &socket,
            "127.0.0.1:8080".parse().unwrap(),
            "checkout",
            ("v1", &["127.0.0.1:8081", "127.0.0.1:8082"]),
            "v2",
        );
        expect![[r#"
            # What `davy demo` runs HAProxy with.
            global
              stats socket demo/haproxy.sock mode 600 level admin
              nbthread 1
            defaults
              mode http
              timeout connect 2s
              timeout client 30s
              timeout server 30s
            frontend in
              bind 127.0.0.1:8080
              default_backend checkout
            backend checkout
              balance roundrobin
              server v1-0 127.0.0.1:8081 weight 100
              server v1-1 127.0.0.1:8082 weight 100
              server v2-0 127.0.0.1:1 weight 0
              server v2-1 127.0.0.1:1 weight 0
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn servers_are_summed_by_version() {
        let server = |name: &str, weight, requests| Server {
            name: name.to_owned(),
            weight,
            counts: ArmCounts { requests, errors: 1 },
        };
        let servers = [
            server("v1-0", 256, 900),
            server("v1-1", 256, 901),
            server("v2.1-rc-0", 28, 100),
            server("v2.1-rc-1", 28, 101),
        ];
        assert_eq!(shares(&servers), [("v1".to_owned(), 90), ("v2.1-rc".to_owned(), 10)].into());
        assert_eq!(counts(&servers)["v2.1-rc"], ArmCounts { requests: 201, errors: 2 });
        assert_eq!(shares(&[server("v1-0", 0, 0)]), [("v1".to_owned(), 0)].into());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_what_would_do() {
        let error = Socket::within(Path::new(&"x".repeat(200))).unwrap_err().to_string();
        assert!(error.contains("at most 90"), "{error}");
    }

    /// Where HAProxy is installed; elsewhere there is nothing to try.
    #[tokio::test]
    async fn davy_s_changes_are_seen_in_haproxy_s_own_state() {
        let (about, found) = choose(Asked::Auto).unwrap();
        let Some(found) = found else { return assert_eq!(about.kind, Kind::Builtin) };
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::within(folder.path()).unwrap();
        let v1 = ("v1", &["127.0.0.1:1", "127.0.0.1:1"][..]);
        let mut haproxy = Haproxy::start(&found, folder.path(), socket, "checkout", v1, "v2").await.unwrap();
        haproxy.deploy("v2", &["127.0.0.1:2", "127.0.0.1:3"]).await.unwrap();
        let view = haproxy.look().await.unwrap();
        assert_eq!(view.shares, [("v1".to_owned(), 100), ("v2".to_owned(), 0)].into());
        assert!(view.changes.is_empty());

        let set = |weight: u32, mark: &str| {
            format!(
                "experimental-mode on; set weight checkout/v2-0 {weight}; \
                 set weight checkout/v2-1 {weight}; set var proc.davy_checkout str(\"{mark}\")"
            )
        };
        haproxy.ask(&set(100, "1~set_share-50/v2/checkout@7/100-100-0.0")).await.unwrap();
        assert_eq!(haproxy.look().await.unwrap().shares["v2"], 50);
        haproxy.ask(&set(0, "3~rollback/v2/checkout@7/100-100-100-100.1")).await.unwrap();
        let view = haproxy.look().await.unwrap();
        assert_eq!(haproxy.look().await.unwrap().changes.len(), view.changes.len());
        assert_eq!(view.shares, [("v1".to_owned(), 100), ("v2".to_owned(), 0)].into());
        let wanted: Vec<_> = view.changes.iter().filter_map(|c| Some(c.order.as_ref()?.wanted)).collect();
        assert_eq!(wanted, [super::super::Wanted::Share(50), super::super::Wanted::Rollback]);
        assert_eq!(view.unseen, 1, "the second change was not looked at");
    }
}
