//! What a group of rules needs from outside: answers, somewhere to write, a stopwatch.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_model::{Labels, Matcher, Sample, Timestamp, Value};
use davy_query::Expr;

/// Why an expression has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluateError(pub String);

/// Answers expressions. The embedded store is one; a remote Prometheus can be another.
pub trait Evaluate {
    /// One value a series. A scalar is one value without labels; a range has no answer.
    fn instant(&self, expr: &Expr, at: Timestamp) -> Result<Vec<(Labels, Value)>, EvaluateError>;
}

/// What a group is evaluated in. What was appended must be seen by the next [`Evaluate::instant`].
pub trait Surroundings: Evaluate {
    /// The newest sample within `from..=to` of each series that has one.
    fn newest(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(Labels, Sample)>, EvaluateError>;

    /// Writes rows as one; for each, why it was not taken. On `Err` nothing was written.
    fn append(&mut self, rows: &[Row]) -> Result<Vec<Option<Refused>>, EvaluateError>;

    /// Of a clock that only grows: differences are durations.
    fn elapsed(&self) -> Duration;
}

/// A sample to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub labels: Labels,
    pub at: Timestamp,
    pub value: Value,
}

/// Why a row was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Another value is stored at its time, or it is too old: expected of a marker whose series lives on elsewhere.
    Conflict(String),
    Other(String),
}

impl Refused {
    pub fn reason(&self) -> &str {
        match self {
            Self::Conflict(reason) | Self::Other(reason) => reason,
        }
    }
}

/// What templates know of this Davy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    pub external_labels: BTreeMap<String, String>,
    /// Where people reach it, without a slash at the end.
    pub external_url: String,
}
