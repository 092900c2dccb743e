//! What the metrics say of dynamic thresholds: the series, its band, and whether it is outside.

use davy_api::wire;

use super::families::{Pairs, Point};

pub(super) const TABLE: &[(&str, &str)] = &[
    ("threshold_value", "Newest value of a watched series"),
    ("threshold_lower", "Lower end of a series' band"),
    ("threshold_expected", "Value that a series' past lets expect"),
    ("threshold_upper", "Upper end of a series' band"),
    ("threshold_score", "How far outside its band a series is"),
    ("threshold_anomaly", "1 while a series is outside its band for longer than it may"),
    ("threshold_anomaly_since_timestamp_ms", "When the series left its band"),
    ("threshold_series", "Series that a threshold watches"),
];

/// Series shown of all thresholds together; those outside their band go first. [`wire::Watched`] has them all.
const SERIES_MAX: usize = 1_000;
/// A label's text is cut here: a series with very many labels must not fail the whole exposition.
const SERIES_CHARS_MAX: usize = 400;

pub(super) fn points(watched: &[wire::Watched]) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let mut counts: std::collections::BTreeMap<&str, u64> = Default::default();
    for w in watched {
        *counts.entry(&w.threshold).or_default() += 1;
    }
    let count = |(threshold, n): (&str, u64)| ("threshold_series", of(threshold, None), n as f64);
    points.extend(counts.into_iter().map(count));
    let (outside, inside): (Vec<_>, Vec<_>) = watched.iter().partition(|w| w.anomaly_since.is_some());
    for w in outside.into_iter().chain(inside).take(SERIES_MAX) {
        let labels = of(&w.threshold, Some(&w.series));
        let anomaly = if w.anomaly_since.is_some() { 1.0 } else { 0.0 };
        let since = w.anomaly_since.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let values = [
            ("threshold_value", w.value),
            ("threshold_lower", w.lower),
            ("threshold_expected", w.expected),
            ("threshold_upper", w.upper),
            ("threshold_score", w.score),
            ("threshold_anomaly", Some(anomaly)),
            ("threshold_anomaly_since_timestamp_ms", since.map(|at| at.as_millisecond() as f64)),
        ];
        points.extend(values.into_iter().filter_map(|(name, v)| Some((name, labels.clone(), v?))));
    }
    points
}

fn of(threshold: &str, series: Option<&str>) -> Pairs {
    let threshold = ("threshold", plain(threshold));
    std::iter::once(threshold).chain(series.map(|s| ("series", plain(s)))).collect()
}

/// `topic=orders` of `{topic="orders"}`: Grafana does not escape quotes of values that it puts into a query.
fn plain(text: &str) -> String {
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let cut: String = inner.chars().filter(|c| !matches!(c, '"' | '\\')).take(SERIES_CHARS_MAX).collect();
    // An empty label is no label.
    if cut.is_empty() { "all".to_owned() } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_outside_their_band_are_shown_before_others() {
        let watched = |i: usize| wire::Watched {
            threshold: "lag".into(),
            series: format!("{{n=\"{i}\"}}"),
            value: Some(1.0),
            lower: None,
            expected: None,
            upper: None,
            score: Some(0.0),
            anomaly_since: (i == 4_999).then(|| "1970-01-01T00:00:07.000Z".to_owned()),
        };
        let all: Vec<_> = (0..5_000).map(watched).collect();
        let points = points(&all);
        let of = |name: &str| points.iter().filter(|p| p.0 == name).cloned().collect::<Vec<_>>();
        assert_eq!(of("threshold_series"), [("threshold_series", of_threshold(), 5_000.0)]);
        assert_eq!(of("threshold_value").len(), SERIES_MAX);
        assert_eq!(of("threshold_anomaly")[0].1[1].1, "n=4999");
        assert_eq!(of("threshold_anomaly_since_timestamp_ms")[0].2, 7_000.0);
        assert!(of("threshold_upper").is_empty(), "a series that is being learned has no band");
    }

    #[test]
    fn series_are_named_without_quotes() {
        let name = |series| of("t", Some(series))[1].1.clone();
        assert_eq!(name(r#"{topic="orders", q="a\"b"}"#), "topic=orders, q=ab");
        assert_eq!(name(r#"lag{topic="orders"}"#), "lag{topic=orders}");
        assert_eq!(name("{}"), "all");
    }

    fn of_threshold() -> Pairs {
        of("lag", None)
    }
}
