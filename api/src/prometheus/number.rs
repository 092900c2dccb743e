//! Numbers and texts as Prometheus' JSON has them: values as Go prints them, in quotes; times as decimals.

use davy_model::Timestamp;

/// From here on, and below [`SMALL`], Go writes an exponent.
const LARGE: f64 = 1e21;
const SMALL: f64 = 1e-6;
/// Whole numbers below are exact in a float and print as integers.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// `strconv.FormatFloat(v, 'f', -1, 64)`, or `'e'` where it would be long.
pub(super) fn float(out: &mut Vec<u8>, v: f64) {
    let abs = v.abs();
    if v.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if v.is_infinite() {
        out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if v == 0.0 {
        out.extend_from_slice(if v.is_sign_negative() { b"-0" } else { b"0" });
    } else if !(SMALL..LARGE).contains(&abs) {
        exponent(out, v);
    } else if abs < WHOLE_MAX && v.fract() == 0.0 {
        out.extend_from_slice(itoa::Buffer::new().format(v as i64).as_bytes());
    } else {
        decimal(out, v);
    }
}

/// In quotes.
pub(super) fn quoted_float(out: &mut Vec<u8>, v: f64) {
    out.push(b'"');
    float(out, v);
    out.push(b'"');
}

/// The fewest digits that read back, without an exponent.
fn decimal(out: &mut Vec<u8>, v: f64) {
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(v);
    let shortest = shortest.strip_suffix(".0").unwrap_or(shortest);
    if shortest.contains('e') {
        out.extend_from_slice(v.to_string().as_bytes());
    } else {
        out.extend_from_slice(shortest.as_bytes());
    }
}

/// `strconv.FormatFloat(v, 'e', -1, 64)`, as values of alerts are written.
pub(crate) fn exponent_text(v: f64) -> String {
    let mut out = Vec::new();
    if v.is_finite() {
        exponent(&mut out, v);
    } else {
        float(&mut out, v);
    }
    String::from_utf8(out).expect("numbers are written in ASCII")
}

/// `1e+21`, `2.5e-07`: Go signs an exponent and gives it two digits.
fn exponent(out: &mut Vec<u8>, v: f64) {
    let text = format!("{v:e}");
    let (digits, exponent) = text.split_once('e').expect("`{:e}` writes an exponent");
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    out.extend_from_slice(format!("{digits}e{sign}{exponent:0>2}").as_bytes());
}

/// Seconds with up to three decimals: `1435781451.781`.
pub(super) fn time(out: &mut Vec<u8>, t: Timestamp) {
    let millis = t.as_millis();
    if millis < 0 {
        out.push(b'-');
    }
    let abs = millis.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(abs / 1000).as_bytes());
    let fraction = abs % 1000;
    if fraction != 0 {
        let digits = [fraction / 100, fraction / 10 % 10, fraction % 10].map(|d| b'0' + d as u8);
        out.push(b'.');
        out.extend_from_slice(&digits);
    }
}

/// A JSON string.
pub(super) fn text(out: &mut Vec<u8>, s: &str) {
    serde_json::to_writer(out, s).expect("text written to memory is JSON");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(v: f64) -> String {
        let mut out = Vec::new();
        float(&mut out, v);
        String::from_utf8(out).unwrap()
    }

    /// What Go 1.24 prints by the rule of Prometheus' `jsonutil.MarshalFloat`.
    #[test]
    fn floats_print_as_go_prints_them() {
        for (v, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-15.5, "-15.5"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (9.99e-7, "9.99e-07"),
            (1.5e-300, "1.5e-300"),
            (f64::MIN_POSITIVE / 4.0, "5.562684646268003e-309"),
            (123456789.125, "123456789.125"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e17, "100000000000000000"),
            (1e20, "100000000000000000000"),
            (123456789012345680000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (-2.5e21, "-2.5e+21"),
            (f64::MAX, "1.7976931348623157e+308"),
            (0.000012345, "0.000012345"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(shown(v), want);
        }
    }

    #[test]
    fn times_have_at_most_three_decimals() {
        let check = |millis, want: &str| {
            let mut out = Vec::new();
            time(&mut out, Timestamp::from_millis(millis));
            assert_eq!(String::from_utf8(out).unwrap(), want);
        };
        check(0, "0");
        check(1_435_781_451_781, "1435781451.781");
        check(1_010, "1.010");
        check(1_001, "1.001");
        check(-1_500, "-1.500");
        check(-20, "-0.020");
        check(i64::MIN, "-9223372036854775.808");
        check(i64::MAX, "9223372036854775.807");
    }

    proptest! {
        #[test]
        fn floats_read_back(bits: u64) {
            let v = f64::from_bits(bits);
            let back: f64 = shown(v).parse().unwrap();
            prop_assert!(back.to_bits() == v.to_bits() || (back.is_nan() && v.is_nan()));
        }

        /// Shortest digits are unique, so Rust's own printing is the reference.
        #[test]
        fn no_digit_is_too_many(v in -1e20f64..1e20) {
            prop_assume!(v.abs() >= SMALL);
            prop_assert_eq!(shown(v), v.to_string());
        }
    }
}
