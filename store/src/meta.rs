//! Numbers that a database keeps about itself, each with a checksum.

use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::Corrupt;

pub(crate) fn put(conn: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta(name, value, crc) VALUES (?1, ?2, ?3)")?
        .execute(params![name, value, crc(name, value)])?;
    Ok(())
}

/// `None` if it was never written.
pub(crate) fn read(conn: &Connection, name: &str) -> rusqlite::Result<Option<Result<i64, Corrupt>>> {
    let row = |r: &rusqlite::Row| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?));
    let found = conn.query_row("SELECT value, crc FROM meta WHERE name = ?1", [name], row).optional()?;
    Ok(found.map(|(v, c)| if c == crc(name, v) { Ok(v) } else { Err(Corrupt("checksum does not match")) }))
}

fn crc(name: &str, value: i64) -> i64 {
    i64::from(crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), &value.to_le_bytes()))
}
