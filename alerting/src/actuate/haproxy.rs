//! Weights of a backend's servers by HAProxy's runtime API. Level B: it is read and set absolutely, but the API checks
//! nothing; what changed between the read and the write is looked for and not locked out.
//!
//! Davy keeps its marker and a counter in a process-wide variable, so they live as long as the worker: uid is the
//! process. Generation is the weights with the counter: someone else's change back to the same weights is not seen.

use std::time::Duration;

use davy_egress::Names;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::conflict;
use crate::client::RESPONSE_BYTES_MAX;
use crate::config::{HaproxyAction, HaproxySocket};
use crate::release::{ActRequest, CallOutcome, Live, ReadError, TargetState};

/// Highest weight that HAProxy takes.
const WEIGHT_MAX: u32 = 256;

pub(super) struct Haproxy(HaproxyAction);

/// Why a command has no answer.
enum Fault {
    NotSent(String),
    Unknown(String),
}

struct Server {
    name: String,
    weight: u32,
}

impl Haproxy {
    pub(super) fn new(config: &HaproxyAction) -> Self {
        Self(config.clone())
    }

    pub(super) async fn read(&self) -> Result<TargetState, ReadError> {
        let backend = &self.0.backend;
        let asked =
            format!("show servers state {backend}; get var proc.davy_{}; show info", variable(backend));
        let answer = self.ask(&asked).await.map_err(|fault| match fault {
            Fault::NotSent(why) | Fault::Unknown(why) => ReadError::Unreachable(why),
        })?;
        let servers = servers(&answer, backend);
        let weight = |names: &[String]| {
            let of = |name: &String| servers.iter().find(|s| s.name == *name).map(|s| s.weight);
            names.iter().map(|name| of(name).ok_or_else(|| missing(backend, name))).sum::<Result<u32, _>>()
        };
        let (baseline, canary) = (weight(&self.0.baseline)?, weight(&self.0.canary)?);
        let live = match (baseline, canary) {
            (0, 0) => Live::Other("nobody: every weight is 0".to_owned()),
            (_, 0) => Live::Baseline,
            (b, c) => Live::Share(f64::from(c) / f64::from(b + c)),
        };
        let kept = answer.lines().find_map(|l| l.split_once("type=str value=<")?.1.strip_suffix('>'));
        let (count, marker) = kept.and_then(|k| k.split_once('~')).unwrap_or(("0", ""));
        let pid = answer.lines().find_map(|l| l.strip_prefix("Pid: ")).unwrap_or("0");
        let weights: Vec<String> = servers.iter().map(|s| s.weight.to_string()).collect();
        Ok(TargetState {
            uid: format!("{backend}@{pid}"),
            generation: format!("{}.{count}", weights.join("-")),
            token: count.to_owned(),
            live,
            marker: Some(marker.to_owned()).filter(|m| !m.is_empty()),
            refusal: None,
        })
    }

    pub(super) async fn call(&self, request: &ActRequest) -> CallOutcome {
        let now = match self.read().await {
            Ok(now) => now,
            Err(ReadError::Unreachable(detail)) => return CallOutcome::NotSent { detail },
            Err(ReadError::Unusable(detail)) => return CallOutcome::Rejected { detail },
        };
        if let Some(outcome) = conflict(request, &now) {
            return outcome;
        }
        let marker: String = request.marker.chars().filter(|c| is_plain(*c)).collect();
        let count = now.token.parse::<u64>().unwrap_or(0) + 1;
        let backend = &self.0.backend;
        let (b, c) = weights(request.desired.percent(), self.0.baseline.len(), self.0.canary.len());
        let set = |names: &[String], weight: u32| {
            let one = |name: &String| format!("set weight {backend}/{name} {weight}");
            names.iter().map(one).collect::<Vec<_>>()
        };
        // Whoever gets requests gets them first: no moment without anyone.
        let (mut first, then) = (set(&self.0.canary, c), set(&self.0.baseline, b));
        if b > 0 {
            first = [then.clone(), first].concat();
        } else {
            first.extend(then);
        }
        let kept = format!("set var proc.davy_{} str(\"{count}~{marker}\")", variable(backend));
        let commands = format!("experimental-mode on; {}; {kept}", first.join("; "));
        match self.ask(&commands).await {
            Err(Fault::NotSent(detail)) => CallOutcome::NotSent { detail },
            Err(Fault::Unknown(detail)) => CallOutcome::Unknown { detail },
            Ok(said) if said.trim().is_empty() => {
                CallOutcome::Accepted { detail: "weights set".to_owned(), state: None }
            }
            // Some of the commands may have been taken.
            Ok(said) => CallOutcome::Unknown { detail: crate::text::one_line(&said, 200) },
        }
    }

    /// One line of commands, one connection.
    async fn ask(&self, commands: &str) -> Result<String, Fault> {
        let half = self.0.timeout / 2;
        match &self.0.socket {
            HaproxySocket::Unix(path) => {
                let connect = tokio::time::timeout(half, UnixStream::connect(path)).await;
                let stream = connect.map_err(|_| late()).and_then(|r| r.map_err(|e| e.to_string()));
                talk(stream.map_err(Fault::NotSent)?, commands, self.0.timeout).await
            }
            HaproxySocket::Tcp(host, port) => {
                let addresses = Names::default().lookup(host, *port).await;
                let addresses = addresses.map_err(|e| Fault::NotSent(e.to_string()))?;
                let connect = tokio::time::timeout(half, TcpStream::connect(&*addresses)).await;
                let stream = connect.map_err(|_| late()).and_then(|r| r.map_err(|e| e.to_string()));
                talk(stream.map_err(Fault::NotSent)?, commands, self.0.timeout).await
            }
        }
    }
}

fn late() -> String {
    "timed out".to_owned()
}

async fn talk(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    commands: &str,
    timeout: Duration,
) -> Result<String, Fault> {
    let exchange = async {
        stream.write_all(format!("{commands}\n").as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        (&mut stream).take(RESPONSE_BYTES_MAX as u64).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) => Err(Fault::Unknown(e.to_string())),
        Err(_) => Err(Fault::Unknown(late())),
    }
}

/// `show servers state`: name and the weight that is set, by the columns' positions of version 1.
fn servers(answer: &str, backend: &str) -> Vec<Server> {
    let server = |line: &str| {
        let columns: Vec<&str> = line.split(' ').collect();
        let (name, weight) = (columns.get(3)?, columns.get(7)?.parse().ok()?);
        (columns.get(1) == Some(&backend)).then(|| Server { name: (*name).to_owned(), weight })
    };
    answer.lines().filter_map(server).collect()
}

fn missing(backend: &str, server: &str) -> ReadError {
    ReadError::Unusable(format!("backend {backend} has no server {server}"))
}

/// Weights of each baseline and each canary server, such that the arms share the requests as wanted.
fn weights(percent: u8, baseline: usize, canary: usize) -> (u32, u32) {
    let (b, c) = (f64::from(100 - percent) / baseline as f64, f64::from(percent) / canary as f64);
    if b == 0.0 || c == 0.0 {
        let all = |share: f64| if share > 0.0 { WEIGHT_MAX } else { 0 };
        return (all(b), all(c));
    }
    // The lesser in whole numbers, and the greater as it then must be.
    let (less, more) = (b.min(c), b.max(c));
    let lesser = (less * f64::from(WEIGHT_MAX) / more).floor().max(1.0);
    let greater = (lesser * more / less).round().min(f64::from(WEIGHT_MAX));
    let (lesser, greater) = (lesser as u32, greater as u32);
    if b < c { (lesser, greater) } else { (greater, lesser) }
}

/// What may stand in a command: nothing that ends it or its quotes.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._:@/+-".contains(c)
}

fn variable(backend: &str) -> String {
    backend.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_give_the_share_that_is_wanted() {
        for (baseline, canary) in [(1, 1), (3, 1), (2, 5), (1, 2)] {
            for percent in [1, 5, 25, 50, 75, 99] {
                let (b, c) = weights(percent, baseline, canary);
                let (b, c) = (f64::from(b) * baseline as f64, f64::from(c) * canary as f64);
                let share = 100.0 * c / (b + c);
                assert!(
                    (share - f64::from(percent)).abs() < 1.0,
                    "{percent} % of {baseline}/{canary}: {share}"
                );
            }
            assert_eq!((weights(0, baseline, canary).1, weights(100, baseline, canary).0), (0, 0));
        }
    }
}
