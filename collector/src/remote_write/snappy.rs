//! The one place where snappy is unpacked: the length that a block declares is checked before anything is
//! allocated for it.

use super::outcome::Failed;

/// Bytes of a request once it is unpacked. Prometheus sends 2,000 samples at a time, well below a megabyte.
pub(super) const UNPACKED_BYTES_MAX: usize = 32 << 20;
/// A block cannot grow more than a copy of 64 bytes that is written in three.
const RATIO_MAX: usize = 22;

/// What a block says that it unpacks to.
pub(super) fn unpacked_length(body: &[u8]) -> Result<usize, Failed> {
    let malformed = |e| Failed::Malformed(format!("not a snappy block: {e}"));
    let length = snap::raw::decompress_len(body).map_err(malformed)?;
    if length > UNPACKED_BYTES_MAX {
        return Err(Failed::TooLarge { limit_bytes: UNPACKED_BYTES_MAX, what: "after decompression" });
    }
    if length > body.len().saturating_mul(RATIO_MAX) {
        let got = body.len();
        return Err(Failed::Malformed(format!(
            "{got} bytes of snappy cannot hold the {length} they declare"
        )));
    }
    Ok(length)
}

pub(super) fn unpack(body: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut unpacked = vec![0; unpacked_length(body)?];
    let written = snap::raw::Decoder::new()
        .decompress(body, &mut unpacked)
        .map_err(|e| Failed::Malformed(format!("not a snappy block: {e}")))?;
    unpacked.truncate(written);
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_length_is_believed_only_within_reason() {
        let packed = snap::raw::Encoder::new().compress_vec(&vec![7; 1 << 20]).unwrap();
        assert_eq!(unpack(&packed).unwrap(), vec![7; 1 << 20], "the most that snappy can shrink");
        // Declares 4 GiB - 1, then 4 MiB, in a body of a few bytes.
        assert!(matches!(unpack(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), Err(Failed::TooLarge { .. })));
        let few = unpack(&[0x80, 0x80, 0x80, 0x02, 0]);
        assert!(matches!(&few, Err(Failed::Malformed(m)) if m.contains("cannot hold")), "{few:?}");
        for bad in [&b""[..], b"hello", &[0xff; 12], &[5, 0xf0]] {
            assert!(matches!(unpack(bad), Err(Failed::Malformed(_) | Failed::TooLarge { .. })), "{bad:?}");
        }
    }
}
