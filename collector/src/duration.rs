//! Durations as Prometheus writes them: `15s`, `1m30s`, `250ms`.

use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// `None` unless every part is a whole number with a unit, largest unit first.
pub fn parse(s: &str) -> Option<Duration> {
    let (mut rest, mut millis, mut units) = (s, 0u64, UNITS.as_slice());
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = units.iter().position(|(name, _)| *name == &rest[..letters])?;
        millis = millis.checked_add(number.checked_mul(units[unit].1)?)?;
        (rest, units) = (&rest[letters..], &units[unit + 1..]);
    }
    (!s.is_empty()).then(|| Duration::from_millis(millis))
}

pub fn format(d: Duration) -> String {
    let mut millis = u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    // Years and weeks only where nothing is left over, as Prometheus does: 40d is not 5w5d.
    for (unit, size) in UNITS {
        let whole = !matches!(unit, "y" | "w") || millis % size == 0;
        if whole && millis >= size {
            out += &format!("{}{unit}", millis / size);
            millis %= size;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back() {
        for s in ["0s", "15s", "1m30s", "250ms", "1h", "2d", "3w", "1y", "40d1h", "1s5ms"] {
            assert_eq!(parse(s).map(format).as_deref(), Some(s));
        }
        assert_eq!(parse("90s"), Some(Duration::from_secs(90)));
    }

    #[test]
    fn malformed_durations_are_refused() {
        for s in
            ["", "15", "s", "1s1m", "1s1s", "-1s", "1.5s", "99999999999999999999s", "99999999999999y", "1ü"]
        {
            assert_eq!(parse(s), None, "{s}");
        }
    }
}
