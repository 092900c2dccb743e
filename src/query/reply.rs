//! What a server that answers as Prometheus sends, and how it becomes rows and lines.

use serde::Deserialize;

use crate::terminal::{Line, Metric};

/// Buckets of a histogram that a row shows.
const BUCKETS_MAX: usize = 8;

#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    pub(super) data: Data,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum Data {
    Scalar((f64, String)),
    String((f64, String)),
    Vector(Vec<Sample>),
    Matrix(Vec<Series>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Sample {
    metric: Metric,
    value: Option<(f64, String)>,
    histogram: Option<(f64, Histogram)>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Series {
    metric: Metric,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, Histogram)>,
}

#[derive(Debug, Deserialize)]
struct Histogram {
    count: String,
    sum: String,
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

impl Reply {
    pub(super) fn notes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let warnings = self.warnings.iter().map(|w| ("warning", w.as_str()));
        warnings.chain(self.infos.iter().map(|i| ("info", i.as_str())))
    }
}

impl Sample {
    pub(super) fn row(self) -> (Metric, String) {
        let shown = match (self.value, self.histogram) {
            (Some((_, v)), _) => v,
            (None, Some((_, h))) => h.text(),
            (None, None) => "–".to_owned(),
        };
        (self.metric, shown)
    }
}

impl Series {
    /// Of histograms, the number of observations.
    pub(super) fn line(self) -> Line {
        let floats = self.values.into_iter();
        let all = floats.chain(self.histograms.into_iter().map(|(t, h)| (t, h.count)));
        let mut points: Vec<(f64, f64)> = all.map(|(t, v)| (t, v.parse().unwrap_or(f64::NAN))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { metric: self.metric, points }
    }
}

impl Histogram {
    /// `count 3  sum 4.1  (0.5, 1]: 3`.
    fn text(&self) -> String {
        let bucket = |(rule, lower, upper, count): &(u8, String, String, String)| {
            let open = if matches!(rule, 1 | 3) { '[' } else { '(' };
            let close = if matches!(rule, 0 | 3) { ']' } else { ')' };
            format!("  {open}{lower}, {upper}{close}: {count}")
        };
        let shown: String = self.buckets.iter().take(BUCKETS_MAX).map(bucket).collect();
        let more = if self.buckets.len() > BUCKETS_MAX { "  …" } else { "" };
        format!("count {}  sum {}{shown}{more}", self.count, self.sum)
    }
}
