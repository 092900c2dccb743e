//! zstd with one context a thread: blocks have dozens of small columns, and a context costs as much as one of them.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::codec::Corrupt;

/// Of columns and heads of sealed blocks.
pub(crate) const LEVEL: i32 = 4;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// `None` if zstd cannot, which costs only space.
pub(crate) fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|made| {
        let compressor = match made {
            Some(compressor) => compressor,
            None => made.insert(Compressor::new(LEVEL).ok()?),
        };
        compressor.compress(bytes).ok()
    })
}

/// Bytes that were `len` before.
pub(crate) fn decompress(bytes: &[u8], len: usize) -> Result<Vec<u8>, Corrupt> {
    const BROKEN: Corrupt = Corrupt("does not decompress");
    let bytes = DECOMPRESSOR.with_borrow_mut(|made| {
        let decompressor = match made {
            Some(decompressor) => decompressor,
            None => made.insert(Decompressor::new().map_err(|_| BROKEN)?),
        };
        decompressor.decompress(bytes, len).map_err(|_| BROKEN)
    })?;
    if bytes.len() != len {
        return Err(Corrupt("has another length than it says"));
    }
    Ok(bytes)
}
