//! Metric and label names as Prometheus' OTLP receiver makes them (strategy `UnderscoreEscapingWithSuffixes`),
//! so that rules and dashboards written for Prometheus find the same series here.
//!
//! Source: github.com/prometheus/otlptranslator, `metric_namer.go`, `unit_namer.go`, `label_namer.go`.

/// What the name depends on besides itself and the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suffix {
    /// Monotonic sums end in `_total`.
    Total,
    /// Gauges of unit `1` end in `_ratio`.
    Ratio,
    None,
}

/// `http.server.request.duration`, `s` → `http_server_request_duration_seconds`. `None` if nothing is left of it.
pub(crate) fn metric_name(name: &str, unit: &str, suffix: Suffix) -> Option<String> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut tokens: Vec<&str> = name.split(|c| !is_valid(c)).filter(|t| !t.is_empty()).collect();
    let (main, per) = unit_suffixes(unit);
    if !main.is_empty() && !tokens.contains(&main.as_str()) {
        tokens.push(&main);
    }
    if !per.is_empty() && !tokens.contains(&per.as_str()) {
        tokens.push(&per);
    }
    let ending = match suffix {
        Suffix::Total => Some("total"),
        Suffix::Ratio if unit == "1" => Some("ratio"),
        Suffix::Ratio | Suffix::None => None,
    };
    if let Some(ending) = ending {
        tokens.retain(|t| *t != ending);
        tokens.push(ending);
    }
    let joined = tokens.join("_");
    match joined.bytes().next() {
        None => None,
        Some(first) if first.is_ascii_digit() => Some(format!("_{joined}")),
        Some(_) => Some(joined),
    }
}

/// The unit as Prometheus' metadata shows it: `By/s` → `bytes_per_second`, `1` → ``.
pub(crate) fn unit_name(unit: &str) -> String {
    match unit_suffixes(unit) {
        (main, per) if main.is_empty() => per,
        (main, per) if per.is_empty() => main,
        (main, per) => format!("{main}_{per}"),
    }
}

/// `(main, per_...)`, each possibly empty. Annotations in braces are not units.
fn unit_suffixes(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let is_unit = |s: &str| !s.is_empty() && !s.contains(['{', '}']);
    let (main, per) = (main.trim(), per.trim());
    let main = if is_unit(main) { clean_unit(main_unit(main)) } else { String::new() };
    let per = if is_unit(per) { clean_unit(per_unit(per)) } else { String::new() };
    (main, if per.is_empty() { per } else { format!("per_{per}") })
}

/// Anything but letters, digits and colons becomes one underscore; none is left at the ends.
fn clean_unit(unit: &str) -> String {
    let parts: Vec<&str> = unit
        .split(|c: char| !c.is_ascii_alphanumeric() && c != ':')
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("_")
}

fn main_unit(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        // The misspelling is Prometheus', and names must agree with its.
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_unit(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// `http.route` → `http_route`. `None` if no letter or digit is left.
///
/// Unlike Prometheus, a name that begins with two underscores is not kept: those belong to Davy.
pub(crate) fn label_name(key: &str) -> Option<String> {
    let mut name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if !name.contains(|c| c != '_') {
        return None;
    }
    match name.as_bytes()[0] {
        b'0'..=b'9' => name.insert_str(0, "key_"),
        b'_' => name.insert_str(0, "key"),
        _ => {}
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected names are those of otlptranslator's own table, `metric_namer_test.go`.
    #[test]
    fn metric_names_agree_with_prometheus() {
        for (name, unit, suffix, want) in [
            ("requests", "", Suffix::Total, "requests_total"),
            ("requests_total", "", Suffix::Total, "requests_total"),
            ("total.requests", "", Suffix::Total, "requests_total"),
            ("items", "1", Suffix::Total, "items_total"),
            ("cpu_usage", "1", Suffix::Ratio, "cpu_usage_ratio"),
            ("cpu_usage_ratio", "1", Suffix::Ratio, "cpu_usage_ratio"),
            ("response_time", "ms", Suffix::Ratio, "response_time_milliseconds"),
            ("response_time_seconds", "s", Suffix::Ratio, "response_time_seconds"),
            ("memory_usage", "By", Suffix::Ratio, "memory_usage_bytes"),
            ("requests", "1/s", Suffix::Ratio, "requests_per_second"),
            ("requests", "1/s", Suffix::Total, "requests_per_second_total"),
            ("throughput", "By/s", Suffix::Ratio, "throughput_bytes_per_second"),
            ("custom_metric", "custom_unit", Suffix::Ratio, "custom_metric_custom_unit"),
            ("custom_metric", "{custom}", Suffix::Ratio, "custom_metric"),
            ("custom_metric", "By/{custom}", Suffix::Ratio, "custom_metric_bytes"),
            (
                "metric__with__multiple__underscores",
                "unit__multiple__underscores",
                Suffix::Ratio,
                "metric_with_multiple_underscores_unit_multiple_underscores",
            ),
            (
                "custom_metric",
                "unit@with#special/chars",
                Suffix::Ratio,
                "custom_metric_unit_with_special_per_chars",
            ),
            ("http.server.request.duration", "s", Suffix::None, "http_server_request_duration_seconds"),
            ("active_connections", "1", Suffix::None, "active_connections"),
            ("123metric", "", Suffix::None, "_123metric"),
            ("uptime", "d", Suffix::Ratio, "uptime_days"),
        ] {
            assert_eq!(metric_name(name, unit, suffix).as_deref(), Some(want), "{name} {unit}");
        }
        assert_eq!(metric_name("@#$%", "", Suffix::Ratio), None);
        assert_eq!(metric_name("", "", Suffix::None), None);
    }

    #[test]
    fn label_names_agree_with_prometheus_but_leave_double_underscores_to_us() {
        for (key, want) in [
            ("label:with:colons", Some("label_with_colons")),
            ("label.with.dots", Some("label_with_dots")),
            ("label!with&special$chars)", Some("label_with_special_chars_")),
            ("label_字符", Some("label___")),
            ("123label", Some("key_123label")),
            ("_private", Some("key_private")),
            ("__name__", Some("key__name__")),
            ("ようこそ", None),
            ("", None),
        ] {
            assert_eq!(label_name(key).as_deref(), want, "{key}");
        }
    }

    #[test]
    fn units_are_spelled_out() {
        assert_eq!(unit_name("By/s"), "bytes_per_second");
        assert_eq!(unit_name("1"), "");
        assert_eq!(unit_name("1/s"), "per_second");
        assert_eq!(unit_name("{request}"), "");
    }
}
