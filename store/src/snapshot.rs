//! `Snapshot`: an immutable view of everything committed before it was taken; what every reader works on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use davy_model::{Exemplar, Labels, Matcher, Metadata, Sample, Timestamp};

use crate::columns::{Pieces, SeriesColumns, join_series};
use crate::head::View;
use crate::partition::Partition;
use crate::row::bit;
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

/// The range asked for, in milliseconds, both ends within.
#[derive(Clone, Copy)]
struct Range {
    from: i64,
    to: i64,
}

impl Snapshot {
    /// Series that satisfy every matcher and have a sample in `from..=to`, sorted by labels.
    pub fn select(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<SeriesSamples>, Error> {
        let row_by_row =
            |s: SeriesColumns| SeriesSamples { labels: s.labels, samples: s.samples.into_samples() };
        Ok(self.columns(matchers, from, to)?.into_iter().map(row_by_row).collect())
    }

    /// The same by column, a third of the cost: for whoever reads much.
    pub fn columns(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<SeriesColumns>, Error> {
        let range = Range { from: from.as_millis(), to: to.as_millis() };
        let mut pieces = Pieces::default();
        let mut found = Vec::new();
        let mut take = |members: Vec<(u8, Labels)>, pieces: &mut Pieces| {
            let each = members.into_iter().map(|(slot, labels)| (labels, pieces.take(slot)));
            found.extend(each.filter(|(_, pieces)| !pieces.is_empty()));
        };
        for partition in self.partitions(range) {
            for (number, members) in by_group(partition.find(matchers)) {
                let wanted: Vec<u8> = members.iter().map(|(slot, _)| *slot).collect();
                partition.read(number, &wanted, (range.from, range.to), self.view.seal, &mut pieces);
                take(members, &mut pieces);
            }
        }
        for (number, members) in by_group(self.view.index.find(matchers)) {
            let Some(group) = self.view.groups.get(number) else { continue };
            let wanted = members.iter().fold(0, |m, (slot, _)| m | bit(*slot));
            group.read(number, wanted, range.from, range.to, &mut pieces);
            take(members, &mut pieces);
        }
        Ok(join_series(found))
    }

    /// The same without reading samples; may name series whose samples lie just outside the range.
    pub fn series(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Result<Vec<Labels>, Error> {
        let range = Range { from: from.as_millis(), to: to.as_millis() };
        let mut out = Vec::new();
        for partition in self.partitions(range) {
            let groups = partition.groups_between(range.from, range.to, self.view.seal);
            let found = partition.find(matchers).into_iter();
            out.extend(found.filter(|(s, _)| groups.contains(&s.group())).map(|(_, labels)| labels));
        }
        for (number, members) in by_group(self.view.index.find(matchers)) {
            let Some(group) = self.view.groups.get(number) else { continue };
            let mask = group.mask_between(range.from, range.to);
            out.extend(
                members.into_iter().filter(|(slot, _)| mask & bit(*slot) != 0).map(|(_, labels)| labels),
            );
        }
        out.sort_unstable();
        out.dedup();
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

    /// Names of the labels of the series that satisfy every matcher, sorted.
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<String>, Error> {
        let series = self.series(matchers, from, to)?;
        let names: BTreeSet<&str> = series.iter().flat_map(|l| l.iter().map(|(n, _)| n)).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// Bounds of the times that have samples: every sample lies within, and no range of them is much smaller.
    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let partitions = self.view.partitions.iter().map(|p| (p.start, p.end));
        let groups = self.view.groups.iter().filter_map(|(_, g)| Some((g.oldest_time()?, g.newest_time())));
        let (from, to) = partitions.chain(groups).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        Some((Timestamp::from_millis(from), Timestamp::from_millis(to)))
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

    /// Partitions that can hold samples of the range, oldest first.
    fn partitions(&self, range: Range) -> impl Iterator<Item = &Arc<Partition>> {
        self.view.partitions.iter().filter(move |p| p.start <= range.to && range.from < p.end)
    }
}

/// Series found, by group and slot.
fn by_group(found: Vec<(SeriesRef, Labels)>) -> HashMap<u32, Vec<(u8, Labels)>, foldhash::fast::RandomState> {
    let mut groups: HashMap<u32, Vec<(u8, Labels)>, _> = HashMap::default();
    for (series, labels) in found {
        groups.entry(series.group()).or_default().push((series.slot(), labels));
    }
    groups
}
