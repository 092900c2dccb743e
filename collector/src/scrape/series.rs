//! `SeriesTable`: the series of one target, by number and by labels.

use std::collections::HashMap;

use davy_model::{Labels, Timestamp};
use davy_store::SeriesRef;

/// Series that are gone are remembered until they outnumber the present ones by this: one that comes back is not new,
/// and must not be given a zero.
pub(super) const SPARE_SERIES: usize = 10_000;

#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: Labels,
    /// The store's name for it, once it was stored.
    pub(super) stored_as: Option<SeriesRef>,
    /// The scrape that last had it, and at which time: a second line for both is a duplicate.
    pub(super) run: u64,
    pub(super) run_at: Timestamp,
    /// The last sample of a successful scrape.
    pub(super) last: Option<(Timestamp, f64)>,
    /// Grows from zero.
    pub(super) cumulative: bool,
    /// Number in the table of start times.
    pub(super) start: Option<u32>,
    /// Hash of the last exemplar, to store each once.
    pub(super) exemplar: u64,
}

impl Series {
    pub(super) fn new(labels: Labels) -> Self {
        Self {
            labels,
            stored_as: None,
            run: 0,
            run_at: Timestamp::MIN,
            last: None,
            cumulative: false,
            start: None,
            exemplar: 0,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    pub(super) all: Vec<Series>,
    by_labels: HashMap<Labels, u32>,
}

impl SeriesTable {
    pub(super) fn get_or_insert(&mut self, labels: Labels) -> u32 {
        if let Some(number) = self.by_labels.get(&labels) {
            return *number;
        }
        let number =
            u32::try_from(self.all.len()).expect("the sample limit keeps a target far below 2^32 series");
        self.by_labels.insert(labels.clone(), number);
        self.all.push(Series::new(labels));
        number
    }

    /// Forgets all but these, which become the numbers from zero on.
    pub(super) fn keep(&mut self, present: &[u32]) {
        let mut old: Vec<Option<Series>> = std::mem::take(&mut self.all).into_iter().map(Some).collect();
        self.by_labels.clear();
        for number in present {
            let series = old[*number as usize].take().expect("a present series is named once");
            self.by_labels.insert(series.labels.clone(), self.all.len() as u32);
            self.all.push(series);
        }
    }
}
