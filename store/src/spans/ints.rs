//! A column of integers as bytes, in the smallest of a few forms.
//!
//! Blocks for the log take the form that is quick to write, sealed ones try all: constants, bytes under zstd,
//! bit-packed, `pco`.

use pco::DeltaSpec;
use pco::data_types::Number;

use crate::bitpack;
use crate::codec::{Corrupt, Reader, put_ivarint};
use crate::column::Effort;
use crate::compress;

const CONSTANT: u8 = 0;
const VARINTS: u8 = 1;
const BYTES: u8 = 2;
const PACKED: u8 = 3;
const PCO_INTEGERS: u8 = 4;
const RAW: u8 = 5;
const PCO_DOUBLES: u8 = 6;

/// Fewer values are not worth pco's header.
const PCO_VALUES_MIN: usize = 24;
/// Of columns and heads of sealed blocks.
pub(crate) const ZSTD_LEVEL: i32 = 4;
const PCO_LEVEL: usize = 6;

/// Appends the column; [`read`] must be told how many values there were.
pub(crate) fn put(out: &mut Vec<u8>, values: &[i64], effort: Effort) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|v| v == first) {
        out.push(CONSTANT);
        return put_ivarint(out, *first);
    }
    match effort {
        Effort::Quick => {
            out.push(VARINTS);
            out.reserve(values.len() * 2);
            values.iter().for_each(|v| put_ivarint(out, *v));
        }
        Effort::Small => put_small(out, values),
    }
}

fn put_small(out: &mut Vec<u8>, values: &[i64]) {
    let packed = bitpack::size(values);
    let other = match values.iter().all(|v| (0..256).contains(v)) {
        true => packed_bytes(values).map(|z| (BYTES, z)),
        false => compress(values).map(|p| (PCO_INTEGERS, p)),
    };
    match other {
        Some((form, bytes)) if bytes.len() < packed => {
            out.push(form);
            out.extend_from_slice(&bytes);
        }
        _ => {
            out.push(PACKED);
            bitpack::put(out, values);
        }
    }
}

fn packed_bytes(values: &[i64]) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = values.iter().map(|v| *v as u8).collect();
    compress::compress(&bytes, ZSTD_LEVEL)
}

/// The same for the bits of doubles.
pub(crate) fn put_doubles(out: &mut Vec<u8>, bits: &[i64], effort: Effort) {
    let Some(first) = bits.first() else { return };
    if bits.iter().all(|b| b == first) {
        out.push(CONSTANT);
        return put_ivarint(out, *first);
    }
    if effort == Effort::Small {
        let doubles: Vec<f64> = bits.iter().map(|b| f64::from_bits(*b as u64)).collect();
        let packed = doubles.iter().all(|d| d.is_finite()).then(|| compress(&doubles)).flatten();
        if let Some(packed) = packed.filter(|p| p.len() < 8 * bits.len()) {
            out.push(PCO_DOUBLES);
            return out.extend_from_slice(&packed);
        }
    }
    out.push(RAW);
    bits.iter().for_each(|b| out.extend_from_slice(&b.to_le_bytes()));
}

/// Reads `n` values, which are all there is.
pub(crate) fn read(bytes: &[u8], n: usize) -> Result<Vec<i64>, Corrupt> {
    let mut r = Reader(bytes);
    if n == 0 {
        r.end()?;
        return Ok(Vec::new());
    }
    let values = match r.u8()? {
        CONSTANT => vec![r.ivarint()?; n],
        VARINTS => {
            let mut values = Vec::with_capacity(n.min(r.0.len()));
            for _ in 0..n {
                values.push(r.ivarint()?);
            }
            values
        }
        BYTES => {
            let bytes = compress::decompress(take(&mut r), n)?;
            bytes.into_iter().map(i64::from).collect()
        }
        PACKED => {
            let mut values = Vec::new();
            bitpack::read(&mut r, n, &mut values)?;
            values
        }
        PCO_INTEGERS => decompress(take(&mut r), n)?,
        PCO_DOUBLES => {
            let doubles: Vec<f64> = decompress(take(&mut r), n)?;
            doubles.into_iter().map(|d| d.to_bits() as i64).collect()
        }
        RAW => {
            let (words, _) = take(&mut r).as_chunks::<8>();
            words.iter().map(|w| i64::from_le_bytes(*w)).collect()
        }
        _ => return Err(Corrupt("unknown form of integers")),
    };
    r.end()?;
    if values.len() != n {
        return Err(Corrupt("numbers are fewer or more than the rows"));
    }
    Ok(values)
}

fn take<'a>(r: &mut Reader<'a>) -> &'a [u8] {
    std::mem::take(&mut r.0)
}

fn compress<T: Number>(values: &[T]) -> Option<Vec<u8>> {
    // Differences are taken before, where they help.
    let config =
        pco::ChunkConfig::default().with_compression_level(PCO_LEVEL).with_delta_spec(DeltaSpec::NoOp);
    (values.len() >= PCO_VALUES_MIN).then(|| pco::standalone::simple_compress(values, &config).ok()).flatten()
}

fn decompress<T: Number + Default>(bytes: &[u8], n: usize) -> Result<Vec<T>, Corrupt> {
    let mut numbers = vec![T::default(); n];
    match pco::standalone::simple_decompress_into(bytes, &mut numbers) {
        Ok(p) if p.n_processed == n && p.finished => Ok(numbers),
        Ok(_) => Err(Corrupt("numbers are fewer or more than the rows")),
        Err(_) => Err(Corrupt("numbers do not decompress")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_values() -> impl Strategy<Value = Vec<i64>> {
        (0u32..64, proptest::collection::vec(any::<i64>(), 0..300), any::<bool>()).prop_map(
            |(shift, raw, unsigned)| {
                raw.into_iter()
                    .map(|v| if unsigned { ((v as u64) >> shift) as i64 } else { v >> shift })
                    .collect()
            },
        )
    }

    proptest! {
        #[test]
        fn integers_and_doubles_come_back_bit_for_bit(values in any_values(), small in any::<bool>()) {
            let effort = if small { Effort::Small } else { Effort::Quick };
            for put in [put, put_doubles] {
                let mut out = Vec::new();
                put(&mut out, &values, effort);
                prop_assert_eq!(&read(&out, values.len()).unwrap(), &values);
            }
        }

        #[test]
        fn broken_integers_never_panic(
            values in any_values(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            n in 0usize..400,
        ) {
            let mut out = Vec::new();
            put(&mut out, &values, Effort::Small);
            let _ = read(&out, n);
            if !out.is_empty() {
                let at = at.index(out.len());
                out[at] = byte;
                let _ = (read(&out, values.len()), read(&out[..at], values.len()));
            }
        }
    }

    #[test]
    fn doubles_keep_their_sign_and_their_payload() {
        let odd = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, 1.5, f64::MIN_POSITIVE / 2.0];
        for all in [&odd[..], &odd[..2]] {
            let bits: Vec<i64> = all.iter().map(|d| d.to_bits() as i64).cycle().take(100).collect();
            let mut out = Vec::new();
            put_doubles(&mut out, &bits, Effort::Small);
            assert_eq!(read(&out, bits.len()).unwrap(), bits);
        }
    }
}
