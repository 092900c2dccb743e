//! `ConfigErrors`: everything that is wrong with a file, each with its place, the field and what would be right.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::yaml::{At, Fault};

/// Errors shown at once; a file with more is better read again after these are mended.
pub(super) const ERRORS_MAX: usize = 20;
/// Characters of a source line shown around the caret.
const SNIPPET_CHARS_MAX: usize = 100;
/// Bytes of a source line looked at on either side of the fault.
const WINDOW_BYTES: usize = 500;
/// Stands for text that must not be shown.
const HIDDEN: &str = "<hidden>";

/// One fault. Prints as `file:line:column: field: message` and the line with a caret below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub file: PathBuf,
    /// From 1; 0 where the fault is the file as a whole.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Like `scrape_configs[0].relabel_configs[1].regex`; empty at the top of the file.
    pub path: String,
    pub message: String,
    snippet: Option<Snippet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Snippet {
    line: String,
    caret: Range<usize>,
}

/// At most twenty [`ConfigError`]s in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    pub errors: Vec<ConfigError>,
    /// How many more there are.
    pub omitted: usize,
}

impl ConfigErrors {
    /// The file could not be had at all.
    pub(super) fn whole_file(file: &Path, message: String) -> Self {
        let error = ConfigError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            message,
            snippet: None,
        };
        Self { errors: vec![error], omitted: 0 }
    }

    /// Errors of a further file, behind these.
    pub(super) fn append(&mut self, more: Self) {
        self.errors.extend(more.errors);
        self.omitted += more.omitted + self.errors.len().saturating_sub(ERRORS_MAX);
        self.errors.truncate(ERRORS_MAX);
    }

    /// Sorts, drops repetitions (one wrong anchor is used in many places), and cuts at [`ERRORS_MAX`].
    /// `hidden` are the bytes of `source` that must not be shown.
    pub(super) fn collect(
        file: &Path,
        source: &str,
        mut faults: Vec<(String, Fault)>,
        hidden: &[Range<usize>],
    ) -> Self {
        faults.sort_by_cached_key(|(path, f)| (f.at.bytes.start, f.message.clone(), path.clone()));
        faults.dedup_by(|a, b| a.1 == b.1);
        let omitted = faults.len().saturating_sub(ERRORS_MAX);
        faults.truncate(ERRORS_MAX);
        let error = |(path, Fault { at, message })| {
            let snippet = Some(snippet(source, &at, hidden));
            ConfigError { file: file.to_owned(), line: at.line, column: at.column, path, message, snippet }
        };
        Self { errors: faults.into_iter().map(error).collect(), omitted }
    }
}

/// The line that `at` starts in, cropped around it, with what is hidden replaced.
fn snippet(source: &str, at: &At, hidden: &[Range<usize>]) -> Snippet {
    let line_start = source[..at.bytes.start].rfind('\n').map_or(0, |i| i + 1);
    let line_end = source[at.bytes.start..].find('\n').map_or(source.len(), |i| at.bytes.start + i);
    let start = source.floor_char_boundary(at.bytes.start.saturating_sub(WINDOW_BYTES)).max(line_start);
    let end = source.floor_char_boundary(at.bytes.start + WINDOW_BYTES).min(line_end);
    let hidden: Vec<_> = hidden.iter().filter(|h| h.start < end && h.end > start).collect();

    let mut line: Vec<char> = Vec::new();
    let mut caret: Option<Range<usize>> = None;
    let mut was_hidden = false;
    for (offset, c) in source[start..end].char_indices() {
        let byte = start + offset;
        let is_hidden = hidden.iter().any(|h| h.contains(&byte));
        // Inside a hidden span the caret stands at the start of its stand-in.
        let column = if is_hidden && was_hidden { line.len() - HIDDEN.len() } else { line.len() };
        match (is_hidden, was_hidden) {
            (true, false) => line.extend(HIDDEN.chars()),
            (true, true) => {}
            (false, _) => line.push(printable(c)),
        }
        was_hidden = is_hidden;
        if byte == at.bytes.start {
            caret = Some(column..line.len());
        } else if at.bytes.contains(&byte) {
            caret = caret.map(|c| c.start..line.len());
        }
    }
    let mut caret = caret.unwrap_or(line.len()..line.len() + 1);

    let from = if caret.start > SNIPPET_CHARS_MAX * 4 / 5 { caret.start - SNIPPET_CHARS_MAX / 2 } else { 0 };
    let to = line.len().min(from + SNIPPET_CHARS_MAX);
    let mut shown: String = line[from..to].iter().collect();
    shown.truncate(shown.trim_end().len());
    caret = caret.start - from..caret.end.min(to.max(caret.start + 1)) - from;
    if from > 0 || start > line_start {
        shown.insert_str(0, "...");
        caret = caret.start + 3..caret.end + 3;
    }
    if to < line.len() || end < line_end {
        shown.push_str("...");
    }
    Snippet { line: shown, caret }
}

/// The text in quotes, escaped and cut: it may be anything.
pub(super) fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let cut: String = text.chars().take(CHARS_MAX).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("{cut:?}{dots}")
}

/// Terminals act on control characters and reorder text at bidi marks.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)?;
        let Some(snippet) = &self.snippet else { return Ok(()) };
        let number = self.line.to_string();
        let (margin, lead) = (" ".repeat(number.len()), " ".repeat(snippet.caret.start));
        write!(f, "\n  {number} | {}", snippet.line)?;
        write!(f, "\n  {margin} | {lead}{}", "^".repeat(snippet.caret.len()))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, needle: &str, hidden: &[&str]) -> String {
        let find = |t: &str| source.find(t).map(|i| i..i + t.len()).unwrap();
        let bytes = find(needle);
        let line = source[..bytes.start].matches('\n').count() + 1;
        let at = At { line, column: 1, bytes };
        let hidden: Vec<_> = hidden.iter().map(|h| find(h)).collect();
        let faults = vec![("a.b".into(), Fault { at, message: "wrong".into() })];
        ConfigErrors::collect(Path::new("f"), source, faults, &hidden).to_string()
    }

    #[test]
    fn the_caret_stands_under_the_value() {
        let got = render("é: 1\nregex: \"(\"\nx: 1\n", "\"(\"", &[]);
        assert_eq!(got, "f:2:1: a.b: wrong\n  2 | regex: \"(\"\n    |        ^^^");
    }

    #[test]
    fn hidden_text_is_replaced_and_the_caret_still_fits() {
        let got = render("{password: hunter2, port: x}", "x", &["hunter2"]);
        assert_eq!(
            got,
            "f:1:1: a.b: wrong\n  1 | {password: <hidden>, port: x}\n    |                            ^"
        );
        let got = render("{password: hunter2}", "hunter2", &["hunter2"]);
        assert_eq!(got, "f:1:1: a.b: wrong\n  1 | {password: <hidden>}\n    |            ^^^^^^^^");
    }

    #[test]
    fn long_lines_are_cropped_around_the_caret() {
        let source = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let got = render(&source, "X", &[]);
        assert!(got.len() < 400 && got.contains("aXb"), "{got}");
    }

    #[test]
    fn control_and_bidi_characters_are_not_printed() {
        let got = render("a: \u{1b}[31m\u{202e}x", "x", &[]);
        assert!(!got.contains('\u{1b}') && !got.contains('\u{202e}'));
    }
}
