//! `Table`: samples of one group by column, what rows are transposed into on their way to a chunk.

use std::sync::Arc;

use davy_model::Histogram;

use crate::packed_row::PackedRow;
use crate::row::{SLOTS_MAX, bit, rank, slots};

/// Times, ascending, and for each slot the values at some or all of them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) times: Vec<i64>,
    /// By slot, ascending.
    pub(crate) columns: Vec<(u8, TableColumn)>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct TableColumn {
    /// Rows that have a float; not kept while every row has one.
    rows: Vec<u32>,
    pub(crate) bits: Vec<u64>,
    pub(crate) histogram_rows: Vec<u32>,
    pub(crate) histograms: Vec<Arc<Histogram>>,
}

impl TableColumn {
    /// Rows that have a float, ascending; `None` if all `n` have.
    pub(crate) fn float_rows(&self, n: usize) -> Option<&[u32]> {
        if self.bits.len() == n { None } else { Some(&self.rows) }
    }

    /// `rows` as [`Self::float_rows`] gives them.
    pub(crate) fn new(
        rows: Option<Vec<u32>>,
        bits: Vec<u64>,
        histogram_rows: Vec<u32>,
        histograms: Vec<Arc<Histogram>>,
    ) -> Self {
        Self { rows: rows.unwrap_or_default(), bits, histogram_rows, histograms }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.bits.clear();
        self.histogram_rows.clear();
        self.histograms.clear();
    }

    /// Puts `other`, of `n` rows, behind the `before` rows that are here.
    fn append(&mut self, before: usize, other: Self, n: usize) {
        let all = self.bits.len() == before && other.bits.len() == n;
        if !all {
            if self.bits.len() == before {
                self.rows = (0..before as u32).collect();
            }
            match other.float_rows(n) {
                Some(rows) => self.rows.extend(rows.iter().map(|r| r + before as u32)),
                None => self.rows.extend(before as u32..(before + n) as u32),
            }
        }
        self.bits.extend(other.bits);
        self.histogram_rows.extend(other.histogram_rows.iter().map(|r| r + before as u32));
        self.histograms.extend(other.histograms);
    }
}

impl Table {
    /// From rows in ascending order of time.
    pub(crate) fn from_rows(rows: &[Arc<PackedRow>]) -> Self {
        let mut table = Self::default();
        table.fill(rows);
        table
    }

    /// The same in the room of this one, for whoever makes many.
    pub(crate) fn fill(&mut self, rows: &[Arc<PackedRow>]) {
        let mask = rows.iter().fold(0, |m, r| m | r.mask());
        let full = rows.iter().all(|r| r.float_mask() == mask);
        let Self { times, columns } = self;
        times.clear();
        times.extend(rows.iter().map(|r| r.time));
        columns.resize_with(mask.count_ones() as usize, Default::default);
        for ((place, column), slot) in columns.iter_mut().zip(slots(mask)) {
            *place = slot;
            column.clear();
            column.bits.reserve_exact(rows.len());
        }
        if full {
            rows.iter().for_each(|r| r.each_float(|i, bits| columns[i].1.bits.push(bits)));
        } else {
            for (at, row) in rows.iter().enumerate() {
                put_row(columns, mask, at as u32, row);
            }
        }
    }

    pub(crate) fn mask(&self) -> u128 {
        self.columns.iter().fold(0, |m, (slot, _)| m | bit(*slot))
    }

    /// Puts `other`, which begins after this ends, behind it.
    pub(crate) fn append(&mut self, other: Self) {
        debug_assert!(self.times.last() < other.times.first(), "tables follow each other in time");
        let (before, n) = (self.times.len(), other.times.len());
        self.times.extend(other.times);
        let mut others = other.columns.into_iter().peekable();
        let mut columns = Vec::with_capacity(self.columns.len());
        let mut mine = std::mem::take(&mut self.columns).into_iter().peekable();
        loop {
            let (a, b) = (mine.peek().map(|(s, _)| *s), others.peek().map(|(s, _)| *s));
            let Some(slot) = a.into_iter().chain(b).min() else { break };
            let take = |from: &mut std::iter::Peekable<std::vec::IntoIter<_>>| {
                from.next_if(|(s, _): &(u8, TableColumn)| *s == slot).map(|(_, c)| c).unwrap_or_default()
            };
            let (mut column, behind) = (take(&mut mine), take(&mut others));
            column.append(before, behind, n);
            columns.push((slot, column));
        }
        self.columns = columns;
    }

    /// Takes the first `n` rows out.
    pub(crate) fn split_front(&mut self, n: usize) -> Self {
        let total = self.times.len();
        let rest = self.times.split_off(n);
        let front_times = std::mem::replace(&mut self.times, rest);
        let mut front = Vec::with_capacity(self.columns.len());
        for (slot, column) in &mut self.columns {
            let rows = column.float_rows(total).map(<[u32]>::to_vec);
            let floats = rows.as_ref().map_or(n, |r| r.partition_point(|r| (*r as usize) < n));
            let histograms = column.histogram_rows.partition_point(|r| (*r as usize) < n);
            let back = |r: &u32| r - n as u32;
            let rest = TableColumn {
                rows: rows.as_ref().map_or_else(Vec::new, |r| r[floats..].iter().map(back).collect()),
                bits: column.bits.split_off(floats),
                histogram_rows: column.histogram_rows[histograms..].iter().map(back).collect(),
                histograms: column.histograms.split_off(histograms),
            };
            column.rows = rows.map_or_else(Vec::new, |r| r[..floats].to_vec());
            column.histogram_rows.truncate(histograms);
            front.push((*slot, std::mem::replace(column, rest)));
        }
        let has_values = |(_, c): &(u8, TableColumn)| !c.bits.is_empty() || !c.histograms.is_empty();
        front.retain(has_values);
        self.columns.retain(has_values);
        Self { times: front_times, columns: front }
    }
}

fn put_row(columns: &mut [(u8, TableColumn)], mask: u128, at: u32, row: &PackedRow) {
    let mut slot_of = [0u8; SLOTS_MAX];
    slots(row.float_mask()).zip(&mut slot_of).for_each(|(slot, place)| *place = slot);
    row.each_float(|i, bits| {
        let column = &mut columns[rank(mask, slot_of[i])].1;
        column.rows.push(at);
        column.bits.push(bits);
    });
    for (slot, h) in slots(row.histogram_mask()).zip(row.histogram_values()) {
        let column = &mut columns[rank(mask, slot)].1;
        column.histogram_rows.push(at);
        column.histograms.push(h.clone());
    }
}
