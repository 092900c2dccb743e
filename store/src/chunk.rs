//! `Chunk`: rows of one group turned into columns, the form in which samples are sealed. FORMAT.md draws it.
//!
//! The times are stored once for all series of the group.

use std::sync::Arc;

use davy_model::{Histogram, Sample, Timestamp, Value};

use crate::codec::{Corrupt, Reader, put_ivarint, put_uvarint};
use crate::column::{self, Effort, Integers};
use crate::frame::{self, Kind};
use crate::histogram;
use crate::row::{Row, bit, slots};

/// Most rows in a chunk.
pub(crate) const ROWS_MAX: usize = 1024;
/// How hard zstd works on what is kept for weeks.
const LEVEL_SMALL: i32 = 3;
/// How many columns in a row may lean on the one before: bounds the work to read one series.
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
    /// From rows in ascending order of time, at least one.
    pub(crate) fn encode(group: u32, rows: &[Arc<Row>], effort: Effort) -> Self {
        let (first, last) = (&rows[0], &rows[rows.len() - 1]);
        let level = if effort == Effort::Small { LEVEL_SMALL } else { frame::LEVEL };
        let body = encode_body(rows, effort);
        Self {
            oldest: first.time,
            newest: last.time,
            mask: rows.iter().fold(0, |m, r| m | r.mask()),
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
    columns: Vec<(u8, std::ops::Range<usize>)>,
    /// The last column read, if it was integers in every row: the next may lean on it.
    last: Option<(usize, Integers)>,
}

#[derive(Default)]
struct ColumnValues {
    /// Row numbers are implied when there is a float in every row.
    float_rows: Option<Vec<usize>>,
    bits: Vec<u64>,
    histograms: Vec<(usize, Arc<Histogram>)>,
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
        Ok(Self { body, times, columns, last: None })
    }

    pub(crate) fn oldest(&self) -> Option<i64> {
        self.times.first().copied()
    }

    /// Adds the samples of a series within the range.
    pub(crate) fn read(
        &mut self,
        slot: u8,
        from: i64,
        to: i64,
        out: &mut Vec<Sample>,
    ) -> Result<(), Corrupt> {
        let Ok(at) = self.columns.binary_search_by_key(&slot, |(s, _)| *s) else { return Ok(()) };
        let column = self.column(at)?;
        let (start, end) =
            (self.times.partition_point(|t| *t < from), self.times.partition_point(|t| *t <= to));
        let sample = |row: usize, value| Sample { timestamp: Timestamp::from_millis(self.times[row]), value };
        let float = |bits: u64| Value::Float(f64::from_bits(bits));
        let before = out.len();
        match &column.float_rows {
            None => out.extend((start..end).map(|row| sample(row, float(column.bits[row])))),
            Some(rows) => {
                let within = rows.iter().zip(&column.bits).filter(|(r, _)| (start..end).contains(r));
                out.extend(within.map(|(row, bits)| sample(*row, float(*bits))));
            }
        }
        if !column.histograms.is_empty() {
            let within = column.histograms.iter().filter(|(r, _)| (start..end).contains(r));
            out.extend(within.map(|(row, h)| sample(*row, Value::Histogram(h.clone()))));
            out[before..].sort_by_key(|s| s.timestamp);
        }
        Ok(())
    }

    /// The rows that were encoded.
    pub(crate) fn rows(&mut self) -> Result<Vec<Row>, Corrupt> {
        let mut rows: Vec<Row> = self.times.iter().map(|t| Row::new(*t)).collect();
        for at in 0..self.columns.len() {
            let slot = self.columns[at].0;
            let column = self.column(at)?;
            for (i, bits) in column.bits.iter().enumerate() {
                let row = column.float_rows.as_ref().map_or(i, |rows| rows[i]);
                rows[row].set(slot, Value::Float(f64::from_bits(*bits)));
            }
            for (row, h) in column.histograms {
                rows[row].set(slot, Value::Histogram(h));
            }
        }
        Ok(rows)
    }

    fn column(&mut self, at: usize) -> Result<ColumnValues, Corrupt> {
        let mut first = at;
        while first > 0 && self.last.as_ref().is_none_or(|(n, _)| n + 1 != first) && self.leans(first) {
            first -= 1;
        }
        let mut below = self.last.take().filter(|(n, _)| n + 1 == first).map(|(_, ints)| ints);
        for i in first..at {
            let (_, ints) = self.read_column(i, below.as_ref())?;
            below = ints;
        }
        let (values, ints) = self.read_column(at, below.as_ref())?;
        self.last = ints.map(|ints| (at, ints));
        Ok(values)
    }

    fn leans(&self, at: usize) -> bool {
        let column = &self.body[self.columns[at].1.clone()];
        column.first() == Some(&0) && column::leans_on_the_one_before(&column[1..])
    }

    fn read_column(
        &self,
        at: usize,
        below: Option<&Integers>,
    ) -> Result<(ColumnValues, Option<Integers>), Corrupt> {
        let n = self.times.len();
        let mut r = Reader(&self.body[self.columns[at].1.clone()]);
        let flags = r.u8()?;
        let float_rows = if flags & SOME_FLOATS != 0 { Some(read_rows(&mut r, n)?) } else { None };
        let mut values = ColumnValues::default();
        if flags & HISTOGRAMS != 0 {
            values.histograms = read_histograms(&mut r, n)?;
            let both = |row: &usize| values.histograms.binary_search_by_key(row, |(r, _)| *r).is_ok();
            if float_rows.as_ref().is_none_or(|rows| rows.iter().any(both)) {
                return Err(Corrupt("a row holds both a float and a histogram"));
            }
        }
        let count = float_rows.as_ref().map_or(n, Vec::len);
        let mut ints = None;
        if count > 0 {
            (values.bits, ints) = column::read(&mut r, count, below)?;
        }
        r.end()?;
        // Only a column with a float in every row lines up with its neighbours.
        let ints = ints.filter(|_| float_rows.is_none());
        values.float_rows = float_rows;
        Ok((values, ints))
    }
}

fn encode_body(rows: &[Arc<Row>], effort: Effort) -> Vec<u8> {
    assert!((1..=ROWS_MAX).contains(&rows.len()), "callers cut runs of rows to size");
    let mask = rows.iter().fold(0, |m, r| m | r.mask());
    let mut lengths = Vec::new();
    let mut columns = Vec::new();
    let mut below: Option<Integers> = None;
    let mut leaning = 0;
    let transposed = transpose(rows, mask);
    for (slot, column) in slots(mask).zip(&transposed) {
        let start = columns.len();
        if leaning >= LEANING_MAX {
            below = None;
        }
        below = put_column(&mut columns, rows, slot, column, below.as_ref(), effort);
        let leans = columns[start] == 0 && column::leans_on_the_one_before(&columns[start + 1..]);
        leaning = if leans { leaning + 1 } else { 0 };
        put_uvarint(&mut lengths, (columns.len() - start) as u64);
    }
    let mut body = Vec::with_capacity(columns.len() + lengths.len() + 2 * rows.len() + 32);
    put_uvarint(&mut body, rows.len() as u64);
    body.extend_from_slice(&mask.to_le_bytes());
    put_times(&mut body, rows);
    body.extend_from_slice(&lengths);
    body.extend_from_slice(&columns);
    body
}

/// Floats of each slot in the mask, in the order of the rows.
fn transpose(rows: &[Arc<Row>], mask: u128) -> Vec<Vec<u64>> {
    let mut columns = vec![Vec::with_capacity(rows.len()); mask.count_ones() as usize];
    for row in rows {
        for (slot, bits) in slots(row.float_mask()).zip(row.float_bits()) {
            columns[(mask & (bit(slot) - 1)).count_ones() as usize].push(*bits);
        }
    }
    columns
}

fn put_column(
    out: &mut Vec<u8>,
    rows: &[Arc<Row>],
    slot: u8,
    floats: &[u64],
    below: Option<&Integers>,
    effort: Effort,
) -> Option<Integers> {
    let some = if floats.len() < rows.len() { SOME_FLOATS } else { 0 };
    let has_histogram = |r: &Row| r.histogram_mask() & bit(slot) != 0;
    let histograms = if some != 0 && rows.iter().any(|r| has_histogram(r)) { HISTOGRAMS } else { 0 };
    out.push(some | histograms);
    if some != 0 {
        put_bitmap(out, rows.iter().map(|r| r.float_mask() & bit(slot) != 0));
    }
    if histograms != 0 {
        put_bitmap(out, rows.iter().map(|r| has_histogram(r)));
        for row in rows {
            if let Some(Value::Histogram(h)) = row.get(slot) {
                histogram::put(out, &h);
            }
        }
    }
    if floats.is_empty() {
        return None;
    }
    column::put(out, floats, below.filter(|_| some == 0), effort).filter(|_| some == 0)
}

fn put_times(out: &mut Vec<u8>, rows: &[Arc<Row>]) {
    let (mut before, mut step) = (0i64, 0i64);
    for row in rows {
        let delta = row.time.wrapping_sub(before);
        put_ivarint(out, delta.wrapping_sub(step));
        (before, step) = (row.time, delta);
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

fn put_bitmap(out: &mut Vec<u8>, set: impl ExactSizeIterator<Item = bool>) {
    let start = out.len();
    out.resize(start + set.len().div_ceil(8), 0);
    for (i, set) in set.enumerate() {
        out[start + i / 8] |= u8::from(set) << (i % 8);
    }
}

/// Numbers of the set bits among `n`.
fn read_rows(r: &mut Reader, n: usize) -> Result<Vec<usize>, Corrupt> {
    let bytes = r.bytes(n.div_ceil(8))?;
    Ok((0..n).filter(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect())
}

fn read_histograms(r: &mut Reader, n: usize) -> Result<Vec<(usize, Arc<Histogram>)>, Corrupt> {
    let rows = read_rows(r, n)?;
    rows.into_iter().map(|row| Ok((row, Arc::new(histogram::read(r)?)))).collect()
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
    fn any_rows() -> impl Strategy<Value = Vec<Arc<Row>>> {
        let row = proptest::collection::btree_map(0u8..12, any_value(), 1..12);
        proptest::collection::btree_map(any::<i64>(), row, 1..40).prop_map(|rows| {
            let row = |(time, values): (i64, std::collections::BTreeMap<u8, Value>)| {
                let mut row = Row::new(time);
                values.into_iter().for_each(|(slot, v)| row.set(slot, v));
                Arc::new(row)
            };
            rows.into_iter().map(row).collect()
        })
    }

    /// NaNs are not equal to themselves: compare what is written.
    fn written(rows: &[Arc<Row>]) -> Vec<u8> {
        let rows: Vec<_> = rows.iter().map(|r| (0, r.clone())).collect();
        encode_samples(&rows, &[])
    }

    proptest! {
        #[test]
        fn chunks_come_back_bit_for_bit(rows in any_rows(), order in any::<u64>()) {
            let chunk = Chunk::encode(9, &rows, Effort::Small);
            let back: Vec<_> = chunk.open(9).unwrap().rows().unwrap().into_iter().map(Arc::new).collect();
            prop_assert_eq!(written(&back), written(&rows));
            // Series read one by one, in any order.
            let mut open = chunk.open(9).unwrap();
            for i in 0..12u64 {
                let slot = (i.wrapping_mul(order | 1) % 12) as u8;
                let mut out = Vec::new();
                open.read(slot, i64::MIN, i64::MAX, &mut out).unwrap();
                let want = rows.iter().filter_map(|r| Some((r.time, r.get(slot)?)));
                let same = want.clone().zip(&out).all(|((t, v), s)| t == s.timestamp.as_millis() && crate::row::same(&v, &s.value));
                prop_assert!(same && want.count() == out.len());
            }
        }

        #[test]
        fn broken_bodies_never_panic(rows in any_rows(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = encode_body(&rows, Effort::Small);
            let i = at.index(body.len());
            body[i] = byte;
            // A right checksum around wrong bytes: what a bug, not a rotten bit, would write.
            let blob = frame::seal(Kind::Chunk, 1, &body);
            if let Ok(mut open) = OpenChunk::open(1, &blob) {
                let _ = open.rows();
            }
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
                Arc::new(r)
            })
            .collect();
        let chunk = Chunk::encode(1, &rows, Effort::Quick);
        assert!(chunk.overlaps(990, 2000) && !chunk.overlaps(991, 2000));
        let times = |slot| {
            let mut out = Vec::new();
            chunk.open(1).unwrap().read(slot, 95, 130, &mut out).unwrap();
            out.iter().map(|s| s.timestamp.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(times(3), [100, 110, 120, 130]);
        assert_eq!(times(7), [100, 120]);
        assert_eq!(times(8), [0i64; 0]);
    }
}
