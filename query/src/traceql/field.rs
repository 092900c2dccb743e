//! `Field`: what of a span a query names, and its value.

use std::fmt;
use std::sync::Arc;

use davy_model::{AttributeValue, Attributes};

use super::ast::{Type, Value};
use super::trace::Trace;

/// What of a span a query names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Field {
    Attribute(Scope, String),
    Intrinsic(Intrinsic),
}

/// Where an attribute is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// On the span, else on its resource.
    Any,
    Span,
    Resource,
    Event,
    Link,
    Instrumentation,
    /// The same of the parent.
    Parent,
    ParentSpan,
    ParentResource,
}

/// What every span has, or its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intrinsic {
    Name,
    Status,
    StatusMessage,
    Kind,
    Duration,
    SpanId,
    ParentId,
    ChildCount,
    TraceId,
    TraceDuration,
    RootName,
    RootService,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
}

/// Each spelling of the intrinsics, the one that is shown first.
const SPELLINGS: [(Intrinsic, &[&str]); 20] = [
    (Intrinsic::Name, &["name", "span:name"]),
    (Intrinsic::Status, &["status", "span:status"]),
    (Intrinsic::StatusMessage, &["statusMessage", "span:statusMessage"]),
    (Intrinsic::Kind, &["kind", "span:kind"]),
    (Intrinsic::Duration, &["duration", "span:duration"]),
    (Intrinsic::SpanId, &["span:id"]),
    (Intrinsic::ParentId, &["span:parentID"]),
    (Intrinsic::ChildCount, &["span:childCount", "childCount"]),
    (Intrinsic::TraceId, &["trace:id"]),
    (Intrinsic::TraceDuration, &["traceDuration", "trace:duration"]),
    (Intrinsic::RootName, &["rootName", "trace:rootName"]),
    (Intrinsic::RootService, &["rootServiceName", "trace:rootService"]),
    (Intrinsic::NestedSetLeft, &["nestedSetLeft"]),
    (Intrinsic::NestedSetRight, &["nestedSetRight"]),
    (Intrinsic::NestedSetParent, &["nestedSetParent"]),
    (Intrinsic::EventName, &["event:name"]),
    (Intrinsic::EventTimeSinceStart, &["event:timeSinceStart"]),
    (Intrinsic::LinkTraceId, &["link:traceID"]),
    (Intrinsic::LinkSpanId, &["link:spanID"]),
    (Intrinsic::InstrumentationName, &["instrumentation:name"]),
];

impl Intrinsic {
    pub fn from_word(word: &str) -> Option<Self> {
        SPELLINGS.iter().find(|(_, words)| words.contains(&word)).map(|(i, _)| *i)
    }

    pub fn as_str(self) -> &'static str {
        SPELLINGS.iter().find(|(i, _)| *i == self).map_or("", |(_, words)| words[0])
    }

    /// Every spelling, for lists to choose from.
    pub fn words() -> impl Iterator<Item = &'static str> {
        SPELLINGS.iter().flat_map(|(_, words)| words.iter().copied())
    }
}

impl Scope {
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "" => Self::Any,
            "span" => Self::Span,
            "resource" => Self::Resource,
            "event" => Self::Event,
            "link" => Self::Link,
            "instrumentation" => Self::Instrumentation,
            "parent" => Self::Parent,
            "parent.span" => Self::ParentSpan,
            "parent.resource" => Self::ParentResource,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Span => "span",
            Self::Resource => "resource",
            Self::Event => "event",
            Self::Link => "link",
            Self::Instrumentation => "instrumentation",
            Self::Parent => "parent",
            Self::ParentSpan => "parent.span",
            Self::ParentResource => "parent.resource",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intrinsic(intrinsic) => f.write_str(intrinsic.as_str()),
            Self::Attribute(scope, name) if name.contains(char::is_whitespace) => {
                write!(f, "{}.{name:?}", scope.word())
            }
            Self::Attribute(scope, name) => write!(f, "{}.{name}", scope.word()),
        }
    }
}

impl Field {
    pub(crate) fn kind(&self) -> Type {
        let Self::Intrinsic(intrinsic) = self else { return Type::Any };
        match intrinsic {
            Intrinsic::Status => Type::Status,
            Intrinsic::Kind => Type::Kind,
            Intrinsic::Name
            | Intrinsic::StatusMessage
            | Intrinsic::SpanId
            | Intrinsic::ParentId
            | Intrinsic::TraceId
            | Intrinsic::RootName
            | Intrinsic::RootService
            | Intrinsic::EventName
            | Intrinsic::LinkTraceId
            | Intrinsic::LinkSpanId
            | Intrinsic::InstrumentationName => Type::Text,
            Intrinsic::Duration
            | Intrinsic::ChildCount
            | Intrinsic::TraceDuration
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent
            | Intrinsic::EventTimeSinceStart => Type::Number,
        }
    }

    /// Without its scope.
    pub fn name(&self) -> &str {
        match self {
            Self::Attribute(_, name) => name,
            Self::Intrinsic(intrinsic) => intrinsic.as_str(),
        }
    }

    /// Whether the span alone says it, without the others of its trace.
    pub(crate) fn is_of_span(&self) -> bool {
        !matches!(
            self,
            Self::Attribute(Scope::Parent | Scope::ParentSpan | Scope::ParentResource, _)
                | Self::Intrinsic(
                    Intrinsic::TraceDuration
                        | Intrinsic::RootName
                        | Intrinsic::RootService
                        | Intrinsic::ChildCount
                        | Intrinsic::NestedSetLeft
                        | Intrinsic::NestedSetRight
                        | Intrinsic::NestedSetParent
                )
        )
    }

    /// Of a span of the trace; of fields of events and links the first, [`Value::Nil`] where it has none.
    pub(crate) fn value(&self, trace: &Trace, span: usize) -> Value {
        let mut found = Value::Nil;
        self.any(trace, span, &mut |value| {
            found = value;
            true
        });
        found
    }

    /// Whether the test holds for a value of the field; it is asked of [`Value::Nil`] where there is none.
    pub(crate) fn any(&self, trace: &Trace, span: usize, test: &mut dyn FnMut(Value) -> bool) -> bool {
        let of = &trace.spans[span];
        let mut several = |values: &mut dyn Iterator<Item = Value>| {
            let mut values = values.peekable();
            if values.peek().is_none() { test(Value::Nil) } else { values.any(&mut *test) }
        };
        match self {
            Self::Attribute(Scope::Event, key) => {
                several(&mut of.events.iter().filter_map(|e| get(&e.attributes, key)))
            }
            Self::Attribute(Scope::Link, key) => {
                several(&mut of.links.iter().filter_map(|l| get(&l.attributes, key)))
            }
            Self::Intrinsic(Intrinsic::EventName) => {
                several(&mut of.events.iter().map(|e| Value::Text(e.name.clone())))
            }
            Self::Intrinsic(Intrinsic::EventTimeSinceStart) => several(
                &mut of
                    .events
                    .iter()
                    .map(|e| Value::Duration(e.time_nanos.wrapping_sub(of.start_nanos) as i64)),
            ),
            Self::Intrinsic(Intrinsic::LinkTraceId) => {
                several(&mut of.links.iter().map(|l| text(l.trace_id)))
            }
            Self::Intrinsic(Intrinsic::LinkSpanId) => several(&mut of.links.iter().map(|l| text(l.span_id))),
            Self::Attribute(scope, key) => test(attribute(*scope, key, trace, span)),
            Self::Intrinsic(intrinsic) => test(intrinsic.value(trace, span)),
        }
    }
}

fn attribute(scope: Scope, key: &str, trace: &Trace, span: usize) -> Value {
    let of = &trace.spans[span];
    let of_span = || get(&of.attributes, key);
    let of_resource = || get(&of.resource.attributes, key);
    let found = match scope {
        Scope::Any => of_span().or_else(of_resource),
        Scope::Span => of_span(),
        Scope::Resource => of_resource(),
        // Only the name of a scope is kept.
        Scope::Instrumentation | Scope::Event | Scope::Link => None,
        Scope::Parent | Scope::ParentSpan | Scope::ParentResource => {
            let own = match scope {
                Scope::Parent => Scope::Any,
                Scope::ParentSpan => Scope::Span,
                _ => Scope::Resource,
            };
            trace.parent(span).map(|parent| attribute(own, key, trace, parent))
        }
    };
    found.unwrap_or(Value::Nil)
}

impl Intrinsic {
    fn value(self, trace: &Trace, span: usize) -> Value {
        let of = &trace.spans[span];
        let nanos = |n: u64| Value::Duration(i64::try_from(n).unwrap_or(i64::MAX));
        let some_text =
            |text: &Arc<str>| if text.is_empty() { Value::Nil } else { Value::Text(text.clone()) };
        match self {
            Self::Name => Value::Text(of.name.clone()),
            Self::Status => Value::Status(of.status),
            Self::StatusMessage => some_text(&of.status_message),
            Self::Kind => Value::Kind(of.kind),
            Self::Duration => nanos(of.duration_nanos()),
            Self::SpanId => text(of.span_id),
            Self::ParentId if of.parent_span_id.is_zero() => Value::Nil,
            Self::ParentId => text(of.parent_span_id),
            Self::ChildCount => Value::Int(trace.child_count(span) as i64),
            Self::TraceId => text(of.trace_id),
            Self::TraceDuration => nanos(trace.duration_nanos()),
            Self::RootName => {
                trace.root().map_or(Value::Nil, |root| Value::Text(trace.spans[root].name.clone()))
            }
            Self::RootService => trace
                .root()
                .map_or(Value::Nil, |root| Value::Text(trace.spans[root].resource.service().into())),
            Self::NestedSetLeft => Value::Int(trace.nested(span).left),
            Self::NestedSetRight => Value::Int(trace.nested(span).right),
            Self::NestedSetParent => Value::Int(trace.nested(span).parent),
            Self::InstrumentationName => some_text(&of.scope),
            Self::EventName | Self::EventTimeSinceStart | Self::LinkTraceId | Self::LinkSpanId => Value::Nil,
        }
    }
}

fn text(id: impl fmt::Display) -> Value {
    Value::Text(id.to_string().into())
}

fn get(attributes: &Attributes, key: &str) -> Option<Value> {
    attributes.iter().find(|(k, _)| &**k == key).map(|(_, v)| v.into())
}

impl From<&AttributeValue> for Value {
    fn from(value: &AttributeValue) -> Self {
        match value {
            AttributeValue::String(s) | AttributeValue::Json(s) => Self::Text(s.clone()),
            AttributeValue::Bool(b) => Self::Bool(*b),
            AttributeValue::Int(i) => Self::Int(*i),
            AttributeValue::Double(d) => Self::Float(*d),
        }
    }
}
