//! `Node`: the YAML file as a tree in which every key and value knows where it stands.
//!
//! First step of loading: text to tree. The readers of the sections walk the tree and can so report many
//! errors at once, each with its line. A scalar keeps its spelling: `version: 1.10` is the text `1.10`,
//! whatever YAML makes of it.

use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, NonFiniteFloatPolicy, Spanned};

/// Deepest nesting of lists and mappings; Davy's own schema needs nine.
const DEPTH_MAX: usize = 64;
/// Lists, mappings and scalars; a mebibyte of the densest useful file has about a third of it.
const NODES_MAX: usize = 600_000;
/// Nodes that aliases may add, so that a few lines cannot become millions.
const ALIAS_EVENTS_MAX: usize = 200_000;

/// Where something stands in the file. Line and column count from 1, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub line: usize,
    pub column: usize,
    /// Bytes of the file; empty for a block list or mapping.
    pub bytes: Range<usize>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub at: At,
    pub value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// `null`, `~`, or nothing at all.
    Null,
    Scalar(String),
    List(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

#[derive(Debug)]
pub(super) struct Key {
    pub at: At,
    pub name: String,
}

/// Something wrong at a place.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub at: At,
    pub message: String,
}

/// Parses one YAML document. Faults that leave a tree standing (repeated keys, keys that are no text) are
/// returned beside it.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Fault>), Fault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            // One anchored block of relabelling used by hundreds of jobs is no attack; the bound above holds.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_EVENTS_MAX },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
    };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let at = e.location().map_or(At { line: 1, column: 1, bytes: 0..0 }, |l| at(l, text));
        let message = e.to_string();
        let position = format!(" at line {}, column {}", at.line, at.column);
        let message = if message.starts_with("multiple YAML documents") {
            "a second YAML document starts here; a configuration is one document".to_owned()
        } else {
            message.replace(&position, "")
        };
        Fault { at, message }
    })?;
    let mut tree = Builder { text, faults: Vec::new() };
    let root = tree.node(raw);
    Ok((root, tree.faults))
}

/// The place in our own words; serde-saphyr says 0 where it does not know.
fn at(location: Location, text: &str) -> At {
    let to_usize = |v: u64| usize::try_from(v).unwrap_or(usize::MAX);
    let (line, column) = (to_usize(location.line()).max(1), to_usize(location.column()).max(1));
    let span = location.span();
    let start = match span.byte_offset() {
        Some(bytes) => to_usize(bytes),
        // The scanner's own errors count characters only.
        None => text.char_indices().nth(to_usize(span.offset())).map_or(text.len(), |(i, _)| i),
    };
    let start = start.min(text.len());
    let end = start.saturating_add(span.byte_len().map_or(0, to_usize)).min(text.len());
    let bytes = if text.get(start..end).is_some() { start..end } else { start..start };
    At { line, column, bytes }
}

struct Builder<'a> {
    text: &'a str,
    faults: Vec<Fault>,
}

impl Builder<'_> {
    fn node(&mut self, raw: Spanned<Raw>) -> Node {
        let at = at(raw.defined, self.text);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Plain => Value::Scalar(self.text[at.bytes.clone()].trim().to_owned()),
            Raw::Text(text) => Value::Scalar(text),
            Raw::List(items) => Value::List(items.into_iter().map(|i| self.node(i)).collect()),
            Raw::Mapping(entries) => self.mapping(entries),
        };
        Node { at, value }
    }

    fn mapping(&mut self, entries: Vec<(Spanned<Raw>, Spanned<Raw>)>) -> Value {
        let mut first_line = std::collections::HashMap::new();
        let mut out = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.node(key);
            let value = self.node(value);
            let Value::Scalar(name) = key.value else {
                let message = "a key must be text, not a list, a mapping or null".to_owned();
                self.faults.push(Fault { at: key.at, message });
                continue;
            };
            if let Some(line) = first_line.get(&name) {
                let message = format!("key {name:?} is given twice; the first is in line {line}");
                self.faults.push(Fault { at: key.at, message });
                continue;
            }
            first_line.insert(name.clone(), key.at.line);
            out.push((Key { at: key.at, name }, value));
        }
        Value::Mapping(out)
    }
}

/// What serde sees. Numbers and truth values are `Plain`: their text is read from the file by their span.
enum Raw {
    Null,
    Plain,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element()? {
            out.push(item);
        }
        Ok(Raw::List(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut out = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            out.push(entry);
        }
        Ok(Raw::Mapping(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(node: &Node, i: usize) -> (&str, &Node) {
        let Value::Mapping(entries) = &node.value else { panic!("no mapping: {node:?}") };
        (&entries[i].0.name, &entries[i].1)
    }

    fn scalar(node: &Node) -> &str {
        let Value::Scalar(text) = &node.value else { panic!("no scalar: {node:?}") };
        text
    }

    #[test]
    fn scalars_keep_their_spelling() {
        let (root, _) = parse("a: 1.10\nb: on\n1: 0x10\nc: 'it''s'\nd: .nan\n").unwrap();
        assert_eq!(scalar(entry(&root, 0).1), "1.10");
        assert_eq!(scalar(entry(&root, 1).1), "on");
        assert_eq!((entry(&root, 2).0, scalar(entry(&root, 2).1)), ("1", "0x10"));
        assert_eq!(scalar(entry(&root, 3).1), "it's");
        assert_eq!(scalar(entry(&root, 4).1), ".nan");
    }

    #[test]
    fn every_node_knows_its_place() {
        let (root, _) = parse("é:\n  - x: {y: 12}\n").unwrap();
        let Value::List(items) = &entry(&root, 0).1.value else { panic!() };
        let y = entry(entry(&items[0], 0).1, 0).1;
        assert_eq!((y.at.line, y.at.column, y.at.bytes.clone()), (2, 12, 15..17));
    }

    #[test]
    fn merge_keys_and_aliases_are_expanded_and_own_keys_win() {
        let (root, faults) = parse("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  p: 3\n").unwrap();
        assert!(faults.is_empty());
        let b = entry(&root, 1).1;
        assert_eq!((entry(b, 0).0, scalar(entry(b, 0).1)), ("p", "3"));
        assert_eq!((entry(b, 1).0, scalar(entry(b, 1).1)), ("q", "2"));
    }

    #[test]
    fn every_repeated_key_is_reported_with_both_lines() {
        let (_, faults) = parse("a: 1\nb: 2\na: 3\nb: 4\n").unwrap();
        let lines: Vec<_> = faults.iter().map(|f| f.at.line).collect();
        assert_eq!(lines, [3, 4]);
        assert!(faults[0].message.contains("line 1"), "{}", faults[0].message);
    }

    #[test]
    fn an_empty_text_is_null() {
        assert!(matches!(parse("").unwrap().0.value, Value::Null));
        assert!(matches!(parse("# nothing\n").unwrap().0.value, Value::Null));
    }
}
