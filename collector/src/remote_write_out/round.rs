//! `Round`: records of the log dealt to shards. The same records and the same number of shards deal the same way,
//! which is what lets a round that was interrupted go on where it was.

use std::sync::Arc;

use davy_model::{Exemplar, Histogram, Labels, Timestamp, Value};
use davy_store::{LogRecord, SeriesRef};

use super::position::{Part, Position};

/// One thing to be sent.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// The same for what belongs to one series.
    pub(super) series: u64,
    pub(super) labels: Labels,
    pub(super) at: Timestamp,
    pub(super) what: What,
    /// How many of the shard's come before it, those that are not sent among them.
    pub(super) place: usize,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Float(f64),
    Histogram(Arc<Histogram>),
    Exemplar(Exemplar),
}

impl What {
    pub(super) fn is_exemplar(&self) -> bool {
        matches!(self, Self::Exemplar(_))
    }
}

/// Why something of the log is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// By `write_relabel_configs`.
    Relabelled,
    /// The series was forgotten so long ago that nothing knows its labels.
    UnknownSeries,
}

/// What decides about a series and its samples.
pub(super) trait Choice {
    fn labels(&mut self, series: SeriesRef) -> Result<Labels, Dropped>;
    fn wants(&self, what: &What) -> bool;
}

#[derive(Debug, Default)]
pub(super) struct Round {
    /// Number of its last record.
    pub(super) until: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) relabelled: u64,
    pub(super) unknown: u64,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) items: Vec<Item>,
    /// All that were dealt to it, sent or not.
    pub(super) dealt: usize,
    /// How many of those were done in an earlier run.
    pub(super) done: usize,
}

/// Deals what follows the position. `shards` is how many there should be; an interrupted round keeps its number.
pub(super) fn deal(
    records: &[LogRecord],
    position: &Position,
    shards: usize,
    choice: &mut impl Choice,
) -> Round {
    let until = records.last().map_or(position.record, |r| r.number);
    let part = position.part.as_ref().filter(|p| p.until == until && !p.done.is_empty());
    let shards = part.map_or(shards.max(1), |p| p.done.len());
    let shard = |i: usize| Shard { done: part.map_or(0, |p: &Part| p.done[i]), ..Shard::default() };
    let mut round = Round { until, shards: (0..shards).map(shard).collect(), relabelled: 0, unknown: 0 };
    for record in records {
        for (series, at, value) in &record.samples {
            let what = match value {
                Value::Float(v) => What::Float(*v),
                Value::Histogram(h) => What::Histogram(h.clone()),
            };
            round.put(*series, *at, what, position, choice);
        }
        for (series, exemplar) in &record.exemplars {
            round.put(*series, exemplar.timestamp, What::Exemplar(exemplar.clone()), position, choice);
        }
    }
    round
}

impl Round {
    fn put(
        &mut self,
        series: SeriesRef,
        at: Timestamp,
        what: What,
        position: &Position,
        choice: &mut impl Choice,
    ) {
        let shard = spread(series.0, self.shards.len());
        let shard = &mut self.shards[shard];
        let place = shard.dealt;
        shard.dealt += 1;
        if place < shard.done || at < position.sealed_until || !choice.wants(&what) {
            return;
        }
        match choice.labels(series) {
            Ok(labels) => shard.items.push(Item { series: series.0, labels, at, what, place }),
            Err(Dropped::UnknownSeries) => self.unknown += 1,
            Err(Dropped::Relabelled) => self.relabelled += 1,
        }
    }

    pub(super) fn items(&self) -> usize {
        self.shards.iter().map(|s| s.items.len()).sum()
    }
}

/// Which shard a series belongs to. Neighbours lie in one group of the store and should not share a shard.
pub(super) fn spread(series: u64, shards: usize) -> usize {
    let mixed = series.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed as usize * shards) >> 32
}
