//! Integers in as few bits as the widest of a block needs, above the smallest of the block.
//!
//! The frame of reference of Lemire and Boytsov, "Decoding billions of integers per second through
//! vectorization" (2015), without the vectors; blocks of 64.

use crate::codec::{Corrupt, Reader, first_word, put_ivarint};

const BLOCK: usize = 64;

/// What [`put`] would write, within a few bytes, for values that come one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    bytes: usize,
    len: usize,
    min: i64,
    max: i64,
}

impl Size {
    pub(crate) const NONE: Self = Self { bytes: 0, len: 0, min: i64::MAX, max: i64::MIN };

    pub(crate) fn add(&mut self, v: i64) {
        self.min = self.min.min(v);
        self.max = self.max.max(v);
        self.len += 1;
        if self.len == BLOCK {
            *self = Self { bytes: self.bytes(), ..Self::NONE };
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let open = 3 + (self.len * width(self.min, self.max) as usize).div_ceil(8);
        self.bytes + if self.len > 0 { open } else { 0 }
    }
}

/// The same for all of them.
pub(crate) fn size(values: &[i64]) -> usize {
    let mut size = Size::NONE;
    values.iter().for_each(|v| size.add(*v));
    size.bytes()
}

pub(crate) fn put(out: &mut Vec<u8>, values: &[i64]) {
    for block in values.chunks(BLOCK) {
        let (min, max) = block.iter().fold((i64::MAX, i64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let width = width(min, max);
        put_ivarint(out, min);
        out.push(width as u8);
        let end = out.len() + (block.len() * width as usize).div_ceil(8);
        let (mut word, mut filled) = (0u128, 0);
        for v in block {
            word |= u128::from(v.wrapping_sub(min) as u64) << filled;
            filled += width;
            if filled >= 64 {
                out.extend_from_slice(&(word as u64).to_le_bytes());
                word >>= 64;
                filled -= 64;
            }
        }
        out.extend_from_slice(&(word as u64).to_le_bytes());
        out.truncate(end);
    }
}

/// Adds `n` values to `out`.
pub(crate) fn read(r: &mut Reader, n: usize, out: &mut Vec<i64>) -> Result<(), Corrupt> {
    read_first(r, n, n, out)
}

/// Adds the first `wanted` of `n` values to `out`, and reads little further.
pub(crate) fn read_first(r: &mut Reader, n: usize, wanted: usize, out: &mut Vec<i64>) -> Result<(), Corrupt> {
    // A block of no width takes two bytes: a wrong count must not ask for more memory than that allows.
    out.reserve_exact(wanted.min(r.0.len().saturating_mul(BLOCK / 2)));
    for start in (0..wanted).step_by(BLOCK) {
        let len = BLOCK.min(n - start);
        let min = r.ivarint()?;
        let width = usize::from(r.u8()?);
        if width > 64 {
            return Err(Corrupt("integers wider than 64 bits"));
        }
        let bytes = r.bytes((len * width).div_ceil(8))?;
        // Zero beyond what is there, so that every value can be read as a word.
        let mut words = [0u64; BLOCK + 1];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
            *word = first_word(bytes);
        }
        let block = unpack(width, &words);
        out.extend(block[..len.min(wanted - start)].iter().map(|v| min.wrapping_add(*v as i64)));
    }
    Ok(())
}

/// Sixty-four values of one width, each width compiled by itself.
fn unpack(width: usize, words: &[u64; BLOCK + 1]) -> [u64; BLOCK] {
    macro_rules! each_width {
        ($($w:literal)*) => {
            match width {
                $($w => unpack_width::<$w>(words),)*
                _ => [0; BLOCK],
            }
        };
    }
    each_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64)
}

fn unpack_width<const W: usize>(words: &[u64; BLOCK + 1]) -> [u64; BLOCK] {
    let mask = u64::MAX >> (64 - W);
    std::array::from_fn(|i| {
        let (at, shift) = (i * W / 64, i * W % 64);
        // Shifted in two steps, because sixty-four at once is too many.
        (words[at] >> shift | words[at + 1] << 1 << (63 - shift)) & mask
    })
}

fn width(min: i64, max: i64) -> u32 {
    if min > max { 0 } else { 64 - (max.wrapping_sub(min) as u64).leading_zeros() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_of_any_width_come_back(width in 0u32..64, raw in proptest::collection::vec(any::<i64>(), 0..200)) {
            let values: Vec<i64> = raw.iter().map(|v| v >> width).collect();
            let mut out = Vec::new();
            put(&mut out, &values);
            prop_assert!(out.len() <= size(&values) + 8 * values.len().div_ceil(BLOCK));
            let mut r = Reader(&out);
            let mut back = Vec::new();
            read(&mut r, values.len(), &mut back).unwrap();
            prop_assert_eq!(back, values);
            prop_assert!(r.end().is_ok());
        }

        #[test]
        fn broken_blocks_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), n in 0usize..200) {
            let _ = read(&mut Reader(&bytes), n, &mut Vec::new());
        }
    }

    #[test]
    fn a_steady_run_takes_no_bits() {
        let mut out = Vec::new();
        put(&mut out, &[15; 64]);
        assert_eq!(out.len(), 2);
    }
}
