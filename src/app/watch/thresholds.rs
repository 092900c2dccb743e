//! Dynamic thresholds of the file, each evaluated once an interval, and what they make of alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_alerting::alert::{ALERTNAME, Alert, SEVERITY, fingerprint};
use davy_alerting::book::AlertBook;
use davy_api::wire;
use davy_detector::config::{Direction, ThresholdSpec};
use davy_detector::threshold::{Change, ThresholdSet};
use davy_detector::{Metric, Plan, Reading, selector};
use davy_model::{Labels, MatchOp, Matcher, Timestamp, name};
use davy_query::Expr;
use davy_store::Snapshot;
use tracing::error;

use crate::config::Config;

/// Rates of key series are taken over at least this long.
const RATE_WINDOW_MIN: Duration = Duration::from_secs(60);
/// Series seen within this time tell by which label a service is known.
const SERIES_WINDOW: Duration = Duration::from_secs(300);
/// Key series are watched without being asked for: wide enough to be quiet.
const KEY_SENSITIVITY: f64 = 6.0;
const KEY_EFFECT_MIN: f64 = 0.25;
const KEY_HOLD: Duration = Duration::from_secs(120);
const NAME: &str = "DynamicThreshold";

pub(super) struct Thresholds {
    interval: Duration,
    /// By the entry's name.
    named: BTreeMap<String, Timed>,
    /// Key series of judged services, by name; shown, never alerted on.
    key: BTreeMap<String, Timed>,
    /// Services and metrics whose key series are watched already, or cannot be.
    looked: BTreeSet<(String, String)>,
}

/// Each has its own time: thousands at once would keep a decision waiting.
struct Timed {
    set: ThresholdSet,
    due: Timestamp,
}

impl Timed {
    fn new(spec: ThresholdSpec) -> Self {
        Self { set: ThresholdSet::new(spec), due: Timestamp::MIN }
    }

    /// The next time after one that was due: the same place in each interval, which the name chooses.
    fn after(&self, now: Timestamp, interval: Duration) -> Timestamp {
        let length = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let place = self.set.spec().name.bytes().fold(7_i64, |h, b| (h * 31 + i64::from(b)) % length);
        let begun = now.as_millis().div_euclid(length) * length + place;
        let next = if begun > now.as_millis() { begun } else { begun.saturating_add(length) };
        Timestamp::from_millis(next)
    }
}

impl Thresholds {
    pub(super) fn new(config: &Config) -> Self {
        let sets = config.thresholds.iter().map(|t| (t.name.clone(), Timed::new(t.clone())));
        Self {
            interval: config.evaluation_interval,
            named: sets.collect(),
            key: BTreeMap::new(),
            looked: BTreeSet::new(),
        }
    }

    /// Entries that did not change keep what they learned.
    pub(super) fn reload(&mut self, config: &Config) {
        let mut fresh = Self::new(config);
        for (name, timed) in &mut fresh.named {
            if let Some(old) = self.named.remove(name)
                && same(old.set.spec(), timed.set.spec())
            {
                *timed = old;
            }
        }
        fresh.key = std::mem::take(&mut self.key);
        fresh.looked = std::mem::take(&mut self.looked);
        *self = fresh;
    }

    /// Watches the key series of a judged service from now on.
    pub(super) fn watch_service(&mut self, service: &str, plan: &Plan, snapshot: &Snapshot, now: Timestamp) {
        let metrics = plan.metrics.iter().map(|m| m.name.as_str());
        let known = |metric: &str| self.looked.contains(&(service.to_owned(), metric.to_owned()));
        if metrics.clone().all(known) {
            return;
        }
        self.looked.extend(metrics.map(|m| (service.to_owned(), m.to_owned())));
        // The plan's selectors speak of every service; these must speak of this one.
        let labelled = Matcher::equal(name::SERVICE, service);
        // Davy's own series about the service carry its name too, and say nothing of how it labels itself.
        let foreign =
            Matcher::new(name::METRIC, MatchOp::NotRegex, "davy_.*").expect("the pattern is a regex");
        let is_there = snapshot
            .series(&[labelled.clone(), foreign], now - SERIES_WINDOW, now)
            .is_ok_and(|found| !found.is_empty());
        let matcher = if is_there { labelled } else { Matcher::equal(name::JOB, service) };
        for mut spec in key_series(service, plan, self.interval) {
            spec.query = spec.query.restricted(std::slice::from_ref(&matcher));
            self.key.entry(spec.name.clone()).or_insert_with(|| Timed::new(spec));
        }
    }

    /// When the next is due.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.named.values().chain(self.key.values()).map(|t| t.due).min()
    }

    /// Evaluates those that are due within `ahead` from now, not more than `most` of them. Raises and resolves alerts in
    /// the book; gives a sentence for each anomaly that began or ended.
    pub(super) fn evaluate(
        &mut self,
        now: Timestamp,
        snapshot: &Snapshot,
        book: &mut AlertBook,
        (ahead, most): (Duration, usize),
    ) -> Vec<String> {
        let (interval, until) = (self.interval, now + ahead);
        let mut said = Vec::new();
        for timed in
            self.named.values_mut().chain(self.key.values_mut()).filter(|t| t.due <= until).take(most)
        {
            timed.due = timed.after(now.max(timed.due), interval);
            let set = &mut timed.set;
            let changes = match set.evaluate(snapshot, now) {
                Ok(changes) => changes,
                Err(error) => {
                    error!(threshold = set.spec().name, %error, "a threshold cannot be evaluated");
                    continue;
                }
            };
            for change in changes {
                said.push(tell(set.spec(), &change, now, book));
            }
        }
        said
    }

    pub(super) fn watched(&self) -> Vec<wire::Watched> {
        let sets = self.named.values().chain(self.key.values()).map(|t| &t.set);
        sets.flat_map(|set| {
            set.watched().map(|w| wire::Watched {
                threshold: set.spec().name.clone(),
                series: w.labels.to_string(),
                value: wire::finite(w.observation.value),
                lower: wire::finite(w.observation.lower),
                expected: wire::finite(w.observation.expected),
                upper: wire::finite(w.observation.upper),
                score: wire::finite(w.observation.score),
                anomaly_since: w.observation.anomaly_since.map(wire::rfc3339),
            })
        })
        .collect()
    }
}

fn same(a: &ThresholdSpec, b: &ThresholdSpec) -> bool {
    // An expression has no equality of its own; its text says it all.
    format!("{a:?}") == format!("{b:?}")
}

fn tell(spec: &ThresholdSpec, change: &Change, now: Timestamp, book: &mut AlertBook) -> String {
    let o = change.observation;
    let band = format!("{:.4} to {:.4}", o.lower, o.upper);
    if spec.alert {
        let labels = alert_labels(spec, &change.labels);
        if change.began {
            let summary = format!("{} is {:.4}, outside its band of {band}", change.labels, o.value);
            let mut annotations = spec.annotations.clone();
            annotations.entry("summary".to_owned()).or_insert(summary);
            book.raise(Alert::new(labels, annotations, o.anomaly_since.unwrap_or(now)), now);
        } else {
            book.resolve(&fingerprint(&labels), now);
        }
    }
    if change.began {
        format!("threshold {}: {} is {:.4}, outside {band}", spec.name, change.labels, o.value)
    } else {
        format!("threshold {}: {} is back within {band}", spec.name, change.labels)
    }
}

/// The series' labels, then the entry's own, then what every alert of a threshold has.
fn alert_labels(spec: &ThresholdSpec, series: &Labels) -> Labels {
    let mut labels = series.without(&[name::METRIC]).builder();
    labels.set(SEVERITY, "warning");
    for (name, value) in &spec.labels {
        labels.set(name, value);
    }
    labels.set(ALERTNAME, NAME);
    labels.set("threshold", &spec.name);
    labels.build()
}

/// What is watched of a judged service without being asked for: request rate, failures, CPU, memory.
fn key_series(service: &str, plan: &Plan, interval: Duration) -> Vec<ThresholdSpec> {
    let window = RATE_WINDOW_MIN.max(interval * 4).as_secs();
    let rate = |s: String| format!("sum(rate({s}[{window}s]))");
    let mut queries: Vec<(String, String)> = Vec::new();
    if let Some(requests) = &plan.requests {
        queries.push(("requests".to_owned(), rate(selector(requests))));
    }
    queries.extend(plan.metrics.iter().filter_map(|m| Some((m.name.clone(), key_query(m, &rate)?))));
    let spec = |(metric, query): (String, String)| {
        // What a selector and these functions make is always an expression; one that is not is not watched.
        let query = Expr::parse_value(&query).ok()?;
        Some(ThresholdSpec {
            name: format!("{service}/{metric}"),
            query,
            sensitivity: KEY_SENSITIVITY,
            direction: Direction::Either,
            hold: KEY_HOLD,
            effect_min: KEY_EFFECT_MIN,
            season: None,
            alert: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        })
    };
    queries.into_iter().filter_map(spec).collect()
}

fn key_query(metric: &Metric, rate: &impl Fn(String) -> String) -> Option<String> {
    match &metric.reading {
        Reading::Proportion { events, trials } => {
            Some(format!("{} / {}", rate(selector(events)), rate(selector(trials))))
        }
        Reading::CpuSeconds { series, .. } => Some(rate(selector(series))),
        Reading::Value { series } => Some(format!("sum({})", selector(series))),
        Reading::Buckets { .. } | Reading::NativeHistogram { .. } | Reading::Query(_) | Reading::Given => {
            None
        }
    }
}
