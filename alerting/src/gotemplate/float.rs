//! Floating point as Go's `strconv` writes it: `%g`, `%e` and `%f`, which Rust's formats are not.

/// `%g`: the shortest digits that read back the same, or `precision` of them; exponents where they are large.
pub(crate) fn general(v: f64, precision: Option<usize>) -> String {
    if let Some(text) = not_finite(v) {
        return text;
    }
    let (negative, digits, exponent) = decimal(v, precision.map(|p| p.max(1)));
    // Go decides by the precision, or by six where the digits are as few as can be; but by twenty-one for %v of
    // whole numbers it does not: 1e+06 is what a template shows.
    let mut threshold = precision.map_or(6, |p| p.max(1));
    let point = exponent + 1;
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    if precision.is_some() && usize::try_from(count).is_ok_and(|n| threshold > n) && count >= point {
        threshold = digits.len();
    }
    let sign = if negative { "-" } else { "" };
    if exponent < -4 || exponent >= i32::try_from(threshold).unwrap_or(i32::MAX) {
        return format!("{sign}{}", scientific_digits(&digits, digits.len() - 1, exponent));
    }
    format!("{sign}{}", plain_digits(&digits, point))
}

/// `%e` with so many digits behind the point; the shortest if not said.
pub(crate) fn scientific(v: f64, precision: Option<usize>) -> String {
    if let Some(text) = not_finite(v) {
        return text;
    }
    let (negative, digits, exponent) = decimal(v, precision.map(|p| p + 1));
    let places = precision.unwrap_or(digits.len() - 1);
    format!("{}{}", if negative { "-" } else { "" }, scientific_digits(&digits, places, exponent))
}

/// `%f`; the shortest if not said.
pub(crate) fn fixed(v: f64, precision: Option<usize>) -> String {
    if let Some(text) = not_finite(v) {
        return text;
    }
    match precision {
        Some(p) => format!("{v:.p$}"),
        None => v.to_string(),
    }
}

fn not_finite(v: f64) -> Option<String> {
    match v {
        v if v.is_nan() => Some("NaN".to_owned()),
        f64::INFINITY => Some("+Inf".to_owned()),
        f64::NEG_INFINITY => Some("-Inf".to_owned()),
        _ => None,
    }
}

/// Sign, digits without zeros at the end, and the exponent of the first.
fn decimal(v: f64, digits: Option<usize>) -> (bool, String, i32) {
    let text = match digits {
        Some(n) => format!("{:.*e}", n.saturating_sub(1), v.abs()),
        None => format!("{:e}", v.abs()),
    };
    let (mantissa, exponent) = text.split_once('e').expect("the format writes an exponent");
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let trimmed = digits.trim_end_matches('0');
    let digits = if trimmed.is_empty() { "0" } else { trimmed };
    (v.is_sign_negative(), digits.to_owned(), exponent.parse().expect("the format writes a number"))
}

fn scientific_digits(digits: &str, places: usize, exponent: i32) -> String {
    let (first, rest) = digits.split_at(1);
    let point = if places > 0 { "." } else { "" };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest:0<places$}e{sign}{:02}", exponent.abs())
}

fn plain_digits(digits: &str, point: i32) -> String {
    match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{digits:0<point$}"),
        Ok(point) if point > 0 => format!("{}.{}", &digits[..point], &digits[point..]),
        _ => format!("0.{}{digits}", "0".repeat(usize::try_from(-point).unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_go() {
        let g = |v| general(v, None);
        for (v, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (100_000.0, "100000"),
            (123_456.0, "123456"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.1 + 0.2, "0.30000000000000004"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(g(v), want);
        }
    }

    #[test]
    fn four_digits_read_as_in_go() {
        let g = |v| general(v, Some(4));
        for (v, want) in [
            (1.234_567, "1.235"),
            (120.0, "120"),
            (999.95, "1000"),
            (12_345.0, "1.234e+04"),
            (100_000.0, "1e+05"),
            (0.12, "0.12"),
            (1.2345, "1.234"),
            (12.345, "12.35"),
            (123_456_700.0, "1.235e+08"),
            (0.0, "0"),
        ] {
            assert_eq!(g(v), want, "{v}");
        }
    }

    #[test]
    fn the_other_forms() {
        assert_eq!(scientific(1234.5, None), "1.2345e+03");
        assert_eq!(scientific(1234.5, Some(2)), "1.23e+03");
        assert_eq!(scientific(0.0, Some(6)), "0.000000e+00");
        assert_eq!(fixed(3720.01, Some(2)), "3720.01");
        assert_eq!(fixed(2.5, Some(0)), "2");
    }
}
