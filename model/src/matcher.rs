//! `Matcher`: one condition of a selector.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::Labels;

/// Longest source of a regular expression, bytes; compiled size is bounded by [`REGEX_COMPILED_BYTES_MAX`].
const REGEX_SOURCE_BYTES_MAX: usize = 1024;
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// `name op "value"`. An absent label counts as the empty string, and regexes are anchored at both ends, as
/// Prometheus does.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    #[error("regex of {bytes} bytes is longer than the {REGEX_SOURCE_BYTES_MAX} allowed")]
    TooLong { bytes: usize },
    #[error("bad regex {source_text:?}: {detail}")]
    BadRegex { source_text: String, detail: String },
}

impl Matcher {
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, MatcherError> {
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(anchored(value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    /// `name="value"`.
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), op: MatchOp::Equal, value: value.to_owned(), regex: None }
    }

    /// `__name__="metric"`.
    pub fn metric(metric: &str) -> Self {
        Self::equal(crate::name::METRIC, metric)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn op(&self) -> MatchOp {
        self.op
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label of this value satisfies the condition.
    pub fn matches_value(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(r)) => r.is_match(value),
            (MatchOp::NotRegex, Some(r)) => !r.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => unreachable!("new() compiles the regex"),
        }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.name).unwrap_or(""))
    }
}

/// Compiles `source` anchored at both ends, as Prometheus' matchers and relabelling do, with its size bounded.
fn anchored(source: &str) -> Result<Regex, MatcherError> {
    if source.len() > REGEX_SOURCE_BYTES_MAX {
        return Err(MatcherError::TooLong { bytes: source.len() });
    }
    RegexBuilder::new(&format!("^(?s:{source})$")).size_limit(REGEX_COMPILED_BYTES_MAX).build().map_err(|e| {
        MatcherError::BadRegex { source_text: source.to_owned(), detail: e.to_string().replace('\n', " ") }
    })
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_labels_count_as_empty() {
        let up = Labels::from_pairs([("__name__", "up")]);
        assert!(Matcher::equal("job", "").matches(&up));
        assert!(Matcher::new("job", MatchOp::NotEqual, "api").unwrap().matches(&up));
        assert!(!Matcher::new("job", MatchOp::Regex, ".+").unwrap().matches(&up));
    }

    #[test]
    fn regexes_are_anchored_even_with_alternatives() {
        let m = Matcher::new("job", MatchOp::Regex, "a|b").unwrap();
        assert!(m.matches_value("a") && m.matches_value("b"));
        assert!(!m.matches_value("ab") && !m.matches_value("xa"));
    }

    #[test]
    fn bad_and_huge_regexes_are_refused() {
        assert!(matches!(Matcher::new("a", MatchOp::Regex, "("), Err(MatcherError::BadRegex { .. })));
        assert!(matches!(
            Matcher::new("a", MatchOp::Regex, &"a".repeat(2000)),
            Err(MatcherError::TooLong { .. })
        ));
        assert!(matches!(
            Matcher::new("a", MatchOp::Regex, "(a{500}){500}"),
            Err(MatcherError::BadRegex { .. })
        ));
    }
}
