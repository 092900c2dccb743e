//! Numbers and strings as bytes: the alphabet of the log, of chunks and of span blocks.
//!
//! Writing appends to a `Vec<u8>` and cannot fail; reading checks every bound and never panics.

/// Bytes that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Corrupt(pub(crate) &'static str);

/// LEB128.
pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

pub(crate) fn put_ivarint(out: &mut Vec<u8>, v: i64) {
    put_uvarint(out, zigzag(v));
}

pub(crate) fn put_str(out: &mut Vec<u8>, s: &str) {
    put_uvarint(out, s.len() as u64);
    out.extend_from_slice(s.as_bytes());
}

/// Whole numbers in few bytes, anything else as its eight.
pub(crate) fn put_number(out: &mut Vec<u8>, v: f64) {
    match whole(v.to_bits()) {
        Some(i) => {
            put_uvarint(out, zigzag(i) << 1);
        }
        None => {
            out.push(1);
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }
}

pub(crate) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

pub(crate) fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// The first eight bytes, lowest first; zeros where there are fewer.
#[inline]
pub(crate) fn first_word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or_else(|| short_word(bytes), |b| u64::from_le_bytes(*b))
}

fn short_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The integer that these bits are as a float, if turning it back gives the same bits: not for -0.0, NaN,
/// fractions, or beyond 2^53.
pub(crate) fn whole(bits: u64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let v = f64::from_bits(bits);
    let i = v as i64;
    ((i as f64).to_bits() == bits && v.abs() <= EXACT_MAX).then_some(i)
}

/// Reads what the functions above wrote.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Corrupt> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Corrupt("ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Corrupt("ends too early"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Corrupt> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Corrupt> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Corrupt> {
        Ok(f64::from_bits(self.u64()?))
    }

    pub(crate) fn uvarint(&mut self) -> Result<u64, Corrupt> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.u8()?;
            let part = u64::from(b & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            v |= part << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(Corrupt("number longer than 64 bits"))
    }

    pub(crate) fn ivarint(&mut self) -> Result<i64, Corrupt> {
        self.uvarint().map(unzigzag)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Corrupt> {
        u32::try_from(self.uvarint()?).map_err(|_| Corrupt("number longer than 32 bits"))
    }

    /// A count of things that take at least one byte each: so a wrong one cannot ask for more memory than
    /// there are bytes.
    pub(crate) fn count(&mut self) -> Result<usize, Corrupt> {
        let n = self.uvarint()?;
        if n > self.0.len() as u64 {
            return Err(Corrupt("count larger than what follows"));
        }
        Ok(n as usize)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Corrupt> {
        let n = self.count()?;
        std::str::from_utf8(self.bytes(n)?).map_err(|_| Corrupt("text is not UTF-8"))
    }

    pub(crate) fn number(&mut self) -> Result<f64, Corrupt> {
        if self.0.first() == Some(&1) {
            self.0 = &self.0[1..];
            return self.f64();
        }
        let v = self.uvarint()?;
        if v & 1 == 1 {
            return Err(Corrupt("unknown form of number"));
        }
        Ok(unzigzag(v >> 1) as f64)
    }

    pub(crate) fn end(&self) -> Result<(), Corrupt> {
        if self.0.is_empty() { Ok(()) } else { Err(Corrupt("has bytes left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back_bit_for_bit(u in any::<u64>(), i in any::<i64>(), bits in any::<u64>(), w in -1i64 << 54..1 << 54) {
            let mut out = Vec::new();
            put_uvarint(&mut out, u);
            put_ivarint(&mut out, i);
            put_number(&mut out, f64::from_bits(bits));
            put_number(&mut out, w as f64);
            let mut r = Reader(&out);
            prop_assert_eq!(r.uvarint().unwrap(), u);
            prop_assert_eq!(r.ivarint().unwrap(), i);
            prop_assert_eq!(r.number().unwrap().to_bits(), bits);
            prop_assert_eq!(r.number().unwrap(), w as f64);
            prop_assert!(r.end().is_ok());
        }

        #[test]
        fn readers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut r = Reader(&bytes);
            let _ = (r.clone().uvarint(), r.clone().str(), r.clone().u128(), r.number());
        }
    }

    #[test]
    fn only_exact_integers_are_whole() {
        assert_eq!(whole(3.0f64.to_bits()), Some(3));
        for v in [-0.0, 0.5, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(whole(v.to_bits()), None, "{v}");
        }
    }
}
