//! `Source`: where series are read from. A snapshot of the store, or series that are held in memory because they
//! came from elsewhere (a recording, another Prometheus, a test).

use std::ops::ControlFlow;

use davy_model::{Labels, Matcher, Timestamp};
use davy_store::{Columns, Error, SeriesColumns, SeriesSamples, Snapshot};

pub trait Source {
    /// Series that satisfy every matcher and have a sample in `from..=to`, with those samples, sorted by labels.
    fn select(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<SeriesSamples>, Error>;

    /// The same by column, one series after the other in no particular order, for as long as it is wanted.
    fn each(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        f: &mut dyn FnMut(SeriesColumns) -> ControlFlow<()>,
    ) -> Result<(), Error>;

    /// The same without samples; may name series whose samples lie just outside the range.
    fn series(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Result<Vec<Labels>, Error>;
}

impl Source for Snapshot {
    fn select(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<SeriesSamples>, Error> {
        Snapshot::select(self, matchers, from, to)
    }

    fn each(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        f: &mut dyn FnMut(SeriesColumns) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.each_columns(matchers, from, to, f)
    }

    fn series(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Result<Vec<Labels>, Error> {
        Snapshot::series(self, matchers, from, to)
    }
}

/// Series in memory; the samples of each are in the order of time.
#[derive(Debug, Clone, Default)]
pub struct Recorded(pub Vec<SeriesSamples>);

impl Source for Recorded {
    fn select(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<SeriesSamples>, Error> {
        let mut out: Vec<_> = self
            .0
            .iter()
            .filter(|s| matchers.iter().all(|m| m.matches(&s.labels)))
            .map(|s| {
                let start = s.samples.partition_point(|x| x.timestamp < from);
                let end = s.samples.partition_point(|x| x.timestamp <= to).max(start);
                SeriesSamples { labels: s.labels.clone(), samples: s.samples[start..end].to_vec() }
            })
            .filter(|s| !s.samples.is_empty())
            .collect();
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }

    fn each(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        f: &mut dyn FnMut(SeriesColumns) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let columns = |s: SeriesSamples| SeriesColumns { labels: s.labels, samples: Columns::of(&s.samples) };
        let _ = self.select(matchers, from, to)?.into_iter().map(columns).try_for_each(f);
        Ok(())
    }

    fn series(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Result<Vec<Labels>, Error> {
        Ok(self.select(matchers, from, to)?.into_iter().map(|s| s.labels).collect())
    }
}
