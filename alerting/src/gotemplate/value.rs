//! `Value`: what templates handle, in Go's types as far as their names and printing show.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::float;

#[derive(Debug, Clone)]
pub enum Value {
    /// Go's nil, and what is not there: prints `<no value>`.
    Nil,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(Arc<str>),
    /// An instant in UTC.
    Time(jiff::Timestamp),
    List(Arc<List>),
    Map(Arc<Map>),
    Record(Arc<Record>),
    Opaque(Arc<Opaque>),
}

#[derive(Debug)]
pub struct List {
    /// As Go would name it: `template.queryResult`.
    pub type_name: &'static str,
    pub items: Vec<Value>,
}

#[derive(Debug)]
pub struct Map {
    pub type_name: &'static str,
    pub entries: BTreeMap<String, Value>,
    /// What stands for a key that is not there: the empty text in a map of texts.
    pub missing: Value,
}

/// A Go struct: asking for a field that it does not have is an error.
#[derive(Debug)]
pub struct Record {
    pub type_name: &'static str,
    pub fields: Vec<(&'static str, Value)>,
}

/// Something that can only be printed.
#[derive(Debug)]
pub struct Opaque {
    pub type_name: &'static str,
    pub text: String,
}

impl Value {
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// `map[string]string`.
    pub fn texts<N: Into<String>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let entries = pairs.into_iter().map(|(n, v)| (n.into(), Self::text(v))).collect();
        Self::Map(Arc::new(Map { type_name: "map[string]string", entries, missing: Self::text("") }))
    }

    pub fn list(type_name: &'static str, items: Vec<Self>) -> Self {
        Self::List(Arc::new(List { type_name, items }))
    }

    pub fn record(type_name: &'static str, fields: Vec<(&'static str, Self)>) -> Self {
        Self::Record(Arc::new(Record { type_name, fields }))
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Time(_) => "*time.Time",
            Self::List(l) => l.type_name,
            Self::Map(m) => m.type_name,
            Self::Record(r) => r.type_name,
            Self::Opaque(o) => o.type_name,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Go's truth: what is neither zero nor empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(v) => *v != 0,
            Self::Uint(v) => *v != 0,
            Self::Float(v) => *v != 0.0,
            Self::Text(t) => !t.is_empty(),
            Self::List(l) => !l.items.is_empty(),
            Self::Map(m) => !m.entries.is_empty(),
            Self::Time(_) | Self::Record(_) | Self::Opaque(_) => true,
        }
    }

    /// Appends as `%v` prints it, until there are more than `bytes_max`.
    pub(super) fn print(&self, out: &mut String, bytes_max: usize) {
        if out.len() > bytes_max {
            return;
        }
        match self {
            Self::Nil => out.push_str("<nil>"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Int(v) => out.push_str(&v.to_string()),
            Self::Uint(v) => out.push_str(&v.to_string()),
            Self::Float(v) => out.push_str(&float::general(*v, None)),
            Self::Text(t) => out.push_str(t),
            Self::Time(t) => out.push_str(&super::time::format(*t, super::time::STRING)),
            Self::List(l) => {
                out.push('[');
                for (i, item) in l.items.iter().enumerate() {
                    out.push_str(if i > 0 { " " } else { "" });
                    item.print(out, bytes_max);
                }
                out.push(']');
            }
            Self::Map(m) => {
                out.push_str("map[");
                for (i, (key, value)) in m.entries.iter().enumerate() {
                    out.push_str(if i > 0 { " " } else { "" });
                    out.push_str(key);
                    out.push(':');
                    value.print(out, bytes_max);
                }
                out.push(']');
            }
            Self::Record(r) => {
                out.push('{');
                for (i, (_, value)) in r.fields.iter().enumerate() {
                    out.push_str(if i > 0 { " " } else { "" });
                    value.print(out, bytes_max);
                }
                out.push('}');
            }
            Self::Opaque(o) => out.push_str(&o.text),
        }
    }

    pub(super) fn printed(&self, bytes_max: usize) -> String {
        let mut out = String::new();
        self.print(&mut out, bytes_max);
        out
    }
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Float(v)
    }
}

impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::Text(v.into())
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(v.into())
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}
