//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails the test")]

pub(crate) mod http;
pub(crate) mod messages;
pub(crate) mod smtp;
pub(crate) mod story;
pub(crate) mod verdicts;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use davy_model::{Clock, ManualClock, Timestamp};

/// Stands at the machine's time: receivers refuse signatures that are more than five minutes off.
#[expect(clippy::disallowed_methods, reason = "standardwebhooks verifies against the machine's clock")]
pub(crate) fn wall_clock() -> Arc<dyn Clock> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Arc::new(ManualClock::new(Timestamp::from_millis(since.as_millis() as i64)))
}
