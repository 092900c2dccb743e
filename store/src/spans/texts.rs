//! A column of texts as bytes: each distinct text once, in the order in which they first occur, and for every value
//! how long ago its text was new.
//!
//! A text that never came before is a zero then, and one that the last few spans of a trace share a small number.

use crate::codec::{Corrupt, Reader, put_uvarint};
use crate::column::Effort;
use crate::compress;
use crate::spans::ints;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Shorter runs of text are not worth a compressor's header.
const ZSTD_BYTES_MIN: usize = 48;
/// What so many compressed bytes may say they become: bounds what a damaged length can ask for.
const TEXT_BYTES_MAX: usize = 256 << 20;

/// Numbers values in the order in which they first occur, without hashing: they are numbers of texts already.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// By number of the text: the round in which it was seen, and its number in that round.
    seen: Vec<(u32, u32)>,
    round: u32,
    /// The texts of this round, in order.
    pub(crate) all: Vec<u32>,
}

impl Local {
    pub(crate) fn begin(&mut self, texts: usize) {
        self.seen.resize(texts.max(self.seen.len()), (0, 0));
        self.round += 1;
        self.all.clear();
    }

    pub(crate) fn number(&mut self, text: u32) -> u32 {
        let seen = &mut self.seen[text as usize];
        if seen.0 != self.round {
            *seen = (self.round, self.all.len() as u32);
            self.all.push(text);
        }
        seen.1
    }
}

/// The values are numbers of texts, `text` gives them.
pub(crate) fn put<'a>(
    out: &mut Vec<u8>,
    values: &[i64],
    local: &mut Local,
    texts: usize,
    text: impl Fn(u32) -> &'a str,
    effort: Effort,
) {
    local.begin(texts);
    let ages: Vec<i64> = values
        .iter()
        .map(|v| {
            let next = local.all.len();
            next as i64 - i64::from(local.number(*v as u32))
        })
        .collect();
    put_list(out, local.all.iter().map(|t| text(*t)), effort);
    ints::put(out, &ages, effort);
}

/// A list of texts.
pub(crate) fn put_list<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>, effort: Effort) {
    let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
    for text in texts {
        lengths.push(text.len() as i64);
        bytes.extend_from_slice(text.as_bytes());
    }
    put_uvarint(out, lengths.len() as u64);
    put_section(out, |out| ints::put(out, &lengths, effort));
    put_bytes(out, &bytes, effort);
}

/// Bytes with their length, compressed if that is asked for and helps.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8], effort: Effort) {
    let compressed = (effort == Effort::Small && bytes.len() >= ZSTD_BYTES_MIN)
        .then(|| compress::compress(bytes, ints::ZSTD_LEVEL))
        .flatten()
        .filter(|c| c.len() < bytes.len());
    put_uvarint(out, bytes.len() as u64);
    match compressed {
        Some(compressed) => {
            out.push(ZSTD);
            put_uvarint(out, compressed.len() as u64);
            out.extend_from_slice(&compressed);
        }
        None => {
            out.push(PLAIN);
            out.extend_from_slice(bytes);
        }
    }
}

/// What `put` appends, after its length.
pub(crate) fn put_section(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let mut section = Vec::new();
    put(&mut section);
    put_uvarint(out, section.len() as u64);
    out.extend_from_slice(&section);
}

pub(crate) fn read_section<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Corrupt> {
    let n = r.count()?;
    r.bytes(n)
}

/// Texts in one run of bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextList {
    bytes: String,
    ends: Vec<usize>,
}

impl TextList {
    pub(crate) fn read(r: &mut Reader) -> Result<Self, Corrupt> {
        let n = usize::try_from(r.uvarint()?).map_err(|_| Corrupt("count larger than what follows"))?;
        let lengths = read_section(r)?;
        let bytes = String::from_utf8(read_bytes(r)?).map_err(|_| Corrupt("text is not UTF-8"))?;
        // Empty texts take no byte, but they are distinct: all but one have a byte each.
        if n > bytes.len() + 1 {
            return Err(Corrupt("more texts than bytes"));
        }
        let mut ends = Vec::with_capacity(n);
        let mut end = 0usize;
        for length in ints::read(lengths, n)? {
            let length = usize::try_from(length).map_err(|_| Corrupt("text of negative length"))?;
            end = end
                .checked_add(length)
                .filter(|e| bytes.is_char_boundary(*e))
                .ok_or(Corrupt("texts end too early"))?;
            ends.push(end);
        }
        if end != bytes.len() {
            return Err(Corrupt("has bytes left over"));
        }
        Ok(Self { bytes, ends })
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&str> {
        let end = *self.ends.get(number)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|n| self.get(n).expect("within its length"))
    }
}

pub(crate) fn read_bytes(r: &mut Reader) -> Result<Vec<u8>, Corrupt> {
    let n = usize::try_from(r.uvarint()?).unwrap_or(usize::MAX);
    match r.u8()? {
        PLAIN => r.bytes(n).map(<[u8]>::to_vec),
        ZSTD => {
            let compressed = read_section(r)?;
            if n > TEXT_BYTES_MAX {
                return Err(Corrupt("is too long"));
            }
            compress::decompress(compressed, n)
        }
        _ => Err(Corrupt("unknown form of texts")),
    }
}

/// Numbers into the list for each of `n` values.
pub(crate) fn read_numbers(bytes: &[u8], n: usize, texts: usize) -> Result<Vec<i64>, Corrupt> {
    let mut next = 0i64;
    let mut numbers = Vec::with_capacity(n);
    for age in ints::read(bytes, n)? {
        let number = next - age;
        if age < 0 || number < 0 || age == 0 && next >= texts as i64 {
            return Err(Corrupt("number of something that is not there"));
        }
        next += i64::from(age == 0);
        numbers.push(number);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [&str; 6] = ["", "GET", "POST", "/a/12", "/a/17", "é"];

    fn check(values: &[i64], effort: Effort) {
        let (mut out, mut local) = (Vec::new(), Local::default());
        put(&mut out, values, &mut local, ALL.len(), |t| ALL[t as usize], effort);
        let mut r = Reader(&out);
        let list = TextList::read(&mut r).unwrap();
        let numbers = read_numbers(r.0, values.len(), list.len()).unwrap();
        let got: Vec<&str> = numbers.iter().map(|n| list.get(*n as usize).unwrap()).collect();
        let want: Vec<&str> = values.iter().map(|v| ALL[*v as usize]).collect();
        assert_eq!(got, want);
    }

    proptest! {
        #[test]
        fn texts_come_back(values in proptest::collection::vec(0i64..6, 0..200)) {
            check(&values, Effort::Quick);
            check(&values, Effort::Small);
        }

        #[test]
        fn broken_texts_never_panic(
            values in proptest::collection::vec(0i64..6, 0..80),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let (mut out, mut local) = (Vec::new(), Local::default());
            put(&mut out, &values, &mut local, ALL.len(), |t| ALL[t as usize], Effort::Small);
            let at = at.index(out.len());
            out[at] = byte;
            for bytes in [&out[..], &out[..at]] {
                let mut r = Reader(bytes);
                if let Ok(list) = TextList::read(&mut r) {
                    let _ = read_numbers(r.0, values.len(), list.len());
                    let _ = list.iter().count();
                }
            }
        }
    }
}
