//! Hop 2 to hop 3: the rows of a scrape into one batch of the store.

use davy_model::{Matcher, STALE_NAN, Timestamp, Value};
use davy_store::{Appender, Durability, Error, Refusal, Store};

use super::series::Series;
use super::state::{Rows, TargetState};

/// Samples that the store did not take, and one of the reasons.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) count: u64,
    pub(super) example: Option<Refusal>,
}

/// Appends everything about one scrape as one batch. Blocking.
pub(super) fn append(
    store: &Store,
    now: Timestamp,
    state: &mut TargetState,
    rows: &Rows,
    reports: (Timestamp, [f64; 5]),
) -> Result<Refused, Error> {
    let mut appender = store.appender(now);
    let mut refused = Refused::default();
    for zero in &rows.zeros {
        let series = &mut state.series.all[zero.series as usize];
        if !(rows.first && has_samples_since(store, series, zero.at)) {
            refused.note(put(&mut appender, series, zero.at, zero.value));
        }
    }
    for row in rows.samples.iter().chain(&rows.stale) {
        let series = &mut state.series.all[row.series as usize];
        refused.note(put(&mut appender, series, row.at, row.value));
    }
    for (series, exemplar) in &rows.exemplars {
        if let Some(series) = state.series.all[*series as usize].stored_as {
            appender.exemplar(series, exemplar.clone());
        }
    }
    for (metric, metadata) in &rows.metadata {
        appender.metadata(metric, metadata);
    }
    for (series, value) in state.reports.iter_mut().zip(reports.1) {
        refused.note(put(&mut appender, series, reports.0, value));
    }
    appender.commit(Durability::Group)?;
    Ok(refused)
}

/// The target is gone: its series and the reports about it end. Blocking.
pub(super) fn append_end(store: &Store, now: Timestamp, state: &mut TargetState) -> Result<Refused, Error> {
    let mut rows = Rows::default();
    state.fail(now, &mut rows);
    append(store, now, state, &rows, (now, [STALE_NAN; 5]))
}

fn put(appender: &mut Appender, series: &mut Series, at: Timestamp, value: f64) -> Result<(), Refusal> {
    if let Some(known) = series.stored_as {
        match appender.append(known, at, Value::Float(value)) {
            // It had no samples for long: the store gives it a new name.
            Err(Refusal::UnknownSeries) => {}
            result => return result,
        }
    }
    let found = appender.series(&series.labels)?;
    // The store shares labels between series: what it holds need not be held twice.
    if let Some(shared) = appender.labels(found) {
        series.labels = shared;
    }
    series.stored_as = Some(found);
    appender.append(found, at, Value::Float(value))
}

/// A loop that has just begun cannot know what was stored before it: by an earlier run of Davy, or another job.
fn has_samples_since(store: &Store, series: &Series, since: Timestamp) -> bool {
    let equal: Vec<Matcher> = series.labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
    // In doubt there are some: a missing zero loses little, a wrong one invents traffic.
    store
        .snapshot()
        .select(&equal, since, Timestamp::MAX)
        .map_or(true, |found| found.iter().any(|s| s.labels == series.labels))
}

impl Refused {
    fn note(&mut self, result: Result<(), Refusal>) {
        if let Err(refusal) = result {
            self.count += 1;
            self.example.get_or_insert(refusal);
        }
    }
}
