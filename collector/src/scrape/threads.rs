//! `ScrapeThreads`: the few threads on which all scrape loops live, each with a runtime of its own.
//!
//! A scrape of a thousand samples is a tenth of a millisecond of work. Handing it from an I/O thread to a blocking
//! one and back costs more than that in wake-ups, so a loop reads its body and appends it where it received it: an
//! append only waits for the head's lock. What may take long (see [`super::INLINE_BODY_BYTES_MAX`]) still goes to the
//! blocking pool. Nothing else runs here, so the API and the judge never wait for a body.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// One thread reads millions of samples a second; more only help with TLS and compression.
const THREADS_MAX: usize = 4;

pub(super) struct ScrapeThreads {
    runtimes: Vec<Handle>,
    next: AtomicUsize,
    stop: CancellationToken,
}

impl ScrapeThreads {
    /// Half of the machine's cores, the rest being for those who ask.
    pub(super) fn start() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let stop = CancellationToken::new();
        let runtimes = (0..cores.div_ceil(2).min(THREADS_MAX)).map(|n| start_thread(n, &stop)).collect();
        Self { runtimes, next: AtomicUsize::new(0), stop }
    }

    /// Where the next loop lives.
    pub(super) fn pick(&self) -> &Handle {
        &self.runtimes[self.next.fetch_add(1, Ordering::Relaxed) % self.runtimes.len()]
    }
}

impl Drop for ScrapeThreads {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start_thread(number: usize, stop: &CancellationToken) -> Handle {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system gives an event queue to each runtime");
    let (handle, stopped) = (runtime.handle().clone(), stop.clone());
    std::thread::Builder::new()
        .name(format!("scrape-{number}"))
        .spawn(move || runtime.block_on(stopped.cancelled()))
        .expect("the system gives a thread to each runtime");
    handle
}
