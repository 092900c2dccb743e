//! What is scraped: `/api/v1/targets`, `/api/v1/targets/metadata` and `/api/v1/scrape_pools`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use davy_collector::duration;
use davy_collector::scrape::{DroppedTarget, Reason, TargetStatus};
use davy_model::{Labels, Matcher, Timestamp, name};
use davy_store::Snapshot;
use serde::Serialize;
use serde_json::{Value, json};

use super::envelope::success;
use super::metadata::{Entry, limit};
use super::params::Params;
use crate::error::ApiError;
use crate::router::ApiState;
use crate::wire::rfc3339;
use crate::wire::rules::NEVER;

/// How far back a target's series are looked at to say what it exposes.
const METADATA_RANGE: Duration = Duration::from_secs(300);
/// Endings of a family's series that are not part of its name in metadata.
const SUFFIXES: [&str; 6] = ["_bucket", "_sum", "_count", "_total", "_created", "_info"];

type Map<'a> = BTreeMap<&'a str, &'a str>;

/// `GET /api/v1/targets[?state=active|dropped|any&scrapePool=]`, with the reason why a target is down in one word.
pub(super) async fn targets(State(state): State<ApiState>, params: Params) -> Response {
    let wanted = params.get("state").unwrap_or("any").to_ascii_lowercase();
    let shown = |kind: &str| wanted == "any" || wanted == kind;
    let pool = params.get("scrapePool");
    let in_pool = |job: &str| pool.is_none_or(|p| p == job);
    let (mut active, mut dropped) = (Vec::new(), Vec::new());
    if shown("active") {
        active = state.scrapes.targets();
        active.retain(|t| in_pool(&t.job));
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    if shown("dropped") {
        dropped = state.scrapes.dropped_targets();
        counts = state.scrapes.jobs().into_iter().map(|job| (job, 0)).collect();
        dropped.iter().for_each(|d| *counts.entry(d.job.clone()).or_default() += 1);
        dropped.retain(|d| in_pool(&d.job));
    }
    success(&json!({
        "activeTargets": active.iter().map(|t| active_target(t)).collect::<Vec<_>>(),
        "droppedTargets": dropped.iter().map(dropped_target).collect::<Vec<_>>(),
        "droppedTargetCounts": counts,
    }))
}

fn active_target(t: &TargetStatus) -> Value {
    json!({
        "discoveredLabels": t.discovered.iter().collect::<Map<'_>>(),
        "labels": t.labels.iter().collect::<Map<'_>>(),
        "scrapePool": t.job,
        "scrapeUrl": t.url,
        "globalUrl": t.url,
        "lastError": t.last_error.as_deref().unwrap_or(""),
        "lastScrape": t.last_scrape.map_or_else(|| NEVER.to_owned(), rfc3339),
        "lastScrapeDuration": t.last_duration.as_secs_f64(),
        "health": t.health.as_str(),
        "scrapeInterval": duration::format(t.interval),
        "scrapeTimeout": duration::format(t.timeout),
        "reason": t.reason.map(Reason::as_str),
        "lastScrapeSamples": t.samples,
    })
}

fn dropped_target(d: &DroppedTarget) -> Value {
    json!({"discoveredLabels": d.discovered.iter().collect::<Map<'_>>(), "scrapePool": d.job})
}

/// `GET /api/v1/scrape_pools`.
pub(super) async fn scrape_pools(State(state): State<ApiState>) -> Response {
    success(&json!({"scrapePools": state.scrapes.jobs()}))
}

#[derive(Debug, Serialize)]
struct TargetMetadata {
    target: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<String>,
    #[serde(flatten)]
    entry: Entry,
}

/// `GET /api/v1/targets/metadata[?match_target=&metric=&limit=]`: of the families that a target's recent series
/// belong to.
pub(super) async fn metadata(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let limit = limit(&params, "limit")?.unwrap_or(usize::MAX);
    let wanted = params.selector("match_target")?.unwrap_or_default();
    let metric = params.get("metric").map(str::to_owned);
    let targets: Vec<Labels> = state.scrapes.targets().into_iter().map(|t| t.labels.clone()).collect();
    let (store, now) = (state.store.clone(), state.clock.now());
    let work = move |_: &_| {
        let snapshot = store.snapshot();
        let mut found = Vec::new();
        for target in targets.iter().filter(|t| wanted.iter().all(|m| m.matches(t))) {
            if found.len() >= limit {
                break;
            }
            of_target(&snapshot, target, metric.as_deref(), now, &mut found)
                .map_err(|e| ApiError::Internal(e.to_string()))?;
        }
        found.truncate(limit);
        Ok(success(&found))
    };
    Ok(state.queries.run(None, work).await?.value)
}

fn of_target(
    snapshot: &Snapshot,
    target: &Labels,
    metric: Option<&str>,
    now: Timestamp,
    found: &mut Vec<TargetMetadata>,
) -> Result<(), davy_store::Error> {
    let of_target: Vec<Matcher> = target.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
    let (from, to) = (now - METADATA_RANGE, now);
    let names = match metric {
        None => snapshot.label_values(name::METRIC, &of_target, from, to)?,
        Some(metric) => {
            let mut names = Vec::new();
            for suffix in std::iter::once("").chain(SUFFIXES) {
                let name = format!("{metric}{suffix}");
                let matchers: Vec<_> = of_target.iter().cloned().chain([Matcher::metric(&name)]).collect();
                if !snapshot.series(&matchers, from, to)?.is_empty() {
                    names.push(name);
                }
            }
            names
        }
    };
    let families: BTreeSet<&str> = names.iter().flat_map(|n| families_of(n)).collect();
    let labels = || target.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let wanted = families.into_iter().filter(|f| metric.is_none_or(|m| m == *f));
    found.extend(wanted.filter_map(|family| {
        let entry = Entry::from(&snapshot.metadata(family)?);
        Some(TargetMetadata { target: labels(), metric: metric.is_none().then(|| family.to_owned()), entry })
    }));
    Ok(())
}

/// The name, and what it is without the ending that its family's series have.
fn families_of(name: &str) -> impl Iterator<Item = &str> {
    std::iter::once(name).chain(SUFFIXES.iter().filter_map(move |s| name.strip_suffix(s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_with_and_without_their_endings() {
        let of = |name| families_of(name).collect::<Vec<_>>();
        assert_eq!(of("http_seconds_bucket"), ["http_seconds_bucket", "http_seconds"]);
        assert_eq!(of("up"), ["up"]);
    }
}
