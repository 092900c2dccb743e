//! `Known`: series that were written before, found by the bytes of their labels as they stand in the request.
//!
//! A sender repeats the same bytes with every sample, so a known series costs one comparison: the series that
//! followed this one last time is tried first, and only then the table. Nothing is decoded, checked or allocated
//! again. The bytes themselves are compared, never only a hash.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use davy_model::Timestamp;
use davy_store::SeriesRef;
use hashbrown::HashTable;

/// Series that are remembered; twice what the store takes by default.
const SERIES_MAX: usize = 2_000_000;
/// Bytes of their labels.
const BYTES_MAX: usize = 512 << 20;
/// How often what nobody sent any more is let go, and references are looked up anew by their labels.
const ROUND: Duration = Duration::from_secs(3600);
/// Bytes of labels lie together in pieces of this size, in the order in which they came.
const PIECE: usize = 1 << 20;
/// No series.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Known {
    entries: Vec<Entry>,
    table: HashTable<u32>,
    pieces: Vec<Vec<u8>>,
    hasher: RandomState,
    round: u32,
    round_began: Option<Timestamp>,
    /// The series that stood first in the last request.
    first: AtomicU32,
}

#[derive(Debug)]
struct Entry {
    /// Piece, and where in it the bytes begin.
    place: (u32, u32),
    len: u32,
    /// Which one followed last time.
    next: AtomicU32,
    /// In which round the reference was last looked up by its labels.
    round: AtomicU32,
    series: AtomicU64,
}

impl Known {
    /// Which series is likely to follow.
    #[inline]
    pub(super) fn guess(&self, before: u32) -> u32 {
        match self.entries.get(before as usize) {
            Some(entry) => entry.next.load(Relaxed),
            None => self.first.load(Relaxed),
        }
    }

    /// Remembers what followed; `before` is [`NONE`] for the first of a request.
    #[inline]
    pub(super) fn followed(&self, before: u32, by: u32) {
        let next = self.entries.get(before as usize).map_or(&self.first, |e| &e.next);
        if next.load(Relaxed) != by {
            next.store(by, Relaxed);
        }
    }

    /// How many bytes at the start of `message` are the labels of series `index`, if its next field is none.
    #[inline]
    pub(super) fn matches(&self, index: u32, message: &[u8], label_tag: u8) -> Option<usize> {
        let key = self.key(self.entries.get(index as usize)?);
        let is_it = message.starts_with(key) && message.get(key.len()) != Some(&label_tag);
        is_it.then_some(key.len())
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let same = |i: &u32| self.key(&self.entries[*i as usize]) == key;
        self.table.find(self.hasher.hash_one(key), same).copied()
    }

    /// The reference, unless it is time to look it up again.
    #[inline]
    pub(super) fn series(&self, index: u32) -> Option<SeriesRef> {
        let entry = self.entries.get(index as usize)?;
        (entry.round.load(Relaxed) == self.round).then(|| SeriesRef(entry.series.load(Relaxed)))
    }

    /// Remembers what the labels in `key` stand for; returns its index.
    pub(super) fn set(&mut self, key: &[u8], series: SeriesRef) -> u32 {
        if let Some(index) = self.find(key) {
            let entry = &self.entries[index as usize];
            entry.series.store(series.0, Relaxed);
            entry.round.store(self.round, Relaxed);
            return index;
        }
        if self.is_full() {
            self.sweep();
            if self.is_full() {
                tracing::debug!(
                    series = self.entries.len(),
                    "remote write remembers no more series: begins anew"
                );
                self.clear();
            }
        }
        self.insert(key, series, self.round)
    }

    /// Another reference for a series: the store forgot the one it had.
    pub(super) fn correct(&self, index: u32, series: SeriesRef) {
        if let Some(entry) = self.entries.get(index as usize) {
            entry.series.store(series.0, Relaxed);
        }
    }

    /// To be called with every request: once a round is over, lets go of what was not sent in it.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.round_began.is_none_or(|began| now >= began + ROUND || now < began)
    }

    pub(super) fn begin_round(&mut self, now: Timestamp) {
        if self.is_due(now) && self.round_began.replace(now).is_some() {
            self.sweep();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= SERIES_MAX || self.pieces.len() * PIECE >= BYTES_MAX
    }

    /// Keeps what was looked up in this round; each must be looked up again in the next.
    fn sweep(&mut self) {
        let old = std::mem::take(self);
        let round = old.round.wrapping_add(1);
        *self = Self { hasher: old.hasher.clone(), round, round_began: old.round_began, ..Self::default() };
        for entry in old.entries.iter().filter(|e| e.round.load(Relaxed) == old.round) {
            self.insert(old.key(entry), SeriesRef(entry.series.load(Relaxed)), old.round);
        }
    }

    fn clear(&mut self) {
        let began = self.round_began;
        *self = Self { round_began: began, ..Self::default() };
    }

    fn insert(&mut self, key: &[u8], series: SeriesRef, round: u32) -> u32 {
        if self.pieces.last().is_none_or(|p| p.len() + key.len() > PIECE.max(key.len())) {
            self.pieces.push(Vec::with_capacity(PIECE.max(key.len())));
        }
        let number = self.pieces.len() as u32 - 1;
        let piece = self.pieces.last_mut().expect("pushed just above");
        let place = (number, piece.len() as u32);
        piece.extend_from_slice(key);
        let index = self.entries.len() as u32;
        self.entries.push(Entry {
            place,
            len: key.len() as u32,
            next: AtomicU32::new(NONE),
            round: AtomicU32::new(round),
            series: AtomicU64::new(series.0),
        });
        let Self { table, entries, pieces, hasher, .. } = self;
        let hash = |i: &u32| hasher.hash_one(slice(pieces, &entries[*i as usize]));
        table.insert_unique(hasher.hash_one(key), index, hash);
        index
    }

    #[inline]
    fn key(&self, entry: &Entry) -> &[u8] {
        slice(&self.pieces, entry)
    }
}

#[inline]
fn slice<'a>(pieces: &'a [Vec<u8>], entry: &Entry) -> &'a [u8] {
    let start = entry.place.1 as usize;
    &pieces[entry.place.0 as usize][start..start + entry.len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    #[test]
    fn a_series_is_found_by_its_bytes_and_by_who_came_before() {
        let mut known = Known::default();
        let keys: Vec<Vec<u8>> =
            (0..5000u32).map(|n| format!("\nlabel {n}").repeat(40).into_bytes()).collect();
        let mut before = NONE;
        for (n, key) in keys.iter().enumerate() {
            let index = known.set(key, SeriesRef(n as u64));
            known.followed(before, index);
            before = index;
        }
        assert!(known.pieces.len() > 1, "more than one piece");
        let mut before = NONE;
        for (n, key) in keys.iter().enumerate() {
            let message = [key.as_slice(), &[0x12, 0]].concat();
            let index = known.guess(before);
            assert_eq!(known.matches(index, &message, b'\n'), Some(key.len()));
            assert_eq!(known.find(key), Some(index));
            assert_eq!(known.series(index), Some(SeriesRef(n as u64)));
            before = index;
        }
        assert_eq!(known.find(b"\nlabel 1"), None);
    }

    #[test]
    fn labels_that_go_on_are_another_series() {
        let mut known = Known::default();
        let index = known.set(b"\nab", SeriesRef(7));
        assert_eq!(known.matches(index, b"\nab\x12", b'\n'), Some(3));
        assert_eq!(known.matches(index, b"\nab", b'\n'), Some(3));
        assert_eq!(known.matches(index, b"\nab\nc\x12", b'\n'), None);
        assert_eq!(known.matches(NONE, b"\nab", b'\n'), None);
    }

    #[test]
    fn after_a_round_references_are_looked_up_again_and_the_silent_are_forgotten() {
        let mut known = Known::default();
        assert!(known.is_due(at(0)));
        known.begin_round(at(0));
        known.set(b"a", SeriesRef(1));
        known.set(b"b", SeriesRef(2));
        assert!(!known.is_due(at(3599)));
        known.begin_round(at(3600));
        let a = known.find(b"a").expect("kept");
        assert_eq!(known.series(a), None, "to be looked up");
        assert_eq!(known.set(b"a", SeriesRef(9)), a);
        assert_eq!(known.series(a), Some(SeriesRef(9)));
        known.begin_round(at(7200));
        assert_eq!((known.find(b"b"), known.len()), (None, 1), "b was silent for a whole round");
    }
}
