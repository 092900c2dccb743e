//! `Expr`: a PromQL expression that has been parsed and is known to be one that Davy evaluates.

use std::fmt;

/// Where and why a query was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ParseError {
    pub detail: String,
}

/// Parsed once, on load; evaluated against a snapshot.
#[derive(Debug, Clone)]
pub struct Expr {
    text: String,
}

impl Expr {
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { text: text.to_owned() })
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
