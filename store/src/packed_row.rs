//! `PackedRow`: a row as the head keeps it and the log writes it: each value in as few whole bytes as it needs.
//!
//! A nibble says how long each value is, then come the bytes: about half the room of plain doubles, written and
//! read at a few nanoseconds a value, and every row can be read by itself. The layout, without the vector
//! instructions, is that of Lemire, Kurz and Rupp, "Stream VByte" (2018). FORMAT.md draws it.

use std::ops::Range;
use std::sync::Arc;

use davy_model::{Histogram, Value};

use crate::codec::{Corrupt, Reader, first_word, unzigzag, whole, zigzag};
use crate::row::{Histograms, Row, SLOTS_MAX, bit, rank, slots};

/// Lengths up to this are of whole numbers, zigzag, lowest byte first.
const WHOLE_MAX: u8 = 8;
/// Others are the highest so many bytes, less this, of a double whose rest is zero.
const FLOAT_BASE: u8 = 7;
const FLOAT_BYTES_MIN: u32 = 2;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PackedRow {
    pub(crate) time: i64,
    floats: u128,
    /// A nibble a float, then their bytes.
    packed: Box<[u8]>,
    histograms: Option<Box<Histograms>>,
}

impl PackedRow {
    pub(crate) fn pack(row: Row) -> Self {
        let bits = row.float_bits();
        let codes_len = bits.len().div_ceil(2);
        // The longest row there is: packed in place, then copied at its size.
        let mut place = [0u8; SLOTS_MAX / 2 + 8 * SLOTS_MAX];
        let (codes, bytes) = place.split_at_mut(codes_len);
        let mut at = 0;
        for (i, bits) in bits.iter().enumerate() {
            let (code, word) = code(*bits);
            codes[i / 2] |= code << (4 * (i % 2));
            // Eight bytes are always there: no value took more before it.
            if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *place = word.to_le_bytes();
            }
            at += len(code);
        }
        let packed = place[..codes_len + at].into();
        let (time, floats) = (row.time, row.float_mask());
        Self { time, floats, packed, histograms: row.into_histograms() }
    }

    pub(crate) fn unpack(&self) -> Row {
        let mut bits = Vec::with_capacity(self.float_len());
        self.each_float(|_, b| bits.push(b));
        Row::from_parts(self.time, self.floats, bits, self.histograms.clone())
    }

    /// From what [`Self::packed`] gave, checked as far as reading it needs.
    pub(crate) fn read(r: &mut Reader, time: i64, floats: u128) -> Result<Self, Corrupt> {
        let n = floats.count_ones() as usize;
        let before = r.0;
        let codes = r.bytes(n.div_ceil(2))?;
        if n % 2 == 1 && codes[n / 2] >> 4 != 0 {
            return Err(Corrupt("a nibble too many is not zero"));
        }
        let payload = codes.iter().map(|c| len(c & 15) + len(c >> 4)).sum();
        r.bytes(payload)?;
        let packed = before[..codes.len() + payload].into();
        Ok(Self { time, floats, packed, histograms: None })
    }

    pub(crate) fn set_histograms(&mut self, histograms: Histograms) {
        self.histograms = Some(Box::new(histograms));
    }

    pub(crate) fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Slots that have a value.
    pub(crate) fn mask(&self) -> u128 {
        self.floats | self.histogram_mask()
    }

    pub(crate) fn float_mask(&self) -> u128 {
        self.floats
    }

    pub(crate) fn float_len(&self) -> usize {
        self.floats.count_ones() as usize
    }

    pub(crate) fn histogram_mask(&self) -> u128 {
        self.histograms.as_ref().map_or(0, |h| h.mask)
    }

    pub(crate) fn histogram_values(&self) -> &[Arc<Histogram>] {
        self.histograms.as_ref().map_or(&[], |h| &h.values)
    }

    pub(crate) fn len(&self) -> usize {
        self.mask().count_ones() as usize
    }

    pub(crate) fn has(&self, slot: u8) -> bool {
        self.mask() & bit(slot) != 0
    }

    pub(crate) fn get(&self, slot: u8) -> Option<Value> {
        if self.floats & bit(slot) != 0 {
            return Some(Value::Float(f64::from_bits(self.float_at(rank(self.floats, slot)))));
        }
        let h = self.histograms.as_ref().filter(|h| h.mask & bit(slot) != 0)?;
        Some(Value::Histogram(h.values[rank(h.mask, slot)].clone()))
    }

    /// Every float, by its place among the floats of the row.
    pub(crate) fn each_float(&self, f: impl FnMut(usize, u64)) {
        self.each_float_of(0..self.float_len(), f);
    }

    /// Those at some of the places; what lies before them is stepped over two by two.
    pub(crate) fn each_float_of(&self, places: Range<usize>, mut f: impl FnMut(usize, u64)) {
        let (codes, mut bytes) = self.packed.split_at(self.float_len().div_ceil(2));
        let pairs = places.start / 2;
        let before: usize = codes[..pairs].iter().map(|c| usize::from(PAIR_LEN[usize::from(*c)])).sum();
        let odd = if places.start % 2 == 1 { len(codes[pairs] & 15) } else { 0 };
        bytes = &bytes[before + odd..];
        for i in places {
            let code = codes[i / 2] >> (4 * (i % 2)) & 15;
            let word = first_word(bytes);
            f(i, bits(code, word));
            bytes = &bytes[len(code)..];
        }
    }

    /// Every value with its slot, floats first.
    pub(crate) fn each(&self, wanted: u128, mut f: impl FnMut(u8, Value)) {
        if self.floats & wanted != 0 {
            let mut slot_of = [0u8; SLOTS_MAX];
            slots(self.floats).zip(&mut slot_of).for_each(|(slot, place)| *place = slot);
            self.each_float(|i, b| {
                if wanted & bit(slot_of[i]) != 0 {
                    f(slot_of[i], Value::Float(f64::from_bits(b)));
                }
            });
        }
        let histograms = slots(self.histogram_mask()).zip(self.histogram_values());
        histograms
            .filter(|(slot, _)| wanted & bit(*slot) != 0)
            .for_each(|(slot, h)| f(slot, Value::Histogram(h.clone())));
    }

    /// Takes over what `other` has and `self` lacks; returns the slots in which both hold different values.
    pub(crate) fn merge(&mut self, other: &Self) -> u128 {
        let mut row = self.unpack();
        let differing = row.merge(&other.unpack());
        *self = Self::pack(row);
        differing
    }

    /// Keeps only the slots in `mask`.
    pub(crate) fn retain(&mut self, mask: u128) {
        let mut row = self.unpack();
        row.retain(mask);
        *self = Self::pack(row);
    }

    fn float_at(&self, n: usize) -> u64 {
        let (codes, bytes) = self.packed.split_at(self.float_len().div_ceil(2));
        let code = |i: usize| codes[i / 2] >> (4 * (i % 2)) & 15;
        let at = (0..n).map(|i| len(code(i))).sum();
        let bytes = &bytes[at..];
        bits(code(n), first_word(bytes))
    }
}

/// How a float is written: its length and its bytes, lowest first.
fn code(bits: u64) -> (u8, u64) {
    if let Some(i) = whole(bits) {
        let word = zigzag(i);
        return ((64 - word.leading_zeros()).div_ceil(8) as u8, word);
    }
    let bytes = (8 - bits.trailing_zeros() / 8).max(FLOAT_BYTES_MIN);
    (FLOAT_BASE + bytes as u8, bits >> (64 - 8 * bytes))
}

/// What `code` wrote; `word` may have further bytes behind it.
fn bits(code: u8, word: u64) -> u64 {
    let len = len(code) as u32;
    let value = word & u64::MAX.checked_shr(64 - 8 * len).unwrap_or(0);
    if code <= WHOLE_MAX { (unzigzag(value) as f64).to_bits() } else { value << (64 - 8 * len) }
}

const fn len(code: u8) -> usize {
    (if code <= WHOLE_MAX { code } else { code - FLOAT_BASE }) as usize
}

/// Of two values whose codes share a byte.
const PAIR_LEN: [u8; 256] = {
    let mut lens = [0; 256];
    let mut codes = 0;
    while codes < 256 {
        lens[codes] = (len(codes as u8 & 15) + len(codes as u8 >> 4)) as u8;
        codes += 1;
    }
    lens
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_bits() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            (0u32..64, any::<i64>()).prop_map(|(shift, i)| ((i >> shift) as f64).to_bits()),
            (0u32..64, any::<u64>()).prop_map(|(shift, i)| i >> shift << shift),
            Just(0),
            Just((-0.0f64).to_bits()),
            Just(davy_model::STALE_NAN.to_bits()),
            Just(f64::INFINITY.to_bits()),
        ]
    }

    proptest! {
        #[test]
        fn a_packed_row_gives_every_bit_back(values in proptest::collection::btree_map(0u8..128, any_bits(), 0..128)) {
            let mut row = Row::new(7);
            values.iter().for_each(|(slot, b)| row.set(*slot, Value::Float(f64::from_bits(*b))));
            let packed = PackedRow::pack(row.clone());
            for slot in 0..128 {
                let got = packed.get(slot).and_then(|v| v.as_float()).map(f64::to_bits);
                prop_assert_eq!(got, values.get(&slot).copied());
            }
            let unpacked = packed.unpack();
            prop_assert_eq!(unpacked.float_bits(), row.float_bits());
            for places in [0..values.len(), values.len() / 3..values.len() / 2, values.len()..values.len()] {
                let mut some = Vec::new();
                packed.each_float_of(places.clone(), |place, bits| some.push((place, bits)));
                let want = row.float_bits()[places.clone()].iter().copied();
                prop_assert_eq!(some, places.zip(want).collect::<Vec<_>>());
            }
            let mut r = Reader(packed.packed());
            let read = PackedRow::read(&mut r, 7, packed.float_mask()).unwrap();
            prop_assert!(r.end().is_ok());
            prop_assert_eq!(read, packed);
        }

        #[test]
        fn broken_rows_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), floats in any::<u128>()) {
            if let Ok(row) = PackedRow::read(&mut Reader(&bytes), 0, floats) {
                row.each(u128::MAX, |_, _| ());
                row.unpack();
            }
        }
    }

    #[test]
    fn usual_values_are_short() {
        for (v, want) in [(0.0, 0), (1.0, 1), (-3.0, 1), (1e6, 3), (0.5, 2), (21.125, 3), (0.1, 8)] {
            assert_eq!(len(code(f64::to_bits(v)).0), want, "{v}");
        }
    }
}
