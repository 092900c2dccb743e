//! Go's `fmt.Sprintf`, for `printf`.

use super::{Value, float};

/// Widths and precisions beyond it are mistakes; Go has a million.
const WIDTH_MAX: usize = 10_000;

#[derive(Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Stops once there are more than `bytes_max`.
pub(super) fn sprintf(text: &str, args: &[Value], bytes_max: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    let mut reordered = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if out.len() > bytes_max {
            return out;
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(c) = chars.next_if(|c| "+-# 0".contains(*c)) {
            match c {
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.next_if_eq(&'*').is_some() {
                let given = args.get(used);
                used += 1;
                return match given {
                    Some(Value::Int(n)) => usize::try_from(*n).ok().map(|n| n.min(WIDTH_MAX)),
                    _ => None,
                };
            }
            let mut n: Option<usize> = None;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                n = Some((n.unwrap_or(0) * 10 + d as usize).min(WIDTH_MAX));
            }
            n
        };
        flags.width = number(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            flags.precision = Some(number(&mut chars).unwrap_or(0));
        }
        // `%[2]d` takes the second argument, and those behind it follow.
        if chars.next_if_eq(&'[').is_some() {
            let index: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
            let closed = chars.next_if_eq(&']').is_some();
            used = match index.parse::<usize>() {
                Ok(n) if closed && n > 0 => n - 1,
                _ => usize::MAX - 1,
            };
            reordered = true;
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.get(used) {
                None if reordered => out.push_str(&format!("%!{verb}(BADINDEX)")),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(arg) => {
                    used += 1;
                    let formatted = one(verb, &flags, arg, bytes_max);
                    out.push_str(&formatted);
                }
            },
        }
    }
    if used < args.len() && !reordered {
        out.push_str("%!(EXTRA ");
        for (i, arg) in args[used..].iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            out.push_str(&format!("{}=", arg.type_name()));
            arg.print(&mut out, bytes_max);
        }
        out.push(')');
    }
    out
}

fn one(verb: char, flags: &Flags, arg: &Value, bytes_max: usize) -> String {
    if verb == 'T' {
        return padded(arg.type_name().to_owned(), flags, false);
    }
    match arg {
        Value::Bool(b) if matches!(verb, 't' | 'v') => padded(b.to_string(), flags, false),
        Value::Int(n) => integer(verb, flags, i128::from(*n), arg),
        Value::Uint(n) => integer(verb, flags, i128::from(*n), arg),
        Value::Float(v) => real(verb, flags, *v, arg),
        Value::Text(t) => text(verb, flags, t, arg),
        Value::List(_) | Value::Map(_) | Value::Record(_) | Value::Opaque(_) | Value::Time(_)
            if matches!(verb, 'v' | 's') =>
        {
            padded(arg.printed(bytes_max), flags, false)
        }
        Value::Nil if verb == 'v' => padded("<nil>".to_owned(), flags, false),
        Value::Nil => format!("%!{verb}(<nil>)"),
        other => bad(verb, other, bytes_max),
    }
}

fn integer(verb: char, flags: &Flags, n: i128, arg: &Value) -> String {
    let magnitude = n.unsigned_abs();
    let (digits, prefix) = match verb {
        'd' | 'v' => (magnitude.to_string(), ""),
        'b' => (format!("{magnitude:b}"), "0b"),
        'o' | 'O' => (format!("{magnitude:o}"), if verb == 'O' { "0o" } else { "0" }),
        'x' => (format!("{magnitude:x}"), "0x"),
        'X' => (format!("{magnitude:X}"), "0X"),
        'c' | 'q' => {
            let c = u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            let shown = if verb == 'q' { format!("'{}'", c.escape_debug()) } else { c.to_string() };
            return padded(shown, flags, false);
        }
        'U' => return padded(format!("U+{magnitude:04X}"), flags, false),
        _ => return bad(verb, arg, WIDTH_MAX),
    };
    let prefix = if (flags.sharp && !matches!(verb, 'd' | 'v')) || verb == 'O' { prefix } else { "" };
    let least = flags.precision.unwrap_or(0);
    padded(format!("{}{prefix}{digits:0>least$}", sign(n < 0, flags)), flags, flags.precision.is_none())
}

fn real(verb: char, flags: &Flags, v: f64, arg: &Value) -> String {
    let p = flags.precision;
    let plain = match verb {
        'v' | 'g' | 'G' => float::general(v, p),
        'f' | 'F' => float::fixed(v, Some(p.unwrap_or(6))),
        'e' | 'E' => float::scientific(v, Some(p.unwrap_or(6))),
        _ => return bad(verb, arg, WIDTH_MAX),
    };
    let plain = if matches!(verb, 'G' | 'E') { plain.to_uppercase().replace("INF", "Inf") } else { plain };
    let (negative, magnitude) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    // Go shows the sign of infinity always.
    let sign = if v == f64::INFINITY { "+".to_owned() } else { sign(negative, flags) };
    padded(format!("{sign}{magnitude}"), flags, v.is_finite())
}

fn text(verb: char, flags: &Flags, t: &str, arg: &Value) -> String {
    let cut = |t: &str| flags.precision.map_or_else(|| t.to_owned(), |p| t.chars().take(p).collect());
    let hex = |upper: bool| {
        let space = if flags.space { " " } else { "" };
        let byte = |b: u8| if upper { format!("{b:02X}") } else { format!("{b:02x}") };
        t.bytes().map(byte).collect::<Vec<_>>().join(space)
    };
    let shown = match verb {
        's' | 'v' => cut(t),
        'q' if flags.sharp && !t.contains('`') => format!("`{}`", cut(t)),
        'q' => quoted(&cut(t), flags.plus),
        'x' => hex(false),
        'X' => hex(true),
        _ => return bad(verb, arg, WIDTH_MAX),
    };
    padded(shown, flags, false)
}

/// Go's `strconv.Quote`, or `QuoteToASCII`.
fn quoted(t: &str, ascii: bool) -> String {
    let mut out = String::from("\"");
    for c in t.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if ascii && c as u32 > 0xffff => out.push_str(&format!("\\U{:08x}", c as u32)),
            c if c.is_control() || (ascii && !c.is_ascii()) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn sign(negative: bool, flags: &Flags) -> String {
    match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    }
    .to_owned()
}

/// To the width: spaces, or zeros behind the sign.
fn padded(text: String, flags: &Flags, zeros: bool) -> String {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if flags.minus {
        return text + &" ".repeat(missing);
    }
    if flags.zero && zeros {
        let signed = usize::from(text.starts_with(['+', '-', ' ']));
        return format!("{}{}{}", &text[..signed], "0".repeat(missing), &text[signed..]);
    }
    " ".repeat(missing) + &text
}

/// The verb does not fit the argument.
fn bad(verb: char, arg: &Value, bytes_max: usize) -> String {
    format!("%!{verb}({}={})", arg.type_name(), arg.printed(bytes_max))
}
