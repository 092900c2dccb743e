//! Answers of Prometheus' query API, as they stand on the wire.

use std::collections::BTreeMap;

use davy_model::{Labels, Timestamp};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<T> {
    pub(super) data: Option<T>,
    pub(super) error: Option<String>,
    /// Thanos and Mimir say here that a part is missing...
    #[serde(default)]
    pub(super) warnings: Vec<String>,
    /// ...and VictoriaMetrics' cluster here.
    #[serde(default)]
    pub(super) is_partial: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Result_ {
    pub(super) result_type: String,
    pub(super) result: Vec<Series>,
}

#[derive(Deserialize)]
pub(super) struct Series {
    pub(super) metric: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) values: Vec<(f64, String)>,
    #[serde(default)]
    pub(super) value: Option<(f64, String)>,
}

/// A series and its samples, oldest first. Native histograms are not among them: the API tells their buckets, but not
/// how they were made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fetched {
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<(Timestamp, f64)>,
}

impl Series {
    pub(super) fn read(self) -> Result<Fetched, String> {
        let labels = Labels::from_pairs(self.metric.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let all = self.values.into_iter().chain(self.value);
        let one = |(at, value): (f64, String)| {
            let at = Timestamp::from_secs_f64(at).ok_or_else(|| format!("{labels}: `{at}` is not a time"))?;
            let value = value.parse().map_err(|_| format!("{labels}: `{value}` is not a number"))?;
            Ok::<_, String>((at, value))
        };
        let samples = all.map(one).collect::<Result<_, _>>()?;
        Ok(Fetched { labels, samples })
    }
}
