//! Go's builtin functions: `eq`, `len`, `index`, `printf` and the like. `and` and `or` are in `exec`, as they may
//! leave arguments alone.

use std::cmp::Ordering;

use super::{CallError, Value, format};

const NAMES: [&str; 20] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js", "urlquery",
    "eq", "ne", "lt", "le", "gt", "ge", "call", "tmpl",
];

pub(super) fn is_builtin(name: &str) -> bool {
    NAMES.contains(&name)
}

type Result<T = Value> = std::result::Result<T, CallError>;

pub(super) fn call(name: &str, args: &[Value], bytes_max: usize) -> Result {
    match name {
        "not" => one(name, args).map(|v| Value::Bool(!v.is_true())),
        "len" => one(name, args).and_then(length),
        "index" => index(args),
        "slice" => slice(args),
        "print" => Ok(Value::from(print(args, bytes_max))),
        "println" => Ok(Value::from(println(args, bytes_max))),
        "printf" => match args {
            [Value::Text(text), rest @ ..] => Ok(Value::from(format::sprintf(text, rest, bytes_max))),
            [other, ..] => Err(CallError::wrong_type("string", other)),
            [] => Err(at_least(name, 1, 0)),
        },
        "html" => Ok(Value::from(escape_html(&print(args, bytes_max)))),
        "js" => Ok(Value::from(escape_js(&print(args, bytes_max)))),
        "urlquery" => Ok(Value::from(escape_query(&print(args, bytes_max)))),
        "eq" => equals_any(args).map(Value::Bool),
        "ne" => pair(name, args).and_then(|(a, b)| equal(a, b)).map(|e| Value::Bool(!e)),
        "lt" => compare(name, args, Ordering::is_lt),
        "le" => compare(name, args, Ordering::is_le),
        "gt" => compare(name, args, Ordering::is_gt),
        "ge" => compare(name, args, Ordering::is_ge),
        _ => Err(CallError::failed("there are no functions among the values")),
    }
}

fn one<'a>(name: &str, args: &'a [Value]) -> Result<&'a Value> {
    match args {
        [v] => Ok(v),
        _ => Err(CallError::wrong_number(name, 1, args.len())),
    }
}

fn pair<'a>(name: &str, args: &'a [Value]) -> Result<(&'a Value, &'a Value)> {
    match args {
        [a, b] => Ok((a, b)),
        _ => Err(CallError::wrong_number(name, 2, args.len())),
    }
}

fn at_least(name: &str, want: usize, got: usize) -> CallError {
    CallError::Number(format!("wrong number of args for {name}: want at least {want} got {got}"))
}

fn length(v: &Value) -> Result {
    let n = match v {
        Value::Text(t) => t.len(),
        Value::List(l) => l.items.len(),
        Value::Map(m) => m.entries.len(),
        Value::Nil => return Err(CallError::failed("len of nil pointer")),
        other => return Err(CallError::failed(format!("len of type {}", other.type_name()))),
    };
    Ok(Value::Int(n as i64))
}

fn index(args: &[Value]) -> Result {
    let [first, keys @ ..] = args else { return Err(at_least("index", 1, 0)) };
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Map(map), Value::Text(key)) => map.entries.get(&**key).unwrap_or(&map.missing).clone(),
            (Value::Map(_), other) => {
                let got = other.type_name();
                return Err(CallError::failed(format!("value has type {got}; should be string")));
            }
            (Value::List(list), key) => {
                let i = position(key, list.items.len(), false)?;
                list.items[i].clone()
            }
            (Value::Text(text), key) => {
                let i = position(key, text.len(), false)?;
                Value::Uint(u64::from(text.as_bytes()[i]))
            }
            (Value::Nil, _) => return Err(CallError::failed("index of untyped nil")),
            (other, _) => {
                return Err(CallError::failed(format!("can't index item of type {}", other.type_name())));
            }
        };
    }
    Ok(value)
}

fn position(key: &Value, length: usize, inclusive: bool) -> Result<usize> {
    let at = match key {
        Value::Int(i) => *i,
        Value::Uint(i) => i64::try_from(*i).unwrap_or(i64::MAX),
        Value::Nil => return Err(CallError::failed("cannot index slice/array with nil")),
        other => {
            return Err(CallError::failed(format!(
                "cannot index slice/array with type {}",
                other.type_name()
            )));
        }
    };
    match usize::try_from(at) {
        Ok(i) if i < length || (inclusive && i == length) => Ok(i),
        _ => Err(CallError::failed(format!("index out of range: {at}"))),
    }
}

fn slice(args: &[Value]) -> Result {
    let [first, bounds @ ..] = args else { return Err(at_least("slice", 1, 0)) };
    let length = match first {
        Value::Text(t) => t.len(),
        Value::List(l) => l.items.len(),
        other => return Err(CallError::failed(format!("can't slice item of type {}", other.type_name()))),
    };
    if bounds.len() > 2 {
        return Err(CallError::failed(format!("too many slice indexes: {}", bounds.len())));
    }
    let bound = |i: usize, default: usize| bounds.get(i).map_or(Ok(default), |b| position(b, length, true));
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(CallError::failed(format!("invalid slice index: {from} > {to}")));
    }
    match first {
        Value::Text(t) => Ok(Value::from(String::from_utf8_lossy(&t.as_bytes()[from..to]).into_owned())),
        Value::List(l) => Ok(Value::list(l.type_name, l.items[from..to].to_vec())),
        _ => unreachable!("the length is only taken of texts and lists"),
    }
}

/// Go's Sprint: a space between neighbours of which neither is a text.
fn print(args: &[Value], bytes_max: usize) -> String {
    let mut out = String::new();
    let mut before_is_text = true;
    for arg in args {
        let is_text = matches!(arg, Value::Text(_));
        if !before_is_text && !is_text {
            out.push(' ');
        }
        arg.print(&mut out, bytes_max);
        before_is_text = is_text;
    }
    out
}

fn println(args: &[Value], bytes_max: usize) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        out.push_str(if i > 0 { " " } else { "" });
        arg.print(&mut out, bytes_max);
    }
    out.push('\n');
    out
}

/// Whether the first equals one of the others.
fn equals_any(args: &[Value]) -> Result<bool> {
    let [first, others @ ..] = args else { return Err(at_least("eq", 1, 0)) };
    if others.is_empty() {
        return Err(CallError::failed("missing argument for comparison"));
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool> {
    Ok(match (a, b) {
        (Value::Nil, Value::Nil) => true,
        (Value::Nil, _) | (_, Value::Nil) => false,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Int(_) | Value::Uint(_), Value::Int(_) | Value::Uint(_)) => whole(a) == whole(b),
        (Value::List(_), Value::List(_))
        | (Value::Map(_), Value::Map(_))
        | (Value::Record(_), Value::Record(_))
        | (Value::Opaque(_), Value::Opaque(_)) => {
            return Err(CallError::failed(format!("non-comparable type {}", a.type_name())));
        }
        _ => return Err(CallError::failed("incompatible types for comparison")),
    })
}

fn compare(name: &str, args: &[Value], fits: impl Fn(Ordering) -> bool) -> Result {
    let (a, b) = pair(name, args)?;
    let ordering = match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Int(_) | Value::Uint(_), Value::Int(_) | Value::Uint(_)) => Some(whole(a).cmp(&whole(b))),
        (Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::Text(_), _) => {
            return Err(CallError::failed("incompatible types for comparison"));
        }
        _ => return Err(CallError::failed("invalid type for comparison")),
    };
    Ok(Value::Bool(ordering.is_some_and(fits)))
}

fn whole(v: &Value) -> i128 {
    match v {
        Value::Int(v) => i128::from(*v),
        Value::Uint(v) => i128::from(*v),
        _ => unreachable!("only asked of whole numbers"),
    }
}

pub(super) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Go's `url.QueryEscape`.
pub(crate) fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
