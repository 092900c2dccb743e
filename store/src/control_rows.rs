//! Rows of the control database: columns in and out, and the checksum over them.

use std::path::Path;

use davy_model::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, ToSql, Transaction, params_from_iter};

use crate::control::{
    ActionRecord, AlertRecord, AuditRecord, CalibrationRecord, DrillRecord, ForwardRecord, MemoRecord,
    OutboxRecord, ReleaseRecord, SilenceRecord, VersionRecord,
};
use crate::error::{At, Error};
use crate::frame::verifies;

pub(crate) const SCHEMA: &str = "
CREATE TABLE generation(last INTEGER NOT NULL) STRICT;
INSERT INTO generation VALUES (0);
CREATE TABLE version(service TEXT, version TEXT, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
  crc INTEGER NOT NULL, PRIMARY KEY(service, version)) STRICT;
CREATE TABLE release(generation INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, service TEXT NOT NULL,
  baseline TEXT NOT NULL, canary TEXT NOT NULL, phase TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL,
  started_at INTEGER NOT NULL, decided_at INTEGER, detail TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE verdict(generation INTEGER, at INTEGER, detail TEXT NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY(generation, at)) STRICT;
CREATE TABLE action(id TEXT PRIMARY KEY, generation INTEGER NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
  attempts INTEGER NOT NULL, at INTEGER NOT NULL, detail TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE INDEX action_by_generation ON action(generation);
CREATE TABLE alert(id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, starts_at INTEGER NOT NULL, ends_at INTEGER,
  detail TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE INDEX alert_open ON alert(starts_at) WHERE ends_at IS NULL;
CREATE TABLE outbox(id TEXT PRIMARY KEY, receiver TEXT NOT NULL, created_at INTEGER NOT NULL,
  next_attempt_at INTEGER NOT NULL, attempts INTEGER NOT NULL, state TEXT NOT NULL, last_error TEXT NOT NULL,
  detail TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE INDEX outbox_due ON outbox(next_attempt_at) WHERE state = 'pending';
CREATE TABLE audit(number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, actor TEXT NOT NULL,
  action TEXT NOT NULL, target TEXT NOT NULL, reason TEXT NOT NULL, outcome TEXT NOT NULL,
  crc INTEGER NOT NULL) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'audit rows are only added'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'audit rows are only added'); END;
";

/// Tables that came later; made wherever they are missing, and passed over by whoever does not know them.
pub(crate) const SCHEMA_ADDED: &str = "
CREATE TABLE IF NOT EXISTS calibration(service TEXT, at INTEGER, detail TEXT NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY(service, at)) STRICT;
CREATE TABLE IF NOT EXISTS forward(destination TEXT PRIMARY KEY, record INTEGER NOT NULL, newest INTEGER NOT NULL,
  detail TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS silence(id TEXT PRIMARY KEY, ends_at INTEGER NOT NULL, detail TEXT NOT NULL,
  crc INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS outbox_lane ON outbox(substr(id, 1, 20), created_at) WHERE state = 'pending';
CREATE TABLE IF NOT EXISTS memo(key TEXT PRIMARY KEY, at INTEGER NOT NULL, detail TEXT NOT NULL,
  crc INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS drill(service TEXT PRIMARY KEY, at INTEGER NOT NULL, good_at INTEGER,
  detail TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
";

/// A record as a row: `COLUMNS` in the order of `values`, the first `KEY_COLUMNS` of them naming it.
pub(crate) trait Record: Sized {
    const TABLE: &'static str;
    const COLUMNS: &'static [&'static str];
    const KEY_COLUMNS: usize = 1;

    fn values(&self) -> Vec<Value>;
    /// `None` if a column has the wrong type or range.
    fn from_values(values: Vec<Value>) -> Option<Self>;
}

/// One entry of a release's verdict history.
pub(crate) struct VerdictRow {
    pub(crate) generation: i64,
    pub(crate) at: Timestamp,
    pub(crate) detail: String,
}

pub(crate) fn put<R: Record>(tx: &Transaction, records: &[R]) -> rusqlite::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let places = vec!["?"; R::COLUMNS.len() + 1].join(", ");
    let sql =
        format!("INSERT OR REPLACE INTO {}({}, crc) VALUES ({places})", R::TABLE, R::COLUMNS.join(", "));
    let mut insert = tx.prepare_cached(&sql)?;
    for record in records {
        let mut values = record.values();
        values.push(Value::Integer(i64::from(checksum::<R>(&values))));
        insert.execute(params_from_iter(values))?;
    }
    Ok(())
}

pub(crate) fn select<R: Record>(
    conn: &Connection,
    path: &Path,
    clause: &str,
    limit: usize,
    params: &[&dyn ToSql],
) -> Result<Vec<R>, Error> {
    let sql = format!("SELECT {}, crc FROM {} {clause} LIMIT {limit}", R::COLUMNS.join(", "), R::TABLE);
    let mut statement = conn.prepare_cached(&sql).at(path)?;
    let mut rows = statement.query(params).at(path)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next().at(path)? {
        let mut values =
            (0..=R::COLUMNS.len()).map(|i| row.get(i)).collect::<Result<Vec<Value>, _>>().at(path)?;
        let crc = values.pop();
        let corrupt = Error::CorruptRow { path: path.to_owned(), table: R::TABLE, key: key::<R>(&values) };
        if crc != Some(Value::Integer(i64::from(checksum::<R>(&values)))) && verifies() {
            return Err(corrupt);
        }
        out.push(R::from_values(values).ok_or(corrupt)?);
    }
    Ok(out)
}

/// CRC-32C over the table's name and every column with its type and length.
fn checksum<R: Record>(values: &[Value]) -> u32 {
    values.iter().fold(crc32c::crc32c(R::TABLE.as_bytes()), |crc, v| match v {
        Value::Null => crc32c::crc32c_append(crc, b"n"),
        Value::Integer(i) => crc32c::crc32c_append(crc32c::crc32c_append(crc, b"i"), &i.to_le_bytes()),
        Value::Real(f) => crc32c::crc32c_append(crc32c::crc32c_append(crc, b"f"), &f.to_le_bytes()),
        Value::Text(s) => counted(crc, *b"t", s.as_bytes()),
        Value::Blob(b) => counted(crc, *b"b", b),
    })
}

fn counted(crc: u32, tag: [u8; 1], bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc, &tag);
    let crc = crc32c::crc32c_append(crc, &(bytes.len() as u64).to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}

fn key<R: Record>(values: &[Value]) -> String {
    let part = |v: &Value| match v {
        Value::Text(s) => s.clone(),
        Value::Integer(i) => i.to_string(),
        Value::Null | Value::Real(_) | Value::Blob(_) => "?".to_owned(),
    };
    values.iter().take(R::KEY_COLUMNS).map(part).collect::<Vec<_>>().join("/")
}

/// A field's type as a column.
trait Column: Sized {
    fn put(&self) -> Value;
    fn take(value: Value) -> Option<Self>;
}

impl Column for String {
    fn put(&self) -> Value {
        Value::Text(self.clone())
    }
    fn take(value: Value) -> Option<Self> {
        if let Value::Text(s) = value { Some(s) } else { None }
    }
}

impl Column for i64 {
    fn put(&self) -> Value {
        Value::Integer(*self)
    }
    fn take(value: Value) -> Option<Self> {
        if let Value::Integer(i) = value { Some(i) } else { None }
    }
}

impl Column for u32 {
    fn put(&self) -> Value {
        Value::Integer(i64::from(*self))
    }
    fn take(value: Value) -> Option<Self> {
        i64::take(value)?.try_into().ok()
    }
}

impl Column for Timestamp {
    fn put(&self) -> Value {
        Value::Integer(self.as_millis())
    }
    fn take(value: Value) -> Option<Self> {
        i64::take(value).map(Self::from_millis)
    }
}

impl Column for Option<Timestamp> {
    fn put(&self) -> Value {
        self.map_or(Value::Null, |t| t.put())
    }
    fn take(value: Value) -> Option<Self> {
        if value == Value::Null { Some(None) } else { Timestamp::take(value).map(Some) }
    }
}

/// The columns are the fields, in this order.
macro_rules! record {
    ($record:ident, $table:literal, $keys:literal, [$($field:ident),+]) => {
        impl Record for $record {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),+];
            const KEY_COLUMNS: usize = $keys;

            fn values(&self) -> Vec<Value> {
                vec![$(self.$field.put()),+]
            }

            fn from_values(values: Vec<Value>) -> Option<Self> {
                let mut values = values.into_iter();
                Some(Self { $($field: Column::take(values.next()?)?),+ })
            }
        }
    };
}

record!(VersionRecord, "version", 2, [service, version, first_seen, last_seen]);
record!(
    ReleaseRecord,
    "release",
    1,
    [generation, id, service, baseline, canary, phase, verdict, reason, started_at, decided_at, detail]
);
record!(VerdictRow, "verdict", 2, [generation, at, detail]);
record!(ActionRecord, "action", 1, [id, generation, kind, state, attempts, at, detail]);
record!(AlertRecord, "alert", 1, [id, fingerprint, starts_at, ends_at, detail]);
record!(
    OutboxRecord,
    "outbox",
    1,
    [id, receiver, created_at, next_attempt_at, attempts, state, last_error, detail]
);
record!(CalibrationRecord, "calibration", 2, [service, at, detail]);
record!(ForwardRecord, "forward", 1, [destination, record, newest, detail]);
record!(SilenceRecord, "silence", 1, [id, ends_at, detail]);
record!(MemoRecord, "memo", 1, [key, at, detail]);
record!(DrillRecord, "drill", 1, [service, at, good_at, detail]);
record!(AuditRecord, "audit", 1, [at, actor, action, target, reason, outcome]);
