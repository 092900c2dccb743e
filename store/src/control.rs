//! The control database: what Davy decided and did. Small, `synchronous=EXTRA`, never blocked by telemetry.
//!
//! Records are plain columns; what has many shapes (a verdict's metrics, an alert's labels) is text that the
//! shell wrote and reads back (`detail`), opaque here.

use std::path::Path;

use davy_model::Timestamp;

use crate::Error;

/// A version of a service and when it was first and last seen alive: how "who lived first" survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    pub service: String,
    pub version: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

/// A release. `generation` is its number: it only grows and is never used twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRecord {
    pub generation: i64,
    /// `<service>-<canary>-<generation>`, with anything but `[A-Za-z0-9._-]` replaced by `_`.
    pub id: String,
    pub service: String,
    pub baseline: String,
    pub canary: String,
    pub phase: String,
    pub verdict: String,
    pub reason: String,
    pub started_at: Timestamp,
    /// When the verdict was last other than insufficient for the first time; `None` while undecided.
    pub decided_at: Option<Timestamp>,
    /// State of the release machine and the last verdict in full, as JSON.
    pub detail: String,
}

/// One intended or performed act on a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRecord {
    /// Idempotency key; unique.
    pub id: String,
    pub generation: i64,
    pub kind: String,
    pub state: String,
    pub attempts: u32,
    pub at: Timestamp,
    pub detail: String,
}

/// An alert, by the fingerprint of its labels and its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRecord {
    pub id: String,
    pub fingerprint: String,
    pub starts_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    pub detail: String,
}

/// A message to be delivered at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRecord {
    /// Stable over retries; receivers deduplicate by it.
    pub id: String,
    pub receiver: String,
    pub created_at: Timestamp,
    pub next_attempt_at: Timestamp,
    pub attempts: u32,
    /// `pending`, `delivered` or `dead`.
    pub state: String,
    pub last_error: String,
    pub detail: String,
}

/// Who did what, on what, why, with what outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub target: String,
    pub reason: String,
    pub outcome: String,
}

/// Writes of one transaction: all of them are on disk, or none is.
#[derive(Debug, Clone, Default)]
pub struct ControlBatch {
    pub versions: Vec<VersionRecord>,
    pub releases: Vec<ReleaseRecord>,
    pub verdicts: Vec<(i64, Timestamp, String)>,
    pub actions: Vec<ActionRecord>,
    pub alerts: Vec<AlertRecord>,
    pub outbox: Vec<OutboxRecord>,
    pub audit: Vec<AuditRecord>,
}

/// Handle to the control database; cheap to clone. Every call blocks.
#[derive(Clone)]
pub struct Control;

impl Control {
    /// Opens or creates the file; refuses one written by a newer version.
    pub fn open(_path: &Path) -> Result<Self, Error> {
        todo!()
    }

    /// Takes the next generation and writes the release under it, with its audit row, in one transaction.
    pub fn create_release(
        &self,
        _release: ReleaseRecord,
        _audit: AuditRecord,
    ) -> Result<ReleaseRecord, Error> {
        todo!()
    }

    /// One transaction, on disk on return. Rows with a known key are replaced; audit rows are only ever added.
    pub fn write(&self, _batch: &ControlBatch) -> Result<(), Error> {
        todo!()
    }

    pub fn versions(&self) -> Result<Vec<VersionRecord>, Error> {
        todo!()
    }

    /// Newest first.
    pub fn releases(&self, _limit: usize) -> Result<Vec<ReleaseRecord>, Error> {
        todo!()
    }

    pub fn release(&self, _id: &str) -> Result<Option<ReleaseRecord>, Error> {
        todo!()
    }

    /// Verdict history of a release, oldest first.
    pub fn verdicts(&self, _generation: i64) -> Result<Vec<(Timestamp, String)>, Error> {
        todo!()
    }

    pub fn actions(&self, _generation: i64) -> Result<Vec<ActionRecord>, Error> {
        todo!()
    }

    /// Alerts without an end.
    pub fn open_alerts(&self) -> Result<Vec<AlertRecord>, Error> {
        todo!()
    }

    /// Pending messages due at `now`, oldest first.
    pub fn outbox_due(&self, _now: Timestamp, _limit: usize) -> Result<Vec<OutboxRecord>, Error> {
        todo!()
    }

    /// When the next pending message is due.
    pub fn outbox_next(&self) -> Result<Option<Timestamp>, Error> {
        todo!()
    }

    /// Newest first.
    pub fn audit(&self, _limit: usize) -> Result<Vec<AuditRecord>, Error> {
        todo!()
    }
}
