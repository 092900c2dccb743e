//! Hop 2 to hop 3: the rows of a scrape into one batch of the store.

use davy_model::{Labels, Matcher, STALE_NAN, Timestamp, Value};
use davy_store::{Appender, Durability, Error, Refusal, Store};

use super::series::SeriesTable;
use super::state::{Row, Rows, TargetState};

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
        let labels = &state.series.labels[zero.series as usize];
        if !(rows.first && has_samples_since(store, labels, zero.at)) {
            refused.note(put(&mut appender, &mut state.series, zero));
        }
    }
    for row in rows.samples.iter().chain(&rows.stale) {
        refused.note(put(&mut appender, &mut state.series, row));
    }
    for (series, exemplar) in &rows.exemplars {
        if let Some(series) = state.series.all[*series as usize].stored_as {
            appender.exemplar(series, exemplar.clone());
        }
    }
    for (metric, metadata) in &rows.metadata {
        appender.metadata(metric, metadata);
    }
    for (series, value) in (0..).zip(reports.1) {
        let row = Row { series, at: reports.0, value, explicit: false };
        refused.note(put(&mut appender, &mut state.reports, &row));
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

#[inline]
fn put(appender: &mut Appender, table: &mut SeriesTable, row: &Row) -> Result<(), Refusal> {
    if let Some(known) = table.all[row.series as usize].stored_as {
        match appender.append(known, row.at, Value::Float(row.value)) {
            // It had no samples for long: the store gives it a new name.
            Err(Refusal::UnknownSeries) => {}
            result => return result,
        }
    }
    put_first(appender, table, row)
}

#[cold]
fn put_first(appender: &mut Appender, table: &mut SeriesTable, row: &Row) -> Result<(), Refusal> {
    let labels = &mut table.labels[row.series as usize];
    let found = appender.series(labels)?;
    // The store shares labels between series: what it holds need not be held twice.
    if let Some(shared) = appender.labels(found) {
        *labels = shared;
    }
    table.all[row.series as usize].stored_as = Some(found);
    appender.append(found, row.at, Value::Float(row.value))
}

/// A loop that has just begun cannot know what was stored before it: by an earlier run of Davy, or another job.
fn has_samples_since(store: &Store, labels: &Labels, since: Timestamp) -> bool {
    let equal: Vec<Matcher> = labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
    // In doubt there are some: a missing zero loses little, a wrong one invents traffic.
    store
        .snapshot()
        .select(&equal, since, Timestamp::MAX)
        .map_or(true, |found| found.iter().any(|s| s.labels == *labels))
}

impl Refused {
    fn note(&mut self, result: Result<(), Refusal>) {
        if let Err(refusal) = result {
            self.count += 1;
            self.example.get_or_insert(refusal);
        }
    }
}
