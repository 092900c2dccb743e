//! `SeriesTable`: the series of one target, by number and by labels.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use davy_model::{Labels, Timestamp};
use davy_store::SeriesRef;
use hashbrown::HashTable;

/// Series that are gone are remembered until they outnumber the present ones by this: one that comes back is not new,
/// and must not be given a zero.
pub(super) const SPARE_SERIES: usize = 10_000;

#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: Labels,
    /// The store's name for it, once it was stored.
    pub(super) stored_as: Option<SeriesRef>,
    /// The scrape that last had it, and at which time: a second line for both is a duplicate.
    pub(super) run: u32,
    pub(super) run_at: Timestamp,
    /// The last sample of a successful scrape; at [`Timestamp::MIN`] if there was none.
    last: (Timestamp, f64),
    /// Grows from zero.
    pub(super) cumulative: bool,
    /// Number in the table of start times.
    pub(super) start: Option<u32>,
}

impl Series {
    pub(super) fn new(labels: Labels) -> Self {
        Self {
            labels,
            stored_as: None,
            run: 0,
            run_at: Timestamp::MIN,
            last: (Timestamp::MIN, 0.0),
            cumulative: false,
            start: None,
        }
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
    /// Numbers, found by the labels of the series.
    by_labels: HashTable<u32>,
    hasher: RandomState,
}

impl SeriesTable {
    pub(super) fn get_or_insert(&mut self, labels: Labels) -> u32 {
        let hash = self.hasher.hash_one(&labels);
        if let Some(number) = self.by_labels.find(hash, |n| self.all[*n as usize].labels == labels) {
            return *number;
        }
        let number =
            u32::try_from(self.all.len()).expect("the sample limit keeps a target far below 2^32 series");
        self.all.push(Series::new(labels));
        self.place(hash, number);
        number
    }

    /// Forgets all but these, which become the numbers from zero on.
    pub(super) fn keep(&mut self, present: &[u32]) {
        let mut old: Vec<Option<Series>> = std::mem::take(&mut self.all).into_iter().map(Some).collect();
        self.by_labels = HashTable::new();
        for number in present {
            let series = old[*number as usize].take().expect("a present series is named once");
            let hash = self.hasher.hash_one(&series.labels);
            self.all.push(series);
            self.place(hash, self.all.len() as u32 - 1);
        }
    }

    fn place(&mut self, hash: u64, number: u32) {
        let (all, hasher) = (&self.all, &self.hasher);
        self.by_labels.insert_unique(hash, number, |n| hasher.hash_one(&all[*n as usize].labels));
    }
}
