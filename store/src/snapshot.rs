//! `Snapshot`: an immutable view of everything committed before it was taken; what every reader works on.

use std::collections::{BTreeSet, HashMap};

use davy_model::{Exemplar, Labels, Matcher, Metadata, Sample, Span, Timestamp, TraceId};

use crate::head::View;
use crate::row::bit;
use crate::spans::SpanQuery;
use crate::{Error, SeriesRef};

/// An immutable view of everything committed before it was taken.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) view: View,
}

/// One series and its samples within the asked range, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSamples {
    pub labels: Labels,
    pub samples: Vec<Sample>,
}

/// Series found, by group and slot.
type Found = HashMap<u32, Vec<(u8, Labels)>>;

impl Snapshot {
    /// Series that satisfy every matcher and have a sample in `from..=to`, sorted by labels.
    pub fn select(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<SeriesSamples>, Error> {
        let (from, to) = (from.as_millis(), to.as_millis());
        let mut out = Vec::new();
        for (number, members) in by_group(self.view.index.find(matchers)) {
            let Some(group) = self.view.groups.get(number) else { continue };
            let wanted = members.iter().fold(0, |m, (slot, _)| m | bit(*slot));
            let mut labels: HashMap<u8, Labels> = members.into_iter().collect();
            for (slot, samples) in group.read(wanted, from, to) {
                let labels = labels.remove(&slot).expect("only the slots asked for are read");
                out.push(SeriesSamples { labels, samples });
            }
        }
        out.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }

    /// The same without reading samples; may name series whose samples lie just outside the range.
    pub fn series(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Result<Vec<Labels>, Error> {
        let (from, to) = (from.as_millis(), to.as_millis());
        let mut out = Vec::new();
        for (number, members) in by_group(self.view.index.find(matchers)) {
            let Some(group) = self.view.groups.get(number) else { continue };
            let mask = group.mask_between(from, to);
            out.extend(
                members.into_iter().filter(|(slot, _)| mask & bit(*slot) != 0).map(|(_, labels)| labels),
            );
        }
        out.sort_unstable();
        Ok(out)
    }

    /// Values of a label among the series that satisfy every matcher, sorted.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<String>, Error> {
        let series = self.series(matchers, from, to)?;
        let values: BTreeSet<&str> = series.iter().filter_map(|l| l.get(name)).collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    pub fn metadata(&self, metric: &str) -> Option<Metadata> {
        self.view.metadata.get(metric).cloned()
    }

    /// Metadata of every metric family, in no particular order.
    pub fn all_metadata(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.view.metadata.iter().map(|(name, m)| (&**name, m))
    }

    /// Exemplars in `from..=to` of the series that satisfy every matcher, oldest first for each series.
    pub fn exemplars(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        let labels: HashMap<SeriesRef, Labels> = self.view.index.find(matchers).into_iter().collect();
        let mut found: HashMap<SeriesRef, Vec<Exemplar>> = HashMap::new();
        for (series, e) in self.view.exemplars.iter() {
            if labels.contains_key(series) && from <= e.timestamp && e.timestamp <= to {
                found.entry(*series).or_default().push(e.clone());
            }
        }
        let mut out: Vec<_> = found.into_iter().map(|(s, e)| (labels[&s].clone(), e)).collect();
        out.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// Spans of one trace, by start time.
    pub fn trace(&self, id: TraceId) -> Result<Vec<Span>, Error> {
        let mut spans: Vec<Span> = self.view.spans.trace(id).map(|s| (**s).clone()).collect();
        spans.sort_by_key(|s| s.start_nanos);
        Ok(spans)
    }

    /// Spans that started in `from..=to`, newest first.
    pub fn spans(&self, query: &SpanQuery, from: Timestamp, to: Timestamp) -> Result<Vec<Span>, Error> {
        let mut found: Vec<_> =
            self.view.spans.iter().map(|(_, s)| s).filter(|s| query.matches(s, from, to)).collect();
        found.sort_by_key(|s| std::cmp::Reverse(s.start_nanos));
        found.truncate(query.limit());
        Ok(found.into_iter().map(|s| (**s).clone()).collect())
    }
}

fn by_group(found: Vec<(SeriesRef, Labels)>) -> Found {
    let mut groups = Found::new();
    for (series, labels) in found {
        groups.entry(series.group()).or_default().push((series.slot(), labels));
    }
    groups
}
