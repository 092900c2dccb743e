//! A recording rule: what its expression gives becomes new series.

use std::collections::HashSet;

use davy_model::{Labels, Timestamp, Value, name};

use super::{Evaluate, EvaluateError, Row, RuleSpec};

/// The rows to write at `at`, which is where the expression is evaluated.
pub(super) fn evaluate(
    rule: &RuleSpec,
    at: Timestamp,
    limit: usize,
    source: &impl Evaluate,
) -> Result<Vec<Row>, EvaluateError> {
    let found = source.instant(&rule.expr, at)?;
    let rows: Vec<Row> =
        found.into_iter().map(|(labels, value)| Row { labels: labelled(rule, &labels), at, value }).collect();
    let mut seen: HashSet<&Labels> = HashSet::with_capacity(rows.len());
    if !rows.iter().all(|r| seen.insert(&r.labels)) {
        let text = "vector contains metrics with the same labelset after applying rule labels";
        return Err(EvaluateError(text.to_owned()));
    }
    if limit > 0 && rows.len() > limit {
        return Err(EvaluateError(format!("exceeded limit of {limit} with {} series", rows.len())));
    }
    Ok(rows)
}

fn labelled(rule: &RuleSpec, labels: &Labels) -> Labels {
    let mut builder = labels.builder();
    builder.set(name::METRIC, &rule.name);
    for (name, value) in &rule.labels {
        builder.set(name, value);
    }
    builder.build()
}

/// The marker that ends a series.
pub(super) fn marker(labels: &Labels, at: Timestamp) -> Row {
    Row { labels: labels.clone(), at, value: Value::Float(davy_model::STALE_NAN) }
}
