//! `Group`: up to 128 series of one target, the head's unit of storage, and the head's list of them.
//!
//! Everything hangs on `Arc`s that are copied only where a snapshot still looks (`Arc::make_mut`): taking a
//! snapshot costs a pointer per 8,192 series, and never makes the writer wait.

use std::sync::Arc;

use davy_model::{Labels, Sample, Timestamp, Value};

use crate::SeriesRef;
use crate::row::{Row, SLOTS_MAX, bit, slots};

impl SeriesRef {
    pub(crate) fn new(group: u32, slot: u8) -> Self {
        Self(u64::from(group) * SLOTS_MAX as u64 + u64::from(slot))
    }

    pub(crate) fn group(self) -> u32 {
        (self.0 / SLOTS_MAX as u64) as u32
    }

    pub(crate) fn slot(self) -> u8 {
        (self.0 % SLOTS_MAX as u64) as u8
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    /// By slot; `None` once the series is gone. Slots are never given twice.
    pub(crate) members: Arc<Vec<Option<Labels>>>,
    /// Ascending by time, each time once.
    rows: Vec<Arc<Row>>,
}

impl Group {
    pub(crate) fn newest_time(&self) -> i64 {
        self.rows.last().map_or(i64::MIN, |r| r.time)
    }

    pub(crate) fn alive(&self) -> u128 {
        self.members.iter().enumerate().filter(|(_, m)| m.is_some()).fold(0, |a, (i, _)| a | bit(i as u8))
    }

    /// Slots with a sample in the head within the range.
    pub(crate) fn mask_between(&self, from: i64, to: i64) -> u128 {
        self.rows_between(from, to).iter().fold(0, |a, r| a | r.mask())
    }

    pub(crate) fn value_at(&self, slot: u8, time: i64) -> Option<Value> {
        let i = self.rows.binary_search_by_key(&time, |r| r.time).ok()?;
        self.rows[i].get(slot)
    }

    /// Time of the series' newest sample.
    pub(crate) fn newest_of(&self, slot: u8) -> Option<i64> {
        self.rows.iter().rev().find(|r| r.has(slot)).map(|r| r.time)
    }

    /// Adds a row; returns how many of its samples were refused because the head holds others.
    pub(crate) fn insert(&mut self, row: Arc<Row>) -> usize {
        if row.time > self.newest_time() {
            self.rows.push(row);
            return 0;
        }
        match self.rows.binary_search_by_key(&row.time, |r| r.time) {
            Ok(i) => Arc::make_mut(&mut self.rows[i]).merge(&row).count_ones() as usize,
            Err(i) => {
                self.rows.insert(i, row);
                0
            }
        }
    }

    /// Samples of each of the slots within the range, oldest first.
    pub(crate) fn read(&self, wanted: u128, from: i64, to: i64) -> Vec<(u8, Vec<Sample>)> {
        let rows = self.rows_between(from, to);
        slots(wanted)
            .map(|slot| {
                let sample = |r: &Arc<Row>| {
                    let value = r.get(slot)?;
                    Some(Sample { timestamp: Timestamp::from_millis(r.time), value })
                };
                (slot, rows.iter().filter_map(sample).collect::<Vec<_>>())
            })
            .filter(|(_, samples)| !samples.is_empty())
            .collect()
    }

    fn rows_between(&self, from: i64, to: i64) -> &[Arc<Row>] {
        let start = self.rows.partition_point(|r| r.time < from);
        let end = self.rows.partition_point(|r| r.time <= to);
        self.rows.get(start..end).unwrap_or(&[])
    }
}

/// All groups by number, in pages so that changing one copies little.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    pages: Vec<Arc<Page>>,
}

const PAGE: usize = 64;
type Page = [Option<Arc<Group>>; PAGE];

impl Groups {
    pub(crate) fn get(&self, number: u32) -> Option<&Group> {
        self.pages.get(number as usize / PAGE)?[number as usize % PAGE].as_deref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Group> {
        self.get(number)?;
        let page = Arc::make_mut(&mut self.pages[number as usize / PAGE]);
        page[number as usize % PAGE].as_mut().map(Arc::make_mut)
    }

    pub(crate) fn insert(&mut self, number: u32, group: Group) {
        let page = number as usize / PAGE;
        if self.pages.len() <= page {
            let empty = Arc::new([const { None }; PAGE]);
            self.pages.resize(page + 1, empty);
        }
        Arc::make_mut(&mut self.pages[page])[number as usize % PAGE] = Some(Arc::new(group));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        let groups = self.pages.iter().flat_map(|p| p.iter());
        groups.enumerate().filter_map(|(n, g)| Some((n as u32, g.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time: i64, slot: u8, v: f64) -> Arc<Row> {
        let mut r = Row::new(time);
        r.set(slot, Value::Float(v));
        Arc::new(r)
    }

    fn values(g: &Group, slot: u8) -> Vec<(i64, f64)> {
        let read = g.read(bit(slot), i64::MIN, i64::MAX);
        let samples = read.into_iter().flat_map(|(_, s)| s);
        samples.map(|s| (s.timestamp.as_millis(), s.value.as_float().unwrap())).collect()
    }

    #[test]
    fn rows_in_any_order_read_in_order_of_time() {
        let mut g = Group::default();
        for (t, slot) in [(10, 0), (30, 0), (20, 0), (20, 1), (5, 1)] {
            assert_eq!(g.insert(row(t, slot, t as f64)), 0);
        }
        assert_eq!(g.insert(row(20, 1, 7.0)), 1, "the first value at a time stays");
        assert_eq!(values(&g, 0), [(10, 10.0), (20, 20.0), (30, 30.0)]);
        assert_eq!(values(&g, 1), [(5, 5.0), (20, 20.0)]);
        assert_eq!((g.newest_of(1), g.newest_of(2)), (Some(20), None));
    }

    #[test]
    fn a_copy_of_the_list_does_not_change() {
        let mut groups = Groups::default();
        groups.insert(70, Group::default());
        groups.get_mut(70).unwrap().insert(row(1, 0, 1.0));
        let before = groups.clone();
        groups.get_mut(70).unwrap().insert(row(1, 1, 1.0));
        groups.get_mut(70).unwrap().insert(row(2, 0, 1.0));
        assert_eq!(before.get(70).unwrap().mask_between(0, 9), bit(0));
        assert_eq!(groups.get(70).unwrap().mask_between(0, 9), bit(0) | bit(1));
        assert_eq!(before.iter().count(), 1);
        assert!(before.get(71).is_none() && before.get(700).is_none());
    }
}
