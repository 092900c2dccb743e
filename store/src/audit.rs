//! The audit's chain: each row's hash covers the row and the hash before it, so that a change, a removal or an
//! insertion shows in every hash after it. A chain alone can be written anew by whoever can write the database; what
//! ends that are checkpoints (how many rows, the last hash) that are signed, and kept where the database is not.
//!
//! `h(n) = SHA-256(h(n-1) || number || at || each text with its length)`; `h(0)` is 32 zeros.

use std::path::{Path, PathBuf};

use davy_model::Timestamp;
use ring::digest::{Context, SHA256};
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::control::AuditRecord;
use crate::error::{At, Error};
use crate::sqlite;

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS audit_link(number INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS audit_checkpoint(size INTEGER PRIMARY KEY, head BLOB NOT NULL, at INTEGER NOT NULL,
  signature BLOB NOT NULL) STRICT;
";

/// Rows read at once.
const ROWS_AT_ONCE: usize = 1_000;

pub type Hash = [u8; 32];
const START: Hash = [0; 32];

/// How many rows there were, and the hash of the last, as someone signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub size: i64,
    pub head: Hash,
    pub at: Timestamp,
    pub signature: Vec<u8>,
}

/// A row with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    pub number: i64,
    pub row: AuditRecord,
    /// `None` if it was not written by Davy.
    pub hash: Option<Hash>,
}

/// The hash of a row that follows one with the hash `before`.
pub fn link(before: &Hash, number: i64, row: &AuditRecord) -> Hash {
    let mut hash = Context::new(&SHA256);
    hash.update(before);
    hash.update(&number.to_le_bytes());
    hash.update(&row.at.as_millis().to_le_bytes());
    for text in [&row.actor, &row.action, &row.target, &row.reason, &row.outcome] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    let mut out = START;
    out.copy_from_slice(hash.finish().as_ref());
    out
}

/// Links every row that has no link yet: those just added, and all of a database from before there was a chain.
pub(crate) fn extend(tx: &Transaction) -> rusqlite::Result<()> {
    let last = "SELECT number, hash FROM audit_link ORDER BY number DESC LIMIT 1";
    let last: Option<(i64, Vec<u8>)> =
        tx.prepare_cached(last)?.query_row((), |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
    let (after, before) = last.unwrap_or((0, START.to_vec()));
    let mut before: Hash = before.try_into().unwrap_or(START);
    let mut rows = tx.prepare_cached(
        "SELECT number, at, actor, action, target, reason, outcome FROM audit WHERE number > ?1 ORDER BY number",
    )?;
    let mut insert = tx.prepare_cached("INSERT INTO audit_link VALUES (?1, ?2)")?;
    let mut rows = rows.query([after])?;
    while let Some(r) = rows.next()? {
        let (number, row) = (r.get(0)?, row(r)?);
        before = link(&before, number, &row);
        insert.execute((number, before))?;
    }
    Ok(())
}

fn row(r: &rusqlite::Row<'_>) -> rusqlite::Result<AuditRecord> {
    Ok(AuditRecord {
        at: Timestamp::from_millis(r.get(1)?),
        actor: r.get(2)?,
        action: r.get(3)?,
        target: r.get(4)?,
        reason: r.get(5)?,
        outcome: r.get(6)?,
    })
}

/// The audit of a control database, for reading: of a Davy that runs, or of a file that someone brings.
pub struct AuditLog {
    path: PathBuf,
    conn: Connection,
}

impl AuditLog {
    /// Changes nothing in the file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let conn = sqlite::open_reader(path, crate::control::FORMAT)?;
        Ok(Self { path: path.to_owned(), conn })
    }

    /// Every row in order, with its link.
    pub fn each<E: From<Error>>(&self, mut visit: impl FnMut(Linked) -> Result<(), E>) -> Result<(), E> {
        let mut after = 0;
        loop {
            let rows = self.after(after)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.number;
            rows.into_iter().try_for_each(&mut visit)?;
        }
    }

    fn after(&self, number: i64) -> Result<Vec<Linked>, Error> {
        let sql = format!(
            "SELECT a.number, at, actor, action, target, reason, outcome, hash
             FROM audit a LEFT JOIN audit_link l ON l.number = a.number
             WHERE a.number > ?1 ORDER BY a.number LIMIT {ROWS_AT_ONCE}"
        );
        let mut statement = self.conn.prepare_cached(&sql).at(&self.path)?;
        let linked = |r: &rusqlite::Row<'_>| {
            let hash: Option<Vec<u8>> = r.get(7)?;
            Ok(Linked { number: r.get(0)?, row: row(r)?, hash: hash.and_then(|h| h.try_into().ok()) })
        };
        statement.query_map([number], linked).and_then(Iterator::collect).at(&self.path)
    }

    /// Rows that the chain has and the audit has not any more.
    pub fn links_without_row(&self) -> Result<Vec<i64>, Error> {
        let sql = "SELECT number FROM audit_link WHERE number NOT IN (SELECT number FROM audit) ORDER BY number LIMIT 100";
        let mut statement = self.conn.prepare(sql).at(&self.path)?;
        statement.query_map((), |r| r.get(0)).and_then(Iterator::collect).at(&self.path)
    }

    /// Oldest first.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>, Error> {
        let sql = "SELECT size, head, at, signature FROM audit_checkpoint ORDER BY size";
        let mut statement = self.conn.prepare(sql).at(&self.path)?;
        let rows: Vec<(i64, Vec<u8>, i64, Vec<u8>)> = statement
            .query_map((), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
            .and_then(Iterator::collect)
            .at(&self.path)?;
        let checkpoint = |(size, head, at, signature): (i64, Vec<u8>, i64, Vec<u8>)| {
            // A head of the wrong length is no row's hash, and is found out as such.
            let head = head.try_into().unwrap_or([0xff; 32]);
            Checkpoint { size, head, at: Timestamp::from_millis(at), signature }
        };
        Ok(rows.into_iter().map(checkpoint).collect())
    }
}

/// How far the chain reaches, and how far the last checkpoint.
pub(crate) fn head(conn: &Connection) -> rusqlite::Result<Option<(i64, Hash, i64)>> {
    let sql = "SELECT number, hash, (SELECT coalesce(max(size), 0) FROM audit_checkpoint)
               FROM audit_link ORDER BY number DESC LIMIT 1";
    let row: Option<(i64, Vec<u8>, i64)> =
        conn.prepare_cached(sql)?.query_row((), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional()?;
    Ok(row.map(|(number, hash, signed)| (number, hash.try_into().unwrap_or(START), signed)))
}

pub(crate) fn put_checkpoint(tx: &Transaction, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let Checkpoint { size, head, at, signature } = checkpoint;
    tx.execute(
        "INSERT OR IGNORE INTO audit_checkpoint VALUES (?1, ?2, ?3, ?4)",
        (size, head, at.as_millis(), signature),
    )?;
    Ok(())
}
