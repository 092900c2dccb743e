//! Numbers and units as people read them.

use super::row::Levels;

/// `errors 5.1 % against 0.1 % of the baseline (4,210 and 38,000 requests)`, with levels as `level` writes them, and
/// `more` behind the counts. In one piece of memory: every row of every step has one.
pub(crate) fn compared(
    name: &str,
    levels: &Levels,
    level: impl Fn(&mut String, f64),
    what: &str,
    more: &str,
) -> String {
    let mut out = String::with_capacity(128);
    put_name(&mut out, name);
    out.push(' ');
    level(&mut out, levels.canary);
    out.push_str(" against ");
    level(&mut out, levels.baseline);
    out.push_str(" of the baseline (");
    put_count(&mut out, levels.canary_n);
    out.push_str(" and ");
    put_counted(&mut out, levels.baseline_n, what);
    out.push_str(more);
    out.push(')');
    out
}

/// A name as it stands in a sentence.
pub(crate) fn put_name(out: &mut String, name: &str) {
    for (i, word) in name.split('_').enumerate() {
        if i > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}

/// `4,210`.
pub(crate) fn count(n: f64) -> String {
    text(|out| put_count(out, n))
}

/// `1 request`, `4,210 requests`.
pub(crate) fn counted(n: f64, what: &str) -> String {
    text(|out| put_counted(out, n, what))
}

/// Two significant digits: `5.1`, `0.012`, `480`.
pub(crate) fn number(v: f64) -> String {
    text(|out| put_number(out, v))
}

fn text(put: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    put(&mut out);
    out
}

pub(crate) fn put_count(out: &mut String, n: f64) {
    put_digits(out, n.clamp(0.0, 1e15).round_ties_even() as u64, true);
}

fn put_counted(out: &mut String, n: f64, what: &str) {
    put_count(out, n);
    out.push(' ');
    out.push_str(what);
    if n.round() != 1.0 {
        out.push('s');
    }
}

fn put_digits(out: &mut String, mut n: u64, commas: bool) {
    let mut digits = [0u8; 27];
    let (mut at, mut written) = (digits.len(), 0);
    loop {
        if commas && written > 0 && written % 3 == 0 {
            at -= 1;
            digits[at] = b',';
        }
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        written += 1;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
}

pub(crate) fn put_number(out: &mut String, v: f64) {
    if !v.is_finite() {
        out.push('?');
        return;
    }
    if v == 0.0 {
        out.push('0');
        return;
    }
    let magnitude = v.abs().log10().floor() as i32;
    if !(-9..15).contains(&magnitude) {
        out.push_str(&format!("{v:.1e}"));
        return;
    }
    let decimals = usize::try_from(1 - magnitude).unwrap_or(0);
    if put_rounded(out, v, decimals) {
        return;
    }
    let text = format!("{v:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    out.push_str(text);
}

/// The same by whole numbers, because the formatter's exact digits of floats are a tenth of what a step of the judge
/// costs; false, and nothing is written, so near a tie that they matter.
fn put_rounded(out: &mut String, v: f64, decimals: usize) -> bool {
    let Some(places) = u32::try_from(decimals).ok().filter(|d| *d <= 10) else { return false };
    let unit = 10u64.pow(places);
    let scaled = v.abs() * unit as f64;
    if (scaled.fract() - 0.5).abs() < 1e-6 || scaled >= 1e15 {
        return false;
    }
    let digits = scaled.round() as u64;
    if v < 0.0 {
        out.push('-');
    }
    put_digits(out, digits / unit, false);
    let (mut rest, mut place) = (digits % unit, unit / 10);
    if rest > 0 {
        out.push('.');
    }
    while rest > 0 {
        out.push(char::from(b'0' + u8::try_from(rest / place).expect("a digit is below ten")));
        rest %= place;
        place /= 10;
    }
    true
}

/// `5.1 %`.
pub(crate) fn put_percent(out: &mut String, share: f64) {
    put_number(out, share * 100.0);
    out.push_str(" %");
}

/// `120 ms`, `1.5 s`.
pub(crate) fn put_seconds(out: &mut String, s: f64) {
    let (scale, unit) = match s.abs() {
        a if a < 1e-3 => (1e6, " µs"),
        a if a < 1.0 => (1e3, " ms"),
        _ => (1.0, " s"),
    };
    put_number(out, s * scale);
    out.push_str(unit);
}

/// `512 MiB`.
pub(crate) fn put_bytes(out: &mut String, b: f64) {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut v = b;
    let mut unit = 0;
    while v.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        v /= 1024.0;
        unit += 1;
    }
    if v.abs() < 100.0 || v.is_nan() {
        put_number(out, v);
    } else if !put_rounded(out, v, 0) {
        out.push_str(&format!("{v:.0}"));
    }
    out.push(' ');
    out.push_str(UNITS[unit]);
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
        assert_eq!(
            [0.0512, 0.001, 0.0, 0.5, 1.0].map(|v| text(|out| put_percent(out, v))),
            ["5.1 %", "0.1 %", "0 %", "50 %", "100 %"]
        );
        assert_eq!(
            [0.00012, 0.0123, 0.12, 1.5].map(|v| text(|out| put_seconds(out, v))),
            ["120 µs", "12 ms", "120 ms", "1.5 s"]
        );
        assert_eq!(
            [512.0, 1536.0, 536_870_912.0].map(|v| text(|out| put_bytes(out, v))),
            ["512 B", "1.5 KiB", "512 MiB"]
        );
        assert_eq!([12.0, 720.0, 10_800.0, 1e6].map(duration), ["12 s", "12 min", "3 h", "12 days"]);
        assert_eq!(number(f64::NAN), "?");
        // As the formatter has it, everywhere but where both are asked.
        for i in 1..20_000 {
            let v = f64::from(i).powi(3) * 1.37e-9;
            for decimals in 0..8 {
                let exact = format!("{v:.decimals$}");
                let exact = exact.trim_end_matches('0').trim_end_matches('.');
                let exact = if decimals == 0 { format!("{v:.0}") } else { exact.to_owned() };
                let mut got = String::new();
                assert!(!put_rounded(&mut got, v, decimals) || got == exact, "{v}: {got}, not {exact}");
            }
        }
        assert_eq!(counted(1.0, "request"), "1 request");
    }
}
