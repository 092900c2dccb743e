//! What a template of a message may call: Alertmanager's functions, and the methods of its data.

use std::borrow::Cow;
use std::sync::Arc;

use davy_model::Timestamp;
use jiff::tz::TimeZone;

use super::data::{ALERTS, KV};
use crate::alert::ALERTNAME;
use crate::gotemplate::humanize::{humanize_duration, to_float};
use crate::gotemplate::library::{self, one, text, two};
use crate::gotemplate::{self, CallError, List, Map, Opaque, Value, format_time};
use crate::text;

const NAMES: [&str; 19] = [
    "toUpper",
    "toLower",
    "title",
    "trimSpace",
    "join",
    "match",
    "safeHtml",
    "safeUrl",
    "urlUnescape",
    "reReplaceAll",
    "stringSlice",
    "date",
    "tz",
    "humanizeDuration",
    "toJson",
    "list",
    "append",
    "dict",
    "since",
];

const PAIR: &str = "template.Pair";
const PAIRS: &str = "template.Pairs";
/// Longest value that is shown, in characters.
const VALUE_CHARS_MAX: usize = 100_000;
/// A text that its template vouches for: it is not escaped.
const SAFE: &str = "template.HTML";

/// What surrounds the values of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markup {
    /// No markup at all: subjects, addresses, plain mail.
    Plain,
    /// Slack's mrkdwn: no value forms a mention or a link.
    Slack,
    Html,
}

/// Enough to parse with.
pub(super) struct Names;

impl gotemplate::Functions for Names {
    fn has(&self, name: &str) -> bool {
        NAMES.contains(&name)
    }

    fn call(&self, name: &str, _: &[Value]) -> Result<Value, CallError> {
        Err(CallError::failed(format!("{name} is only known for a message")))
    }
}

pub(super) struct Functions {
    pub(super) markup: Markup,
    pub(super) now: Timestamp,
}

impl gotemplate::Functions for Functions {
    fn has(&self, name: &str) -> bool {
        Names.has(name)
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, CallError> {
        match name {
            "trimSpace" => Ok(text(one(name, args)?)?.trim().into()),
            "join" => {
                let (separator, of) = two(name, args)?;
                Ok(joined(text(separator)?, of)?.into())
            }
            "safeHtml" | "safeUrl" => {
                let text = text(one(name, args)?)?.to_owned();
                Ok(Value::Opaque(Arc::new(Opaque { type_name: SAFE, text })))
            }
            "urlUnescape" => unescape(text(one(name, args)?)?),
            "stringSlice" => {
                args.iter().try_for_each(|a| text(a).map(drop))?;
                Ok(Value::list("[]string", args.to_vec()))
            }
            "date" => {
                let (layout, at) = two(name, args)?;
                Ok(format_time(time(at)?, text(layout)?).into())
            }
            "tz" => {
                let (zone, at) = two(name, args)?;
                in_zone(text(zone)?, time(at)?)
            }
            "humanizeDuration" => to_float(one(name, args)?).map(|v| humanize_duration(v).into()),
            "toJson" => Ok(json(one(name, args)?).to_string().into()),
            "list" => Ok(Value::list("[]interface {}", args.to_vec())),
            "append" => match args {
                [Value::List(list), more @ ..] => {
                    let items = list.items.iter().chain(more).cloned().collect();
                    Ok(Value::List(Arc::new(List { type_name: list.type_name, items })))
                }
                [other, ..] => Err(CallError::wrong_type("[]interface {}", other)),
                [] => Err(CallError::wrong_number(name, 1, 0)),
            },
            "dict" => dict(args),
            "since" => {
                let seconds = self.now.as_millis() - time(one(name, args)?)?.as_millisecond();
                Ok(Value::Float(seconds as f64 / 1000.0))
            }
            other => library::call(other, args)
                .unwrap_or_else(|| Err(CallError::failed(format!("{other} is not defined")))),
        }
    }

    fn method(&self, of: &Value, name: &str, args: &[Value]) -> Option<Result<Value, CallError>> {
        let none = |v: Value| {
            if args.is_empty() { Ok(v) } else { Err(CallError::wrong_number(name, 0, args.len())) }
        };
        match of {
            Value::Map(map) if map.type_name == KV => Some(match name {
                "SortedPairs" => none(pairs(map)),
                "Names" => none(column(&pairs(map), 0)),
                "Values" => none(column(&pairs(map), 1)),
                "Remove" => one(name, args).and_then(|keys| without(map, keys)),
                "String" => none(pairs_text(&pairs(map)).into()),
                _ => return None,
            }),
            Value::List(list) if list.type_name == PAIRS => Some(match name {
                "Names" => none(column(of, 0)),
                "Values" => none(column(of, 1)),
                "String" => none(pairs_text(of).into()),
                _ => return None,
            }),
            Value::List(list) if list.type_name == ALERTS => Some(match name {
                "Firing" => none(of_status(list, "firing")),
                "Resolved" => none(of_status(list, "resolved")),
                _ => return None,
            }),
            _ => None,
        }
    }

    fn shown<'v>(&self, value: &'v Value) -> Option<Cow<'v, str>> {
        let text: Cow<'v, str> = match value {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Map(map) if map.type_name == KV => Cow::Owned(pairs_text(&pairs(map))),
            Value::List(list) if list.type_name == PAIRS => Cow::Owned(pairs_text(value)),
            _ => return None,
        };
        // Whatever the markup, nothing hides or turns what stands beside it.
        let text = text::lines(&text, VALUE_CHARS_MAX);
        Some(match self.markup {
            Markup::Plain => Cow::Owned(text),
            Markup::Slack => Cow::Owned(text::slack(&text)),
            Markup::Html => Cow::Owned(text::html(&text)),
        })
    }
}

fn time(of: &Value) -> Result<jiff::Timestamp, CallError> {
    match of {
        Value::Time(at) => Ok(*at),
        other => Err(CallError::wrong_type("time.Time", other)),
    }
}

/// An instant has no zone here, so the local time is told as if it were UTC.
fn in_zone(zone: &str, at: jiff::Timestamp) -> Result<Value, CallError> {
    let zone = TimeZone::get(zone).map_err(|_| CallError::failed(format!("unknown time zone {zone}")))?;
    let local = TimeZone::UTC.to_timestamp(zone.to_datetime(at));
    local.map(Value::Time).map_err(|e| CallError::failed(e.to_string()))
}

fn joined(separator: &str, of: &Value) -> Result<String, CallError> {
    let Value::List(list) = of else { return Err(CallError::wrong_type("[]string", of)) };
    let parts = list.items.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.join(separator))
}

fn unescape(of: &str) -> Result<Value, CallError> {
    let (bytes, mut out, mut i) = (of.as_bytes(), Vec::new(), 0);
    let wrong = || CallError::failed(format!("invalid URL escape in {of:?}"));
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let digits = of.get(i + 1..i + 3).ok_or_else(wrong)?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
                i += 2;
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
        i += 1;
    }
    Ok(String::from_utf8_lossy(&out).into_owned().into())
}

fn dict(args: &[Value]) -> Result<Value, CallError> {
    let (pairs, []) = args.as_chunks::<2>() else {
        return Err(CallError::failed("dict takes names and values in turn"));
    };
    let entries = pairs.iter().map(|[name, value]| Ok((text(name)?.to_owned(), value.clone())));
    let entries = entries.collect::<Result<_, CallError>>()?;
    Ok(Value::Map(Arc::new(Map { type_name: "map[string]interface {}", entries, missing: Value::Nil })))
}

/// Sorted by name, the alert's name first.
fn pairs(map: &Map) -> Value {
    let (first, others): (Vec<_>, Vec<_>) = map.entries.iter().partition(|(n, _)| *n == ALERTNAME);
    let pair = |(name, value): (&String, &Value)| {
        Value::record(PAIR, vec![("Name", name.as_str().into()), ("Value", value.clone())])
    };
    Value::list(PAIRS, first.into_iter().chain(others).map(pair).collect())
}

/// Names (0) or values (1) of pairs.
fn column(pairs: &Value, i: usize) -> Value {
    Value::list("[]string", pair_texts(pairs).map(|pair| pair[i].into()).collect())
}

fn pairs_text(pairs: &Value) -> String {
    pair_texts(pairs).map(|[name, value]| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

fn pair_texts(pairs: &Value) -> impl Iterator<Item = [&str; 2]> {
    let items = if let Value::List(list) = pairs { &list.items[..] } else { &[] };
    items.iter().filter_map(|pair| match pair {
        Value::Record(r) => match &r.fields[..] {
            [(_, name), (_, value)] => Some([name.as_text()?, value.as_text()?]),
            _ => None,
        },
        _ => None,
    })
}

fn without(map: &Map, keys: &Value) -> Result<Value, CallError> {
    let Value::List(keys) = keys else { return Err(CallError::wrong_type("[]string", keys)) };
    let named = |name: &String| keys.items.iter().any(|k| k.as_text() == Some(name));
    let entries =
        map.entries.iter().filter(|(n, _)| !named(n)).map(|(n, v)| (n.clone(), v.clone())).collect();
    Ok(Value::Map(Arc::new(Map { type_name: KV, entries, missing: map.missing.clone() })))
}

fn of_status(alerts: &List, status: &str) -> Value {
    let is = |alert: &&Value| match alert {
        Value::Record(r) => r.fields.iter().any(|(n, v)| *n == "Status" && v.as_text() == Some(status)),
        _ => false,
    };
    Value::list("[]template.Alert", alerts.items.iter().filter(is).cloned().collect())
}

fn json(of: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match of {
        Value::Nil => Json::Null,
        Value::Bool(v) => (*v).into(),
        Value::Int(v) => (*v).into(),
        Value::Uint(v) => (*v).into(),
        Value::Float(v) => (*v).into(),
        Value::Text(v) => (**v).into(),
        Value::Time(v) => v.to_string().into(),
        Value::List(list) => list.items.iter().map(json).collect(),
        Value::Map(map) => Json::Object(map.entries.iter().map(|(n, v)| (n.clone(), json(v))).collect()),
        Value::Record(r) => Json::Object(r.fields.iter().map(|(n, v)| ((*n).to_owned(), json(v))).collect()),
        Value::Opaque(o) => o.text.as_str().into(),
    }
}
