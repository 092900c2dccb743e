//! `Admission`: how many bytes of requests may be in memory at a time. A place is taken before a body is read,
//! for what it may become, and given back with the answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counted in these, since a semaphore counts in `u32`.
const UNIT_BYTES: usize = 1024;
/// A burst may wait this long for a place before it is sent away.
const WAIT_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub(crate) struct Admission {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// No place became free in time: the sender should come back a little later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overloaded;

/// A place, until dropped.
pub(crate) struct Admitted(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Admission {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let units_max = u32::try_from(bytes_max / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    pub(crate) async fn admit(&self, bytes: usize) -> Result<Admitted, Overloaded> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units_max);
        let place = self.units.clone().acquire_many_owned(units);
        match tokio::time::timeout(WAIT_MAX, place).await {
            Ok(Ok(permit)) => Ok(Admitted(permit)),
            Ok(Err(_)) | Err(_) => Err(Overloaded),
        }
    }
}
