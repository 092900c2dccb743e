//! `/api/v1/status/*`: what this server is and what it holds. `flags` is missing on purpose: Grafana takes whoever
//! answers it for a Thanos.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use davy_model::{Labels, name};
use serde::Serialize;
use serde_json::json;

use super::envelope::success;
use super::params::Params;
use crate::error::ApiError;
use crate::router::ApiState;
use crate::wire::rfc3339;

/// The version of Prometheus whose API this is: clients unlock what they ask by it. What Davy's own is stands in
/// `revision`.
const API_VERSION: &str = "3.5.0";
/// Series counted by `/status/tsdb` have samples as recent as this, as those of Prometheus' head do.
const HEAD_RANGE: Duration = Duration::from_secs(2 * 3600);
const TOP: usize = 10;
const TOP_MAX: usize = 10_000;

/// `GET /api/v1/status/buildinfo`. Without `features`, or Grafana would take Davy for a Mimir.
pub(super) async fn buildinfo(State(state): State<ApiState>) -> Response {
    let revision = format!("davy {}", state.version);
    success(
        &json!({"version": API_VERSION, "revision": revision, "branch": "", "buildUser": "", "buildDate": "",
                    "goVersion": ""}),
    )
}

/// `GET /api/v1/status/runtimeinfo`, without what only a program in Go could say.
pub(super) async fn runtimeinfo(State(state): State<ApiState>) -> Response {
    success(&json!({
        "startTime": rfc3339(state.started),
        "serverTime": rfc3339(state.clock.now()),
        "corruptionCount": state.store.stats().quarantined_chunks,
        "storageRetention": davy_collector::duration::format(state.view.load().retention),
    }))
}

#[derive(Debug, Serialize)]
struct Stat {
    name: String,
    value: usize,
}

/// `GET /api/v1/status/tsdb[?limit=]`: the largest metrics and labels.
pub(super) async fn tsdb(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let limit = match params.integer("limit") {
        Ok(None) => TOP,
        Ok(Some(n)) if n > 0 => usize::try_from(n).unwrap_or(TOP_MAX).min(TOP_MAX),
        Ok(Some(_)) | Err(_) => return Err(ApiError::BadData("limit must be a positive number".into())),
    };
    let (store, now) = (state.store.clone(), state.clock.now());
    let work = move |_: &_| {
        let snapshot = store.snapshot();
        let range = snapshot.time_range();
        let from = now - HEAD_RANGE;
        let to = range.map_or(now, |(_, newest)| newest.max(now));
        let series = snapshot.series(&[], from, to).map_err(|e| ApiError::Internal(e.to_string()))?;
        let cardinality = Cardinality::of(&series);
        Ok(success(&json!({
            "headStats": {
                "numSeries": series.len(),
                "numLabelPairs": cardinality.pairs.len(),
                // Davy's chunks are of many series and not comparable.
                "chunkCount": 0,
                "minTime": range.map_or(0, |(oldest, _)| oldest.max(from).as_millis()),
                "maxTime": range.map_or(0, |(_, newest)| newest.as_millis()),
            },
            "seriesCountByMetricName": cardinality.metrics(limit),
            "labelValueCountByLabelName": cardinality.values(limit),
            "memoryInBytesByLabelName": cardinality.bytes(limit),
            "seriesCountByLabelValuePair": cardinality.pairs(limit),
        })))
    };
    Ok(state.queries.run(None, work).await?.value)
}

/// Series of each label with each of its values.
struct Cardinality<'a> {
    pairs: HashMap<(&'a str, &'a str), usize>,
}

impl<'a> Cardinality<'a> {
    fn of(series: &'a [Labels]) -> Self {
        let mut pairs = HashMap::new();
        for pair in series.iter().flat_map(Labels::iter) {
            *pairs.entry(pair).or_default() += 1;
        }
        Self { pairs }
    }

    fn metrics(&self, limit: usize) -> Vec<Stat> {
        let metrics = self.pairs.iter().filter(|((n, _), _)| *n == name::METRIC);
        top(metrics.map(|((_, v), count)| (*v, *count)), limit, str::to_owned)
    }

    fn values(&self, limit: usize) -> Vec<Stat> {
        top(self.by_name(|_, _| 1), limit, str::to_owned)
    }

    fn bytes(&self, limit: usize) -> Vec<Stat> {
        top(self.by_name(|value, series| value.len() * series), limit, str::to_owned)
    }

    fn pairs(&self, limit: usize) -> Vec<Stat> {
        let pairs = self.pairs.iter().map(|(pair, count)| (*pair, *count));
        top(pairs, limit, |(n, v)| format!("{n}={v}"))
    }

    fn by_name(&self, weigh: impl Fn(&str, usize) -> usize) -> impl Iterator<Item = (&'a str, usize)> {
        let mut names: HashMap<&str, usize> = HashMap::new();
        for ((name, value), series) in &self.pairs {
            *names.entry(name).or_default() += weigh(value, *series);
        }
        names.into_iter()
    }
}

/// The largest first; of equals, the first by name.
fn top<K: Ord>(all: impl Iterator<Item = (K, usize)>, limit: usize, show: impl Fn(K) -> String) -> Vec<Stat> {
    let mut all: Vec<(K, usize)> = all.collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.into_iter().take(limit).map(|(name, value)| Stat { name: show(name), value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let series = [
            Labels::from_pairs([("__name__", "a"), ("job", "x")]),
            Labels::from_pairs([("__name__", "a"), ("job", "y")]),
            Labels::from_pairs([("__name__", "b"), ("job", "x")]),
        ];
        let cardinality = Cardinality::of(&series);
        let shown = |stats: Vec<Stat>| {
            stats.into_iter().map(|s| format!("{} {}", s.name, s.value)).collect::<Vec<_>>()
        };
        assert_eq!(shown(cardinality.metrics(9)), ["a 2", "b 1"]);
        assert_eq!(shown(cardinality.values(9)), ["__name__ 2", "job 2"]);
        assert_eq!(shown(cardinality.bytes(9)), ["__name__ 3", "job 3"]);
        assert_eq!(shown(cardinality.pairs(2)), ["__name__=a 2", "job=x 2"]);
    }
}
