//! `BufferPool`: what a scrape fills and empties, shared by all loops: as many as are scraping, not as many as there are.

use std::sync::{Mutex, MutexGuard};

use super::state::Rows;

/// Buffers that wait for the next scrape.
const KEPT_MAX: usize = 64;
/// A body buffer that grew beyond this is given back.
const BODY_KEPT_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) rows: Rows,
    /// A body that came in pieces.
    pub(super) gathered: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct BufferPool(Mutex<Vec<Buffers>>);

impl BufferPool {
    pub(super) fn take(&self) -> Buffers {
        self.lock().pop().unwrap_or_default()
    }

    pub(super) fn give(&self, buffers: Buffers) {
        let mut kept = self.lock();
        if kept.len() < KEPT_MAX && buffers.gathered.capacity() <= BODY_KEPT_BYTES {
            kept.push(buffers);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Buffers>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
