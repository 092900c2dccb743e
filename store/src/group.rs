//! `Group`: up to 128 series of one target, the head's unit of storage, and the head's list of them.
//!
//! Everything hangs on `Arc`s that are copied only where a snapshot still looks (`Arc::make_mut`): taking a
//! snapshot costs a pointer per 8,192 series, and never makes the writer wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{Labels, Sample, Value};

use crate::SeriesRef;
use crate::chunk::{self, Chunk, OpenChunk};
use crate::codec::Corrupt;
use crate::column::Effort;
use crate::columns::{Columns, Pieces};
use crate::packed_row::PackedRow;
use crate::row::{SLOTS_MAX, bit, same, slots};
use crate::table::Table;

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

/// Rows are turned into a chunk once there are so many more than [`ROWS_KEPT`]...
const ROWS_FOLDED: usize = 64;
/// ...and the newest stay as they are: late samples mostly belong there.
const ROWS_KEPT: usize = 8;
/// Rows with few samples each wait longer: a chunk of them would hold little.
const ROWS_SPARSE_MAX: usize = 512;

thread_local! {
    /// Folding makes a table of a hundred columns every time: its room is used again.
    static FOLDED: RefCell<Table> = RefCell::default();
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    /// By slot; `None` once the series is gone. Slots are never given twice.
    members: Arc<Vec<Option<Labels>>>,
    /// Slots with a member.
    alive: u128,
    /// Slots given since the last [`Self::forget_dead`]; their first sample may still be on its way.
    newborn: u128,
    /// Older rows, in the order in which they were turned into chunks; late samples can make them overlap.
    chunks: Vec<Arc<Chunk>>,
    /// Ascending by time, each time once.
    rows: Vec<Arc<PackedRow>>,
}

impl Group {
    pub(crate) fn add_member(&mut self, labels: Labels) -> u8 {
        let slot = self.members.len() as u8;
        Arc::make_mut(&mut self.members).push(Some(labels));
        self.newborn |= bit(slot);
        self.alive |= bit(slot);
        slot
    }

    /// Puts a member back into its slot.
    pub(crate) fn restore_member(&mut self, slot: u8, labels: Labels) {
        let members = Arc::make_mut(&mut self.members);
        if members.len() <= usize::from(slot) {
            members.resize(usize::from(slot) + 1, None);
        }
        members[usize::from(slot)] = Some(labels);
        self.alive |= bit(slot);
    }

    pub(crate) fn members(&self) -> &[Option<Labels>] {
        &self.members
    }

    pub(crate) fn has_room(&self) -> bool {
        self.members.len() < SLOTS_MAX
    }

    pub(crate) fn newest_time(&self) -> i64 {
        let chunks = self.chunks.iter().map(|c| c.newest).max();
        chunks.max(self.rows.last().map(|r| r.time)).unwrap_or(i64::MIN)
    }

    pub(crate) fn oldest_time(&self) -> Option<i64> {
        self.times().map(|(oldest, _)| oldest)
    }

    /// The oldest and the newest time of a sample, if there is one.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        let chunks = self.chunks.iter().map(|c| (c.oldest, c.newest));
        let rows = self.rows.first().zip(self.rows.last()).map(|(a, b)| (a.time, b.time));
        chunks.chain(rows).reduce(hull)
    }

    /// Slots whose series still exists.
    pub(crate) fn alive(&self) -> u128 {
        self.alive
    }

    /// Slots with a sample in the head in or near the range.
    pub(crate) fn mask_between(&self, from: i64, to: i64) -> u128 {
        let chunks = self.chunks.iter().filter(|c| c.overlaps(from, to)).fold(0, |a, c| a | c.mask);
        self.rows_between(from, to).iter().fold(chunks, |a, r| a | r.mask())
    }

    pub(crate) fn value_at(&self, number: u32, slot: u8, time: i64) -> Option<Value> {
        let row = self.rows.binary_search_by_key(&time, |r| r.time).ok().and_then(|i| self.rows[i].get(slot));
        row.or_else(|| self.read_chunks(number, slot, time, time).pop().map(|s| s.value))
    }

    /// Time of the series' newest sample.
    pub(crate) fn newest_of(&self, number: u32, slot: u8) -> Option<i64> {
        let row = self.rows.iter().rev().find(|r| r.has(slot)).map(|r| r.time);
        // A late row may be older than what a chunk holds.
        let later = |c: &&Arc<Chunk>| c.mask & bit(slot) != 0 && row.is_none_or(|r| c.newest > r);
        let chunks = self.chunks.iter().filter(later).filter_map(|c| {
            let samples =
                read_column(&mut opened(c, number)?, number, slot, i64::MIN, i64::MAX).into_samples();
            samples.last().map(|s| s.timestamp.as_millis())
        });
        chunks.chain(row).max()
    }

    /// Adds a row; returns how many of its samples were refused because the head holds others. Chunks are cut at
    /// multiples of `range`, so that sealing never has to split one.
    pub(crate) fn insert(&mut self, number: u32, mut row: Arc<PackedRow>, range: i64) -> usize {
        let mut refused = 0;
        if self.chunks.iter().any(|c| c.overlaps(row.time, row.time)) {
            let (new, differing) = self.new_to_chunks(number, &row);
            refused = differing;
            if new != row.mask() {
                Arc::make_mut(&mut row).retain(new);
            }
        }
        let place = match self.rows.last() {
            Some(last) if last.time >= row.time => self.rows.binary_search_by_key(&row.time, |r| r.time),
            _ => Err(self.rows.len()),
        };
        match place {
            Ok(i) => refused += Arc::make_mut(&mut self.rows[i]).merge(&row).count_ones() as usize,
            Err(i) if row.len() > 0 => self.rows.insert(i, row),
            Err(_) => {}
        }
        if self.rows.len() >= ROWS_FOLDED + ROWS_KEPT {
            self.fold(number, range);
        }
        refused
    }

    /// Adds the samples of each of the slots within the range.
    pub(crate) fn read(&self, number: u32, wanted: u128, from: i64, to: i64, out: &mut Pieces) {
        let chunks = self.chunks.iter().filter(|c| c.mask & wanted != 0 && c.overlaps(from, to));
        for chunk in chunks {
            let Some(mut open) = opened(chunk, number) else { continue };
            for slot in slots(wanted & chunk.mask) {
                out.push(slot, read_column(&mut open, number, slot, from, to));
            }
        }
        read_rows(self.rows_between(from, to), wanted, out);
    }

    /// Everything before `until`, each time once.
    pub(crate) fn table_before(&self, number: u32, until: i64) -> Table {
        let mut chunks: Vec<_> = self.chunks.iter().filter(|c| c.oldest < until).collect();
        chunks.sort_by_key(|c| c.oldest);
        let rows = &self.rows[..self.rows.partition_point(|r| r.time < until)];
        let open = |c: &Arc<Chunk>| opened(c, number)?.table().map_err(|why| complain(number, why)).ok();
        let tables: Vec<Table> = chunks
            .into_iter()
            .filter_map(open)
            .chain([Table::from_rows(rows)])
            .filter(|t| !t.times.is_empty())
            .collect();
        let mut table = concat(tables);
        let within = table.times.partition_point(|t| *t < until);
        if within < table.times.len() { table.split_front(within) } else { table }
    }

    /// Takes away what lies before `until`.
    pub(crate) fn trim(&mut self, number: u32, until: i64) -> Trimmed {
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.chunks).into_iter().partition(|c| c.oldest < until);
        self.chunks = kept;
        let rows = self.rows.partition_point(|r| r.time < until);
        let rows = self.rows.drain(..rows).collect();
        for chunk in gone.iter().filter(|c| c.newest >= until) {
            let Some(mut table) = opened(chunk, number).and_then(|c| c.table().ok()) else { continue };
            table.split_front(table.times.partition_point(|t| *t < until));
            self.chunks.insert(0, Arc::new(Chunk::encode(number, &table, Effort::Quick)));
        }
        Trimmed { _chunks: gone, _rows: rows }
    }

    /// Drops series that have no sample here and are not new; returns them.
    pub(crate) fn forget_dead(&mut self) -> Vec<(u8, Labels)> {
        let living = self.mask_between(i64::MIN, i64::MAX) | self.newborn;
        self.newborn = 0;
        let dead = self.alive & !living;
        if dead == 0 {
            return Vec::new();
        }
        self.alive &= living;
        let members = Arc::make_mut(&mut self.members);
        slots(dead).filter_map(|slot| Some((slot, members[usize::from(slot)].take()?))).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.rows.is_empty() && self.alive == 0
    }

    /// Turns the oldest rows into a chunk, if they are worth it.
    fn fold(&mut self, number: u32, range: i64) {
        let window = self.rows[0].time.div_euclid(range);
        let most = (self.rows.len() - ROWS_KEPT).min(chunk::ROWS_MAX);
        let n = self.rows[..most].partition_point(|r| r.time.div_euclid(range) == window);
        let samples: usize = self.rows[..n].iter().map(|r| r.len()).sum();
        let dense = samples * 4 >= n * self.members.len();
        let window_over = n < most;
        if dense && n >= ROWS_FOLDED || window_over || self.rows.len() >= ROWS_SPARSE_MAX {
            let chunk = FOLDED.with_borrow_mut(|table| {
                table.fill(&self.rows[..n]);
                Chunk::encode(number, table, Effort::Quick)
            });
            self.chunks.push(Arc::new(chunk));
            self.rows.drain(..n);
        }
    }

    /// Which samples of a late row no chunk holds, and how many of the others differ from what it holds.
    fn new_to_chunks(&self, number: u32, row: &PackedRow) -> (u128, usize) {
        let (mut new, mut differing) = (0, 0);
        for slot in slots(row.mask()) {
            let value = row.get(slot).expect("the slot is in the row's mask");
            match self.read_chunks(number, slot, row.time, row.time).pop() {
                None => new |= bit(slot),
                Some(held) if same(&held.value, &value) => {}
                Some(_) => differing += 1,
            }
        }
        (new, differing)
    }

    fn read_chunks(&self, number: u32, slot: u8, from: i64, to: i64) -> Vec<Sample> {
        let mut out = Vec::new();
        for chunk in self.chunks.iter().filter(|c| c.mask & bit(slot) != 0 && c.overlaps(from, to)) {
            if let Some(mut open) = opened(chunk, number) {
                out.extend(read_column(&mut open, number, slot, from, to).into_samples());
            }
        }
        out
    }

    fn rows_between(&self, from: i64, to: i64) -> &[Arc<PackedRow>] {
        let start = self.rows.partition_point(|r| r.time < from);
        let end = self.rows.partition_point(|r| r.time <= to);
        self.rows.get(start..end).unwrap_or(&[])
    }
}

/// The oldest and the newest of two ranges of times.
pub(crate) fn hull(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    (a.0.min(b.0), a.1.max(b.1))
}

/// What [`Group::trim`] took away: to be dropped after the head's lock has been let go.
pub(crate) struct Trimmed {
    _chunks: Vec<Arc<Chunk>>,
    _rows: Vec<Arc<PackedRow>>,
}

/// One table of several, each time once; where they overlap, the first value of a series at a time stays.
pub(crate) fn concat(tables: Vec<Table>) -> Table {
    if !tables.is_sorted_by(|a, b| a.times.last() < b.times.first()) {
        let mut rows: Vec<_> = tables.iter().flat_map(chunk::rows_of).collect();
        rows.sort_by_key(|r| r.time);
        rows.dedup_by(|later, kept| {
            let same = later.time == kept.time;
            if same {
                Arc::make_mut(kept).merge(later);
            }
            same
        });
        return Table::from_rows(&rows);
    }
    let mut tables = tables.into_iter();
    let mut all = tables.next().unwrap_or_default();
    tables.for_each(|t| all.append(t));
    all
}

/// A chunk in memory was encoded by this process: that it does not open means broken memory or a bug, and its
/// samples are missing rather than wrong.
fn opened(chunk: &Chunk, number: u32) -> Option<OpenChunk> {
    chunk.open(number).map_err(|why| complain(number, why)).ok()
}

fn read_column(open: &mut OpenChunk, number: u32, slot: u8, from: i64, to: i64) -> Columns {
    open.read(slot, from, to).unwrap_or_else(|why| {
        complain(number, why);
        Columns::default()
    })
}

fn read_rows(rows: &[Arc<PackedRow>], wanted: u128, out: &mut Pieces) {
    let wanted = rows.iter().fold(0, |m, r| m | r.mask()) & wanted;
    if wanted == 0 {
        return;
    }
    // Slots with a float in every row share its times.
    let every = rows.iter().fold(wanted, |m, r| m & r.float_mask());
    let times: Arc<[i64]> = rows.iter().map(|r| r.time).collect();
    let mut floats = [const { Vec::new() }; SLOTS_MAX];
    slots(every).for_each(|slot| floats[usize::from(slot)].reserve_exact(rows.len()));
    let mut histograms: HashMap<u8, Vec<_>> = HashMap::new();
    let alike = rows.iter().all(|r| r.float_mask() == rows[0].float_mask() && r.histogram_mask() == 0);
    if alike {
        transpose(rows, wanted, &mut floats);
    } else {
        for row in rows {
            row.each(wanted, |slot, value| match value {
                Value::Float(v) => floats[usize::from(slot)].push(v),
                Value::Histogram(h) => histograms.entry(slot).or_default().push((row.time, h)),
            });
        }
    }
    for slot in slots(wanted) {
        let of_floats = rows.iter().filter(|r| r.float_mask() & bit(slot) != 0);
        let times = if every & bit(slot) != 0 { times.clone() } else { of_floats.map(|r| r.time).collect() };
        let floats = std::mem::take(&mut floats[usize::from(slot)]);
        out.push(slot, Columns::new(times, floats, histograms.remove(&slot).unwrap_or_default()));
    }
}

/// For rows of which each has a float in the same slots: each slot has the same place in every row.
fn transpose(rows: &[Arc<PackedRow>], wanted: u128, floats: &mut [Vec<f64>; SLOTS_MAX]) {
    let order: Vec<u8> = slots(rows[0].float_mask()).collect();
    let column =
        |slot: &u8| (wanted & bit(*slot) != 0).then(|| std::mem::take(&mut floats[usize::from(*slot)]));
    let mut columns: Vec<Option<Vec<f64>>> = order.iter().map(column).collect();
    let from = columns.iter().position(Option::is_some).unwrap_or(columns.len());
    let to = columns.iter().rposition(Option::is_some).map_or(from, |last| last + 1);
    for row in rows {
        row.each_float_of(from..to, |place, bits| {
            if let Some(column) = &mut columns[place] {
                column.push(f64::from_bits(bits));
            }
        });
    }
    for (slot, column) in order.iter().zip(columns) {
        column.into_iter().for_each(|c| floats[usize::from(*slot)] = c);
    }
}

fn complain(group: u32, why: Corrupt) {
    tracing::error!(group, %why, "a chunk in memory cannot be read");
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

    pub(crate) fn remove(&mut self, number: u32) {
        if self.get(number).is_some() {
            let page = Arc::make_mut(&mut self.pages[number as usize / PAGE]);
            page[number as usize % PAGE] = None;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        let groups = self.pages.iter().flat_map(|p| p.iter());
        groups.enumerate().filter_map(|(n, g)| Some((n as u32, g.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const RANGE: i64 = 100;

    proptest! {
        /// However rows come, are folded, trimmed and read: what is read is what was put in first.
        #[test]
        fn a_group_is_a_map_from_slot_and_time(
            puts in proptest::collection::vec((0i64..400, 0u8..3, 0u32..4), 0..900),
            jump in 0i64..3,
            until in 0i64..6,
        ) {
            let mut g = Group::default();
            (0..3).for_each(|_| { g.add_member(Labels::empty()); });
            let mut want = BTreeMap::new();
            for (i, (t, slot, v)) in puts.iter().enumerate() {
                let t = t + i as i64 * jump;
                let refused = g.insert(0, row(t, *slot, f64::from(*v)), RANGE);
                let held = *want.entry((*slot, t)).or_insert(f64::from(*v));
                prop_assert_eq!(refused, usize::from(held != f64::from(*v)));
                prop_assert_eq!(g.value_at(0, *slot, t), Some(Value::Float(held)));
            }
            let until = until * RANGE / 2;
            let sealed = g.table_before(0, until);
            let sealed: usize = chunk::rows_of(&sealed).iter().map(|r| r.len()).sum();
            prop_assert_eq!(sealed, want.keys().filter(|(_, t)| *t < until).count());
            g.trim(0, until);
            for slot in 0..3 {
                let all = want.range((slot, until)..=(slot, i64::MAX)).map(|((_, t), v)| (*t, *v));
                prop_assert_eq!(values(&g, slot), all.collect::<Vec<_>>());
                let newest = want.range((slot, until)..=(slot, i64::MAX)).next_back().map(|((_, t), _)| *t);
                prop_assert_eq!(g.newest_of(0, slot), newest);
            }
        }
    }

    #[test]
    fn the_dead_are_forgotten_one_round_after_they_were_new() {
        let mut g = Group::default();
        let labels = Labels::from_pairs([("a", "b")]);
        (0..3).for_each(|_| {
            g.add_member(labels.clone());
        });
        g.insert(0, row(5, 1, 1.0), RANGE);
        assert_eq!(g.forget_dead(), []);
        assert_eq!(g.forget_dead(), [(0, labels.clone()), (2, labels.clone())]);
        g.trim(0, 100);
        assert_eq!(g.forget_dead(), [(1, labels)]);
        assert!(g.is_empty());
    }

    fn row(time: i64, slot: u8, v: f64) -> Arc<PackedRow> {
        let mut r = crate::row::Row::new(time);
        r.set(slot, Value::Float(v));
        Arc::new(PackedRow::pack(r))
    }

    fn values(g: &Group, slot: u8) -> Vec<(i64, f64)> {
        let mut out = Pieces::default();
        g.read(0, bit(slot), i64::MIN, i64::MAX, &mut out);
        out.samples(slot).iter().map(|s| (s.timestamp.as_millis(), s.value.as_float().unwrap())).collect()
    }

    #[test]
    fn rows_in_any_order_read_in_order_of_time() {
        let mut g = Group::default();
        for (t, slot) in [(10, 0), (30, 0), (20, 0), (20, 1), (5, 1)] {
            assert_eq!(g.insert(0, row(t, slot, t as f64), RANGE), 0);
        }
        assert_eq!(g.insert(0, row(20, 1, 7.0), RANGE), 1, "the first value at a time stays");
        assert_eq!(values(&g, 0), [(10, 10.0), (20, 20.0), (30, 30.0)]);
        assert_eq!(values(&g, 1), [(5, 5.0), (20, 20.0)]);
        assert_eq!((g.newest_of(0, 1), g.newest_of(0, 2)), (Some(20), None));
    }

    #[test]
    fn a_copy_of_the_list_does_not_change() {
        let mut groups = Groups::default();
        groups.insert(70, Group::default());
        groups.get_mut(70).unwrap().insert(70, row(1, 0, 1.0), RANGE);
        let before = groups.clone();
        groups.get_mut(70).unwrap().insert(70, row(1, 1, 1.0), RANGE);
        groups.get_mut(70).unwrap().insert(70, row(2, 0, 1.0), RANGE);
        assert_eq!(before.get(70).unwrap().mask_between(0, 9), bit(0));
        assert_eq!(groups.get(70).unwrap().mask_between(0, 9), bit(0) | bit(1));
        assert_eq!(before.iter().count(), 1);
        assert!(before.get(71).is_none() && before.get(700).is_none());
    }
}
