//! HTTP as the bench needs it: small blocking requests, and a runtime on a thread of its own for the load.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// No answer may take longer: a forced merge or a query over a million series takes a while.
const ANSWER_MAX: Duration = Duration::from_secs(300);

pub(crate) struct Net {
    pub(crate) runtime: Runtime,
    pub(crate) client: reqwest::Client,
}

impl Net {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build().unwrap();
        Self { runtime, client }
    }

    /// Status and body; `None` if nobody answers.
    pub(crate) fn get(&self, url: &str) -> Option<(u16, String)> {
        self.send(self.client.get(url))
    }

    pub(crate) fn post(&self, url: &str) -> Option<(u16, String)> {
        self.send(self.client.post(url))
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Option<(u16, String)> {
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            Some((response.status().as_u16(), response.text().await.ok()?))
        })
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Asks every `step` until there is an answer, or `None` after `max`.
pub(crate) fn wait_for<T>(step: Duration, max: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if began.elapsed() > max {
            return None;
        }
        std::thread::sleep(step);
    }
}
