//! Integers in as few bits as the widest of a block needs, above the smallest of the block.
//!
//! The frame of reference of Lemire and Boytsov, "Decoding billions of integers per second through
//! vectorization" (2015), without the vectors; blocks of 64.

use crate::codec::{Corrupt, Reader, put_ivarint};

const BLOCK: usize = 64;

/// What [`put`] would write, within a few bytes.
pub(crate) fn size(values: &[i64]) -> usize {
    values.chunks(BLOCK).map(|b| 3 + (b.len() * width(b) as usize).div_ceil(8)).sum()
}

pub(crate) fn put(out: &mut Vec<u8>, values: &[i64]) {
    for block in values.chunks(BLOCK) {
        let (min, width) = (block.iter().copied().min().unwrap_or(0), width(block));
        put_ivarint(out, min);
        out.push(width as u8);
        let (mut word, mut filled) = (0u128, 0);
        for v in block {
            word |= u128::from(v.wrapping_sub(min) as u64) << filled;
            filled += width;
            while filled >= 8 {
                out.push(word as u8);
                word >>= 8;
                filled -= 8;
            }
        }
        if filled > 0 {
            out.push(word as u8);
        }
    }
}

/// Reads `n` values.
pub(crate) fn read(r: &mut Reader, n: usize) -> Result<Vec<i64>, Corrupt> {
    let mut out = Vec::with_capacity(n);
    while out.len() < n {
        let len = BLOCK.min(n - out.len());
        let min = r.ivarint()?;
        let width = u32::from(r.u8()?);
        if width > 64 {
            return Err(Corrupt("integers wider than 64 bits"));
        }
        let bytes = r.bytes((len * width as usize).div_ceil(8))?;
        let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
        let value = |v: u64| min.wrapping_add((v & mask) as i64);
        match width {
            0 => out.resize(out.len() + len, min),
            // With the bits before it, such a value lies within eight bytes.
            1..=57 => out.extend((0..len).map(|i| {
                let bit = i * width as usize;
                value(window(bytes, bit / 8) >> (bit % 8))
            })),
            _ => out.extend((0..len).map(|i| {
                let bit = i * width as usize;
                let (low, high) = (window(bytes, bit / 8), window(bytes, bit / 8 + 8));
                value(((u128::from(high) << 64 | u128::from(low)) >> (bit % 8)) as u64)
            })),
        }
    }
    Ok(out)
}

/// Eight bytes from `at` on, or as many as there are.
fn window(bytes: &[u8], at: usize) -> u64 {
    if let Some(w) = bytes.get(at..).and_then(|b| b.first_chunk()) {
        return u64::from_le_bytes(*w);
    }
    let mut w = [0; 8];
    let rest = bytes.get(at..).unwrap_or(&[]);
    w[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(w)
}

fn width(block: &[i64]) -> u32 {
    let min = block.iter().copied().min().unwrap_or(0);
    let max = block.iter().copied().max().unwrap_or(0);
    64 - (max.wrapping_sub(min) as u64).leading_zeros()
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
            prop_assert_eq!(read(&mut r, values.len()).unwrap(), values);
            prop_assert!(r.end().is_ok());
        }

        #[test]
        fn broken_blocks_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), n in 0usize..200) {
            let _ = read(&mut Reader(&bytes), n);
        }
    }

    #[test]
    fn a_steady_run_takes_no_bits() {
        let mut out = Vec::new();
        put(&mut out, &[15; 64]);
        assert_eq!(out.len(), 2);
    }
}
