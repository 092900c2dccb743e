//! Numbers as `pco` packs them, in pages: some are read without unpacking the pages before them.
//!
//! All pages share one table of bins, so that a page costs some ten bytes and not as much as a column of its own.

use std::ops::Range;

use pco::data_types::Number;
use pco::errors::PcoResult;
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, FULL_BATCH_N, PagingSpec};

use crate::codec::{Corrupt, Reader, put_uvarint};

/// Numbers in every page but the last: whole batches of pco's.
pub(crate) const PAGE: usize = 1024;
const LEVEL: usize = 8;

pub(crate) fn put<T: Number>(out: &mut Vec<u8>, numbers: &[T]) -> PcoResult<()> {
    let lengths = numbers.chunks(PAGE).map(<[T]>::len).collect();
    let config =
        ChunkConfig::default().with_compression_level(LEVEL).with_paging_spec(PagingSpec::Exact(lengths));
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(numbers, &config)?;
    let mut pages = Vec::new();
    for page in 0..numbers.len().div_ceil(PAGE) {
        let start = pages.len();
        chunk.write_page(page, &mut pages)?;
        let is_last = (page + 1) * PAGE >= numbers.len();
        if !is_last {
            put_uvarint(out, (pages.len() - start) as u64);
        }
    }
    file.write_header(&mut *out)?;
    chunk.write_meta(&mut *out)?;
    out.extend_from_slice(&pages);
    Ok(())
}

/// Of `n` numbers, which are all that follows, adds those from the start of a page up to the last of `wanted`; gives
/// the place of the first.
pub(crate) fn read<T: Number + Default>(
    r: &mut Reader,
    n: usize,
    wanted: Range<usize>,
    out: &mut Vec<T>,
) -> Result<usize, Corrupt> {
    let lengths = (1..n.div_ceil(PAGE)).map(|_| r.count()).collect::<Result<Vec<_>, _>>()?;
    let bytes = r.bytes(r.0.len())?;
    let (file, bytes) = FileDecompressor::new(bytes).map_err(broken)?;
    let (mut chunk, bytes) = file.chunk_decompressor::<T, _>(bytes).map_err(broken)?;
    let mut pages = Reader(bytes);
    let first = wanted.start / PAGE * PAGE;
    for start in (0..wanted.end).step_by(PAGE) {
        let page = pages.bytes(lengths.get(start / PAGE).copied().unwrap_or(pages.0.len()))?;
        if start < first {
            continue;
        }
        let (len, asked) = (PAGE.min(n - start), PAGE.min(wanted.end - start));
        // In part, pco unpacks whole batches only.
        let some = asked.next_multiple_of(FULL_BATCH_N).min(len);
        let at = out.len();
        out.resize(at + some, T::default());
        let mut page = chunk.page_decompressor(page, len).map_err(broken)?;
        let progress = page.read(&mut out[at..]).map_err(broken)?;
        if progress.finished != (some == len) || progress.finished && !page.into_src().is_empty() {
            return Err(Corrupt("numbers are fewer or more than the rows"));
        }
        out.truncate(at + asked);
    }
    Ok(first)
}

fn broken(_: pco::errors::PcoError) -> Corrupt {
    Corrupt("numbers do not decompress")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn some_numbers_are_those_of_all(
            numbers in proptest::collection::vec(-1000i64..1000, 1..3 * PAGE),
            ends in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let mut bytes = Vec::new();
            put(&mut bytes, &numbers).unwrap();
            let n = numbers.len();
            let (a, b) = (ends.0.index(n), ends.1.index(n));
            let wanted = a.min(b)..a.max(b) + 1;
            let (mut r, mut some) = (Reader(&bytes), Vec::<i64>::new());
            let first = read(&mut r, n, wanted.clone(), &mut some).unwrap();
            prop_assert!(first <= wanted.start && wanted.start - first < PAGE);
            prop_assert_eq!(&some, &numbers[first..wanted.end]);
            prop_assert!(r.end().is_ok());
        }

        #[test]
        fn broken_pages_never_panic(
            n in 1..3 * PAGE,
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let numbers: Vec<i64> = (0..n as i64).map(|i| i * i % 977).collect();
            let mut bytes = Vec::new();
            put(&mut bytes, &numbers).unwrap();
            let i = at.index(bytes.len());
            bytes[i] = byte;
            let _ = read::<i64>(&mut Reader(&bytes), n, 0..n, &mut Vec::new());
            let _ = read::<i64>(&mut Reader(&bytes[..i]), n, n - 1..n, &mut Vec::new());
        }
    }
}
