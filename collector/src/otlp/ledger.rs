//! `Ledger`: a bounded map that remembers what a batch changed, so that a batch the store refused leaves no
//! trace: the sender will send it again, and it must not be counted twice.

use std::collections::HashMap;
use std::hash::Hash;

use davy_model::Timestamp;

#[derive(Debug)]
pub(crate) struct Ledger<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// What stood there before, newest last; `None` for a key that is new in this batch.
    undo: Vec<(K, Option<Entry<V>>)>,
    entries_max: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    touched: Timestamp,
}

impl<K: Eq + Hash + Clone, V> Ledger<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), undo: Vec::new(), entries_max }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|e| &e.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    /// Whether a key not yet known would be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.entries.len() < self.entries_max
    }

    /// Writes an entry. `false`, and nothing written, if it is new and the ledger is full.
    pub(crate) fn put(&mut self, key: &K, value: V, now: Timestamp) -> bool {
        if !self.has_room() && !self.entries.contains_key(key) {
            return false;
        }
        let before = self.entries.insert(key.clone(), Entry { value, touched: now });
        self.undo.push((key.clone(), before));
        true
    }

    /// The batch is stored: what it changed stands.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
    }

    /// The batch is lost: everything is as it was before.
    pub(crate) fn rollback(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
        }
    }

    /// Forgets what was not touched since `horizon`. Between batches only.
    pub(crate) fn sweep(&mut self, horizon: Timestamp) {
        debug_assert!(self.undo.is_empty(), "a sweep within a batch could not be undone");
        self.entries.retain(|_, e| e.touched >= horizon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(0);

    #[test]
    fn rollback_restores_what_the_batch_changed() {
        let mut ledger = Ledger::new(8);
        ledger.put(&"kept", 1, T0);
        ledger.commit();
        for value in [2, 3] {
            ledger.put(&"kept", value, T0);
            ledger.put(&"new", value, T0);
        }
        ledger.rollback();
        assert_eq!((ledger.get(&"kept"), ledger.get(&"new")), (Some(&1), None));
    }

    #[test]
    fn a_full_ledger_refuses_new_keys_and_keeps_the_old() {
        let mut ledger = Ledger::new(1);
        assert!(ledger.put(&"a", 1, T0));
        assert!(!ledger.put(&"b", 1, T0));
        assert!(ledger.put(&"a", 2, T0));
        assert_eq!((ledger.get(&"a"), ledger.len()), (Some(&2), 1));
    }

    #[test]
    fn idle_entries_are_swept() {
        let mut ledger = Ledger::new(8);
        ledger.put(&"old", 1, T0);
        ledger.put(&"young", 1, Timestamp::from_millis(10));
        ledger.commit();
        ledger.sweep(Timestamp::from_millis(10));
        assert_eq!(ledger.keys().collect::<Vec<_>>(), [&"young"]);
    }
}
