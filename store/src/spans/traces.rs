//! Which blocks of a partition hold a trace: runs of hashes in ascending order, merged as they become many.
//!
//! A row of SQLite for every trace would cost a page's write for each once there are many; a run is written once when
//! it is sealed and a few times more as runs are merged. A run that rots costs time and no span: its blocks are then
//! all looked at.

use davy_model::TraceId;
use rusqlite::{Connection, params};

use super::ints;
use super::texts::{put_section, read_section};
use crate::codec::{Corrupt, Reader, put_uvarint};
use crate::column::Effort;
use crate::frame::{self, Kind};

/// Hashes in one row.
const ENTRIES_MAX: usize = 16_384;
/// So many runs of a level become one of the next.
const RUNS_MERGED: i64 = 8;
/// A row whose frame rotted is never merged.
const ROTTEN_LEVEL: i64 = -1;

/// The hash of a trace, and a block that holds spans of it.
pub(crate) type Entry = (u32, i64);

/// Blocks found by it are filtered by the whole id.
pub(crate) fn hash(id: TraceId) -> u32 {
    u32::from_le_bytes(*id.0.last_chunk().expect("an id has sixteen bytes"))
}

/// Adds a run, and merges runs that have become many.
pub(crate) fn insert(tx: &Connection, mut entries: Vec<Entry>) -> rusqlite::Result<()> {
    insert_run(tx, 0, &mut entries)?;
    for level in 0.. {
        let runs = "SELECT count(DISTINCT run) FROM traces WHERE level = ?1";
        if tx.prepare_cached(runs)?.query_row([level], |r| r.get::<_, i64>(0))? < RUNS_MERGED {
            return Ok(());
        }
        let mut merged = Vec::new();
        let rows = tx
            .prepare_cached("SELECT number, oldest, frame FROM traces WHERE level = ?1")?
            .query_map([level], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
            .collect::<Result<Vec<(i64, i64, Vec<u8>)>, _>>()?;
        for (number, oldest, frame) in rows {
            match read(number, oldest, &frame) {
                Ok(entries) => merged.extend(entries),
                Err(why) => set_rotten(tx, number, why.0)?,
            }
        }
        tx.prepare_cached("DELETE FROM traces WHERE level = ?1")?.execute([level])?;
        insert_run(tx, level + 1, &mut merged)?;
    }
    Ok(())
}

/// Keeps a copy of what rotted, and of the row only which blocks it spoke of.
pub(crate) fn set_rotten(tx: &Connection, number: i64, why: &str) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO quarantine(source, source_number, reason, frame)
         SELECT 'traces', number, ?1, frame FROM traces WHERE number = ?2",
        params![why, number],
    )?;
    tx.execute("UPDATE traces SET frame = x'', level = ?1 WHERE number = ?2", params![ROTTEN_LEVEL, number])?;
    Ok(())
}

fn insert_run(tx: &Connection, level: i64, entries: &mut [Entry]) -> rusqlite::Result<()> {
    entries.sort_unstable();
    let next = "SELECT coalesce(max(number), 0) + 1 FROM traces";
    let run: i64 = tx.prepare_cached(next)?.query_row((), |r| r.get(0))?;
    for (number, row) in (run..).zip(entries.chunks(ENTRIES_MAX)) {
        let blocks = row.iter().map(|(_, block)| *block);
        let (oldest, newest) = (blocks.clone().min().unwrap_or(0), blocks.max().unwrap_or(0));
        let frame = frame::seal_plain(Kind::Traces, number as u64, &encode(row, oldest));
        tx.prepare_cached(
            "INSERT INTO traces(number, level, run, first, last, oldest, newest, frame)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            number,
            level,
            run,
            row[0].0,
            row[row.len() - 1].0,
            oldest,
            newest,
            frame
        ])?;
    }
    Ok(())
}

fn encode(row: &[Entry], oldest: i64) -> Vec<u8> {
    let mut before = 0;
    let steps: Vec<i64> = row
        .iter()
        .map(|(hash, _)| i64::from(*hash) - std::mem::replace(&mut before, i64::from(*hash)))
        .collect();
    let blocks: Vec<i64> = row.iter().map(|(_, block)| block - oldest).collect();
    let mut out = Vec::new();
    put_uvarint(&mut out, row.len() as u64);
    put_section(&mut out, |out| ints::put(out, &steps, Effort::Small));
    ints::put(&mut out, &blocks, Effort::Small);
    out
}

/// The entries of a row, in ascending order.
pub(crate) fn read(number: i64, oldest: i64, frame: &[u8]) -> Result<Vec<Entry>, Corrupt> {
    let body = frame::open(Kind::Traces, number as u64, frame)?;
    let mut r = Reader(&body);
    let n = usize::try_from(r.uvarint()?).ok().filter(|n| *n <= ENTRIES_MAX).ok_or(Corrupt("is too long"))?;
    let steps = ints::read(read_section(&mut r)?, n)?;
    let mut hash = 0i64;
    let mut entries = Vec::with_capacity(n);
    for (step, block) in steps.into_iter().zip(ints::read(r.0, n)?) {
        hash = hash.wrapping_add(step);
        let whole = u32::try_from(hash).map_err(|_| Corrupt("hash longer than 32 bits"))?;
        entries.push((whole, oldest.wrapping_add(block)));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(conn: &Connection) -> Vec<Entry> {
        let mut statement = conn.prepare("SELECT number, oldest, frame FROM traces").unwrap();
        let rows = statement.query_map((), |r| Ok((r.get(0)?, r.get(1)?, r.get::<_, Vec<u8>>(2)?))).unwrap();
        let rows: Vec<(i64, i64, Vec<u8>)> = rows.map(Result::unwrap).collect();
        let mut found: Vec<Entry> =
            rows.iter().flat_map(|(n, o, f)| read(*n, *o, f).unwrap_or_default()).collect();
        found.sort_unstable();
        found
    }

    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(crate::partition::SCHEMA).unwrap();
        conn
    }

    #[test]
    fn runs_are_merged_and_lose_nothing() {
        let conn = database();
        let mut want = Vec::new();
        for run in 0..200i64 {
            let entry = |n: i64| ((run * 1_000_003 + n).wrapping_mul(0x9e37_79b9) as u32, run * 3 + n % 3);
            let entries: Vec<Entry> = (0..500).map(entry).collect();
            want.extend(entries.iter().copied());
            insert(&conn, entries).unwrap();
        }
        want.sort_unstable();
        assert_eq!(all(&conn), want);
        let runs = "SELECT count(DISTINCT run) FROM traces";
        let runs: i64 = conn.query_row(runs, (), |r| r.get(0)).unwrap();
        assert!(runs <= 3 * (RUNS_MERGED - 1), "{runs} runs of 200");
    }

    #[test]
    fn a_rotten_run_is_set_aside_and_still_says_which_blocks_it_spoke_of() {
        let conn = database();
        for run in 0..RUNS_MERGED {
            if run == RUNS_MERGED - 1 {
                conn.execute("UPDATE traces SET frame = x'07' WHERE number = 1", ()).unwrap();
            }
            insert(&conn, vec![(run as u32, 10 + run)]).unwrap();
        }
        assert_eq!(all(&conn).len(), RUNS_MERGED as usize - 1);
        let rotten = "SELECT oldest, newest, length(frame) FROM traces WHERE level < 0";
        let rotten: (i64, i64, i64) =
            conn.query_row(rotten, (), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
        assert_eq!(rotten, (10, 10, 0));
        assert_eq!(conn.query_row("SELECT count(*) FROM quarantine", (), |r| r.get::<_, i64>(0)).unwrap(), 1);
    }
}
