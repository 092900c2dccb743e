//! OTLP attributes into Davy's: strings shared within a request, sizes bounded, nested values as JSON text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use davy_model::{AttributeValue, Attributes};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

/// Attributes of one span, event, link or resource; more are left out and counted.
pub(crate) const ATTRIBUTES_MAX: usize = 128;
/// Bytes of one attribute's key or value, and of any other text a span carries; more is cut off and counted.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// Shares equal strings within one request, and counts what had to be cut.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    strings: HashSet<Arc<str>>,
    /// Attributes, events and links left out, and texts cut short.
    pub(crate) truncated: u64,
}

impl Interner {
    /// The shared string, cut to [`TEXT_BYTES_MAX`].
    pub(crate) fn text(&mut self, text: &str) -> Arc<str> {
        let cut = cut(text);
        self.truncated += u64::from(cut.len() < text.len());
        if let Some(known) = self.strings.get(cut) {
            return known.clone();
        }
        let shared: Arc<str> = cut.into();
        self.strings.insert(shared.clone());
        shared
    }

    pub(crate) fn attributes(&mut self, pairs: &[KeyValue]) -> Attributes {
        self.truncated += pairs.len().saturating_sub(ATTRIBUTES_MAX) as u64;
        pairs.iter().take(ATTRIBUTES_MAX).map(|kv| (self.text(&kv.key), self.value(&kv.value))).collect()
    }

    fn value(&mut self, value: &Option<AnyValue>) -> AttributeValue {
        match nested(value.as_ref().and_then(|v| v.value.as_ref())) {
            Nested::Text(text) => AttributeValue::String(self.text(&text)),
            Nested::Json(json) => AttributeValue::Json(json.into()),
            Nested::Bool(b) => AttributeValue::Bool(b),
            Nested::Int(i) => AttributeValue::Int(i),
            Nested::Double(d) => AttributeValue::Double(d),
        }
    }
}

/// A value as it is kept, but for the cut of what is longer than [`TEXT_BYTES_MAX`].
pub(crate) enum Nested<'a> {
    Text(Cow<'a, str>),
    Json(String),
    Bool(bool),
    Int(i64),
    Double(f64),
}

pub(crate) fn nested(value: Option<&Value>) -> Nested<'_> {
    match value {
        None | Some(Value::StringValueStrindex(_)) => Nested::Text("".into()),
        Some(Value::StringValue(s)) => Nested::Text(s.into()),
        Some(Value::BoolValue(b)) => Nested::Bool(*b),
        Some(Value::IntValue(i)) => Nested::Int(*i),
        Some(Value::DoubleValue(d)) => Nested::Double(*d),
        Some(nested @ (Value::ArrayValue(_) | Value::KvlistValue(_) | Value::BytesValue(_))) => {
            let mut json = Json { out: String::new(), style: Style::Otlp };
            json.value(nested);
            // JSON that will be cut is not JSON any more: it is kept as text.
            if json.is_full() { Nested::Text(json.out.into()) } else { Nested::Json(json.out) }
        }
    }
}

/// The longest prefix of whole characters within the limit.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// The value as a label shows it: text as it is, nested values as plain JSON (`["a",1]`), bytes in base64.
/// Not longer than a little over [`TEXT_BYTES_MAX`] unless it is text.
pub(crate) fn label_text(value: &Option<AnyValue>) -> String {
    match value.as_ref().and_then(|v| v.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(s)) => s.clone(),
        Some(Value::BytesValue(b)) => BASE64.encode(b),
        Some(Value::DoubleValue(d)) => d.to_string(),
        Some(other) => {
            let mut json = Json { out: String::new(), style: Style::Plain };
            json.value(other);
            json.out
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `{"arrayValue":{"values":[{"intValue":"1"}]}}`, as OTLP's JSON encoding has it.
    Otlp,
    /// `[1]`.
    Plain,
}

/// Writes JSON and stops soon after [`TEXT_BYTES_MAX`]. Depth is bounded by the decoders (prost 100, JSON 128).
struct Json {
    out: String,
    style: Style,
}

impl Json {
    fn is_full(&self) -> bool {
        self.out.len() > TEXT_BYTES_MAX
    }

    fn value(&mut self, value: &Value) {
        let (key, plain) = (otlp_key(value), self.style == Style::Plain);
        if !plain {
            let _ = write!(self.out, "{{\"{key}\":");
        }
        match value {
            Value::StringValue(s) => self.string(s),
            Value::BoolValue(b) => self.out.push_str(if *b { "true" } else { "false" }),
            // 64-bit integers are strings in protobuf's JSON.
            Value::IntValue(i) if plain => drop(write!(self.out, "{i}")),
            Value::IntValue(i) => drop(write!(self.out, "\"{i}\"")),
            Value::StringValueStrindex(i) => drop(write!(self.out, "{i}")),
            Value::DoubleValue(d) if d.is_finite() => drop(write!(self.out, "{d}")),
            Value::DoubleValue(d) if d.is_nan() => self.out.push_str("\"NaN\""),
            Value::DoubleValue(d) if *d > 0.0 => self.out.push_str("\"Infinity\""),
            Value::DoubleValue(_) => self.out.push_str("\"-Infinity\""),
            Value::BytesValue(b) => self.string(&BASE64.encode(&b[..b.len().min(TEXT_BYTES_MAX)])),
            Value::ArrayValue(array) => {
                let items = array.values.iter();
                self.sequence(["[", "]"], items, |json, item| json.optional(item.value.as_ref()));
            }
            Value::KvlistValue(list) => {
                let brackets = if plain { ["{", "}"] } else { ["[", "]"] };
                self.sequence(brackets, list.values.iter(), |json, kv| {
                    json.out.push_str(if plain { "" } else { "{\"key\":" });
                    json.string(&kv.key);
                    json.out.push_str(if plain { ":" } else { ",\"value\":" });
                    json.optional(kv.value.as_ref().and_then(|v| v.value.as_ref()));
                    json.out.push_str(if plain { "" } else { "}" });
                });
            }
        }
        if !plain {
            self.out.push('}');
        }
    }

    fn optional(&mut self, value: Option<&Value>) {
        match value {
            Some(v) => self.value(v),
            None if self.style == Style::Plain => self.out.push_str("null"),
            None => self.out.push_str("{}"),
        }
    }

    /// In OTLP's form both lists stand in `{"values": [...]}`.
    fn sequence<T>(
        &mut self,
        [open, close]: [&str; 2],
        items: impl Iterator<Item = T>,
        each: impl Fn(&mut Self, T),
    ) {
        let wrapped = self.style == Style::Otlp;
        self.out.push_str(if wrapped { "{\"values\":" } else { "" });
        self.out.push_str(open);
        for (i, item) in items.enumerate() {
            if self.is_full() {
                break;
            }
            self.out.push_str(if i > 0 { "," } else { "" });
            each(self, item);
        }
        self.out.push_str(close);
        self.out.push_str(if wrapped { "}" } else { "" });
    }

    fn string(&mut self, s: &str) {
        // One byte over the limit is enough for `is_full` to see it.
        let s = &s[..s.floor_char_boundary(TEXT_BYTES_MAX + 4)];
        self.out.push_str(&serde_json::Value::from(s).to_string());
    }
}

fn otlp_key(value: &Value) -> &'static str {
    match value {
        Value::StringValue(_) => "stringValue",
        Value::BoolValue(_) => "boolValue",
        Value::IntValue(_) => "intValue",
        Value::DoubleValue(_) => "doubleValue",
        Value::ArrayValue(_) => "arrayValue",
        Value::KvlistValue(_) => "kvlistValue",
        Value::BytesValue(_) => "bytesValue",
        Value::StringValueStrindex(_) => "stringValueStrindex",
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    use super::*;

    fn any(value: Value) -> Option<AnyValue> {
        Some(AnyValue { value: Some(value) })
    }

    fn nested() -> Option<AnyValue> {
        let list = KeyValueList {
            values: vec![
                KeyValue { key: "n".into(), value: any(Value::IntValue(7)), ..KeyValue::default() },
                KeyValue { key: "none".into(), ..KeyValue::default() },
            ],
        };
        let values = [any(Value::StringValue("a\"b".into())), any(Value::KvlistValue(list))];
        any(Value::ArrayValue(ArrayValue { values: values.into_iter().flatten().collect() }))
    }

    #[test]
    fn nested_values_become_json() {
        let AttributeValue::Json(otlp) = Interner::default().value(&nested()) else { panic!("not JSON") };
        let want = r#"{"arrayValue":{"values":[{"stringValue":"a\"b"},{"kvlistValue":{"values":[{"key":"n","value":{"intValue":"7"}},{"key":"none","value":{}}]}}]}}"#;
        assert_eq!(&*otlp, want);
        assert_eq!(label_text(&nested()), r#"["a\"b",{"n":7,"none":null}]"#);
        assert_eq!(label_text(&any(Value::BytesValue(vec![1, 2]))), "AQI=");
    }

    #[test]
    fn long_texts_are_cut_at_a_character_and_counted() {
        let mut interner = Interner::default();
        let long = "é".repeat(TEXT_BYTES_MAX);
        assert_eq!(interner.text(&long).len(), TEXT_BYTES_MAX);
        let array = ArrayValue { values: vec![any(Value::StringValue(long)).expect("just made"); 100] };
        let AttributeValue::String(text) = interner.value(&any(Value::ArrayValue(array))) else {
            panic!("cut JSON is not JSON")
        };
        assert!(text.len() <= TEXT_BYTES_MAX);
        assert_eq!(interner.truncated, 2);
    }

    #[test]
    fn surplus_attributes_are_left_out_and_counted() {
        let mut interner = Interner::default();
        let pairs = vec![KeyValue { key: "k".into(), ..KeyValue::default() }; ATTRIBUTES_MAX + 3];
        assert_eq!(interner.attributes(&pairs).len(), ATTRIBUTES_MAX);
        assert_eq!(interner.truncated, 3);
    }

    #[test]
    fn equal_strings_are_shared() {
        let mut interner = Interner::default();
        assert!(Arc::ptr_eq(&interner.text("GET"), &interner.text("GET")));
    }
}
