//! Hop 2: text of a scrape in, samples out. Prometheus text 0.0.4 (and 1.0.0, which adds quoted names) and
//! OpenMetrics 1.0.
//!
//! Pure, and without copies where the body has no escapes. One wrong line fails the whole body, as in Prometheus:
//! half an exposition would look like series that went away. [`parse`] walks a body from top to bottom; the scrape
//! loop drives the [`Reader`] below it by itself, so that lines it has seen before are compared, not parsed.

use std::borrow::Cow;

use davy_model::{MetricType, Timestamp};

mod comment;
mod number;
mod reader;
mod stream;

pub(crate) use comment::Comment;
pub(crate) use reader::Kind;
pub use reader::Reader;
pub use stream::{StreamError, parse_openmetrics};

/// Labels of one line, the metric's name among them as `__name__`; in the order of the line.
pub type LabelBuf<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Most labels of a line. Bounds the check for repeated names; the limits of a scrape are far below it.
pub const LINE_LABELS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain`: timestamps in milliseconds, free comments.
    Text,
    /// `application/openmetrics-text`: timestamps in seconds, exemplars, closed by `# EOF`.
    OpenMetrics,
}

impl Format {
    /// From a `Content-Type`; whatever is not OpenMetrics is read as text.
    pub fn from_content_type(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or("").trim();
        if media.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// Where a body is wrong. Lines and columns (in bytes) count from one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, got {got}")]
pub struct ParseError {
    pub line: usize,
    pub column: usize,
    pub expected: String,
    pub got: String,
}

#[derive(Debug, PartialEq)]
pub enum Event<'a, 'b> {
    Help { family: Cow<'a, str>, help: Cow<'a, str> },
    Type { family: Cow<'a, str>, metric_type: MetricType },
    Unit { family: Cow<'a, str>, unit: &'a str },
    Sample { labels: &'b [(Cow<'a, str>, Cow<'a, str>)], point: Point<'a> },
}

/// What follows the labels of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'a> {
    pub value: f64,
    pub timestamp: Option<Timestamp>,
    pub exemplar: Option<ExemplarLine<'a>>,
}

/// An exemplar as it stands in the line.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemplarLine<'a> {
    /// The whole of it, from `{`: the same text is the same exemplar.
    pub text: &'a str,
    pub labels: LabelBuf<'a>,
    pub value: f64,
    pub timestamp: Option<Timestamp>,
}

/// Walks a body and hands each event to `visit`, up to the first line that is wrong.
pub fn parse<'a>(
    body: &'a [u8],
    format: Format,
    mut visit: impl FnMut(Event<'a, '_>),
) -> Result<(), ParseError> {
    let mut reader = Reader::new(body, format)?;
    let mut labels = LabelBuf::new();
    while let Some(kind) = reader.peek()? {
        match kind {
            Kind::Comment => match reader.comment()? {
                Comment::Help { family, help } => visit(Event::Help { family, help }),
                Comment::Type { family, metric_type } => visit(Event::Type { family, metric_type }),
                Comment::Unit { family, unit } => visit(Event::Unit { family, unit }),
                Comment::Other => {}
            },
            Kind::Sample => {
                reader.series(&mut labels)?;
                let point = reader.point()?;
                visit(Event::Sample { labels: &labels, point });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
