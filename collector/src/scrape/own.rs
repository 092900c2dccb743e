//! `OwnTarget`: what this very process says of itself, appended as if it had been scraped, but without a request.
//!
//! The text is read as any target's: counters get their zeros, what is gone gets its staleness marker, and `up` and
//! `scrape_duration_seconds` stand beside it. So Davy's own series behave as those of everything else it knows.

use std::sync::Arc;
use std::time::Duration;

use davy_model::{Labels, Timestamp, name};
use davy_store::{Error, Store};

use super::append::append;
use super::error::ScrapeError;
use super::state::{Counts, Rows, TargetState};
use crate::config::{Scheme, ScrapeConfig, ScrapeLimits};
use crate::expfmt::Format;
use davy_egress::HttpConfig;

/// Samples of one exposition; a process that says more than this of itself has a mistake.
const OWN_SAMPLES_MAX: u64 = 200_000;

/// What [`OwnTarget::append`] could not do.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The exposition itself is wrong: none of it was stored.
    #[error("own metrics: {0}")]
    Read(#[from] ScrapeError),
    #[error("own metrics: {0}")]
    Store(#[from] Error),
}

#[derive(Debug)]
pub struct OwnTarget {
    state: TargetState,
    rows: Rows,
}

impl OwnTarget {
    /// `interval` is how often [`Self::append`] will be called.
    pub fn new(job: &str, instance: &str, interval: Duration) -> Self {
        let labels = Labels::from_pairs([(name::JOB, job), (name::INSTANCE, instance)]);
        let config = ScrapeConfig {
            job_name: job.to_owned(),
            scrape_interval: interval,
            scrape_timeout: interval,
            metrics_path: "/metrics".to_owned(),
            scheme: Scheme::Http,
            params: Default::default(),
            honor_labels: false,
            honor_timestamps: false,
            http: HttpConfig::default(),
            discovery: Vec::new(),
            relabel: Vec::new(),
            metric_relabel: Vec::new(),
            limits: ScrapeLimits { samples_max: OWN_SAMPLES_MAX, ..ScrapeLimits::default() },
        };
        Self { state: TargetState::new(Arc::new(config), labels, interval), rows: Rows::default() }
    }

    /// Appends an OpenMetrics exposition of `at`; `took` is how long it took to write. Gives the samples that the
    /// store refused. Blocking.
    pub fn append(
        &mut self,
        store: &Store,
        exposition: &str,
        at: Timestamp,
        took: Duration,
    ) -> Result<u64, OwnError> {
        let Self { state, rows } = self;
        let read = state.read(exposition.as_bytes(), Format::OpenMetrics, at, rows);
        if read.is_err() {
            state.fail(at, rows);
        }
        let Counts { scraped, kept, added, .. } = rows.counts;
        let up = if read.is_ok() { 1.0 } else { 0.0 };
        let reports = [up, took.as_secs_f64(), scraped as f64, kept as f64, added as f64];
        let refused = append(store, at, state, rows, (at, reports))?;
        state.forget();
        read?;
        Ok(refused.count)
    }
}

#[cfg(test)]
mod tests {
    use davy_model::{Matcher, is_stale};
    use davy_store::Options;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const STEP: Duration = Duration::from_secs(15);

    /// Values at each scrape, `stale` for a marker.
    fn values(store: &Store, metric: &str) -> Vec<String> {
        let found =
            store.snapshot().select(&[Matcher::metric(metric)], Timestamp::MIN, Timestamp::MAX).unwrap();
        let show = |v: f64| if is_stale(v) { "stale".to_owned() } else { v.to_string() };
        found
            .iter()
            .flat_map(|s| {
                s.samples.iter().map(|x| format!("{} {}", s.labels, show(x.value.as_float().unwrap())))
            })
            .collect()
    }

    #[test]
    fn what_a_process_says_of_itself_is_stored_like_a_scrape() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), START, Options::default()).unwrap();
        let mut own = OwnTarget::new("davy", "here:9600", STEP);
        let first = "# TYPE n gauge\nn{a=\"1\"} 1\nn{a=\"2\"} 2\n# TYPE c counter\nc_total 3\n# EOF\n";
        own.append(&store, first, START, STEP / 100).unwrap();
        let then = "# TYPE n gauge\nn{a=\"1\"} 5\n# TYPE c counter\nc_total 4\n# EOF\n";
        own.append(&store, then, START + STEP, STEP / 100).unwrap();
        assert_eq!(
            values(&store, "n"),
            [
                r#"n{a="1", instance="here:9600", job="davy"} 1"#,
                r#"n{a="1", instance="here:9600", job="davy"} 5"#,
                r#"n{a="2", instance="here:9600", job="davy"} 2"#,
                r#"n{a="2", instance="here:9600", job="davy"} stale"#,
            ]
        );
        assert_eq!(values(&store, "c_total").len(), 2, "nobody knows when the counter began");
        assert_eq!(values(&store, "scrape_duration_seconds").len(), 2);

        let broken = own.append(&store, "n{ 1\n", START + STEP * 2, STEP / 100);
        assert!(matches!(broken, Err(OwnError::Read(_))), "{broken:?}");
        assert!(values(&store, "n")[2].ends_with("stale"), "after a failure nothing looks alive");
        assert!(values(&store, "up")[2].ends_with(" 0"));
    }
}
