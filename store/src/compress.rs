//! zstd with one context a thread and level: a context costs as much to make as a small block to compress.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::codec::Corrupt;

/// Levels of zstd from zero on that are in use.
const LEVELS: usize = 8;

thread_local! {
    static COMPRESSORS: RefCell<[Option<Compressor<'static>>; LEVELS]> =
        const { RefCell::new([const { None }; LEVELS]) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// `None` if zstd cannot, which costs only space.
pub(crate) fn compress(bytes: &[u8], level: i32) -> Option<Vec<u8>> {
    COMPRESSORS.with_borrow_mut(|all| {
        let place = all.get_mut(usize::try_from(level).ok()?)?;
        if place.is_none() {
            *place = Some(Compressor::new(level).ok()?);
        }
        place.as_mut()?.compress(bytes).ok()
    })
}

/// Bytes that were `len` before.
pub(crate) fn decompress(bytes: &[u8], len: usize) -> Result<Vec<u8>, Corrupt> {
    const BROKEN: Corrupt = Corrupt("does not decompress");
    let bytes = DECOMPRESSOR.with_borrow_mut(|place| {
        if place.is_none() {
            *place = Decompressor::new().ok();
        }
        place.as_mut().and_then(|d| d.decompress(bytes, len).ok()).ok_or(BROKEN)
    })?;
    if bytes.len() != len {
        return Err(Corrupt("has another length than it says"));
    }
    Ok(bytes)
}
