//! `Index`: which series carry which labels.
//!
//! A list of immutable segments, small ones merged into larger as they gather, so that a snapshot owns its
//! index by cloning a few pointers. Postings are roaring bitmaps of positions in the segment: an equality is
//! two binary searches, a regex is tried once per value of its label, never per series.

use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{Label, Labels, MatchOp, Matcher};
use roaring::RoaringBitmap;

use crate::SeriesRef;

/// Segments of up to so many series are merged while series are created; larger ones by maintenance.
const MERGE_INLINE_MAX: usize = 16_384;
/// More segments than this are worth compacting.
const SEGMENTS_MAX: usize = 8;
/// A segment is merged with those behind it once they together are not much smaller.
const MERGE_RATIO: usize = 3;

#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    segments: Vec<Arc<Segment>>,
}

#[derive(Debug)]
struct Segment {
    series: Vec<(SeriesRef, Labels)>,
    /// Ascending, by name, then by value.
    postings: Vec<(Arc<Label>, Posting)>,
    /// Where in them each name begins: values are many, names are few.
    names: Vec<u32>,
}

/// Most values of most labels belong to one series or to many.
#[derive(Debug)]
enum Posting {
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Index {
    /// Adds series that it does not hold yet.
    pub(crate) fn add(&mut self, series: Vec<(SeriesRef, Labels)>) {
        if series.is_empty() {
            return;
        }
        let mut from = self.segments.len();
        let mut total = series.len();
        while let Some(before) = from.checked_sub(1).map(|i| self.segments[i].series.len()) {
            if before > MERGE_RATIO * total || before + total > MERGE_INLINE_MAX {
                break;
            }
            total += before;
            from -= 1;
        }
        self.merge_from(from, series);
    }

    /// One segment again, without the series that `keep` does not want.
    pub(crate) fn compact(&self, keep: impl Fn(SeriesRef) -> bool) -> Self {
        let all = self.segments.iter().flat_map(|s| s.series.iter());
        let kept: Vec<_> = all.filter(|(r, _)| keep(*r)).cloned().collect();
        let mut compacted = Self::default();
        if !kept.is_empty() {
            compacted.merge_from(0, kept);
        }
        compacted
    }

    /// Whether compacting would make lookups cheaper.
    pub(crate) fn is_scattered(&self) -> bool {
        self.segments.len() > SEGMENTS_MAX
    }

    /// Takes `new` for the part that was `old`, if that part is as it was; otherwise nothing changes.
    pub(crate) fn replace(&mut self, old: &Self, new: Self) -> bool {
        let n = old.segments.len();
        let unchanged = self.segments.len() >= n
            && self.segments.iter().zip(&old.segments).all(|(a, b)| Arc::ptr_eq(a, b));
        if unchanged {
            self.segments.splice(..n, new.segments);
        }
        unchanged
    }

    /// Series that satisfy every matcher, in no particular order.
    pub(crate) fn find(&self, matchers: &[Matcher]) -> Vec<(SeriesRef, Labels)> {
        let mut found = Vec::new();
        for segment in &self.segments {
            segment.find(matchers).iter().for_each(|i| found.push(segment.series[i as usize].clone()));
        }
        found
    }

    /// Values of a label among all series, or among those that satisfy every matcher: sorted runs, in which each value
    /// is at least once.
    pub(crate) fn values<'a>(&'a self, name: &str, matchers: &[Matcher], out: &mut Vec<&'a str>) {
        for segment in &self.segments {
            let meets = segment.meeting(matchers);
            let values = segment.values(name).iter();
            out.extend(values.filter(|(_, p)| meets(p)).map(|(label, _)| label.value()));
        }
    }

    /// The same for the names of labels.
    pub(crate) fn names<'a>(&'a self, matchers: &[Matcher], out: &mut Vec<&'a str>) {
        for segment in &self.segments {
            let meets = segment.meeting(matchers);
            let names = (0..segment.names.len()).map(|n| segment.values_of(n));
            out.extend(names.filter(|v| v.iter().any(|(_, p)| meets(p))).map(|v| v[0].0.name()));
        }
    }

    fn merge_from(&mut self, from: usize, series: Vec<(SeriesRef, Labels)>) {
        let mut merged: Vec<_> = self.segments.drain(from..).flat_map(|s| s.series.clone()).collect();
        merged.extend(series);
        self.segments.push(Arc::new(Segment::build(merged)));
    }
}

impl Segment {
    fn build(mut series: Vec<(SeriesRef, Labels)>) -> Self {
        series.sort_unstable_by_key(|(r, _)| *r);
        // Shared labels are told apart by where they lie, which costs a hash of one word.
        let mut by_place: HashMap<*const Label, (&Arc<Label>, Vec<u32>), foldhash::fast::RandomState> =
            HashMap::default();
        for (i, (_, labels)) in series.iter().enumerate() {
            for label in labels.shared() {
                by_place.entry(Arc::as_ptr(label)).or_insert_with(|| (label, Vec::new())).1.push(i as u32);
            }
        }
        let mut found: Vec<_> = by_place.into_values().collect();
        found.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let postings = found.chunk_by(|a, b| a.0 == b.0).map(|same| (same[0].0.clone(), Posting::new(same)));
        let postings: Vec<(Arc<Label>, Posting)> = postings.collect();
        let begins = |i: &usize| *i == 0 || postings[i - 1].0.name() != postings[*i].0.name();
        let names = (0..postings.len()).filter(begins).map(|i| i as u32).collect();
        Self { series, postings, names }
    }

    fn find(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        // Equalities first: they cost a search. Matchers that an absent label satisfies take away, so they come last.
        let mut order: Vec<&Matcher> = matchers.iter().collect();
        order.sort_by_key(|m| (m.matches_value(""), m.op() != MatchOp::Equal));
        for m in order {
            let takes_away = m.matches_value("");
            let all = match found {
                Some(few) if few.len() <= self.few() => self.filter(&few, m),
                Some(f) if takes_away => f - self.union(m, false),
                Some(f) => f & self.union(m, true),
                None if takes_away => {
                    (0..self.series.len() as u32).collect::<RoaringBitmap>() - self.union(m, false)
                }
                None => self.union(m, true),
            };
            if all.is_empty() {
                return all;
            }
            found = Some(all);
        }
        found.unwrap_or_else(|| (0..self.series.len() as u32).collect())
    }

    /// Tells of a posting whether one of its series satisfies every matcher.
    fn meeting(&self, matchers: &[Matcher]) -> impl Fn(&Posting) -> bool {
        let found = (!matchers.is_empty()).then(|| self.find(matchers));
        move |posting| found.as_ref().is_none_or(|f| posting.meets(f))
    }

    /// So many series are sooner looked at than the postings of all values put together.
    fn few(&self) -> u64 {
        (self.series.len() as u64 / 64).max(16)
    }

    fn filter(&self, found: &RoaringBitmap, m: &Matcher) -> RoaringBitmap {
        let fits = |i: &u32| m.matches(&self.series[*i as usize].1);
        found.iter().filter(fits).collect()
    }

    /// Series whose label has a value for which the matcher says `wanted`.
    fn union(&self, m: &Matcher, wanted: bool) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        let values = self.values(m.name());
        if wanted && m.op() == MatchOp::Equal {
            if let Ok(i) = values.binary_search_by(|(l, _)| l.value().cmp(m.value())) {
                values[i].1.add_to(&mut out);
            }
            return out;
        }
        let hits = values.iter().filter(|(l, _)| m.matches_value(l.value()) == wanted);
        hits.for_each(|(_, p)| p.add_to(&mut out));
        out
    }

    fn values(&self, name: &str) -> &[(Arc<Label>, Posting)] {
        let name_of = |at: &u32| self.postings[*at as usize].0.name();
        self.names.binary_search_by(|at| name_of(at).cmp(name)).map_or(&[], |n| self.values_of(n))
    }

    /// The values of the `n`-th name.
    fn values_of(&self, n: usize) -> &[(Arc<Label>, Posting)] {
        let end = self.names.get(n + 1).map_or(self.postings.len(), |at| *at as usize);
        &self.postings[self.names[n] as usize..end]
    }
}

impl Posting {
    /// Of labels that are equal, whether or not they are shared.
    fn new(same: &[(&Arc<Label>, Vec<u32>)]) -> Self {
        match same {
            [(_, at)] if at.len() == 1 => Self::One(at[0]),
            all => Self::Many(Box::new(all.iter().flat_map(|(_, at)| at.iter().copied()).collect())),
        }
    }

    fn meets(&self, found: &RoaringBitmap) -> bool {
        match self {
            Self::One(i) => found.contains(*i),
            Self::Many(all) => !all.is_disjoint(found),
        }
    }

    fn add_to(&self, out: &mut RoaringBitmap) {
        match self {
            Self::One(i) => {
                out.insert(*i);
            }
            Self::Many(all) => *out |= &**all,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn any_labels() -> impl Strategy<Value = Labels> {
        let value = prop_oneof![Just(""), Just("a"), Just("b"), Just("ab"), Just("c1"), Just("c2")];
        (value.clone(), value.clone(), value, 0..50u32).prop_map(|(x, y, z, n)| {
            Labels::from_pairs([("x", x), ("y", y), ("z", z), ("n", &n.to_string())])
        })
    }

    fn any_matcher() -> impl Strategy<Value = Matcher> {
        let op = prop_oneof![
            Just(MatchOp::Equal),
            Just(MatchOp::NotEqual),
            Just(MatchOp::Regex),
            Just(MatchOp::NotRegex)
        ];
        let value =
            prop_oneof![Just(""), Just("a"), Just("a|b"), Just(".+"), Just(".*"), Just("c."), Just("nope")];
        (prop_oneof![Just("x"), Just("y"), Just("n"), Just("absent")], op, value)
            .prop_map(|(n, op, v)| Matcher::new(n, op, v).unwrap())
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(
            batches in proptest::collection::vec(proptest::collection::vec(any_labels(), 0..12), 0..8),
            matchers in proptest::collection::vec(any_matcher(), 0..4),
            compact in any::<bool>(),
        ) {
            let mut index = Index::default();
            let mut all = Vec::new();
            for batch in batches {
                let batch: Vec<_> = batch.into_iter().enumerate()
                    .map(|(i, l)| (SeriesRef((all.len() + i) as u64 * 3), l)).collect();
                all.extend(batch.clone());
                index.add(batch);
            }
            if compact {
                index = index.compact(|r| r.0 % 2 == 0);
                all.retain(|(r, _)| r.0 % 2 == 0);
            }
            let mut found = index.find(&matchers);
            found.sort();
            all.retain(|(_, l)| matchers.iter().all(|m| m.matches(l)));
            let (mut values, mut names) = (Vec::new(), Vec::new());
            index.values("n", &matchers, &mut values);
            index.names(&matchers, &mut names);
            let values: BTreeSet<&str> = values.into_iter().collect();
            let names: BTreeSet<&str> = names.into_iter().collect();
            prop_assert_eq!(values, all.iter().filter_map(|(_, l)| l.get("n")).collect::<BTreeSet<_>>());
            let all_names = all.iter().flat_map(|(_, l)| l.iter()).map(|(n, _)| n);
            prop_assert_eq!(names, all_names.collect::<BTreeSet<_>>());
            prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn compacting_replaces_only_what_it_read() {
        let one = |i: u64| vec![(SeriesRef(i), Labels::from_pairs([("i", i.to_string())]))];
        let mut index = Index::default();
        index.add((0..10).flat_map(one).collect());
        let old = index.clone();
        index.add(one(10));
        assert!(index.replace(&old, old.compact(|r| r.0 > 5)));
        assert_eq!(index.find(&[]).len(), 5);
        index.add(one(11));
        assert!(!index.replace(&old, old.compact(|_| false)), "its part is no longer as it was");
        assert_eq!(index.find(&[]).len(), 6);
    }

    #[test]
    fn one_by_one_leaves_few_segments() {
        let mut index = Index::default();
        for i in 0..2000u64 {
            index.add(vec![(SeriesRef(i), Labels::from_pairs([("i", i.to_string())]))]);
        }
        assert!(index.segments.len() < 12, "{}", index.segments.len());
        assert_eq!(index.find(&[Matcher::equal("i", "1234")]).len(), 1);
    }
}
