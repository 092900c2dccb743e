//! What is wrong with a TraceQL query, and where.

use std::fmt;

/// `line 1, column 5: expected a value, got "}"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Counted from one; columns in characters.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl ParseError {
    /// At a byte of the text.
    pub(crate) fn at(text: &str, byte: usize, message: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(byte)];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}
