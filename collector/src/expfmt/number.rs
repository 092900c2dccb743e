//! Numbers of an exposition: the short ones that fill it by hand, the rest by the standard library.

/// Every whole number of so many digits is below 2^53, which a float's mantissa holds exactly.
const EXACT_DIGITS: u32 = 15;
/// A float holds these exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// For as many digits as are read at once.
const POWERS_OF_TEN_WHOLE: [u64; 9] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Decimal floats, `+Inf`, `-Inf` and `NaN` in any case. Every NaN comes out as the same one, so that no target can
/// send the staleness marker.
pub(super) fn float(token: &str) -> Option<f64> {
    match short(token.as_bytes()) {
        Some((value, len)) if len == token.len() => Some(value),
        _ => {
            let value: f64 = token.parse().ok()?;
            Some(if value.is_nan() { f64::NAN } else { value })
        }
    }
}

/// The number at the beginning of `text` and its length, if it is short: `digits`, `digits.digits`, or either with
/// an exponent as Go writes large counters (`1.234567e+06`). Mantissa and power of ten are both exact, so that one
/// multiplication or division rounds correctly (Clinger 1990, "How to read floating point numbers accurately", the
/// fast path). What follows it is the caller's to look at.
pub(super) fn short(text: &[u8]) -> Option<(f64, usize)> {
    let (mut mantissa, mut at) = (0u64, 0);
    let whole = digits(text, &mut at, &mut mantissa)?;
    let mut fraction = 0;
    if text.get(at) == Some(&b'.') {
        at += 1;
        fraction = digits(text, &mut at, &mut mantissa)?;
    }
    if whole + fraction == 0 || whole + fraction > EXACT_DIGITS {
        return None;
    }
    let mut power = -(fraction as i32);
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        let negative = text.get(at) == Some(&b'-');
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        let mut exponent = 0;
        if digits(text, &mut at, &mut exponent)? == 0 {
            return None;
        }
        let exponent = i32::try_from(exponent).ok()?;
        power += if negative { -exponent } else { exponent };
    }
    let scale = *POWERS_OF_TEN.get(power.unsigned_abs() as usize)?;
    let mantissa = mantissa as f64;
    Some((if power < 0 { mantissa / scale } else { mantissa * scale }, at))
}

/// Takes digits into `number`, and counts them; more than fit are none.
fn digits(text: &[u8], at: &mut usize, number: &mut u64) -> Option<u32> {
    let mut count = 0;
    loop {
        let (run, len) = leading_digits(word(&text[*at..]));
        *number = number.wrapping_mul(POWERS_OF_TEN_WHOLE[len as usize]).wrapping_add(run);
        *at += len as usize;
        count += len;
        if len < 8 {
            return Some(count);
        }
        if count > EXACT_DIGITS {
            return None;
        }
    }
}

/// The next eight bytes, the first one lowest; zeros after the end.
fn word(text: &[u8]) -> u64 {
    if let Some(eight) = text.first_chunk() {
        return u64::from_le_bytes(*eight);
    }
    let mut eight = [0; 8];
    eight[..text.len()].copy_from_slice(text);
    u64::from_le_bytes(eight)
}

/// The number that the digits at the beginning of eight bytes make, and how many they are. All at once: digits of
/// different lengths are what the processor guesses wrong (Lemire 2018, "Quickly parsing eight digits").
fn leading_digits(word: u64) -> (u64, u32) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let values = word ^ (b'0' as u64 * ONES);
    // A byte is a digit if it is below ten: adding six does not reach its high half.
    let others = (values | values.wrapping_add(6 * ONES)) & (0xf0 * ONES);
    let len = others.trailing_zeros() / 8;
    // Zeros before the digits instead of what follows them.
    let values = if len == 0 { 0 } else { values << (64 - 8 * len) };
    let pairs = (values * 10 + (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    ((fours * 10_000 + (fours >> 32)) & 0xffff_ffff, len)
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

    #[test]
    fn a_short_number_ends_where_its_digits_do() {
        for (text, want) in [
            ("12 1700000000000\n", Some((12.0, 2))),
            ("1.5\n", Some((1.5, 3))),
            ("1.234567e+06\n", Some((1_234_567.0, 12))),
            ("2e-3 # {}", Some((0.002, 4))),
            ("1e", None),
            ("1e+", None),
            (".", None),
            ("-1", None),
            ("1234567890123456", None),
            ("1e23", None),
            ("1e99999999999999999999", None),
        ] {
            assert_eq!(short(text.as_bytes()), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn exponents_round_as_the_standard_library_does(token in "[0-9]{0,9}\\.?[0-9]{0,9}[eE][+-]?[0-9]{0,3}") {
            prop_assert_eq!(float(&token).map(f64::to_bits), token.parse().ok().map(f64::to_bits));
        }

        #[test]
        fn short_numbers_round_as_the_standard_library_does(token in "[0-9]{0,9}\\.?[0-9]{0,9}") {
            prop_assert_eq!(float(&token), token.parse().ok());
        }
    }
}
