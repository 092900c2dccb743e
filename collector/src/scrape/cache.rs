//! `LineCache`: what each line of a target meant the last time.
//!
//! A target sends the same lines in the same order but for their values. So the text before the value is compared
//! with the line that stood here last time, then looked up, and only then parsed. What is kept of a text is its length
//! and 64 bits of a keyed hash: a third of the memory, and of what must be fetched for each line.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Lines that are gone are kept until they outnumber the present ones by this.
const SPARE_LINES: usize = 1_000;

/// What a line is to the scrape loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A comment that has been read.
    Comment,
    /// Dropped by relabelling.
    Dropped,
    /// By number in the series table.
    Series(u32),
    /// A `_created` line, by number in the table of start times.
    Start(u32),
}

/// A text, as far as it is remembered. Two texts of a target that are taken for one are less likely than a broken
/// memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    hash: u64,
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    print: Print,
    /// Where it stood in the last scrape.
    position: u32,
    what: What,
}

#[derive(Debug, Default)]
pub(super) struct LineCache {
    lines: Vec<Line>,
    /// Numbers of lines, found by their text.
    by_text: HashTable<u32>,
    hasher: RandomState,
    /// Lines of the last scrape, and of the one that is being read.
    order: Vec<u32>,
    next: Vec<u32>,
    at: usize,
}

impl LineCache {
    pub(super) fn begin(&mut self) {
        self.at = 0;
        self.next.clear();
    }

    /// Whether what lies ahead begins with the line that stood here last time: the length of its text, and what it is.
    #[inline]
    pub(super) fn expected(&self, ahead: &[u8]) -> Option<(usize, What)> {
        let line = &self.lines[*self.order.get(self.at)? as usize];
        let len = line.print.len as usize;
        let text = ahead.get(..len)?;
        (self.hash(text) == line.print.hash).then_some((len, line.what))
    }

    /// It stands here again.
    pub(super) fn hit(&mut self) {
        self.next.push(self.order[self.at]);
        self.at += 1;
    }

    /// A line seen before, wherever it stood.
    pub(super) fn find(&mut self, text: &[u8]) -> Option<What> {
        let print = self.print(text)?;
        let id = *self.by_text.find(print.hash, |id| self.lines[*id as usize].print == print)?;
        let line = self.lines[id as usize];
        self.next.push(id);
        // What follows it is what followed it then.
        if self.order.get(line.position as usize) == Some(&id) {
            self.at = line.position as usize + 1;
        }
        Some(line.what)
    }

    pub(super) fn insert(&mut self, text: &[u8], what: What) {
        if let Some(print) = self.print(text) {
            self.add(print, what);
        }
    }

    fn add(&mut self, print: Print, what: What) {
        let Ok(id) = u32::try_from(self.lines.len()) else { return };
        self.lines.push(Line { print, position: u32::MAX, what });
        let lines = &self.lines;
        self.by_text.insert_unique(print.hash, id, |id| lines[*id as usize].print.hash);
        self.next.push(id);
    }

    /// The scrape was good: its order is the one to expect.
    pub(super) fn commit(&mut self) {
        std::mem::swap(&mut self.order, &mut self.next);
        if self.order == self.next {
            return;
        }
        self.place();
        // Most targets never change again.
        self.lines.shrink_to_fit();
        self.next = Vec::with_capacity(self.order.len());
    }

    /// Forgets the lines that the last good scrape did not have, once they are many: after a failed scrape too, or a
    /// target that fails with new lines each time would fill the memory.
    pub(super) fn shrink(&mut self) {
        if self.lines.len() <= 2 * self.order.len() + SPARE_LINES {
            return;
        }
        let old = std::mem::take(self);
        // The prints are those of its hasher.
        self.hasher = old.hasher;
        for id in &old.order {
            let line = old.lines[*id as usize];
            self.add(line.print, line.what);
        }
        self.order = std::mem::take(&mut self.next);
        self.place();
    }

    fn place(&mut self) {
        for (position, id) in self.order.iter().enumerate() {
            self.lines[*id as usize].position = position as u32;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn print(&self, text: &[u8]) -> Option<Print> {
        Some(Print { hash: self.hash(text), len: u32::try_from(text.len()).ok()? })
    }

    fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads lines as the scrape loop does; returns what each was known as, `None` for those to parse.
    fn read(cache: &mut LineCache, lines: &[&str]) -> Vec<Option<What>> {
        cache.begin();
        let seen = lines.iter().map(|line| {
            let expected = cache.expected(line.as_bytes()).filter(|(len, _)| *len == line.len());
            if let Some((_, what)) = expected {
                cache.hit();
                return Some(what);
            }
            let found = cache.find(line.as_bytes());
            if found.is_none() {
                let number = line.parse().unwrap();
                cache.insert(line.as_bytes(), What::Series(number));
            }
            found
        });
        let seen = seen.collect();
        cache.commit();
        seen
    }

    fn series(numbers: &[u32]) -> Vec<Option<What>> {
        numbers.iter().map(|n| Some(What::Series(*n))).collect()
    }

    #[test]
    fn lines_are_known_again_in_any_order() {
        let mut cache = LineCache::default();
        assert_eq!(read(&mut cache, &["1", "2", "3", "4"]), [None; 4]);
        assert_eq!(read(&mut cache, &["1", "2", "3", "4"]), series(&[1, 2, 3, 4]));
        assert_eq!(read(&mut cache, &["1", "3", "4"]), series(&[1, 3, 4]));
        let new = [series(&[1]), vec![None], series(&[3, 4])].concat();
        assert_eq!(read(&mut cache, &["1", "9", "3", "4"]), new);
        assert_eq!(read(&mut cache, &["4", "3", "2", "1", "9"]), series(&[4, 3, 2, 1, 9]));
    }

    #[test]
    fn after_a_line_that_went_the_rest_is_hit_by_place() {
        let mut cache = LineCache::default();
        read(&mut cache, &["1", "2", "3", "4"]);
        cache.begin();
        cache.hit();
        assert!(cache.find(b"3").is_some());
        assert_eq!(cache.expected(b"4 17\n"), Some((1, What::Series(4))));
        assert_eq!(cache.expected(b"5 17\n"), None);
        assert_eq!(cache.expected(b""), None);
    }

    #[test]
    fn a_target_that_never_repeats_a_line_does_not_fill_the_cache() {
        let mut cache = LineCache::default();
        for scrape in 0..1_000u32 {
            let lines: Vec<String> = (0..20).map(|i| (scrape * 20 + i).to_string()).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            if scrape % 2 == 0 {
                read(&mut cache, &lines);
            } else {
                // A scrape that fails after its last line.
                cache.begin();
                lines.iter().for_each(|line| cache.insert(line.as_bytes(), What::Dropped));
            }
            cache.shrink();
            assert!(cache.lines.len() <= 2 * 20 + SPARE_LINES, "{}", cache.lines.len());
        }
    }
}
