//! `SeriesTable`: the series of one target, by number and by labels.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use davy_model::{Labels, Timestamp};
use davy_store::SeriesRef;
use hashbrown::HashTable;

/// Series that are gone are remembered until they outnumber the present ones by this: one that comes back is not new,
/// and must not be given a zero.
pub(super) const SPARE_SERIES: usize = 10_000;

/// What every scrape looks at. The labels, which it does not, lie apart.
#[derive(Debug)]
pub(super) struct Series {
    /// The store's name for it, once it was stored.
    pub(super) stored_as: Option<SeriesRef>,
    /// The scrape that last had it, and its last row there: another row for the same time is a duplicate.
    pub(super) run: u32,
    pub(super) row: u32,
    /// The last sample of a successful scrape; at [`Timestamp::MIN`] if there was none.
    last: (Timestamp, f64),
    pub(super) growth: Growth,
}

/// Whether it grows from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    Free,
    FromZero,
    /// The same, since a time whose number in the table of start times this is.
    Since(u32),
}

impl Series {
    fn new() -> Self {
        Self { stored_as: None, run: 0, row: 0, last: (Timestamp::MIN, 0.0), growth: Growth::Free }
    }

    pub(super) fn last(&self) -> Option<(Timestamp, f64)> {
        Some(self.last).filter(|(at, _)| *at > Timestamp::MIN)
    }

    pub(super) fn set_last(&mut self, at: Timestamp, value: f64) {
        self.last = (at, value);
    }
}

#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    pub(super) all: Vec<Series>,
    /// By the same numbers.
    pub(super) labels: Vec<Labels>,
    /// Numbers, found by the labels of the series.
    by_labels: HashTable<u32>,
    hasher: RandomState,
}

impl SeriesTable {
    pub(super) fn get_or_insert(&mut self, labels: Labels) -> u32 {
        let hash = self.hasher.hash_one(&labels);
        if let Some(number) = self.by_labels.find(hash, |n| self.labels[*n as usize] == labels) {
            return *number;
        }
        self.add(hash, labels, Series::new())
    }

    fn add(&mut self, hash: u64, labels: Labels, series: Series) -> u32 {
        let number =
            u32::try_from(self.all.len()).expect("the sample limit keeps a target far below 2^32 series");
        self.all.push(series);
        self.labels.push(labels);
        let (all, hasher) = (&self.labels, &self.hasher);
        self.by_labels.insert_unique(hash, number, |n| hasher.hash_one(&all[*n as usize]));
        number
    }

    /// Forgets all but these, which become the numbers from zero on.
    pub(super) fn keep(&mut self, present: &[u32]) {
        let old = std::mem::take(&mut self.all).into_iter().zip(std::mem::take(&mut self.labels));
        let mut old: Vec<Option<(Series, Labels)>> = old.map(Some).collect();
        self.by_labels = HashTable::new();
        for number in present {
            let (series, labels) = old[*number as usize].take().expect("a present series is named once");
            self.add(self.hasher.hash_one(&labels), labels, series);
        }
    }

    /// Most targets never change again.
    pub(super) fn shrink_to_fit(&mut self) {
        self.all.shrink_to_fit();
        self.labels.shrink_to_fit();
    }
}
