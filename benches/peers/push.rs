//! Remote write: bodies made ahead on threads of their own, sent over a few connections as a Prometheus' shards do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use davy_fixtures::fleet::remote_write::{Columns, Encoder, HEADERS, bodies};
use davy_fixtures::fleet::{Fleet, Target};
use tokio::sync::{Mutex, mpsc};

use crate::args::Args;
use crate::net::Net;
use crate::system::System;

/// Requests under way at once.
const SENDERS: usize = 2;
/// Bodies that wait to be sent.
const BODIES_MAX: usize = 64;
/// A request is tried again this often when the receiver is overloaded.
const TRIES: u32 = 50;

/// The fleet, standing at its next tick.
pub(crate) struct Pusher {
    fleet: Fleet,
    targets: Vec<(Target, Encoder)>,
    samples_max: usize,
    net: Net,
}

/// What goes over the wire, and the samples in it.
pub(crate) type Body = (Vec<u8>, usize);

impl Pusher {
    pub(crate) fn new(args: &Args, start_ms: i64) -> Self {
        let step_ms = args.interval_ms().cast_signed();
        let fleet = Fleet { seed: args.seed, series: args.series, start_ms, step_ms };
        let target = |n| {
            let target = Target::new(fleet, n);
            let encoder = Encoder::new(&target);
            (target, encoder)
        };
        let targets = (0..args.targets[0]).map(target).collect();
        Self { fleet, targets, samples_max: args.request_samples, net: Net::new() }
    }

    /// Sends the next `ticks`, `at_once` of them of each series in one request; returns the samples acknowledged.
    pub(crate) fn push(&mut self, system: &System, ticks: usize, at_once: usize) -> Result<u64, String> {
        let (fleet, samples_max, targets) = (self.fleet, self.samples_max, &mut self.targets);
        send_all(&self.net, system, |sender| make(&fleet, targets, samples_max, ticks, at_once, sender))
    }
}

/// Sends what `make` makes, over a few connections; returns the samples acknowledged.
pub(crate) fn send_all(
    net: &Net,
    system: &System,
    make: impl FnOnce(&mpsc::Sender<Body>) + Send,
) -> Result<u64, String> {
    let (sender, receiver) = mpsc::channel::<Body>(BODIES_MAX);
    let (receiver, acknowledged) = (Arc::new(Mutex::new(receiver)), Arc::new(AtomicU64::new(0)));
    let url = system.url("/api/v1/write");
    let tasks: Vec<_> = (0..SENDERS)
        .map(|_| {
            let send = send(net.client.clone(), url.clone(), receiver.clone(), acknowledged.clone());
            net.runtime.spawn(send)
        })
        .collect();
    // Once the senders give up, the makers find the channel closed.
    drop(receiver);
    thread::scope(|scope| scope.spawn(move || make(&sender)).join()).unwrap();
    for task in tasks {
        net.runtime.block_on(task).unwrap()?;
    }
    Ok(acknowledged.load(Ordering::Relaxed))
}

fn make(
    fleet: &Fleet,
    targets: &mut [(Target, Encoder)],
    samples_max: usize,
    ticks: usize,
    at_once: usize,
    sender: &mpsc::Sender<Body>,
) {
    let mut left = ticks;
    while left > 0 {
        let now = at_once.min(left);
        left -= now;
        for (target, encoder) in targets.iter_mut() {
            let columns = Columns::take(target, now);
            for body in bodies(fleet, encoder, &columns, samples_max) {
                if sender.blocking_send(body).is_err() {
                    return;
                }
            }
        }
    }
}

async fn send(
    client: reqwest::Client,
    url: String,
    bodies: Arc<Mutex<mpsc::Receiver<Body>>>,
    acknowledged: Arc<AtomicU64>,
) -> Result<(), String> {
    loop {
        let Some((body, samples)) = bodies.lock().await.recv().await else { return Ok(()) };
        let body = bytes::Bytes::from(body);
        let mut tries = 0;
        loop {
            let mut request = client.post(&url).body(body.clone());
            for (name, value) in HEADERS {
                request = request.header(name, value);
            }
            let response = request.send().await.map_err(|e| format!("remote write gets no answer: {e}"))?;
            let status = response.status();
            if status.is_success() {
                acknowledged.fetch_add(samples as u64, Ordering::Relaxed);
                break;
            }
            let busy = status.as_u16() == 429 || status.is_server_error();
            tries += 1;
            if !busy || tries == TRIES {
                let why = response.text().await.unwrap_or_default();
                return Err(format!("remote write is refused with {status}: {}", why.trim()));
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}
