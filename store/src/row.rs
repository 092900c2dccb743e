//! `Row`: what a group of series holds at one time. A target's scrape is one row in each of its groups.
//!
//! The form in which a batch is made; the head and the log hold it as a [`PackedRow`](crate::packed_row::PackedRow).

use std::sync::Arc;

use davy_model::{Histogram, Value};

/// Most series in a group: as many as the bits of a row's mask.
pub(crate) const SLOTS_MAX: usize = 128;

/// One time, and the values of the slots that have one. Values lie packed in the order of their slots, so that a
/// row of three values takes the room of three.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) time: i64,
    floats: u128,
    /// Bits of the floats; staleness markers and other NaNs are kept bit for bit.
    bits: Vec<u64>,
    histograms: Option<Box<Histograms>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Histograms {
    pub(crate) mask: u128,
    pub(crate) values: Vec<Arc<Histogram>>,
}

impl Row {
    pub(crate) fn new(time: i64) -> Self {
        Self::with_capacity(time, 0)
    }

    /// For so many floats.
    pub(crate) fn with_capacity(time: i64, floats: usize) -> Self {
        Self { time, floats: 0, bits: Vec::with_capacity(floats), histograms: None }
    }

    /// From a mask and as many values as it has bits.
    pub(crate) fn from_parts(
        time: i64,
        floats: u128,
        bits: Vec<u64>,
        histograms: Option<Box<Histograms>>,
    ) -> Self {
        assert_eq!(floats.count_ones() as usize, bits.len(), "one value a set bit");
        Self { time, floats, bits, histograms }
    }

    pub(crate) fn into_histograms(self) -> Option<Box<Histograms>> {
        self.histograms
    }

    /// Slots that have a value.
    pub(crate) fn mask(&self) -> u128 {
        self.floats | self.histogram_mask()
    }

    pub(crate) fn float_mask(&self) -> u128 {
        self.floats
    }

    pub(crate) fn float_bits(&self) -> &[u64] {
        &self.bits
    }

    pub(crate) fn histogram_mask(&self) -> u128 {
        self.histograms.as_ref().map_or(0, |h| h.mask)
    }

    pub(crate) fn has(&self, slot: u8) -> bool {
        self.mask() & bit(slot) != 0
    }

    pub(crate) fn get(&self, slot: u8) -> Option<Value> {
        if self.floats & bit(slot) != 0 {
            return Some(Value::Float(f64::from_bits(self.bits[rank(self.floats, slot)])));
        }
        let h = self.histograms.as_ref().filter(|h| h.mask & bit(slot) != 0)?;
        Some(Value::Histogram(h.values[rank(h.mask, slot)].clone()))
    }

    /// The first slot beyond all that have a value.
    pub(crate) fn end(&self) -> u8 {
        (u128::BITS - self.mask().leading_zeros()) as u8
    }

    /// Sets a slot at or beyond [`Self::end`].
    #[inline]
    pub(crate) fn push(&mut self, slot: u8, value: f64) {
        debug_assert!(slot >= self.end(), "slot {slot} is not beyond the last one");
        self.bits.push(value.to_bits());
        self.floats |= bit(slot);
    }

    /// Sets a slot that is still empty.
    pub(crate) fn set(&mut self, slot: u8, value: Value) {
        debug_assert!(!self.has(slot), "slot {slot} has a value already");
        match value {
            Value::Float(v) => {
                // Samples mostly come in the order of their slots.
                if self.floats < bit(slot) {
                    self.bits.push(v.to_bits());
                } else {
                    self.bits.insert(rank(self.floats, slot), v.to_bits());
                }
                self.floats |= bit(slot);
            }
            Value::Histogram(v) => {
                let h = self.histograms.get_or_insert_default();
                h.values.insert(rank(h.mask, slot), v);
                h.mask |= bit(slot);
            }
        }
    }

    /// Takes over what `other` has and `self` lacks; returns the slots in which both hold different values.
    pub(crate) fn merge(&mut self, other: &Self) -> u128 {
        let mut differing = 0;
        for slot in slots(other.mask()) {
            let value = other.get(slot).expect("slots() yields set bits");
            match self.get(slot) {
                None => self.set(slot, value),
                Some(mine) if same(&mine, &value) => {}
                Some(_) => differing |= bit(slot),
            }
        }
        differing
    }

    /// Keeps only the slots in `mask`.
    pub(crate) fn retain(&mut self, mask: u128) {
        let mut kept = Self::new(self.time);
        for slot in slots(self.mask() & mask) {
            kept.set(slot, self.get(slot).expect("slots() yields set bits"));
        }
        *self = kept;
    }
}

pub(crate) fn bit(slot: u8) -> u128 {
    1 << slot
}

/// The slots of a mask, ascending.
pub(crate) fn slots(mut mask: u128) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let slot = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (slot < 128).then_some(slot as u8)
    })
}

/// Where in packed values a slot's value lies or would lie.
pub(crate) fn rank(mask: u128, slot: u8) -> usize {
    (mask & (bit(slot) - 1)).count_ones() as usize
}

/// Whether two values are the same bit for bit.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Histogram(a), Value::Histogram(b)) => {
            Arc::ptr_eq(a, b) || crate::histogram::bytes(a) == crate::histogram::bytes(b)
        }
        (Value::Float(_), Value::Histogram(_)) | (Value::Histogram(_), Value::Float(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_holds_what_was_set_in_any_order(values in proptest::collection::btree_map(0u8..128, any::<u64>(), 0..128), seed in any::<u64>()) {
            let mut order: Vec<_> = values.iter().collect();
            order.sort_by_key(|(s, _)| (u64::from(**s) + 1).wrapping_mul(seed | 1));
            let mut row = Row::new(0);
            for (&slot, &v) in order {
                row.set(slot, Value::Float(f64::from_bits(v)));
            }
            prop_assert_eq!(row.mask().count_ones() as usize, values.len());
            for slot in 0..128 {
                let got = row.get(slot).and_then(|v| v.as_float()).map(f64::to_bits);
                prop_assert_eq!(got, values.get(&slot).copied());
            }
        }
    }

    #[test]
    fn merging_keeps_the_first_and_names_the_differing() {
        let mut a = Row::new(1);
        a.set(3, Value::Float(1.0));
        a.set(5, Value::Float(2.0));
        let mut b = Row::new(1);
        b.set(3, Value::Float(9.0));
        b.set(5, Value::Float(2.0));
        b.set(127, Value::Histogram(Arc::default()));
        assert_eq!(a.merge(&b), bit(3));
        assert_eq!(a.get(3), Some(Value::Float(1.0)));
        assert_eq!(slots(a.mask()).collect::<Vec<_>>(), [3, 5, 127]);
        a.retain(bit(5));
        assert_eq!((a.mask(), a.get(5)), (bit(5), Some(Value::Float(2.0))));
    }
}
