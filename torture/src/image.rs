//! What a disk may hold after a cut: everything synced, and of the rest any part.
//!
//! The model: a file's bytes are safe once the file is synced; creations and deletions are safe once anything is
//! synced after them (as journalling file systems do), a deletion with `sync_dir` at once. Of what is not safe,
//! each 512-byte sector of each write is there or not. Sectors are whole: SQLite relies on that (its
//! `powersafe overwrite`), and disks say so. A disk that lies about a sync is out of scope.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::rng::Rng;

const SECTOR: u64 = 512;

/// What reached the operating system, in that order.
#[derive(Debug, Clone)]
pub enum Op {
    Create {
        file: PathBuf,
    },
    Write {
        file: PathBuf,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: PathBuf,
        size: u64,
    },
    Sync {
        file: PathBuf,
    },
    /// What was not synced is lost, though readers may see it still: the pages count as clean.
    SyncFailed {
        file: PathBuf,
    },
    Delete {
        file: PathBuf,
        sync_dir: bool,
    },
}

#[derive(Default)]
struct File<'a> {
    safe: Vec<u8>,
    unsafe_ops: Vec<&'a Op>,
    /// Its creation is safe.
    exists: bool,
    /// Deleted, but not safely.
    deleted: bool,
}

/// How much of what was not synced is there.
#[derive(Clone, Copy)]
enum Luck {
    All,
    Nothing,
    Some,
}

/// What a disk holds that kept nothing but what was synced: the least that a cut behind the last of `ops` leaves.
pub fn least(ops: &[Op]) -> BTreeMap<PathBuf, Vec<u8>> {
    leave(ops, Luck::Nothing, &mut Rng(0))
}

/// The files after a cut behind the last of `ops`.
pub fn image(ops: &[Op], rng: &mut Rng) -> BTreeMap<PathBuf, Vec<u8>> {
    let luck = match rng.below(4) {
        0 => Luck::All,
        1 => Luck::Nothing,
        _ => Luck::Some,
    };
    leave(ops, luck, rng)
}

fn leave(ops: &[Op], luck: Luck, rng: &mut Rng) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files: BTreeMap<&PathBuf, File> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Create { file } => {
                let created = files.entry(file).or_default();
                if created.deleted {
                    *created = File::default();
                }
            }
            Op::Write { file, .. } | Op::Truncate { file, .. } => {
                files.entry(file).or_default().unsafe_ops.push(op);
            }
            Op::Sync { file } => {
                files.retain(|_, f| !f.deleted);
                files.values_mut().for_each(|f| f.exists = true);
                let synced = files.entry(file).or_default();
                for op in std::mem::take(&mut synced.unsafe_ops) {
                    apply(&mut synced.safe, op, |_| true);
                }
            }
            Op::SyncFailed { file } => files.entry(file).or_default().unsafe_ops.clear(),
            Op::Delete { file, sync_dir: true } => {
                files.remove(file);
            }
            Op::Delete { file, sync_dir: false } => files.entry(file).or_default().deleted = true,
        }
    }
    let mut out = BTreeMap::new();
    for (path, file) in files {
        let created = file.exists || keeps(luck, rng);
        let gone = file.deleted && keeps(luck, rng);
        if created && !gone {
            out.insert(path.clone(), survives(file, luck, rng));
        }
    }
    out
}

fn survives(file: File, luck: Luck, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = file.safe;
    for op in file.unsafe_ops {
        match luck {
            Luck::All => apply(&mut bytes, op, |_| true),
            Luck::Nothing => {}
            Luck::Some => match rng.below(3) {
                0 => apply(&mut bytes, op, |_| true),
                1 => {}
                _ => apply(&mut bytes, op, |_| rng.coin()),
            },
        }
    }
    bytes
}

fn keeps(luck: Luck, rng: &mut Rng) -> bool {
    match luck {
        Luck::All => true,
        Luck::Nothing => false,
        Luck::Some => rng.coin(),
    }
}

/// Does the operation as far as `sector` says that a sector of it arrived.
fn apply(to: &mut Vec<u8>, op: &Op, mut sector: impl FnMut(u64) -> bool) {
    match op {
        Op::Write { offset, bytes, .. } => {
            let mut at = *offset;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let within = (SECTOR - at % SECTOR).min(rest.len() as u64) as usize;
                let (now, later) = rest.split_at(within);
                if sector(at / SECTOR) {
                    let (from, until) = (at as usize, at as usize + within);
                    if to.len() < until {
                        to.resize(until, 0);
                    }
                    to[from..until].copy_from_slice(now);
                }
                at += within as u64;
                rest = later;
            }
        }
        Op::Truncate { size, .. } if sector(0) => to.resize(*size as usize, 0),
        Op::Truncate { .. }
        | Op::Create { .. }
        | Op::Sync { .. }
        | Op::SyncFailed { .. }
        | Op::Delete { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8, len: usize) -> Op {
        Op::Write { file: "a".into(), offset, bytes: vec![byte; len] }
    }

    #[test]
    fn what_was_synced_is_always_there_and_the_rest_in_parts() {
        let a = || PathBuf::from("a");
        let ops = [Op::Create { file: a() }, write(0, 1, 1024), Op::Sync { file: a() }, write(256, 2, 1024)];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let after = image(&ops, &mut Rng(seed)).remove(&a()).unwrap();
            assert!(after[..256].iter().all(|b| *b == 1), "synced, and not written to since");
            assert!(after[256..512].iter().all(|b| *b == after[256]), "sectors are whole");
            seen.insert((after[256], after[512], after.get(1024).copied()));
        }
        assert_eq!(seen.len(), 8, "each of the three sectors was there and was not: {seen:?}");
        let unsynced = (0..50).filter(|s| image(&ops[..2], &mut Rng(*s)).is_empty()).count();
        assert!((1..50).contains(&unsynced), "a creation may be lost, or not");
    }

    #[test]
    fn a_failed_sync_loses_what_was_not_synced_before() {
        let a = || PathBuf::from("a");
        let mut ops = vec![write(0, 1, 512), Op::Sync { file: a() }, write(0, 2, 512)];
        ops.extend([Op::SyncFailed { file: a() }, Op::Sync { file: a() }]);
        for seed in 0..20 {
            assert_eq!(image(&ops, &mut Rng(seed))[&a()], [1; 512], "the later sync had nothing to do");
        }
        ops.extend([write(0, 3, 512), Op::Sync { file: a() }]);
        assert_eq!(least(&ops)[&a()], [3; 512]);
    }

    #[test]
    fn a_deletion_may_be_undone_until_something_is_synced() {
        let [a, b] = ["a", "b"].map(PathBuf::from);
        let delete = |sync_dir| Op::Delete { file: a.clone(), sync_dir };
        let mut ops = vec![write(0, 1, 8), Op::Sync { file: a.clone() }, delete(false)];
        let there = |ops: &[Op]| (0..50).filter(|s| image(ops, &mut Rng(*s)).contains_key(&a)).count();
        assert!((1..50).contains(&there(&ops)));
        ops.push(Op::Sync { file: b });
        assert_eq!(there(&ops), 0);
        ops.truncate(2);
        assert_eq!(there(&ops), 50);
        ops.push(delete(true));
        assert_eq!(there(&ops), 0);
    }
}
