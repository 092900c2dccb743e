//! Numbers as people read them: Prometheus' `humanize` family, digit for digit.

use super::{CallError, Value, float};

/// Nanoseconds of an instant must fit in 63 bits.
const NANOS_MAX: f64 = 9_223_372_036_854_775_807.0;

/// A number, or a text that is one.
pub(crate) fn to_float(v: &Value) -> Result<f64, CallError> {
    match v {
        Value::Float(v) => Ok(*v),
        Value::Int(v) => Ok(*v as f64),
        Value::Uint(v) => Ok(*v as f64),
        Value::Text(t) => parse_float(t)
            .ok_or_else(|| CallError::failed(format!("strconv.ParseFloat: parsing {t:?}: invalid syntax"))),
        other => Err(CallError::failed(format!("can't convert {} to float", other.type_name()))),
    }
}

/// As Go's `strconv.ParseFloat`, but for hexadecimal and underscores.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned.to_ascii_lowercase().as_str() {
        "nan" | "inf" | "infinity" => text.parse().ok(),
        _ if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok(),
        _ => None,
    }
}

fn four(v: f64) -> String {
    float::general(v, Some(4))
}

pub(crate) fn humanize(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return four(v);
    }
    if v.abs() >= 1.0 {
        let (v, prefix) = scaled(v, &["k", "M", "G", "T", "P", "E", "Z", "Y"], |v| v.abs() < 1000.0, 1e-3);
        return four(v) + prefix;
    }
    let (v, prefix) = small(v);
    four(v) + prefix
}

pub(crate) fn humanize_1024(v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return four(v);
    }
    let prefixes = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
    let (v, prefix) = scaled(v, &prefixes, |v| v.abs() < 1024.0, 1.0 / 1024.0);
    four(v) + prefix
}

pub(crate) fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return four(v);
    }
    if v == 0.0 {
        return four(v) + "s";
    }
    if v.abs() < 1.0 {
        let (v, prefix) = small(v);
        return format!("{}{prefix}s", four(v));
    }
    let sign = if v < 0.0 { "-" } else { "" };
    let whole = v.abs() as u64;
    let (s, m, h, d) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    match (d, h, m) {
        (0, 0, 0) => format!("{sign}{}s", four(v.abs())),
        (0, 0, _) => format!("{sign}{m}m {s}s"),
        (0, _, _) => format!("{sign}{h}h {m}m {s}s"),
        _ => format!("{sign}{d}d {h}h {m}m {s}s"),
    }
}

pub(crate) fn humanize_percentage(v: f64) -> String {
    four(v * 100.0) + "%"
}

pub(crate) fn humanize_timestamp(v: f64) -> Result<Value, CallError> {
    if v.is_finite() { to_time(v) } else { Ok(Value::from(four(v))) }
}

/// Seconds since the epoch to an instant.
pub(crate) fn to_time(v: f64) -> Result<Value, CallError> {
    if !v.is_finite() {
        return Err(CallError::failed("value is NaN or Inf"));
    }
    let nanos = v * 1e9;
    if nanos.abs() > NANOS_MAX {
        let v = float::general(v, None);
        let text = format!("{v} cannot be represented as a nanoseconds timestamp since it overflows int64");
        return Err(CallError::failed(text));
    }
    // As Prometheus: to the millisecond.
    let millis = (nanos as i64).div_euclid(1_000_000);
    let at = jiff::Timestamp::from_millisecond(millis).map_err(|e| CallError::failed(e.to_string()))?;
    Ok(Value::Time(at))
}

fn small(v: f64) -> (f64, &'static str) {
    scaled(v, &["m", "u", "n", "p", "f", "a", "z", "y"], |v| v.abs() >= 1.0, 1e3)
}

/// Multiplied until it is of the size that reads well, with the prefix for that.
fn scaled(
    mut v: f64,
    prefixes: &[&'static str],
    reads_well: impl Fn(f64) -> bool,
    factor: f64,
) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if reads_well(v) {
            break;
        }
        prefix = next;
        // Dividing by a thousand is exact where multiplying by a thousandth is not.
        v = if factor < 1.0 { v / (1.0 / factor) } else { v * factor };
    }
    (v, prefix)
}
