//! The remote write receiver: what other Prometheus servers and agents push, versions 1.0 and 2.0 of the protocol.
//!
//! Hops 1 and 2 for them: [`http_router`] reads a body, [`Receiver::write`] unpacks it, finds its series and commits
//! it as one batch. An answer of success means that the request is on disk and can be read; requests that wait at
//! the same time share one fsync. What comes twice is kept once, so a sender may always try again.

use std::sync::{Arc, RwLock};

use davy_model::Clock;
use davy_store::Store;

mod append;
mod append_v2;
mod histogram;
mod http;
mod known;
mod labels;
mod outcome;
mod snappy;
mod stats;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_v2;
mod wire;

pub use http::http_router;
pub use outcome::{Failed, Refused, Written};
pub use stats::RemoteWriteStats;

use crate::admission::Admission;
use known::Known;

/// What may be in memory.
#[derive(Debug, Clone)]
pub struct RemoteWriteLimits {
    /// Bytes of all bodies being read or waiting for the disk, as they were sent; and as many again unpacked.
    pub bytes_in_progress_max: usize,
}

impl Default for RemoteWriteLimits {
    fn default() -> Self {
        Self { bytes_in_progress_max: 128 << 20 }
    }
}

/// Takes remote write requests; cheap to clone.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    /// For bodies, and for what they unpack to: whoever holds the second waits for nobody.
    bodies: Admission,
    unpacked: Admission,
    known: RwLock<Known>,
    /// When series began, as senders of 2.0 say.
    starts: append_v2::Starts,
    stats: RemoteWriteStats,
}

impl Receiver {
    pub fn new(store: Store, clock: Arc<dyn Clock>, limits: &RemoteWriteLimits) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            bodies: Admission::new(limits.bytes_in_progress_max),
            unpacked: Admission::new(limits.bytes_in_progress_max),
            known: RwLock::default(),
            starts: append_v2::Starts::default(),
            stats: RemoteWriteStats::default(),
        }))
    }

    /// Stores a body, a snappy block around a `WriteRequest`. Blocks until it is on disk.
    pub fn write(&self, body: &[u8]) -> Result<Written, Failed> {
        let message = snappy::unpack(body)?;
        append::write(&self.0.store, &self.0.known, self.0.clock.now(), &message, &self.0.stats)
    }

    /// The same for a snappy block around a `Request` of version 2.0.
    pub fn write_v2(&self, body: &[u8]) -> Result<Written, Failed> {
        let message = snappy::unpack(body)?;
        let Inner { store, clock, known, starts, stats, .. } = &*self.0;
        append_v2::write(store, known, starts, clock.now(), &message, stats)
    }

    /// What the receiver itself costs: unpacks, walks the message and finds the series, and stores nothing. For
    /// benchmarks. Returns the samples in series that are known already.
    pub fn rehearse(&self, body: &[u8]) -> Result<u64, Failed> {
        append::rehearse(&self.0.known, &snappy::unpack(body)?)
    }

    pub fn stats(&self) -> &RemoteWriteStats {
        &self.0.stats
    }

    /// Series that are found by their bytes.
    pub fn series_known(&self) -> usize {
        self.0.known.read().expect("no holder of this lock panics").len()
    }
}
