//! `Frame`: the checksummed envelope of every blob Davy stores, drawn in FORMAT.md.
//!
//! SQLite does not notice bits that rot inside a value, so each blob carries its own CRC-32C. Kind and
//! number lie inside the checksum: a page that lands in the wrong place is noticed as well.

use crate::codec::{Corrupt, Reader};
use crate::compress::{compress, decompress};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Series = 1,
    Samples = 2,
    Spans = 3,
    Chunk = 4,
    SpanHead = 5,
    Traces = 6,
}

const FORMAT: u8 = 1;
pub(crate) const LEVEL: i32 = 1;
const HEADER_BYTES: usize = 4 + 1 + 1 + 8 + 4;
/// Shorter bodies are not worth a compressor's header.
const COMPRESS_BYTES_MIN: usize = 64;
/// Longest body; bounds what a damaged length can ask for.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Compresses `body` where that helps and puts the envelope around it.
pub(crate) fn seal(kind: Kind, number: u64, body: &[u8]) -> Vec<u8> {
    seal_at(LEVEL, kind, number, body)
}

/// The same with another of zstd's levels.
pub(crate) fn seal_at(level: i32, kind: Kind, number: u64, body: &[u8]) -> Vec<u8> {
    assert!(body.len() <= BODY_BYTES_MAX, "writers split what they store long before this");
    let compressed = (body.len() >= COMPRESS_BYTES_MIN)
        .then(|| compress(body, level))
        .flatten()
        .filter(|c| c.len() < body.len());
    envelope(kind, number, body.len(), compressed.as_deref().unwrap_or(body))
}

/// The same without compression: for parts that are compressed already, and for what is kept for hours only.
pub(crate) fn seal_plain(kind: Kind, number: u64, body: &[u8]) -> Vec<u8> {
    assert!(body.len() <= BODY_BYTES_MAX, "writers split what they store long before this");
    envelope(kind, number, body.len(), body)
}

fn envelope(kind: Kind, number: u64, body_len: usize, stored: &[u8]) -> Vec<u8> {
    // A stored length equal to the body's means "not compressed".
    let mut out = Vec::with_capacity(HEADER_BYTES + stored.len());
    out.extend_from_slice(&[0; 4]);
    out.push(kind as u8);
    out.push(FORMAT);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&(body_len as u32).to_le_bytes());
    out.extend_from_slice(stored);
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The body, if every bit is as it was written and it is the one that was asked for.
pub(crate) fn open(kind: Kind, number: u64, blob: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let mut r = Reader(blob);
    let crc = u32::from_le_bytes(r.array()?);
    if crc32c::crc32c(r.0) != crc && verifies() {
        return Err(Corrupt("checksum does not match"));
    }
    if r.u8()? != kind as u8 {
        return Err(Corrupt("is of another kind"));
    }
    if r.u8()? != FORMAT {
        return Err(Corrupt("is of an unknown format"));
    }
    if r.u64()? != number {
        return Err(Corrupt("belongs elsewhere"));
    }
    let len = u32::from_le_bytes(r.array()?) as usize;
    if len > BODY_BYTES_MAX {
        return Err(Corrupt("is too long"));
    }
    if r.0.len() == len {
        return Ok(r.0.to_vec());
    }
    decompress(r.0, len)
}

/// Always, but where a test shows what would happen otherwise.
#[cfg(test)]
pub(crate) use crate::rot::verifies;
#[cfg(not(test))]
pub(crate) const fn verifies() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(body in proptest::collection::vec(0u8..4, 0..300), at in any::<prop::sample::Index>()) {
            let blob = seal(Kind::Chunk, 7, &body);
            prop_assert_eq!(open(Kind::Chunk, 7, &blob).unwrap(), body);
            let mut bad = blob.clone();
            let bit = at.index(bad.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(Kind::Chunk, 7, &bad).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(blob in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(open(Kind::Spans, 1, &blob).is_err());
        }
    }

    #[test]
    fn a_blob_in_the_wrong_place_is_noticed() {
        let blob = seal(Kind::Chunk, 7, b"abc");
        assert_eq!(open(Kind::Chunk, 8, &blob), Err(Corrupt("belongs elsewhere")));
        assert_eq!(open(Kind::Samples, 7, &blob), Err(Corrupt("is of another kind")));
    }
}
