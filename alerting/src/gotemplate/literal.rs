//! Constants of a template: numbers and texts as Go writes them.

use super::node::Number;

/// As Go reads constants: `1_000`, `0x1F`, `0b1`, `0o17`, `017`, `1.5e3`.
pub(super) fn number(text: &str) -> Option<Number> {
    let clean = text.replace('_', "");
    let (sign, digits) = match clean.strip_prefix(['+', '-']) {
        Some(rest) => (if clean.starts_with('-') { "-" } else { "" }, rest),
        None => ("", clean.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    for (prefix, radix) in radix {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Number::Int);
        }
    }
    if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit()) {
        return i64::from_str_radix(&format!("{sign}{lower}"), 8).ok().map(Number::Int);
    }
    if digits.contains(['.', 'e', 'E']) {
        return clean.parse().ok().filter(|v: &f64| v.is_finite()).map(Number::Float);
    }
    clean.parse().ok().map(Number::Int)
}

/// A Go string in double or back quotes.
pub(super) fn unquote(quoted: &str) -> Option<String> {
    if let Some(raw) = quoted.strip_prefix('`').and_then(|t| t.strip_suffix('`')) {
        return Some(raw.replace('\r', ""));
    }
    unescape(quoted.strip_prefix('"')?.strip_suffix('"')?)
}

pub(super) fn unescape(text: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = chars.next()?;
        let mut code = |length: usize, radix: u32, first: Option<char>| {
            let more = length - usize::from(first.is_some());
            let digits: String = first.into_iter().chain(chars.by_ref().take(more)).collect();
            (digits.len() == length).then(|| u32::from_str_radix(&digits, radix).ok())?
        };
        let byte = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '"' => escape as u8,
            'x' => u8::try_from(code(2, 16, None)?).ok()?,
            '0'..='7' => u8::try_from(code(3, 8, Some(escape))?).ok()?,
            'u' | 'U' => {
                let length = if escape == 'u' { 4 } else { 8 };
                let c = char::from_u32(code(length, 16, None)?)?;
                out.extend(c.encode_utf8(&mut [0; 4]).bytes());
                continue;
            }
            _ => return None,
        };
        out.push(byte);
    }
    // Go's strings are bytes; ours are text.
    Some(String::from_utf8_lossy(&out).into_owned())
}
