//! `SpanFilter`: what a reader asks of spans, as tests on single values, so that a block answers most of it from its
//! head and the rest from the few columns that are named.
//!
//! What a test means is the asker's: it is handed the value, or `None` where a span has none.

use std::fmt;
use std::sync::Arc;

use davy_model::{AttributeValue, Span, SpanKind, SpanStatus, Timestamp};

/// What a test looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SpanField {
    Name,
    /// Name of the instrumentation scope.
    Scope,
    Kind,
    Status,
    /// Absent where it is empty.
    StatusMessage,
    Duration,
    /// Whether the span has no parent.
    IsRoot,
    HasEvents,
    HasLinks,
    /// An attribute of the resource.
    Resource(String),
    /// An attribute of the span.
    Span(String),
    /// An attribute of the span, or of its resource where the span has none of this key.
    Any(String),
}

/// A value as a test is handed it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue<'a> {
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// Arrays, maps and bytes, as OTLP's JSON writes them.
    Json(&'a str),
    Nanos(u64),
    Kind(SpanKind),
    Status(SpanStatus),
}

impl<'a> From<&'a AttributeValue> for FieldValue<'a> {
    fn from(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::String(s) => Self::Text(s),
            AttributeValue::Bool(b) => Self::Bool(*b),
            AttributeValue::Int(i) => Self::Int(*i),
            AttributeValue::Double(d) => Self::Double(*d),
            AttributeValue::Json(s) => Self::Json(s),
        }
    }
}

type Holds = Arc<dyn Fn(Option<FieldValue>) -> bool + Send + Sync>;

/// A test of one value. It must answer the same for the same value: blocks ask once for each distinct text.
#[derive(Clone)]
pub struct SpanTest {
    pub(crate) field: SpanField,
    pub(crate) holds: Holds,
}

impl fmt::Debug for SpanTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}?", self.field)
    }
}

#[derive(Debug, Clone, Default)]
pub enum SpanFilter {
    #[default]
    All,
    Test(SpanTest),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
}

impl SpanFilter {
    pub fn test(
        field: SpanField,
        holds: impl Fn(Option<FieldValue>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::Test(SpanTest { field, holds: Arc::new(holds) })
    }

    pub fn matches(&self, span: &Span) -> bool {
        match self {
            Self::All => true,
            Self::Test(test) => (test.holds)(value_of(span, &test.field)),
            Self::And(all) => all.iter().all(|f| f.matches(span)),
            Self::Or(any) => any.iter().any(|f| f.matches(span)),
            Self::Not(inner) => !inner.matches(span),
        }
    }
}

fn value_of<'a>(span: &'a Span, field: &SpanField) -> Option<FieldValue<'a>> {
    Some(match field {
        SpanField::Name => FieldValue::Text(&span.name),
        SpanField::Scope => FieldValue::Text(&span.scope),
        SpanField::Kind => FieldValue::Kind(span.kind),
        SpanField::Status => FieldValue::Status(span.status),
        SpanField::StatusMessage if span.status_message.is_empty() => return None,
        SpanField::StatusMessage => FieldValue::Text(&span.status_message),
        SpanField::Duration => FieldValue::Nanos(span.duration_nanos()),
        SpanField::IsRoot => FieldValue::Bool(span.parent_span_id.is_zero()),
        SpanField::HasEvents => FieldValue::Bool(!span.events.is_empty()),
        SpanField::HasLinks => FieldValue::Bool(!span.links.is_empty()),
        SpanField::Resource(key) => span.resource.get(key)?.into(),
        SpanField::Span(key) => span.attribute(key)?.into(),
        SpanField::Any(key) => span.attribute(key).or_else(|| span.resource.get(key))?.into(),
    })
}

/// Which spans to visit: those of the filter that started in `from..=to`.
#[derive(Debug, Clone)]
pub struct SpanSearch {
    pub filter: SpanFilter,
    /// No shorter span is asked for: blocks whose longest span is shorter are passed over.
    pub duration_nanos_min: u64,
    pub from: Timestamp,
    pub to: Timestamp,
}

impl SpanSearch {
    pub fn matches(&self, span: &Span) -> bool {
        let start = Timestamp::from_nanos(span.start_nanos);
        self.from <= start
            && start <= self.to
            && span.duration_nanos() >= self.duration_nanos_min
            && self.filter.matches(span)
    }
}

/// How much of each span a reader looks at.
#[derive(Debug, Clone, Default)]
pub struct SpanParts {
    /// Keys of the span's attributes; `None` for all. Resources always come whole.
    pub attributes: Option<Vec<String>>,
    /// Without events and links.
    pub without_extras: bool,
}
