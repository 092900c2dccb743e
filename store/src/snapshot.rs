//! `Snapshot`: an immutable view of everything committed before it was taken; what every reader works on.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use davy_model::{Exemplar, Labels, Matcher, Metadata, Sample, Timestamp};

use crate::columns::{Columns, Pieces, SeriesColumns, join_series};
use crate::group::hull;
use crate::head::View;
use crate::index::Index;
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

/// A group of a partition, or of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    partition: Option<usize>,
    group: u32,
}

/// Places, and series with the slot that each has there.
type Located = (Vec<Place>, Vec<(Labels, Vec<u8>)>);

type Together = HashMap<Vec<Place>, Vec<(Labels, Vec<u8>)>, foldhash::fast::RandomState>;

/// Series are many and have the same few texts.
type Distinct<'a> = HashSet<&'a str, foldhash::fast::RandomState>;

/// What an index tells of a range.
enum Indexed<'a> {
    Whole(&'a Index),
    Series(&'a [Labels]),
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
        let mut found = Vec::new();
        self.each_columns(matchers, from, to, &mut |series| {
            found.push(series);
            ControlFlow::Continue(())
        })?;
        found.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(found)
    }

    /// The same, one series after the other in no particular order, for as long as `each` continues. In memory are
    /// those that lie together: at most the series of one target.
    pub fn each_columns(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        each: &mut dyn FnMut(SeriesColumns) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let range = Range { from: from.as_millis(), to: to.as_millis() };
        let partitions: Vec<&Partition> = self.partitions(range).map(|p| &**p).collect();
        let mut pieces = Pieces::default();
        for (places, members) in self.located(&partitions, matchers) {
            let mut found: Vec<(Labels, Vec<Columns>)> =
                members.iter().map(|(labels, _)| (labels.clone(), Vec::new())).collect();
            for (i, place) in places.iter().enumerate() {
                let slots = || members.iter().map(|(_, slots)| slots[i]);
                let wanted = slots().fold(0, |m, slot| m | bit(slot));
                match place.partition {
                    Some(p) => {
                        let range = (range.from, range.to);
                        partitions[p].read(place.group, wanted, range, self.view.seal, &mut pieces);
                    }
                    None => {
                        let Some(group) = self.view.groups.get(place.group) else { continue };
                        group.read(place.group, wanted, range.from, range.to, &mut pieces);
                    }
                }
                for ((_, found), slot) in found.iter_mut().zip(slots()) {
                    found.append(&mut pieces.take(slot));
                }
            }
            found.retain(|(_, pieces)| !pieces.is_empty());
            if join_series(found).into_iter().try_for_each(&mut *each).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Where the series lie, those together that lie in the same places.
    fn located(&self, partitions: &[&Partition], matchers: &[Matcher]) -> Vec<Located> {
        if partitions.is_empty() {
            return self.located_in_head(matchers);
        }
        let mut series: HashMap<Labels, Vec<(Place, u8)>, foldhash::fast::RandomState> = HashMap::default();
        let mut note = |partition, found: Vec<(SeriesRef, Labels)>| {
            series.reserve(found.len().saturating_sub(series.len()));
            for (s, labels) in found {
                series.entry(labels).or_default().push((Place { partition, group: s.group() }, s.slot()));
            }
        };
        for (i, p) in partitions.iter().enumerate() {
            note(Some(i), p.find(matchers));
        }
        note(None, self.view.index.find(matchers));
        let mut together: Together = HashMap::default();
        for (labels, at) in series {
            let (places, slots) = at.into_iter().unzip();
            together.entry(places).or_default().push((labels, slots));
        }
        together.into_iter().collect()
    }

    /// The same of the head alone, where each living series lies in one place and those that are dead have no samples.
    fn located_in_head(&self, matchers: &[Matcher]) -> Vec<Located> {
        let by_group = by_group(self.view.index.find(matchers)).into_iter();
        let located = by_group.filter_map(|(group, members)| {
            let alive = self.view.groups.get(group)?.alive();
            let members = members.into_iter().filter(|(slot, _)| alive & bit(*slot) != 0);
            let members = members.map(|(slot, labels)| (labels, vec![slot])).collect();
            Some((vec![Place { partition: None, group }], members))
        });
        located.collect()
    }

    /// The same without reading samples; may name series whose samples lie just outside the range.
    pub fn series(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Result<Vec<Labels>, Error> {
        let range = Range { from: from.as_millis(), to: to.as_millis() };
        let mut out = self.series_of_head(matchers, range);
        for partition in self.partitions(range) {
            out.append(&mut self.series_of_partition(partition, matchers, range));
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
        let mut values = Union::default();
        self.each_index(matchers, from, to, |found| {
            let mut some = Vec::new();
            match found {
                Indexed::Whole(index) => index.values(name, matchers, &mut some),
                Indexed::Series(all) => {
                    some.extend(all.iter().filter_map(|l| l.get(name)).collect::<Distinct>());
                }
            }
            values.add(some);
        });
        Ok(values.0)
    }

    /// Names of the labels of the series that satisfy every matcher, sorted.
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<String>, Error> {
        let mut names = Union::default();
        self.each_index(matchers, from, to, |found| {
            let mut some = Vec::new();
            match found {
                Indexed::Whole(index) => index.names(matchers, &mut some),
                Indexed::Series(all) => {
                    some.extend(all.iter().flat_map(Labels::iter).map(|(n, _)| n).collect::<Distinct>());
                }
            }
            names.add(some);
        });
        Ok(names.0)
    }

    /// An index answers by itself where the range covers all that it knows of; elsewhere its series are looked at.
    fn each_index(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        mut each: impl FnMut(Indexed<'_>),
    ) {
        let range = Range { from: from.as_millis(), to: to.as_millis() };
        for p in self.partitions(range) {
            if range.from <= p.start && p.end <= range.to {
                each(Indexed::Whole(&p.index()));
            } else {
                each(Indexed::Series(&self.series_of_partition(p, matchers, range)));
            }
        }
        if self.view.times.is_some_and(|(from, to)| range.from <= from && to <= range.to) {
            each(Indexed::Whole(&self.view.index));
        } else {
            each(Indexed::Series(&self.series_of_head(matchers, range)));
        }
    }

    fn series_of_partition(&self, p: &Partition, matchers: &[Matcher], range: Range) -> Vec<Labels> {
        let groups = p.groups_between(range.from, range.to, self.view.seal);
        let found = p.find(matchers).into_iter();
        found.filter(|(s, _)| groups.contains(&s.group())).map(|(_, labels)| labels).collect()
    }

    fn series_of_head(&self, matchers: &[Matcher], range: Range) -> Vec<Labels> {
        let mut out = Vec::new();
        for (number, members) in by_group(self.view.index.find(matchers)) {
            let Some(group) = self.view.groups.get(number) else { continue };
            let mask = group.mask_between(range.from, range.to);
            let within = members.into_iter().filter(|(slot, _)| mask & bit(*slot) != 0);
            out.extend(within.map(|(_, labels)| labels));
        }
        out
    }

    /// Bounds of the times that have samples: every sample lies within, and no range of them is much smaller.
    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let partitions = self.view.partitions.iter().map(|p| (p.start, p.end));
        let (from, to) = partitions.chain(self.view.times).reduce(hull)?;
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
        self.view.partitions.iter().filter(move |p| p.overlaps(range.from, range.to))
    }
}

/// Texts of several places, sorted, each once.
#[derive(Default)]
struct Union(Vec<String>);

impl Union {
    /// Texts in sorted runs, as an index gives them, cost little more than a comparison each.
    fn add(&mut self, mut texts: Vec<&str>) {
        texts.sort();
        texts.dedup();
        texts.retain(|text| self.0.binary_search_by(|held| held.as_str().cmp(text)).is_err());
        if !texts.is_empty() {
            self.0.extend(texts.into_iter().map(str::to_owned));
            self.0.sort();
        }
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
