//! `Columns`: samples of a series as they are read: times, floats and histograms each by themselves.
//!
//! Series of a target are sampled at the same times, so they share them: whoever evaluates many series finds the
//! bounds of a window once for all whose `times` are the same pointer.

use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{Histogram, Labels, Sample, Timestamp, Value};

use crate::row::SLOTS_MAX;

/// One series and its samples within the asked range.
#[derive(Debug, Clone)]
pub struct SeriesColumns {
    pub labels: Labels,
    pub samples: Columns,
}

/// Samples, oldest first, each time once.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    times: Arc<[i64]>,
    floats: Vec<f64>,
    histograms: Vec<(i64, Arc<Histogram>)>,
}

/// What was found of the series of one group, by slot, piece by piece.
pub(crate) struct Pieces([Vec<Columns>; SLOTS_MAX]);

/// Times that were put together, by the pieces they were made of; holding the pieces keeps their addresses theirs.
#[derive(Default)]
pub(crate) struct SharedTimes(HashMap<Vec<*const i64>, Joined, foldhash::fast::RandomState>);

struct Joined {
    _pieces: Vec<Arc<[i64]>>,
    times: Arc<[i64]>,
}

impl Columns {
    pub(crate) fn new(times: Arc<[i64]>, floats: Vec<f64>, histograms: Vec<(i64, Arc<Histogram>)>) -> Self {
        debug_assert_eq!(times.len(), floats.len(), "one time a float");
        Self { times, floats, histograms }
    }

    /// Of samples in the order of time.
    pub fn of(samples: &[Sample]) -> Self {
        let mut times = Vec::with_capacity(samples.len());
        let mut floats = Vec::with_capacity(samples.len());
        let mut histograms = Vec::new();
        for s in samples {
            match &s.value {
                Value::Float(v) => {
                    times.push(s.timestamp.as_millis());
                    floats.push(*v);
                }
                Value::Histogram(h) => histograms.push((s.timestamp.as_millis(), h.clone())),
            }
        }
        Self { times: times.into(), floats, histograms }
    }

    /// Times in milliseconds and floats, without a copy.
    pub fn into_floats(self) -> (Arc<[i64]>, Vec<f64>) {
        (self.times, self.floats)
    }

    /// Milliseconds of the floats; the same pointer for series that were sampled together.
    pub fn times(&self) -> &Arc<[i64]> {
        &self.times
    }

    /// One for each of [`Self::times`].
    pub fn floats(&self) -> &[f64] {
        &self.floats
    }

    /// Native histograms and their times in milliseconds.
    pub fn histograms(&self) -> &[(i64, Arc<Histogram>)] {
        &self.histograms
    }

    pub fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One by one, oldest first.
    pub fn into_samples(self) -> Vec<Sample> {
        let float = |(time, v): (&i64, &f64)| Sample {
            timestamp: Timestamp::from_millis(*time),
            value: Value::Float(*v),
        };
        let mut samples: Vec<Sample> = self.times.iter().zip(&self.floats).map(float).collect();
        if !self.histograms.is_empty() {
            let histogram =
                |(time, h)| Sample { timestamp: Timestamp::from_millis(time), value: Value::Histogram(h) };
            samples.extend(self.histograms.into_iter().map(histogram));
            samples.sort_by_key(|s| s.timestamp);
            samples.dedup_by_key(|s| s.timestamp);
        }
        samples
    }

    /// One of several, each time once: the first value found at a time stays.
    fn join(mut pieces: Vec<Self>, shared: &mut SharedTimes) -> Self {
        if pieces.len() == 1 {
            return pieces.swap_remove(0);
        }
        let in_order = {
            let ends = pieces.iter().filter_map(|p| Some((*p.times.first()?, *p.times.last()?)));
            ends.collect::<Vec<_>>().is_sorted_by(|a, b| a.1 < b.0)
        };
        let mut histograms: Vec<_> = pieces.iter_mut().flat_map(|p| p.histograms.drain(..)).collect();
        if !histograms.is_sorted_by(|a, b| a.0 < b.0) {
            histograms.sort_by_key(|(time, _)| *time);
            histograms.dedup_by_key(|(time, _)| *time);
        }
        if in_order {
            let mut floats = Vec::with_capacity(pieces.iter().map(|p| p.floats.len()).sum());
            pieces.iter().for_each(|p| floats.extend_from_slice(&p.floats));
            return Self { times: shared.join(&pieces), floats, histograms };
        }
        let each = |p: &Self| p.times.iter().copied().zip(p.floats.iter().copied()).collect::<Vec<_>>();
        let mut all: Vec<(i64, f64)> = pieces.iter().flat_map(each).collect();
        all.sort_by_key(|(time, _)| *time);
        all.dedup_by_key(|(time, _)| *time);
        let (times, floats): (Vec<i64>, Vec<f64>) = all.into_iter().unzip();
        Self { times: times.into(), floats, histograms }
    }
}

impl SharedTimes {
    fn join(&mut self, pieces: &[Columns]) -> Arc<[i64]> {
        let key = pieces.iter().map(|p| p.times.as_ptr()).collect();
        let joined = self.0.entry(key).or_insert_with(|| Joined {
            _pieces: pieces.iter().map(|p| p.times.clone()).collect(),
            times: pieces.iter().flat_map(|p| p.times.iter().copied()).collect(),
        });
        joined.times.clone()
    }
}

impl Default for Pieces {
    fn default() -> Self {
        Self([const { Vec::new() }; SLOTS_MAX])
    }
}

impl Pieces {
    pub(crate) fn push(&mut self, slot: u8, piece: Columns) {
        if !piece.is_empty() {
            self.0[usize::from(slot)].push(piece);
        }
    }

    pub(crate) fn take(&mut self, slot: u8) -> Vec<Columns> {
        std::mem::take(&mut self.0[usize::from(slot)])
    }

    /// Samples of one slot, oldest first.
    pub(crate) fn samples(&mut self, slot: u8) -> Vec<Sample> {
        let pieces = self.take(slot);
        if pieces.is_empty() {
            return Vec::new();
        }
        Columns::join(pieces, &mut SharedTimes::default()).into_samples()
    }
}

/// Each series once, sorted by labels, its samples in order of time.
pub(crate) fn join_series(mut found: Vec<(Labels, Vec<Columns>)>) -> Vec<SeriesColumns> {
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1.append(&mut next.1);
        }
        same
    });
    let mut shared = SharedTimes::default();
    found
        .into_iter()
        .map(|(labels, pieces)| SeriesColumns { labels, samples: Columns::join(pieces, &mut shared) })
        .collect()
}
