//! Lines that begin with `#`: what a family is, or a remark.

use std::borrow::Cow;

use davy_model::MetricType;

use super::reader::{Cursor, unescape};
use super::{Format, ParseError};

#[derive(Debug, PartialEq)]
pub(crate) enum Comment<'a> {
    Help {
        family: Cow<'a, str>,
        help: Cow<'a, str>,
    },
    Type {
        family: Cow<'a, str>,
        metric_type: MetricType,
    },
    Unit {
        family: Cow<'a, str>,
        unit: &'a str,
    },
    /// A remark, or `# EOF`.
    Other,
}

/// Reads the line from its `#` on, without the line feed.
pub(super) fn comment<'a>(cursor: &mut Cursor<'a>, format: Format) -> Result<Comment<'a>, ParseError> {
    cursor.bump(1);
    let blanks = cursor.skip_blanks();
    let keyword = cursor.word();
    let keyword_ends = cursor.peek_is_blank();
    match (keyword, format) {
        ("HELP" | "TYPE", _) | ("UNIT", Format::OpenMetrics) if blanks > 0 && keyword_ends => {}
        (_, Format::Text) => return Ok(Comment::Other),
        (_, Format::OpenMetrics) => {
            return Err(cursor.error_at(cursor.at() - keyword.len(), "HELP, TYPE, UNIT or EOF after `#`"));
        }
    }
    cursor.skip_blanks();
    let family = family(cursor)?;
    cursor.skip_blanks();
    let rest_at = cursor.at();
    let rest = cursor.rest_of_line();
    Ok(match keyword {
        "HELP" => Comment::Help { family, help: unescape(rest, format == Format::OpenMetrics) },
        "TYPE" => {
            let metric_type = metric_type(rest.trim_end_matches([' ', '\t'])).ok_or_else(|| {
                cursor.error_at(rest_at, "a metric type (counter, gauge, histogram, summary, untyped ...)")
            })?;
            Comment::Type { family, metric_type }
        }
        _ if rest.is_empty() || family.strip_suffix(rest).is_some_and(|f| f.ends_with('_')) => {
            Comment::Unit { family, unit: rest }
        }
        _ => return Err(cursor.error_at(rest_at, "a unit that the family's name ends with")),
    })
}

fn family<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, ParseError> {
    if cursor.peek() == Some(b'"') {
        return cursor.quoted();
    }
    match cursor.metric_name() {
        Some(name) if matches!(cursor.peek(), None | Some(b' ' | b'\t' | b'\n')) => Ok(Cow::Borrowed(name)),
        _ => Err(cursor.error("a metric name")),
    }
}

fn metric_type(word: &str) -> Option<MetricType> {
    Some(match word {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" => MetricType::Histogram,
        "gaugehistogram" => MetricType::GaugeHistogram,
        "summary" => MetricType::Summary,
        "info" => MetricType::Info,
        "stateset" => MetricType::StateSet,
        "untyped" | "unknown" => MetricType::Unknown,
        _ => return None,
    })
}
