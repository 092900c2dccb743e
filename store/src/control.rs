//! The control database: what Davy decided and did. Small, `synchronous=EXTRA`, never blocked by telemetry.
//!
//! Records are plain columns; what has many shapes (a verdict's metrics, an alert's labels) is text that the
//! shell wrote and reads back (`detail`), opaque here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use davy_model::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::audit::{self, Checkpoint, Hash};
use crate::backup;
use crate::control_rows::{Record, SCHEMA, SCHEMA_ADDED, VerdictRow, put, select};
use crate::error::{At, Error};
use crate::sqlite::{self, Synchronous};

/// Format of the control database, kept in its `user_version`.
pub(crate) const FORMAT: i32 = 1;
/// Most rows any list returns.
const ROWS_MAX: usize = 100_000;
/// Rows of the outbox that are the oldest of their lane, and not for a target that has a line in `?1`. What cannot be read names
/// no target; whoever delivers it says so.
const FIRST_OF_LANE: &str = "state = 'pending'
   AND instr(?1, char(10) || receiver || '/' ||
     CASE WHEN json_valid(detail) THEN coalesce(json_extract(detail, '$.integration'), 0) ELSE 0 END
       || char(10)) = 0
   AND NOT EXISTS (
     SELECT 1 FROM outbox o WHERE o.state = 'pending' AND substr(o.id, 1, 20) = substr(outbox.id, 1, 20)
       AND (o.created_at < outbox.created_at OR (o.created_at = outbox.created_at AND o.id < outbox.id)))";
/// Most rows that one call of [`Control::prune`] deletes of one table: it must not hold up a rollback.
const PRUNED_MAX: usize = 1_000;

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

/// What releases of a service up to `at` taught of its noise, as JSON. Each is kept, so that a restart judges a
/// running release with what it began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrationRecord {
    pub service: String,
    pub at: Timestamp,
    pub detail: String,
}

/// How far a destination of remote write has acknowledged what the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardRecord {
    pub destination: String,
    /// Number of the newest record of the log of which nothing is left to be sent.
    pub record: i64,
    /// Newest sample that was acknowledged.
    pub newest: Timestamp,
    /// What was acknowledged beyond that record, in the shell's own words.
    pub detail: String,
}

/// What a receiver must know of its earlier messages: where Slack's of a release is, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoRecord {
    pub key: String,
    /// When it was last used.
    pub at: Timestamp,
    pub detail: String,
}

/// A silence of alerts; one that has ended stays until its rows are pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceRecord {
    pub id: String,
    pub ends_at: Timestamp,
    pub detail: String,
}

/// When a service's path was last drilled, and when last with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillRecord {
    pub service: String,
    pub at: Timestamp,
    pub good_at: Option<Timestamp>,
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
    pub calibrations: Vec<CalibrationRecord>,
    pub silences: Vec<SilenceRecord>,
    pub audit: Vec<AuditRecord>,
}

/// Handle to the control database; cheap to clone. Every call blocks.
///
/// Every row carries a checksum of its content; one that fails it is an [`Error::CorruptRow`], never an answer.
#[derive(Debug, Clone)]
pub struct Control {
    path: Arc<PathBuf>,
    conn: Arc<Mutex<Connection>>,
}

/// Each text on a line of its own, for SQL's `instr`.
fn lines(texts: &[String]) -> String {
    texts.iter().fold("\n".to_owned(), |all, text| all + text + "\n")
}

impl Control {
    /// Opens or creates the file; refuses one written by a newer version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            sqlite::create_folder(folder)?;
        }
        let conn = sqlite::open(path, Synchronous::Extra, FORMAT, SCHEMA)?;
        conn.execute_batch(SCHEMA_ADDED).at(path)?;
        conn.execute_batch(audit::SCHEMA).at(path)?;
        let control = Self { path: Arc::new(path.to_owned()), conn: Arc::new(Mutex::new(conn)) };
        control.transaction(audit::extend)?;
        Ok(control)
    }

    /// Takes the next generation and writes the release under it, with its audit row, in one transaction.
    /// `generation` and `id` of what is handed in do not matter.
    pub fn create_release(
        &self,
        mut release: ReleaseRecord,
        audit: AuditRecord,
    ) -> Result<ReleaseRecord, Error> {
        let audit = [audit];
        self.transaction(|tx| {
            // A row of its own, so that numbers of deleted releases are not used again; and a rotten one must not
            // write over a release that is there.
            let next = "UPDATE generation SET
                last = max(last, (SELECT coalesce(max(generation), 0) FROM release)) + 1 RETURNING last";
            release.generation = tx.query_row(next, (), |r| r.get(0))?;
            release.id = release_id(&release);
            put(tx, std::slice::from_ref(&release))?;
            put(tx, &audit)?;
            audit::extend(tx)
        })?;
        Ok(release)
    }

    /// One transaction, on disk on return. Rows with a known key are replaced; audit rows are only ever added.
    pub fn write(&self, batch: &ControlBatch) -> Result<(), Error> {
        let verdicts: Vec<_> = batch
            .verdicts
            .iter()
            .map(|(generation, at, detail)| VerdictRow {
                generation: *generation,
                at: *at,
                detail: detail.clone(),
            })
            .collect();
        self.transaction(|tx| {
            put(tx, &batch.versions)?;
            put(tx, &batch.releases)?;
            put(tx, &verdicts)?;
            put(tx, &batch.actions)?;
            put(tx, &batch.alerts)?;
            put(tx, &batch.outbox)?;
            put(tx, &batch.calibrations)?;
            put(tx, &batch.silences)?;
            put(tx, &batch.audit)?;
            if batch.audit.is_empty() { Ok(()) } else { audit::extend(tx) }
        })
    }

    /// How far a destination has come; `None` for one that is new.
    pub fn forwarded(&self, destination: &str) -> Result<Option<ForwardRecord>, Error> {
        Ok(self.list("WHERE destination = ?1", 1, &[&destination])?.pop())
    }

    /// On disk on return; replaces what was known of the destination.
    pub fn put_forwarded(&self, record: &ForwardRecord) -> Result<(), Error> {
        self.transaction(|tx| put(tx, std::slice::from_ref(record)))
    }

    /// Deletes verdicts from before `until` but for the last of each release, and messages created before `until`
    /// that are delivered or dead; at most a thousand of each, so call it again while it returns more than zero.
    /// Releases, actions, alerts and the audit stay.
    pub fn prune(&self, until: Timestamp) -> Result<usize, Error> {
        let verdicts = format!(
            "DELETE FROM verdict WHERE rowid IN (
               SELECT v.rowid FROM verdict v WHERE v.at < ?1
                 AND v.at < (SELECT max(at) FROM verdict WHERE generation = v.generation)
               ORDER BY v.at LIMIT {PRUNED_MAX})"
        );
        let outbox = format!(
            "DELETE FROM outbox WHERE rowid IN (
               SELECT rowid FROM outbox WHERE created_at < ?1 AND state IN ('delivered', 'dead')
               ORDER BY created_at LIMIT {PRUNED_MAX})"
        );
        let memos = format!(
            "DELETE FROM memo WHERE rowid IN (SELECT rowid FROM memo WHERE at < ?1 ORDER BY at LIMIT {PRUNED_MAX})"
        );
        let mut deleted = 0;
        self.transaction(|tx| {
            for sql in [&verdicts, &outbox, &memos] {
                deleted += tx.execute(sql, [until.as_millis()])?;
            }
            Ok(())
        })?;
        Ok(deleted)
    }

    /// Copies the database to a new file as it is now; writers go on meanwhile. Opening the copy restores it.
    pub fn backup_to(&self, path: &Path) -> Result<(), Error> {
        backup::copy(&self.path, path)
    }

    /// By service, then by when they were first seen.
    pub fn versions(&self) -> Result<Vec<VersionRecord>, Error> {
        self.list("ORDER BY service, first_seen, version", ROWS_MAX, &[])
    }

    /// Newest first.
    pub fn releases(&self, limit: usize) -> Result<Vec<ReleaseRecord>, Error> {
        self.list("ORDER BY generation DESC", limit, &[])
    }

    pub fn release(&self, id: &str) -> Result<Option<ReleaseRecord>, Error> {
        Ok(self.list("WHERE id = ?1", 1, &[&id])?.pop())
    }

    /// Verdict history of a release, oldest first.
    pub fn verdicts(&self, generation: i64) -> Result<Vec<(Timestamp, String)>, Error> {
        let rows: Vec<VerdictRow> =
            self.list("WHERE generation = ?1 ORDER BY at", ROWS_MAX, &[&generation])?;
        Ok(rows.into_iter().map(|r| (r.at, r.detail)).collect())
    }

    /// Oldest first.
    pub fn actions(&self, generation: i64) -> Result<Vec<ActionRecord>, Error> {
        self.list("WHERE generation = ?1 ORDER BY at, id", ROWS_MAX, &[&generation])
    }

    /// Alerts without an end, oldest first.
    pub fn open_alerts(&self) -> Result<Vec<AlertRecord>, Error> {
        self.list("WHERE ends_at IS NULL ORDER BY starts_at, id", ROWS_MAX, &[])
    }

    /// Pending messages due at `now`, oldest first, but for these targets (`<receiver>/<integration>`). The first twenty
    /// characters of an id are its lane: of one lane only the oldest message that is pending, so that none overtakes
    /// another that is to be tried again.
    pub fn outbox_due(
        &self,
        now: Timestamp,
        except: &[String],
        limit: usize,
    ) -> Result<Vec<OutboxRecord>, Error> {
        let due = format!("WHERE {FIRST_OF_LANE} AND next_attempt_at <= ?2 ORDER BY created_at, id");
        self.list(&due, limit, &[&lines(except), &now.as_millis()])
    }

    /// Messages in a state (`pending`, `delivered`, `dead`), newest first.
    pub fn outbox(&self, state: &str, limit: usize) -> Result<Vec<OutboxRecord>, Error> {
        self.list("WHERE state = ?1 ORDER BY created_at DESC, id", limit, &[&state])
    }

    pub fn memo(&self, key: &str) -> Result<Option<MemoRecord>, Error> {
        Ok(self.list("WHERE key = ?1", 1, &[&key])?.pop())
    }

    /// Of what is known by its key, the last counts.
    pub fn set_memo(&self, memo: &MemoRecord) -> Result<(), Error> {
        self.transaction(|tx| put(tx, std::slice::from_ref(memo)))
    }

    /// Silences that end after `now`.
    pub fn silences(&self, now: Timestamp) -> Result<Vec<SilenceRecord>, Error> {
        self.list("WHERE ends_at > ?1 ORDER BY id", ROWS_MAX, &[&now.as_millis()])
    }

    /// When the next pending message is due, but for these targets.
    pub fn outbox_next(&self, except: &[String]) -> Result<Option<Timestamp>, Error> {
        let next = format!("WHERE {FIRST_OF_LANE} ORDER BY next_attempt_at");
        let found = self.list::<OutboxRecord>(&next, 1, &[&lines(except)])?;
        Ok(found.into_iter().next().map(|r| r.next_attempt_at))
    }

    /// How many messages wait.
    pub fn outbox_pending(&self) -> Result<u64, Error> {
        let sql = "SELECT count(*) FROM outbox WHERE state = 'pending'";
        let count: i64 = self.lock().query_row(sql, (), |r| r.get(0)).at(&self.path)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Whether a message that names `text` (a release's id) has been delivered.
    pub fn outbox_delivered_about(&self, text: &str) -> Result<bool, Error> {
        let sql = "SELECT count(*) FROM outbox WHERE state = 'delivered' AND instr(detail, ?1) > 0";
        let count: i64 = self.lock().query_row(sql, [text], |r| r.get(0)).at(&self.path)?;
        Ok(count > 0)
    }

    /// By service.
    pub fn drills(&self) -> Result<Vec<DrillRecord>, Error> {
        self.list("ORDER BY service", ROWS_MAX, &[])
    }

    /// Replaces what was known of the service; a success stays known.
    pub fn put_drill(&self, mut record: DrillRecord) -> Result<(), Error> {
        let known: Option<DrillRecord> = self.list("WHERE service = ?1", 1, &[&record.service])?.pop();
        record.good_at = record.good_at.or(known.and_then(|k| k.good_at));
        self.transaction(|tx| put(tx, std::slice::from_ref(&record)))
    }

    /// The newest of a service that was known at `at`.
    pub fn calibration(&self, service: &str, at: Timestamp) -> Result<Option<CalibrationRecord>, Error> {
        let newest = "WHERE service = ?1 AND at <= ?2 ORDER BY at DESC";
        Ok(self.list(newest, 1, &[&service, &at.as_millis()])?.pop())
    }

    /// The newest of each service.
    pub fn calibrations(&self) -> Result<Vec<CalibrationRecord>, Error> {
        let newest =
            "c WHERE at = (SELECT max(at) FROM calibration WHERE service = c.service) ORDER BY service";
        self.list(newest, ROWS_MAX, &[])
    }

    /// How many audit rows there are, the hash of the last, and how many the last checkpoint covers; `None` while
    /// there are none.
    pub fn audit_head(&self) -> Result<Option<(i64, Hash, i64)>, Error> {
        audit::head(&self.lock()).at(&self.path)
    }

    pub fn put_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.transaction(|tx| audit::put_checkpoint(tx, checkpoint))
    }

    /// Newest first.
    pub fn audit(&self, limit: usize) -> Result<Vec<AuditRecord>, Error> {
        self.list("ORDER BY number DESC", limit, &[])
    }

    fn transaction(&self, work: impl FnOnce(&Transaction) -> rusqlite::Result<()>) -> Result<(), Error> {
        let mut conn = self.lock();
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).at(&self.path)?;
        work(&tx).at(&self.path)?;
        tx.commit().at(&self.path)
    }

    fn list<R: Record>(
        &self,
        clause: &str,
        limit: usize,
        params: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<R>, Error> {
        select(&self.lock(), &self.path, clause, limit.min(ROWS_MAX), params)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.conn.lock().expect("no holder of this lock panics")
    }
}

/// `<service>-<canary>-<generation>`, fit for a path, a label and a file name.
fn release_id(release: &ReleaseRecord) -> String {
    let raw = format!("{}-{}-{}", release.service, release.canary, release.generation);
    raw.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
