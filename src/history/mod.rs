//! Recorded samples to look back on: a folder of a davy that does not run or a snapshot of one, OpenMetrics text, or
//! a range of any server that answers as Prometheus does. All of them end as a store, so that whoever looks back
//! reads what a running davy reads.

mod command;
mod judge;
mod prometheus;
mod versions;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use davy_detector::Calibration;
use davy_model::{Clock as _, Timestamp};
use davy_store::control::Control;
use davy_store::{Limits, Options, Store};
use tempfile::TempDir;

use crate::analysis;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::openmetrics;

pub use command::{RecordedArgs, run};
pub use judge::{Judged, judge};
pub use versions::{Version, pick, versions};

/// Which samples.
#[derive(Debug, Clone, Args)]
#[group(id = "history", multiple = true)]
pub struct HistoryArgs {
    /// The data folder of a davy that does not run, or a snapshot.
    #[arg(long = "storage.path", conflicts_with_all = ["prometheus", "openmetrics"])]
    pub storage_path: Option<PathBuf>,
    /// A server that answers as Prometheus does (Prometheus, Thanos, Mimir, VictoriaMetrics).
    #[arg(long = "prometheus.url", value_name = "URL", conflicts_with = "openmetrics", requires = "service")]
    pub prometheus: Option<reqwest::Url>,
    /// File with the bearer token for it.
    #[arg(long = "prometheus.bearer-token-file", value_name = "FILE", requires = "prometheus")]
    pub token_file: Option<PathBuf>,
    /// More of its series to look at, such as those of an ingress: a selector. May be given several times.
    #[arg(long = "prometheus.match", value_name = "SELECTOR", requires = "prometheus")]
    pub selectors: Vec<String>,
    /// OpenMetrics text with timestamps.
    #[arg(long, value_name = "FILE")]
    pub openmetrics: Vec<PathBuf>,
    /// The service: its `service` label, else its `job`.
    #[arg(long)]
    pub service: Option<String>,
    /// Beginning: a time (RFC 3339 or Unix seconds), or how long ago (`2h`).
    #[arg(long, value_parser = time)]
    pub from: Option<When>,
    /// End, likewise; now unless given.
    #[arg(long, value_parser = time)]
    pub to: Option<When>,
    /// Whose rules judge; the defaults unless given.
    #[arg(long = "config.file")]
    pub config_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
pub enum When {
    At(Timestamp),
    Ago(Duration),
}

/// Samples, where they came from, and the rules that the file has for them.
pub struct History {
    pub store: Store,
    pub config: Config,
    pub from: Timestamp,
    pub to: Timestamp,
    /// In words, for reports.
    pub source: String,
    /// What was decided before, where the folder has it.
    control: Option<Control>,
    /// Keeps a store that was made for this command.
    _dir: Option<TempDir>,
}

const CONTROL: &str = "control.db";
/// How far back is looked in a server that is not asked for a range.
const BACK: Duration = Duration::from_secs(3600);

impl HistoryArgs {
    pub fn open(&self) -> Result<History, String> {
        let config = match &self.config_file {
            Some(file) => Config::load(file).map_err(|e| e.to_string())?,
            None => Config::empty(),
        };
        let now = SystemClock.now();
        let at = |w: When| match w {
            When::At(t) => t,
            When::Ago(d) => now - d,
        };
        let (from, to) = (self.from.map(at), self.to.map(at));
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Err(format!("--from {from} is not before --to {to}"));
        }
        let (store, source, dir) = match (&self.storage_path, &self.prometheus) {
            (Some(path), _) => {
                let store = openmetrics::open_folder(path, &config.storage, true)?;
                (store, format!("from {}", path.display()), None)
            }
            (None, Some(url)) => {
                let to = to.unwrap_or(now);
                let range = (from.unwrap_or(to - BACK), to);
                let (store, dir) = scratch(now)?;
                let service = self.service.as_deref().expect("clap requires it");
                let server = prometheus::Server::new(url, self.token_file.as_deref())?;
                server.copy(&crate::sources::selectors(service, &self.selectors), range, &store, now)?;
                let host = url.host_str().unwrap_or("?");
                (store, format!("from {host}"), Some(dir))
            }
            (None, None) if !self.openmetrics.is_empty() => {
                let (store, dir) = scratch(now)?;
                openmetrics::read_into(&store, &self.openmetrics, now)?;
                let names: Vec<String> = self.openmetrics.iter().map(|f| f.display().to_string()).collect();
                (store, format!("from {}", names.join(", ")), Some(dir))
            }
            (None, None) => {
                return Err(
                    "what is to be looked at? --storage.path DIR, --prometheus.url URL or --openmetrics \
                            FILE"
                        .to_owned(),
                );
            }
        };
        let control = self.storage_path.as_ref().map(|p| p.join(CONTROL)).filter(|p| p.exists());
        let control = control.map(|p| Control::open(&p)).transpose().map_err(|e| e.to_string())?;
        let (oldest, newest) =
            versions::bounds(&store.snapshot())?.ok_or_else(|| format!("no samples ({source})"))?;
        Ok(History {
            from: from.unwrap_or(oldest).max(oldest),
            to: to.unwrap_or(newest).min(newest),
            store,
            config,
            source,
            control,
            _dir: dir,
        })
    }
}

impl History {
    /// What releases before these samples taught of the service's noise.
    pub fn known(&self, service: &str) -> Calibration {
        self.control.as_ref().map_or_else(Calibration::default, |c| analysis::load(c, service, self.from))
    }
}

/// A store that is gone when the command ends.
fn scratch(now: Timestamp) -> Result<(Store, TempDir), String> {
    let dir = TempDir::with_prefix("davy-").map_err(|e| format!("a temporary folder: {e}"))?;
    let limits = Limits {
        series_max: 2_000_000,
        series_per_service_max: 2_000_000,
        series_per_target_max: 2_000_000,
        ..Limits::default()
    };
    let options = Options { limits, retention: Duration::MAX, ..Options::default() };
    let (store, _) = Store::open(dir.path(), now, options).map_err(|e| e.to_string())?;
    Ok((store, dir))
}

fn time(text: &str) -> Result<When, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(When::At(Timestamp::from_millis(at.as_millisecond())));
    }
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
        && (0.0..1e11).contains(&seconds)
    {
        return Ok(When::At(Timestamp::from_millis((seconds * 1000.0) as i64)));
    }
    let ago = text.trim_start_matches('-').trim_end_matches("ago").trim();
    crate::config::parse_duration(ago).map(When::Ago).map_err(|_| {
        "expected a time such as 2026-01-31T12:00:00Z or 1769860800, or how long ago, such as 2h".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_each_form_and_nothing_else() {
        let at = |text| match time(text) {
            Ok(When::At(t)) => t.as_millis(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(at("2026-01-31T12:00:00Z"), 1_769_860_800_000);
        assert_eq!(at("1769860800.5"), 1_769_860_800_500);
        assert!(matches!(time("-1h30m"), Ok(When::Ago(d)) if d == Duration::from_secs(5400)));
        for wrong in ["", "yesterday", "NaN", "1e300", "-", "2h30"] {
            let error = time(wrong).unwrap_err();
            assert!(error.contains("how long ago"), "{wrong}: {error}");
        }
    }
}
