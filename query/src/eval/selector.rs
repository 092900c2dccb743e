//! Selectors: the newest sample of each series within the look-back, open on the left.

use std::sync::Arc;

use davy_store::{Columns, SeriesColumns};

use super::series::{ABSENT, Series};
use super::{Evaluation, Sink};
use crate::ast::Selector;
use crate::histogram::Histo;
use crate::{EvalError, Source};

/// No sample within the look-back.
const NONE: u32 = u32::MAX;

/// Where in the samples of a series each step looks. Series that were sampled together share it.
#[derive(Default)]
struct Places {
    times: Option<Arc<[i64]>>,
    at: Vec<u32>,
}

impl<S: Source> Evaluation<'_, S> {
    pub(super) fn selector(&self, s: &Selector, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let mut places = Places::default();
        self.instant_series(s, &mut |found| {
            self.places(s, found.samples.times(), &mut places);
            let values = found.samples.floats();
            let floats = places.at.iter().map(|i| if *i == NONE { ABSENT } else { values[*i as usize] });
            let mut series = Series { labels: found.labels, floats: floats.collect(), histograms: None };
            if !found.samples.histograms().is_empty() {
                self.add_histograms(s, &found.samples, &places.at, &mut series);
            }
            if series.is_empty() { Ok(()) } else { sink(series) }
        })
    }

    /// `timestamp(selector)`: when the sample was taken, in seconds.
    pub(super) fn sample_times(&self, s: &Selector, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let mut places = Places::default();
        self.instant_series(s, &mut |found| {
            self.places(s, found.samples.times(), &mut places);
            let (times, values) = (found.samples.times(), found.samples.floats());
            let at = |i: &u32| match *i {
                NONE => ABSENT,
                i if davy_model::is_stale(values[i as usize]) => ABSENT,
                i => times[i as usize] as f64 / 1000.0,
            };
            let floats = places.at.iter().map(at).collect();
            let mut series = Series { labels: found.labels, floats, histograms: None };
            for i in 0..self.grid.count {
                if let Some((t, _)) = self.newest_histogram(s, &found.samples, &places.at, i) {
                    series.floats[i] = t as f64 / 1000.0;
                }
            }
            if series.is_empty() { Ok(()) } else { sink(series) }
        })
    }

    fn instant_series(
        &self,
        s: &Selector,
        each: &mut dyn FnMut(SeriesColumns) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        self.read(s, self.lookback_ms(), each)
    }

    fn lookback_ms(&self) -> i64 {
        self.engine.lookback.as_millis().min(i64::MAX as u128) as i64
    }

    fn places(&self, s: &Selector, times: &Arc<[i64]>, places: &mut Places) {
        if places.times.as_ref().is_some_and(|t| Arc::ptr_eq(t, times)) {
            return;
        }
        let lookback = self.lookback_ms();
        places.at.clear();
        let mut next = 0;
        for t in self.grid.times() {
            let t = s.shift.apply(t, self.query);
            // Times of a grid ascend, so the search goes on where it was.
            while next < times.len() && times[next] <= t {
                next += 1;
            }
            let found = next.checked_sub(1).filter(|i| times[*i] > t.saturating_sub(lookback));
            places.at.push(found.map_or(NONE, |i| i as u32));
        }
        places.times = Some(times.clone());
    }

    /// A histogram that is newer than the float of step `i`, unless it marks staleness.
    fn newest_histogram<'c>(
        &self,
        s: &Selector,
        samples: &'c Columns,
        places: &[u32],
        i: usize,
    ) -> Option<(i64, &'c Arc<davy_model::Histogram>)> {
        let lookback = self.lookback_ms();
        let t = s.shift.apply(self.grid.time(i), self.query);
        let histograms = samples.histograms();
        let newest = histograms.partition_point(|(at, _)| *at <= t).checked_sub(1)?;
        let (at, h) = &histograms[newest];
        let float_at = (places[i] != NONE).then(|| samples.times()[places[i] as usize]);
        (*at > t.saturating_sub(lookback) && float_at.is_none_or(|f| f < *at)).then_some((*at, h))
    }

    fn add_histograms(&self, s: &Selector, samples: &Columns, places: &[u32], series: &mut Series) {
        let mut last: Option<(i64, Arc<Histo>)> = None;
        for i in 0..self.grid.count {
            let Some((at, h)) = self.newest_histogram(s, samples, places, i) else { continue };
            series.floats[i] = ABSENT;
            if davy_model::is_stale(h.sum) {
                continue;
            }
            // Steps that see the same sample share what was made of it.
            let histo = match &last {
                Some((t, h)) if *t == at => h.clone(),
                _ => Arc::new(Histo::new(h)),
            };
            last = Some((at, histo.clone()));
            series.set(i, Some(super::series::Point::Histogram(histo)));
        }
    }
}
