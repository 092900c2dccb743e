//! Values as Tempo's JSON has them: protobuf's `AnyValue`.

use davy_query::traceql::Value;
use serde_json::{Value as Json, json};

/// `{"key": …, "value": {"stringValue": …}}`
pub(crate) fn key_value(key: &str, value: &Value) -> Json {
    json!({"key": key, "value": any_value(value)})
}

fn any_value(value: &Value) -> Json {
    match value {
        // Protobuf writes 64-bit integers as texts.
        Value::Int(n) => json!({"intValue": n.to_string()}),
        Value::Float(n) if n.is_finite() => json!({"doubleValue": n}),
        Value::Bool(b) => json!({"boolValue": b}),
        Value::Nil
        | Value::Text(_)
        | Value::Float(_)
        | Value::Duration(_)
        | Value::Status(_)
        | Value::Kind(_) => {
            json!({"stringValue": value.label()})
        }
    }
}
