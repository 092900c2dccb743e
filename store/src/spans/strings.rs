//! `Strings`: every text of a batch once, in one run of bytes, found by its hash.
//!
//! What is in it has been checked to be UTF-8, so a text that is found need not be checked again.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// The bytes are no UTF-8 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("text is not UTF-8")]
pub struct NotUtf8;

#[derive(Debug, Clone, Default)]
pub(crate) struct Strings {
    bytes: String,
    /// Where each ends.
    ends: Vec<u32>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Strings {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, number: u32) -> &str {
        get(&self.bytes, &self.ends, number)
    }

    /// The number of the text, given to it if it is new.
    pub(crate) fn number(&mut self, text: &[u8]) -> Result<u32, NotUtf8> {
        let hash = self.hasher.hash_one(text);
        let Self { bytes, ends, numbers, hasher } = self;
        if let Some(known) = numbers.find(hash, |n| get(bytes, ends, *n).as_bytes() == text) {
            return Ok(*known);
        }
        let text = std::str::from_utf8(text).map_err(|_| NotUtf8)?;
        let number = ends.len() as u32;
        bytes.push_str(text);
        ends.push(u32::try_from(bytes.len()).expect("a batch is far smaller than four gigabytes"));
        numbers.insert_unique(hash, number, |n| hasher.hash_one(get(bytes, ends, *n).as_bytes()));
        Ok(number)
    }

    pub(crate) fn number_of(&mut self, text: &str) -> u32 {
        self.number(text.as_bytes()).expect("a str is UTF-8")
    }
}

fn get<'a>(bytes: &'a str, ends: &[u32], number: u32) -> &'a str {
    let at = number as usize;
    let start = at.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start as usize..ends[at] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_one_number_and_come_back() {
        let mut strings = Strings::default();
        let texts = ["", "GET", "é", "GET /", ""];
        let numbers: Vec<u32> = texts.iter().map(|t| strings.number_of(t)).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 0]);
        assert!(texts.iter().zip(numbers).all(|(t, n)| strings.get(n) == *t));
    }

    #[test]
    fn what_is_no_text_gets_no_number() {
        let mut strings = Strings::default();
        assert_eq!(strings.number(&[0xff, 0xfe]), Err(NotUtf8));
        assert_eq!(strings.len(), 0);
    }
}
