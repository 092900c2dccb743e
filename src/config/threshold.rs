//! `thresholds`: series whose usual band is learned, and who hears when they leave it.

use std::collections::HashSet;
use std::time::Duration;

use davy_detector::config::{Direction, ThresholdSpec};

use super::metric::{direction, expr};
use super::reader::{Field, Section};
use super::value::{duration, labels, positive_duration};

/// Robust standard deviations; the tail beyond four is rare even in heavy-tailed series.
const SENSITIVITY: f64 = 4.0;
const HOLD: Duration = Duration::from_secs(120);
const EFFECT_MIN: f64 = 0.1;

pub(super) fn read(top: &mut Section<'_>) -> Vec<ThresholdSpec> {
    let mut names = HashSet::new();
    top.list("thresholds", |field| {
        let spec = threshold(&field)?;
        if !names.insert(spec.name.clone()) {
            field.error(format!("threshold {:?} is given twice; give each its own name", spec.name));
        }
        Some(spec)
    })
}

fn threshold(field: &Field<'_>) -> Option<ThresholdSpec> {
    field.section(|s| {
        let name = s.required("name", "anomalies and alerts carry it").and_then(|f| f.name());
        let query = s.required("query", "the series to watch, in PromQL").and_then(|f| f.parse(expr));
        let sensitivity = s.or("sensitivity", SENSITIVITY, |f| f.number(1.0..=100.0));
        let direction = s.or("direction", Direction::Either, direction);
        let hold = s.or("for", HOLD, |f| f.parse(duration));
        let effect_min = s.or("min_effect", EFFECT_MIN, |f| f.number(0.0..=1000.0));
        let season = s.get("season").and_then(|f| season(&f));
        let alert = s.or("alert", false, Field::bool);
        let labels_ = s.get("labels").map(|f| labels(&f, true)).unwrap_or_default();
        let annotations = s.get("annotations").map(|f| labels(&f, false)).unwrap_or_default();
        Some(ThresholdSpec {
            name: name?.to_owned(),
            query: query?,
            sensitivity,
            direction,
            hold,
            effect_min,
            season,
            alert,
            labels: labels_,
            annotations,
        })
    })
}

/// A length, or `none`.
fn season(field: &Field<'_>) -> Option<Duration> {
    let no_season = "or none, to learn the level only";
    match field.text()? {
        "none" => None,
        _ => field.parse(|t| positive_duration(t).map_err(|e| format!("{e}, {no_season}"))),
    }
}
