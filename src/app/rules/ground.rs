//! `Ground`: the store as a group of rules sees it. Blocking; every query sees what was written before it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use davy_alerting::rule::{Evaluate, EvaluateError, Refused, Row, Surroundings};
use davy_model::{Clock, Labels, Matcher, Sample, Timestamp, Value};
use davy_query::{Cancel, Engine, Expr};
use davy_store::{Durability, Refusal, Store};
use tokio::time::Instant;

use super::QUERY_TIMEOUT;
use crate::rules::answer;

pub(super) struct Ground {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) engine: Engine,
    pub(super) watchdog: Arc<Watchdog>,
    pub(super) began: Instant,
}

/// The query that runs, and since when.
#[derive(Default)]
pub(super) struct Watchdog {
    running: Mutex<Option<(Instant, Cancel)>>,
    stopped: std::sync::atomic::AtomicBool,
}

impl Watchdog {
    fn begin(&self) -> Cancel {
        let cancel = Cancel::default();
        if self.stopped.load(std::sync::atomic::Ordering::Relaxed) {
            cancel.raise();
        }
        *self.lock() = Some((Instant::now(), cancel.clone()));
        cancel
    }

    fn end(&self) {
        *self.lock() = None;
    }

    /// Ends the query if it has run for too long.
    pub(super) fn look(&self) {
        if let Some((since, cancel)) = &*self.lock()
            && since.elapsed() > QUERY_TIMEOUT
        {
            cancel.raise();
        }
    }

    /// Ends the query and those that follow.
    pub(super) fn stop(&self) {
        self.stopped.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some((_, cancel)) = &*self.lock() {
            cancel.raise();
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Cancel)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Evaluate for Ground {
    fn instant(&self, expr: &Expr, at: Timestamp) -> Result<Vec<(Labels, Value)>, EvaluateError> {
        let cancel = self.watchdog.begin();
        let answer = answer::instant(&self.engine, expr, &self.store.snapshot(), at, &cancel);
        self.watchdog.end();
        if cancel.is_raised() && !self.watchdog.is_stopped() {
            let seconds = QUERY_TIMEOUT.as_secs();
            return Err(EvaluateError(format!("query timed out: it took longer than {seconds} s")));
        }
        answer
    }
}

impl Surroundings for Ground {
    fn newest(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(Labels, Sample)>, EvaluateError> {
        answer::newest(&self.store.snapshot(), matchers, from, to)
    }

    fn append(&mut self, rows: &[Row]) -> Result<Vec<Option<Refused>>, EvaluateError> {
        let mut appender = self.store.appender(self.clock.now());
        let outcome = rows
            .iter()
            .map(|row| {
                let series = appender.series(&row.labels);
                series.and_then(|s| appender.append(s, row.at, row.value.clone())).err().map(|r| refused(&r))
            })
            .collect();
        appender.commit(Durability::Group).map_err(|e| EvaluateError(e.to_string()))?;
        Ok(outcome)
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

fn refused(refusal: &Refusal) -> Refused {
    match refusal {
        Refusal::OutOfOrder { .. } | Refusal::Duplicate { .. } | Refusal::OutOfBounds { .. } => {
            Refused::Conflict(refusal.to_string())
        }
        Refusal::SeriesLimit { .. } | Refusal::DiskFull { .. } | Refusal::UnknownSeries => {
            Refused::Other(refusal.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use davy_model::{ManualClock, STALE_NAN};
    use davy_store::Options;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn ground(dir: &std::path::Path) -> Ground {
        let (store, _) = Store::open(dir, NOW, Options::default()).unwrap();
        Ground {
            store,
            clock: Arc::new(ManualClock::new(NOW)),
            engine: Engine::default(),
            watchdog: Arc::default(),
            began: Instant::now(),
        }
    }

    fn row(value: f64) -> Row {
        let labels = Labels::from_pairs([("__name__", "x"), ("job", "a")]);
        Row { labels, at: NOW, value: Value::Float(value) }
    }

    #[test]
    fn what_a_rule_wrote_is_seen_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut ground = ground(dir.path());
        let expr = Expr::parse("x + 1").unwrap();
        assert_eq!(ground.instant(&expr, NOW), Ok(vec![]));
        assert_eq!(ground.append(&[row(1.0)]), Ok(vec![None]));
        let labels = Labels::from_pairs([("job", "a")]);
        assert_eq!(ground.instant(&expr, NOW), Ok(vec![(labels, Value::Float(2.0))]));
        let newest = ground.newest(&[Matcher::metric("x")], NOW - Duration::from_secs(1), NOW).unwrap();
        assert_eq!(newest[0].1.value, Value::Float(1.0));
    }

    #[test]
    fn a_marker_for_a_series_that_lives_on_is_a_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let mut ground = ground(dir.path());
        ground.append(&[row(1.0)]).unwrap();
        let refused = ground.append(&[row(STALE_NAN)]).unwrap();
        assert!(matches!(refused[..], [Some(Refused::Conflict(_))]), "{refused:?}");
    }

    #[test]
    fn a_group_that_is_stopped_asks_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let ground = ground(dir.path());
        ground.watchdog.stop();
        let answer = ground.instant(&Expr::parse("sum(x)").unwrap(), NOW);
        assert_eq!(answer, Err(EvaluateError("query was canceled".to_owned())));
    }
}
