//! Functions of texts that Prometheus' templates and Alertmanager's both have.

use regex::{Regex, RegexBuilder};

use super::{CallError, Value};

/// Longest text that `reReplaceAll` makes; the template's own bound then refuses it.
const REPLACED_BYTES_MAX: usize = 1 << 20;
const REGEX_SOURCE_BYTES_MAX: usize = 1024;
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;

type Result<T = Value> = std::result::Result<T, CallError>;

/// `None` for a function that is not one of them.
pub(crate) fn call(name: &str, args: &[Value]) -> Option<Result> {
    let of = |f: fn(&str) -> String| text(one(name, args)?).map(|t| Value::from(f(t)));
    Some(match name {
        "title" => of(title),
        "toUpper" => of(str::to_uppercase),
        "toLower" => of(str::to_lowercase),
        "match" => two(name, args).and_then(|(p, of)| Ok(Value::Bool(regex(text(p)?)?.is_match(text(of)?)))),
        "reReplaceAll" => replace(name, args),
        _ => return None,
    })
}

fn replace(name: &str, args: &[Value]) -> Result {
    match args {
        [pattern, replacement, of] => {
            replace_all(text(pattern)?, text(replacement)?, text(of)?).map(Value::from)
        }
        _ => Err(CallError::wrong_number(name, 3, args.len())),
    }
}

pub(crate) fn one<'a>(name: &str, args: &'a [Value]) -> Result<&'a Value> {
    match args {
        [v] => Ok(v),
        _ => Err(CallError::wrong_number(name, 1, args.len())),
    }
}

pub(crate) fn two<'a>(name: &str, args: &'a [Value]) -> Result<(&'a Value, &'a Value)> {
    match args {
        [a, b] => Ok((a, b)),
        _ => Err(CallError::wrong_number(name, 2, args.len())),
    }
}

pub(crate) fn text(v: &Value) -> Result<&str> {
    v.as_text().ok_or_else(|| CallError::wrong_type("string", v))
}

fn regex(pattern: &str) -> Result<Regex> {
    if pattern.len() > REGEX_SOURCE_BYTES_MAX {
        return Err(CallError::failed(format!("regex is longer than {REGEX_SOURCE_BYTES_MAX} bytes")));
    }
    RegexBuilder::new(pattern)
        .size_limit(REGEX_COMPILED_BYTES_MAX)
        .build()
        .map_err(|e| CallError::failed(format!("error parsing regexp: {}", e.to_string().replace('\n', " "))))
}

/// As `Regex::replace_all`, but it ends where the text grows beyond use.
fn replace_all(pattern: &str, replacement: &str, of: &str) -> Result<String> {
    let regex = regex(pattern)?;
    let mut out = String::new();
    let mut last = 0;
    for captures in regex.captures_iter(of) {
        let whole = captures.get(0).expect("group 0 is the match");
        out.push_str(&of[last..whole.start()]);
        captures.expand(replacement, &mut out);
        last = whole.end();
        if out.len() > REPLACED_BYTES_MAX {
            return Err(CallError::failed(format!("the result is longer than {REPLACED_BYTES_MAX} bytes")));
        }
    }
    out.push_str(&of[last..]);
    Ok(out)
}

/// The first letter of every word in capitals, the others as they are.
fn title(of: &str) -> String {
    let mut out = String::with_capacity(of.len());
    let mut in_word = false;
    for c in of.chars() {
        if in_word {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphanumeric() || matches!(c, '_' | '\'' | '\u{2019}');
    }
    out
}
