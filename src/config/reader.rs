//! `Field` and `Section`: a walk over the tree that collects every error with its place and goes on.
//!
//! A reader returns `None` once an error is reported, so the caller may stop or take a default: no `Config`
//! comes out of a walk that reported anything.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{ConfigErrors, quote};
use super::yaml::{At, Fault, Key, Node, Value};
use super::{mask, suggest};

/// Faults kept; far more than are shown, so that the first in the file are among them.
const FAULTS_MAX: usize = 1000;

/// What the walk knows and collects.
pub(super) struct Context<'a> {
    source: &'a str,
    file: &'a Path,
    base_dir: &'a Path,
    faults: RefCell<Vec<(String, Fault)>>,
    warnings: RefCell<Vec<(usize, String)>>,
    hidden: RefCell<HashSet<Range<usize>>>,
    /// What is wrong with other files that this one names.
    included: RefCell<Vec<ConfigErrors>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(source: &'a str, file: &'a Path, base_dir: &'a Path) -> Self {
        Self {
            source,
            file,
            base_dir,
            faults: RefCell::default(),
            warnings: RefCell::default(),
            hidden: RefCell::default(),
            included: RefCell::default(),
        }
    }

    pub(super) fn hide(&self, spans: Vec<Range<usize>>) {
        self.hidden.borrow_mut().extend(spans);
    }

    pub(super) fn fault(&self, path: &str, fault: Fault) {
        if !self.is_full() {
            self.faults.borrow_mut().push((path.to_owned(), fault));
        }
    }

    /// Enough is wrong; more need not be worked out.
    fn is_full(&self) -> bool {
        self.faults.borrow().len() >= FAULTS_MAX
    }

    /// The warnings, or the errors if there are any.
    pub(super) fn finish(self) -> Result<Vec<String>, ConfigErrors> {
        let (faults, included) = (self.faults.into_inner(), self.included.into_inner());
        if faults.is_empty() && included.is_empty() {
            let mut warnings = self.warnings.into_inner();
            warnings.sort();
            return Ok(warnings.into_iter().map(|(_, text)| text).collect());
        }
        let hidden: Vec<_> = self.hidden.into_inner().into_iter().collect();
        let mut errors = ConfigErrors::collect(self.file, self.source, faults, &hidden);
        included.into_iter().for_each(|more| errors.append(more));
        Err(errors)
    }
}

/// A value with its path from the top of the file.
#[derive(Clone)]
pub(super) struct Field<'a> {
    cx: &'a Context<'a>,
    node: &'a Node,
    path: String,
}

impl<'a> Field<'a> {
    pub(super) fn root(cx: &'a Context<'a>, node: &'a Node) -> Self {
        Self { cx, node, path: String::new() }
    }

    pub(super) fn error(&self, message: impl Into<String>) {
        self.cx.fault(&self.path, Fault { at: self.node.at.clone(), message: message.into() });
    }

    pub(super) fn warn(&self, message: &str) {
        let (file, at) = (self.cx.file.display(), &self.node.at);
        let warning = format!("{file}:{}:{}: {}: {message}", at.line, at.column, self.path);
        self.cx.warnings.borrow_mut().push((at.bytes.start, warning));
    }

    /// Errors of another file that this value names.
    pub(super) fn include(&self, errors: ConfigErrors) {
        self.cx.included.borrow_mut().push(errors);
    }

    /// Warnings of another file that this value names.
    pub(super) fn include_warnings(&self, warnings: Vec<String>) {
        let at = self.node.at.bytes.start;
        self.cx.warnings.borrow_mut().extend(warnings.into_iter().map(|w| (at, w)));
    }

    /// An error at a character of the text where the file spells it out, else at the value.
    pub(super) fn error_within(&self, position: usize, message: impl Into<String>) {
        let message = message.into();
        let at = match &self.node.value {
            Value::Scalar(text) => within(self.cx.source, &self.node.at, text, position),
            Value::Null | Value::List(_) | Value::Mapping(_) => None,
        };
        self.cx.fault(&self.path, Fault { at: at.unwrap_or_else(|| self.node.at.clone()), message });
    }

    /// What stands there, for an error message; secrets are not told.
    pub(super) fn got(&self) -> String {
        match &self.node.value {
            Value::Null => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(text) => {
                let hidden = self.cx.hidden.borrow().contains(&self.node.at.bytes);
                if hidden { "text that is not shown".to_owned() } else { quote(text) }
            }
        }
    }

    /// Something else than a list or a mapping. What is there is not shown: it may be a secret that was put a
    /// level too high.
    fn wrong_shape(&self, what: &str) {
        let got = match self.node.value {
            Value::Scalar(_) => "text".to_owned(),
            Value::Null | Value::List(_) | Value::Mapping(_) => self.got(),
        };
        let mut spans = Vec::new();
        mask::direct(self.node, &mut spans);
        self.cx.hide(spans);
        self.error(format!("got {got}, expected {what}"));
    }

    fn expected(&self, what: &str) {
        self.error(format!("got {}, expected {what}", self.got()));
    }

    /// Reads a mapping; keys that `read` did not ask for are reported.
    pub(super) fn section<T>(&self, read: impl FnOnce(&mut Section<'a>) -> Option<T>) -> Option<T> {
        let entries: &[(Key, Node)] = match &self.node.value {
            Value::Mapping(entries) => entries,
            Value::Null => &[],
            Value::Scalar(_) | Value::List(_) => {
                self.wrong_shape("a mapping (key: value)");
                return None;
            }
        };
        let mut section = Section { field: self.clone(), entries, known: Vec::new() };
        let value = read(&mut section);
        section.report_unknown();
        value
    }

    /// The items of a list; nothing written is no items.
    pub(super) fn items(&self) -> Vec<Self> {
        match &self.node.value {
            Value::Null => Vec::new(),
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, node)| Self { cx: self.cx, node, path: format!("{}[{i}]", self.path) })
                .collect(),
            Value::Scalar(_) | Value::Mapping(_) => {
                self.wrong_shape("a list (lines that start with `-`)");
                Vec::new()
            }
        }
    }

    /// Every key of a mapping whose keys are the user's own names.
    pub(super) fn entries(&self) -> Vec<(String, Self)> {
        match &self.node.value {
            Value::Null => Vec::new(),
            Value::Mapping(entries) => entries
                .iter()
                .map(|(key, node)| {
                    (key.name.clone(), Self { cx: self.cx, node, path: join(&self.path, &key.name) })
                })
                .collect(),
            Value::Scalar(_) | Value::List(_) => {
                self.wrong_shape("a mapping (key: value)");
                Vec::new()
            }
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(&self.node.value, Value::Scalar(t) if t == text)
    }

    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.node.value, Value::Mapping(_))
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        if let Value::Scalar(text) = &self.node.value {
            return Some(text);
        }
        self.expected("text");
        None
    }

    /// Text that is not empty.
    pub(super) fn name(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.error("got empty text, expected a name");
            return None;
        }
        Some(text)
    }

    /// Parses the text. The error of `parse` says what is wrong and what would be right; what was got is
    /// put before it.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&'a str) -> Result<T, String>) -> Option<T> {
        parse(self.text()?).map_err(|e| self.error(format!("got {}: {e}", self.got()))).ok()
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(w, _)| *w == text) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        let hint = suggest::did_you_mean(text, names.iter().copied());
        self.error(format!("got {}, expected one of {}{hint}", self.got(), names.join(", ")));
        None
    }

    pub(super) fn bool(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    pub(super) fn u64(&self) -> Option<u64> {
        self.parse(|t| t.parse().map_err(|_| "expected a whole number from 0".to_owned()))
    }

    /// A finite number within the bounds.
    pub(super) fn number(&self, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
        let value: f64 = self.parse(|t| t.parse().map_err(|_| "expected a number".to_owned()))?;
        if range.contains(&value) {
            return Some(value);
        }
        self.expected(&format!("a number from {} to {}", range.start(), range.end()));
        None
    }

    /// A mapping of names to text.
    pub(super) fn strings(&self) -> BTreeMap<String, String> {
        self.entries().into_iter().filter_map(|(k, v)| Some((k, v.text()?.to_owned()))).collect()
    }

    /// A path; relative ones start at the folder of the configuration file.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.name()?;
        if text.contains('\0') {
            self.error("got a path with a zero byte in it");
            return None;
        }
        Some(self.cx.base_dir.join(text))
    }
}

/// A mapping whose keys the schema knows.
pub(super) struct Section<'a> {
    field: Field<'a>,
    entries: &'a [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The section's own place, for errors about the whole of it.
    pub(super) fn error(&self, message: impl Into<String>) {
        self.field.error(message);
    }

    /// The key's value; `None` if it is absent or null.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        let (_, node) = self.entries.iter().find(|(k, _)| k.name == key)?;
        if matches!(node.value, Value::Null) {
            return None;
        }
        Some(Field { cx: self.field.cx, node, path: join(&self.field.path, key) })
    }

    /// The same, and an error that says what it is for if it is absent.
    pub(super) fn required(&mut self, key: &'static str, what: &str) -> Option<Field<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.error(format!("`{key}` is missing: {what}"));
        }
        value
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, _)| k.name == key)
    }

    /// Says that a secret is wanted under one of two keys; silent where one is given (and wrong).
    pub(super) fn missing_one_of(&self, a: &str, b: &str) {
        if !self.has(a) && !self.has(b) {
            self.error(format!("`{a}` is missing: give it, or the file that holds it as `{b}`"));
        }
    }

    /// The value of `key` by `read`, or `default` if it is absent (or wrong and reported).
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Field<'a>) -> Option<T>,
    ) -> T {
        self.get(key).and_then(|f| read(&f)).unwrap_or(default)
    }

    /// The items of a list under `key`, each by `read`.
    pub(super) fn list<T>(&mut self, key: &'static str, read: impl FnMut(Field<'a>) -> Option<T>) -> Vec<T> {
        self.get(key).map(|f| f.items()).unwrap_or_default().into_iter().filter_map(read).collect()
    }

    /// Keys of Prometheus and Alertmanager that Davy does not have yet. Those that say nothing (empty lists
    /// and mappings) are let pass, so that their example files load.
    pub(super) fn not_yet(&mut self, keys: &[&'static str], instead: &str) {
        for key in keys {
            let Some(field) = self.get(key) else { continue };
            let empty = match &field.node.value {
                Value::List(items) => items.is_empty(),
                Value::Mapping(entries) => entries.is_empty(),
                Value::Null | Value::Scalar(_) => false,
            };
            if empty {
                continue;
            }
            if mask::is_sensitive_section(key) {
                self.hide(field.node);
            }
            let at = self.place(key);
            let message = match instead {
                "" => format!("`{key}` is not supported yet"),
                _ => format!("`{key}` is not supported yet: {instead}"),
            };
            self.field.cx.fault(&self.field.path, Fault { at, message });
        }
    }

    /// Keys whose usual value asks for what Davy does anyway; any other value is not supported yet.
    pub(super) fn only(&mut self, key: &'static str, allowed: &[&str], why: &str) {
        let Some(field) = self.get(key) else { return };
        if !field.text().is_none_or(|t| allowed.contains(&t)) {
            let right = allowed.join(" or ");
            field.error(format!("got {}, only {right} is supported: {why}", field.got()));
        }
    }

    /// Keys that change nothing here; a warning says so.
    pub(super) fn ignored(&mut self, key: &'static str, why: &str) {
        if let Some(field) = self.get(key) {
            field.warn(&format!("has no effect: {why}"));
        }
    }

    fn place(&self, key: &str) -> At {
        let key = self.entries.iter().map(|(k, _)| k).find(|k| k.name == key);
        key.map_or_else(|| self.field.node.at.clone(), |k| k.at.clone())
    }

    fn hide(&self, node: &Node) {
        let mut spans = Vec::new();
        mask::everything(node, &mut spans);
        self.field.cx.hide(spans);
    }

    fn report_unknown(&self) {
        let own =
            self.field.path.rsplit('.').next().unwrap_or("").trim_end_matches(|c| "[]0123456789".contains(c));
        for (key, value) in self.entries.iter().filter(|(k, _)| !self.known.contains(&k.name.as_str())) {
            if self.field.cx.is_full() {
                self.hide(value);
                continue;
            }
            let near = suggest::nearest(&key.name, self.known.iter().copied());
            let sensitive = mask::is_sensitive_section(own);
            // The value of a mistyped `password` is a secret all the same, and so is a password without its key.
            if sensitive || near.is_none_or(mask::is_secret) {
                self.hide(value);
            }
            // A stray `?` makes a key of the lines below it, which may have been the value of the key above it.
            let before = self.field.cx.source.get(..key.at.bytes.start).unwrap_or("");
            let stray = before.trim_end().ends_with('?');
            let lost = stray || sensitive && matches!(value.value, Value::Null);
            let message = if lost || key.name.contains(['=', '\n']) {
                self.field.cx.hide(vec![key.at.bytes.clone()]);
                "unknown key (not shown, it may be a secret without its `key:`)".to_owned()
            } else {
                let hint = near.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
                format!("unknown key {}{hint}", tick(&key.name))
            };
            self.field.cx.fault(&self.field.path, Fault { at: key.at.clone(), message });
        }
    }
}

/// The place of a character of a scalar: in plain and quoted text, and in the lines of a block.
fn within(source: &str, at: &At, text: &str, position: usize) -> Option<At> {
    let (offset, c) = text.char_indices().nth(position)?;
    let line = text[..offset].matches('\n').count();
    let content = text.split('\n').nth(line)?;
    let column = offset - text[..offset].rfind('\n').map_or(0, |i| i + 1);
    let rest = source.get(at.bytes.start..)?;
    // A text in quotes begins where the value does; that of a block may begin a line below.
    let mut lines = rest.split_inclusive('\n').scan(at.bytes.start, |next, line| {
        let start = *next;
        *next += line.len();
        Some((start, line))
    });
    let first = text.split('\n').next().unwrap_or("");
    let (start, spelled) = match lines.next()? {
        at_once if at_once.1.contains(first) && line == 0 => at_once,
        at_once if at_once.1.contains(first) => lines.nth(line - 1)?,
        _ => lines.skip_while(|(_, l)| l.trim() != first.trim()).nth(line)?,
    };
    let start = start + spelled.find(content).filter(|_| !content.trim().is_empty())?;
    let byte = start + column;
    let before = source.get(..byte)?;
    if !source[byte..].starts_with(c) {
        return None;
    }
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    Some(At {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        bytes: byte..byte + c.len_utf8(),
    })
}

fn join(path: &str, key: &str) -> String {
    let plain = key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let key = if plain && key.len() <= 64 { key.to_owned() } else { quote(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn tick(key: &str) -> String {
    let quoted = quote(key);
    format!("`{}`", quoted.trim_matches('"'))
}
