//! `Span`: one operation of one service within a trace, OpenTelemetry's data model.

use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TraceId(pub [u8; 16]);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SpanId(pub [u8; 8]);

macro_rules! hex_id {
    ($name:ident, $len:literal) => {
        impl $name {
            /// All zero means "no such id" in OpenTelemetry.
            pub fn is_zero(&self) -> bool {
                self.0 == [0; $len]
            }

            /// From exactly twice as many hexadecimal digits as the id has bytes.
            pub fn from_hex(s: &str) -> Option<Self> {
                if s.len() != 2 * $len || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                let mut id = [0; $len];
                for (byte, pair) in id.iter_mut().zip(s.as_bytes().chunks_exact(2)) {
                    *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
                }
                Some(Self(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex_id!(TraceId, 16);
hex_id!(SpanId, 8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SpanKind {
    #[default]
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

impl SpanKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SpanStatus {
    #[default]
    Unset,
    Ok,
    Error,
}

impl SpanStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    String(Arc<str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// Arrays, maps and bytes, as OTLP's JSON writes them.
    Json(Arc<str>),
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(s) | Self::Json(s) => f.write_str(s),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Double(d) => write!(f, "{d}"),
        }
    }
}

/// Attributes in the order they were sent; of a repeated key the first counts.
pub type Attributes = Vec<(Arc<str>, AttributeValue)>;

/// Who sent the spans: shared by all spans of one batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resource {
    pub attributes: Attributes,
}

impl Resource {
    pub fn get(&self, key: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|(k, _)| &**k == key).map(|(_, v)| v)
    }

    fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(AttributeValue::String(s)) => s,
            _ => "",
        }
    }

    /// `service.name`, or the empty string.
    pub fn service(&self) -> &str {
        self.text("service.name")
    }

    /// `service.version`, or the empty string.
    pub fn version(&self) -> &str {
        self.text("service.version")
    }

    /// `service.instance.id`, or the empty string.
    pub fn instance(&self) -> &str {
        self.text("service.instance.id")
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SpanEvent {
    pub time_nanos: u64,
    pub name: Arc<str>,
    pub attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SpanLink {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub attributes: Attributes,
}

/// Times are nanoseconds since the Unix epoch, the emitter's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// Zero for a root span.
    pub parent_span_id: SpanId,
    pub trace_state: Arc<str>,
    pub resource: Arc<Resource>,
    /// Name of the instrumentation scope.
    pub scope: Arc<str>,
    pub name: Arc<str>,
    pub kind: SpanKind,
    pub start_nanos: u64,
    pub end_nanos: u64,
    pub status: SpanStatus,
    pub status_message: Arc<str>,
    pub attributes: Attributes,
    pub events: Vec<SpanEvent>,
    pub links: Vec<SpanLink>,
}

impl Span {
    /// End less start; zero when the emitter's clock ran backwards.
    pub fn duration_nanos(&self) -> u64 {
        self.end_nanos.saturating_sub(self.start_nanos)
    }

    pub fn attribute(&self, key: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|(k, _)| &**k == key).map(|(_, v)| v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_and_write_hex() {
        let id = TraceId::from_hex("0123456789abcdef0123456789ABCDEF").unwrap();
        assert_eq!(id.to_string(), "0123456789abcdef0123456789abcdef");
        assert_eq!(TraceId::from_hex("0123"), None);
        assert_eq!(SpanId::from_hex("+123456789abcdef"), None);
    }

    #[test]
    fn resource_names_the_service() {
        let r = Resource {
            attributes: vec![
                ("service.name".into(), AttributeValue::String("checkout".into())),
                ("service.version".into(), AttributeValue::Int(2)),
            ],
        };
        assert_eq!((r.service(), r.version()), ("checkout", ""));
    }
}
