//! `Chunk`: rows of one group turned into columns, the form in which samples are sealed. FORMAT.md draws it.
//!
//! The times are stored once for all series of the group.

use std::ops::Range;
use std::sync::Arc;

use davy_model::Value;

use crate::codec::{Corrupt, Reader, put_ivarint, put_uvarint};
use crate::column::{self, Effort, Integers, Room};
use crate::columns::Columns;
use crate::frame::{self, Kind};
use crate::histogram_column;
use crate::packed_row::PackedRow;
use crate::row::{Row, slots};
use crate::table::{Table, TableColumn};

/// Most rows in a chunk: half a day at 15 seconds.
pub(crate) const ROWS_MAX: usize = 2880;
/// How hard zstd works on what is kept for weeks.
const LEVEL_SMALL: i32 = 3;
/// How long a chain of columns may be of which each leans on another: bounds the work to read one series.
const LEANING_MAX: usize = 32;

/// What a column holds beside floats in every row.
const SOME_FLOATS: u8 = 1;
const HISTOGRAMS: u8 = 2;

/// A sealed frame and what must be known without opening it.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) oldest: i64,
    pub(crate) newest: i64,
    pub(crate) mask: u128,
    /// In a frame numbered by the group.
    pub(crate) frame: Vec<u8>,
}

impl Chunk {
    /// From one row at least and [`ROWS_MAX`] at the most.
    pub(crate) fn encode(group: u32, table: &Table, effort: Effort) -> Self {
        let level = if effort == Effort::Small { LEVEL_SMALL } else { frame::LEVEL };
        let body = encode_body(table, effort);
        let times = &table.times;
        Self {
            oldest: times[0],
            newest: times[times.len() - 1],
            mask: table.mask(),
            frame: frame::seal_at(level, Kind::Chunk, u64::from(group), &body),
        }
    }

    pub(crate) fn overlaps(&self, from: i64, to: i64) -> bool {
        self.oldest <= to && from <= self.newest
    }

    pub(crate) fn open(&self, group: u32) -> Result<OpenChunk, Corrupt> {
        OpenChunk::open(group, &self.frame)
    }
}

/// A chunk whose columns can be read.
pub(crate) struct OpenChunk {
    body: Vec<u8>,
    times: Vec<i64>,
    /// Where each column lies in `body`, by slot ascending.
    columns: Vec<(u8, Range<usize>)>,
    /// The last column read that is leaned on, the rows that were read.
    last: Option<(usize, Integers)>,
    room: Room,
    within: Option<Within>,
}

/// The rows of the range that was asked for last.
#[derive(Clone)]
struct Within {
    from: i64,
    to: i64,
    start: usize,
    end: usize,
    times: Arc<[i64]>,
}

impl OpenChunk {
    pub(crate) fn open(group: u32, blob: &[u8]) -> Result<Self, Corrupt> {
        let body = frame::open(Kind::Chunk, u64::from(group), blob)?;
        let mut r = Reader(&body);
        let n = r.count()?;
        if n > ROWS_MAX {
            return Err(Corrupt("more rows than a chunk has"));
        }
        let mask = r.u128()?;
        let times = read_times(&mut r, n)?;
        let lengths = slots(mask).map(|slot| Ok((slot, r.count()?))).collect::<Result<Vec<_>, Corrupt>>()?;
        let mut at = body.len() - r.0.len();
        let mut columns = Vec::with_capacity(lengths.len());
        for (slot, len) in lengths {
            r.bytes(len)?;
            columns.push((slot, at..at + len));
            at += len;
        }
        r.end()?;
        Ok(Self { body, times, columns, last: None, room: Room::default(), within: None })
    }

    pub(crate) fn oldest(&self) -> Option<i64> {
        self.times.first().copied()
    }

    /// The samples of a series within the range.
    pub(crate) fn read(&mut self, slot: u8, from: i64, to: i64) -> Result<Columns, Corrupt> {
        let Ok(at) = self.columns.binary_search_by_key(&slot, |(s, _)| *s) else {
            return Ok(Columns::default());
        };
        let within = self.within(from, to);
        let (start, end) = (within.start, within.end);
        if self.floats(at).is_some() {
            let bits = self.full(at, start..end)?;
            return Ok(Columns::new(
                within.times,
                bits.into_iter().map(f64::from_bits).collect(),
                Vec::new(),
            ));
        }
        let column = self.mixed(at)?;
        let histograms = column.histogram_rows.iter().map(|r| *r as usize).zip(&column.histograms);
        let histograms = histograms.filter(|(r, _)| (start..end).contains(r));
        let histograms = histograms.map(|(row, h)| (self.times[row], h.clone())).collect();
        let Some(rows) = column.float_rows(self.times.len()) else {
            let floats = column.bits[start..end].iter().map(|b| f64::from_bits(*b)).collect();
            return Ok(Columns::new(within.times, floats, histograms));
        };
        let floats =
            rows.partition_point(|r| (*r as usize) < start)..rows.partition_point(|r| (*r as usize) < end);
        let times = rows[floats.clone()].iter().map(|r| self.times[*r as usize]).collect();
        let floats = column.bits[floats].iter().map(|b| f64::from_bits(*b)).collect();
        Ok(Columns::new(times, floats, histograms))
    }

    fn within(&mut self, from: i64, to: i64) -> Within {
        if let Some(within) = self.within.as_ref().filter(|w| (w.from, w.to) == (from, to)) {
            return within.clone();
        }
        let start = self.times.partition_point(|t| *t < from);
        let end = self.times.partition_point(|t| *t <= to).max(start);
        let within = Within { from, to, start, end, times: self.times[start..end].into() };
        self.within.insert(within).clone()
    }

    /// What was encoded.
    pub(crate) fn table(mut self) -> Result<Table, Corrupt> {
        let columns = (0..self.columns.len())
            .map(|at| Ok((self.columns[at].0, self.column(at)?)))
            .collect::<Result<_, Corrupt>>()?;
        Ok(Table { times: self.times, columns })
    }

    fn column(&mut self, at: usize) -> Result<TableColumn, Corrupt> {
        if self.floats(at).is_none() {
            return self.mixed(at);
        }
        let bits = self.full(at, 0..self.times.len())?;
        Ok(TableColumn::new(None, bits, Vec::new(), Vec::new()))
    }

    /// Some rows of a column that has a float in every one: from the nearest column that stands by itself, or was read
    /// last, up to this one.
    fn full(&mut self, at: usize, rows: Range<usize>) -> Result<Vec<u64>, Corrupt> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut above = Vec::new();
        let mut next = at;
        while let Some(base) = self.base_of(next) {
            if self.last.as_ref().is_some_and(|(n, ints)| *n == base && ints.rows(&rows).is_some()) {
                break;
            }
            above.push(base);
            next = base;
        }
        while let Some(below) = above.pop() {
            self.read_full(below, rows.clone())?;
        }
        self.read_full(at, rows)
    }

    /// Whether a later column leans on this one.
    fn is_leaned_on(&self, at: usize) -> bool {
        let mut later = (at + 1..self.columns.len()).filter_map(|n| self.floats(n));
        later.find(|c| column::can_be_leaned_on(c)).is_some_and(column::leans)
    }

    /// A column that has a float in every row and nothing else.
    fn floats(&self, at: usize) -> Option<&[u8]> {
        match self.body[self.columns[at].1.clone()].split_first() {
            Some((0, floats)) => Some(floats),
            _ => None,
        }
    }

    /// The column on which this one leans.
    fn base_of(&self, at: usize) -> Option<usize> {
        self.floats(at).filter(|c| column::leans(c))?;
        (0..at).rev().find(|n| self.floats(*n).is_some_and(column::can_be_leaned_on))
    }

    fn read_full(&mut self, at: usize, rows: Range<usize>) -> Result<Vec<u64>, Corrupt> {
        let base = self.base_of(at);
        let below = self.last.as_ref().filter(|(last, _)| Some(*last) == base).map(|(_, ints)| ints);
        let leaned_on = self.is_leaned_on(at);
        // Behind the flags.
        let mut r = Reader(&self.body[self.columns[at].1.start + 1..self.columns[at].1.end]);
        let n = self.times.len();
        let to_the_end = rows.end == n;
        let (bits, ints) = column::read(&mut r, n, rows, below, leaned_on, &mut self.room)?;
        if to_the_end {
            r.end()?;
        }
        if let Some(ints) = ints {
            let done = self.last.replace((at, ints));
            self.room.reuse(done.map(|(_, ints)| ints));
        }
        Ok(bits)
    }

    /// A column with rows that have no float, or a histogram. It does not line up with its neighbours and leans on none.
    fn mixed(&mut self, at: usize) -> Result<TableColumn, Corrupt> {
        let n = self.times.len();
        let mut r = Reader(&self.body[self.columns[at].1.clone()]);
        let flags = r.u8()?;
        let float_rows = if flags & SOME_FLOATS != 0 { Some(read_rows(&mut r, n)?) } else { None };
        let (mut histogram_rows, mut histograms) = (Vec::new(), Vec::new());
        if flags & HISTOGRAMS != 0 {
            histogram_rows = read_rows(&mut r, n)?;
            let both = |row: &u32| histogram_rows.binary_search(row).is_ok();
            if float_rows.as_ref().is_none_or(|rows| rows.iter().any(both)) {
                return Err(Corrupt("a row holds both a float and a histogram"));
            }
            histograms = histogram_column::read(&mut r, histogram_rows.len())?;
        }
        let count = float_rows.as_ref().map_or(n, Vec::len);
        let bits = match count {
            0 => Vec::new(),
            _ => column::read(&mut r, count, 0..count, None, false, &mut self.room)?.0,
        };
        r.end()?;
        Ok(TableColumn::new(float_rows, bits, histogram_rows, histograms))
    }
}

/// The rows of a table, for where samples must be merged one by one.
pub(crate) fn rows_of(table: &Table) -> Vec<Arc<PackedRow>> {
    let mut rows: Vec<Row> = table.times.iter().map(|t| Row::new(*t)).collect();
    for (slot, column) in &table.columns {
        let mut set = |row: usize, bits: &u64| rows[row].set(*slot, Value::Float(f64::from_bits(*bits)));
        match column.float_rows(table.times.len()) {
            None => column.bits.iter().enumerate().for_each(|(row, bits)| set(row, bits)),
            Some(at) => at.iter().zip(&column.bits).for_each(|(row, bits)| set(*row as usize, bits)),
        }
        for (row, h) in column.histogram_rows.iter().zip(&column.histograms) {
            rows[*row as usize].set(*slot, Value::Histogram(h.clone()));
        }
    }
    rows.into_iter().map(PackedRow::pack).map(Arc::new).collect()
}

fn encode_body(table: &Table, effort: Effort) -> Vec<u8> {
    let n = table.times.len();
    assert!((1..=ROWS_MAX).contains(&n), "callers cut tables to size");
    let mut lengths = Vec::new();
    let mut columns = Vec::new();
    // The nearest column that can be leaned on, and how long a chain leans on each other up to it.
    let mut below: Option<(Integers, usize)> = None;
    for (_, column) in &table.columns {
        let start = columns.len();
        let base = below.as_ref().filter(|(_, chain)| *chain < LEANING_MAX).map(|(ints, _)| ints);
        if let Some(ints) = put_column(&mut columns, column, n, base, effort) {
            let leans = column::leans(&columns[start + 1..]);
            let chain = below.map_or(0, |(_, chain)| chain);
            below = Some((ints, if leans { chain + 1 } else { 0 }));
        }
        put_uvarint(&mut lengths, (columns.len() - start) as u64);
    }
    let mut body = Vec::with_capacity(columns.len() + lengths.len() + 2 * n + 32);
    put_uvarint(&mut body, n as u64);
    body.extend_from_slice(&table.mask().to_le_bytes());
    put_times(&mut body, &table.times);
    body.extend_from_slice(&lengths);
    body.extend_from_slice(&columns);
    body
}

/// Returns the integers that the next column may lean on.
fn put_column(
    out: &mut Vec<u8>,
    column: &TableColumn,
    n: usize,
    below: Option<&Integers>,
    effort: Effort,
) -> Option<Integers> {
    let rows = column.float_rows(n);
    let some = if rows.is_some() { SOME_FLOATS } else { 0 };
    let histograms = if column.histograms.is_empty() { 0 } else { HISTOGRAMS };
    out.push(some | histograms);
    if let Some(rows) = rows {
        put_bitmap(out, n, rows);
    }
    if histograms != 0 {
        put_bitmap(out, n, &column.histogram_rows);
        histogram_column::put(out, &column.histograms, effort);
    }
    if column.bits.is_empty() {
        return None;
    }
    column::put(out, &column.bits, below.filter(|_| some == 0), effort).filter(|_| some == 0)
}

fn put_times(out: &mut Vec<u8>, times: &[i64]) {
    let (mut before, mut step) = (0i64, 0i64);
    for time in times {
        let delta = time.wrapping_sub(before);
        put_ivarint(out, delta.wrapping_sub(step));
        (before, step) = (*time, delta);
    }
}

fn read_times(r: &mut Reader, n: usize) -> Result<Vec<i64>, Corrupt> {
    let (mut time, mut step) = (0i64, 0i64);
    let mut times = Vec::with_capacity(n);
    for _ in 0..n {
        step = step.wrapping_add(r.ivarint()?);
        time = time.wrapping_add(step);
        times.push(time);
    }
    if !times.is_sorted_by(|a, b| a < b) {
        return Err(Corrupt("times do not ascend"));
    }
    Ok(times)
}

fn put_bitmap(out: &mut Vec<u8>, n: usize, set: &[u32]) {
    let start = out.len();
    out.resize(start + n.div_ceil(8), 0);
    for i in set {
        out[start + *i as usize / 8] |= 1 << (i % 8);
    }
}

/// Numbers of the set bits among `n`.
fn read_rows(r: &mut Reader, n: usize) -> Result<Vec<u32>, Corrupt> {
    let bytes = r.bytes(n.div_ceil(8))?;
    Ok((0..n as u32).filter(|i| bytes[*i as usize / 8] >> (i % 8) & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::tests::any_histogram;
    use crate::record::encode_samples;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            3 => any::<u64>().prop_map(|b| Value::Float(f64::from_bits(b))),
            9 => (0u32..1000).prop_map(|v| Value::Float(f64::from(v))),
            1 => Just(Value::Float(davy_model::STALE_NAN)),
            1 => any_histogram().prop_map(|h| Value::Histogram(Arc::new(h))),
        ]
    }

    /// Rows as sparse or dense as they come.
    fn any_rows() -> impl Strategy<Value = Vec<Arc<PackedRow>>> {
        let row = proptest::collection::btree_map(0u8..12, any_value(), 1..12);
        proptest::collection::btree_map(any::<i64>(), row, 1..40).prop_map(|rows| {
            let row = |(time, values): (i64, std::collections::BTreeMap<u8, Value>)| {
                let mut row = Row::new(time);
                values.into_iter().for_each(|(slot, v)| row.set(slot, v));
                Arc::new(PackedRow::pack(row))
            };
            rows.into_iter().map(row).collect()
        })
    }

    /// NaNs are not equal to themselves: compare what is written.
    fn written(rows: &[Arc<PackedRow>]) -> Vec<u8> {
        let rows: Vec<_> = rows.iter().map(|r| (0, r.clone())).collect();
        encode_samples(&rows, &[])
    }

    proptest! {
        #[test]
        fn chunks_come_back_bit_for_bit(rows in any_rows(), order in any::<u64>()) {
            let chunk = Chunk::encode(9, &Table::from_rows(&rows), Effort::Small);
            let back = rows_of(&chunk.open(9).unwrap().table().unwrap());
            prop_assert_eq!(written(&back), written(&rows));
            // Series read one by one, in any order.
            let mut open = chunk.open(9).unwrap();
            for i in 0..12u64 {
                let slot = (i.wrapping_mul(order | 1) % 12) as u8;
                // Up to one row or the other, and with it the columns that are leaned on.
                let until = rows[(i.wrapping_mul(order >> 8 | 1) % rows.len() as u64) as usize].time;
                let until = if i % 3 == 0 { i64::MAX } else { until };
                let out = open.read(slot, i64::MIN, until).unwrap().into_samples();
                let want = rows.iter().filter_map(|r| Some((r.time, r.get(slot)?)));
                let want = want.filter(|(time, _)| *time <= until);
                let same = want.clone().zip(&out).all(|((t, v), s)| t == s.timestamp.as_millis() && crate::row::same(&v, &s.value));
                prop_assert!(same && want.count() == out.len());
            }
        }

        #[test]
        fn broken_bodies_never_panic(rows in any_rows(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = encode_body(&Table::from_rows(&rows), Effort::Small);
            let i = at.index(body.len());
            body[i] = byte;
            // A right checksum around wrong bytes: what a bug, not a rotten bit, would write.
            let blob = frame::seal(Kind::Chunk, 1, &body);
            if let Ok(open) = OpenChunk::open(1, &blob) {
                let _ = open.table();
            }
        }

        #[test]
        fn tables_are_cut_and_put_together_without_loss(rows in any_rows(), at in any::<prop::sample::Index>()) {
            let n = at.index(rows.len());
            let mut table = Table::from_rows(&rows);
            let mut front = table.split_front(n);
            prop_assert_eq!(written(&rows_of(&front)), written(&rows[..n]));
            prop_assert_eq!(written(&rows_of(&table)), written(&rows[n..]));
            front.append(table);
            prop_assert_eq!(written(&rows_of(&front)), written(&rows));
            let mut apart = Table::from_rows(&rows[..n]);
            apart.append(Table::from_rows(&rows[n..]));
            prop_assert_eq!(encode_body(&apart, Effort::Quick), encode_body(&Table::from_rows(&rows), Effort::Quick));
        }
    }

    #[test]
    fn a_range_is_cut_out_of_the_middle() {
        let rows: Vec<_> = (0..100)
            .map(|t| {
                let mut r = Row::new(t * 10);
                r.set(3, Value::Float(t as f64));
                if t % 2 == 0 {
                    r.set(7, Value::Float(0.5));
                }
                Arc::new(PackedRow::pack(r))
            })
            .collect();
        let chunk = Chunk::encode(1, &Table::from_rows(&rows), Effort::Quick);
        assert!(chunk.overlaps(990, 2000) && !chunk.overlaps(991, 2000));
        let times = |slot| {
            let out = chunk.open(1).unwrap().read(slot, 95, 130).unwrap().into_samples();
            out.iter().map(|s| s.timestamp.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(times(3), [100, 110, 120, 130]);
        assert_eq!(times(7), [100, 120]);
        assert_eq!(times(8), [0i64; 0]);
    }
}
