//! Numbers as people read them: three significant digits, units, a fixed width.

use std::time::Duration;

/// `1234567` → `1,234,567`.
pub fn count(n: f64) -> String {
    let digits = format!("{:.0}", n.max(0.0));
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `0.0512` → `5.12 %`.
pub fn share(v: Option<f64>) -> String {
    v.map_or_else(|| "–".into(), |v| format!("{} %", significant(v * 100.0)))
}

/// A relative difference: `0.5` → `+50 %`, `11` → `×12`.
pub fn relative(v: Option<f64>) -> String {
    match v {
        None => "–".into(),
        Some(v) if v >= 9.0 => format!("×{}", significant(v + 1.0)),
        Some(v) if v < 0.0 => format!("−{} %", significant(-v * 100.0)),
        Some(v) => format!("+{} %", significant(v * 100.0)),
    }
}

/// A level in the unit of its metric class.
pub fn level(class: &str, v: Option<f64>) -> String {
    let Some(v) = v else { return "–".into() };
    match class {
        "errors" | "proportion" => share(Some(v)),
        "latency" => seconds(v),
        "memory" => bytes(v),
        "cpu" if v.abs() < 0.1 => format!("{} mcpu", significant(v * 1e3)),
        _ => significant(v),
    }
}

fn seconds(v: f64) -> String {
    if v >= 1.0 { format!("{} s", significant(v)) } else { format!("{} ms", significant(v * 1e3)) }
}

fn bytes(v: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (v.abs().max(1.0).log2() / 10.0).floor().clamp(0.0, 4.0);
    format!("{} {}", significant(v / (step * 10.0).exp2()), units[step as usize])
}

/// Any number in a few characters: `0.0512`, `1.23 k`, `-4.5 G`.
pub fn number(v: f64) -> String {
    let units = ["", " k", " M", " G", " T", " P"];
    let abs = v.abs();
    if v.is_nan() {
        return "NaN".to_owned();
    } else if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    } else if abs >= 1e18 || (abs > 0.0 && abs < 1e-3) {
        return format!("{v:.2e}");
    }
    // What would round up to a thousand is one of the next unit.
    let step = (0..units.len()).find(|i| abs < 999.5 * 1e3f64.powi(*i as i32)).unwrap_or(units.len() - 1);
    let scaled = v / 1e3f64.powi(step as i32);
    let digits = significant(scaled);
    let short =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{short}{}", units[step])
}

/// Three significant digits without trailing noise.
fn significant(v: f64) -> String {
    let magnitude = if v == 0.0 { 0.0 } else { v.abs().log10().floor() };
    let decimals = (2.0 - magnitude).clamp(0.0, 4.0) as usize;
    if v.abs() >= 1e4 { count(v) } else { format!("{v:.decimals$}") }
}

/// `3m12s`, `1h05m`, `850ms`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => format!("{}ms", d.as_millis()),
        1..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `width` cells, filled up to `part` of one.
pub fn bar(part: f64, width: usize) -> String {
    let filled = (part.clamp(0.0, 1.0) * width as f64).round() as usize;
    "█".repeat(filled) + &"░".repeat(width - filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1_234_567.4), "1,234,567");
        assert_eq!(share(Some(0.0512)), "5.12 %");
        assert_eq!(share(Some(0.0)), "0.00 %");
        assert_eq!(relative(Some(0.5)), "+50.0 %");
        assert_eq!(relative(Some(-0.014)), "−1.40 %");
        assert_eq!(relative(Some(49.0)), "×50.0");
        assert_eq!(level("latency", Some(0.0123)), "12.3 ms");
        assert_eq!(level("memory", Some(1_610_612_736.0)), "1.50 GiB");
        assert_eq!(level("cpu", Some(0.0021)), "2.10 mcpu");
        assert_eq!(level("gauge", None), "–");
    }

    #[test]
    fn any_number_is_short() {
        for (v, want) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.05123, "0.0512"),
            (999.4, "999"),
            (999.9, "1 k"),
            (-1234.0, "-1.23 k"),
            (4_500_000_000.0, "4.5 G"),
            (1e-5, "1.00e-5"),
            (1e20, "1.00e20"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(v), want);
        }
    }

    #[test]
    fn durations_read_well() {
        let check = |ms, want: &str| assert_eq!(duration(Duration::from_millis(ms)), want);
        check(850, "850ms");
        check(59_000, "59s");
        check(192_000, "3m12s");
        check(3_900_000, "1h05m");
        check(90_000_000, "1d01h");
    }

    #[test]
    fn bars_stay_within_their_width() {
        assert_eq!(bar(0.4, 5), "██░░░");
        assert_eq!(bar(7.0, 3), "███");
        assert_eq!(bar(f64::NAN, 3), "░░░");
    }
}
