//! Numbers of an exposition: the short ones that fill it by hand, the rest by the standard library.

/// Digits that fit into the 53 bits of a float's mantissa.
const EXACT_DIGITS: usize = 15;
/// A float holds these exactly, and more than [`EXACT_DIGITS`] of them are never asked for.
const POWERS_OF_TEN: [f64; EXACT_DIGITS + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Decimal floats, `+Inf`, `-Inf` and `NaN` in any case. Every NaN comes out as the same one, so that no target can
/// send the staleness marker.
pub(super) fn float(token: &str) -> Option<f64> {
    if let Some(v) = short(token.as_bytes()) {
        return Some(v);
    }
    let v: f64 = token.parse().ok()?;
    Some(if v.is_nan() { f64::NAN } else { v })
}

/// `digits` or `digits.digits`: mantissa and power of ten are both exact, so one division rounds correctly
/// (Clinger 1990, "How to read floating point numbers accurately", the fast path).
fn short(token: &[u8]) -> Option<f64> {
    if token.len() > EXACT_DIGITS + 1 {
        return None;
    }
    let (mut mantissa, mut digits, mut point) = (0u64, 0, None);
    for &b in token {
        match b {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + u64::from(b - b'0');
                digits += 1;
            }
            b'.' if point.is_none() => point = Some(digits),
            _ => return None,
        }
    }
    if digits == 0 || digits > EXACT_DIGITS {
        return None;
    }
    let fraction = point.map_or(0, |p| digits - p);
    Some(if fraction == 0 { mantissa as f64 } else { mantissa as f64 / POWERS_OF_TEN[fraction] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn special_values_in_any_case() {
        for (token, want) in [("+Inf", f64::INFINITY), ("-Inf", f64::NEG_INFINITY), ("inf", f64::INFINITY)] {
            assert_eq!(float(token), Some(want));
        }
        for nan in ["NaN", "nan", "NAN"] {
            assert_eq!(float(nan).unwrap().to_bits(), f64::NAN.to_bits());
        }
    }

    #[test]
    fn what_is_not_a_decimal_number_is_refused() {
        for bad in ["", ".", "-", "1_000", "0x1p4", "1,5", "1e", "12a", "--1", "1.2.3"] {
            assert_eq!(float(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn short_numbers_round_as_the_standard_library_does(token in "[0-9]{0,9}\\.?[0-9]{0,9}") {
            prop_assert_eq!(float(&token), token.parse().ok());
        }
    }
}
