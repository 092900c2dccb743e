//! A verdict on paper: what was compared, what came of it and why, for a terminal, a script, a pull request or a
//! browser. Pure: a [`Report`] in, text out.

mod chart;
mod explain;
mod html;
mod markdown;
mod text;

use davy_api::wire::{Evidence, Metric, finite, rfc3339};
use davy_detector::{Outcome, Verdict};
use davy_model::Timestamp;
use serde::Serialize;

pub use explain::explain;

/// One comparison of two versions over a stretch of time. As JSON its fields are only ever added to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub service: String,
    pub baseline: String,
    pub canary: String,
    /// Where the samples came from, in words.
    pub source: String,
    pub from: String,
    pub to: String,
    /// Length of an interval in seconds.
    pub interval_s: f64,
    /// Probability that a canary at the edge of its margins is ever called worse.
    pub alpha: f64,
    pub intervals: u64,
    /// The last verdict, or the first that failed: a failure is final.
    #[serde(flatten)]
    pub verdict: Evidence,
    /// When the verdict became what it is.
    pub decided_at: Option<String>,
    /// When the canary was first shown to be no worse.
    pub promoted_at: Option<String>,
    pub notes: Notes,
    pub track: Vec<Point>,
}

/// What was judged by what, in words.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Notes {
    /// What is known of the service's noise.
    pub noise: String,
    /// Which convention each metric was found by.
    pub found: Vec<String>,
    /// Count the same and are not judged a second time.
    pub also_seen: Vec<String>,
    /// Cannot be judged, and why.
    pub refused: Vec<String>,
}

/// Where things stood after an interval.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Seconds since the beginning.
    pub t_s: f64,
    pub verdict: String,
    pub contract: String,
    /// As a share of what a rollback needs.
    pub evidence: Option<f64>,
    pub metrics: Vec<Track>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Track {
    pub name: String,
    pub estimate: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub evidence: Option<f64>,
}

/// Who was compared with whom, on what.
#[derive(Debug, Clone)]
pub struct Compared {
    pub service: String,
    pub baseline: String,
    pub canary: String,
    pub source: String,
    pub from: Timestamp,
    pub interval_s: f64,
    pub alpha: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
    /// For a pull request or a chat.
    Markdown,
    /// One page with charts that needs no network.
    Html,
}

impl Report {
    /// From the verdicts of all intervals, oldest first; `None` without any.
    pub fn new(compared: Compared, verdicts: &[Verdict], notes: Notes) -> Option<Self> {
        let failed = verdicts.iter().find(|v| v.outcome == Outcome::Fail);
        let last = failed.or(verdicts.last())?;
        // The beginning of the run of equal outcomes that ends with the last.
        let same = verdicts.iter().take_while(|v| v.at <= last.at).collect::<Vec<_>>();
        let decided = same.iter().rev().take_while(|v| v.outcome == last.outcome).last();
        let decided = decided.filter(|_| last.outcome != Outcome::Insufficient);
        let promoted = verdicts.iter().find(|v| v.outcome == Outcome::Pass);
        Some(Self {
            from: rfc3339(compared.from),
            to: rfc3339(verdicts.last().map_or(compared.from, |v| v.at)),
            intervals: last.intervals,
            verdict: Evidence::new(last),
            decided_at: decided.map(|v| rfc3339(v.at)),
            promoted_at: promoted.map(|v| rfc3339(v.at)),
            notes,
            track: verdicts.iter().map(|v| Point::new(v, compared.from)).collect(),
            service: compared.service,
            baseline: compared.baseline,
            canary: compared.canary,
            source: compared.source,
            interval_s: compared.interval_s,
            alpha: compared.alpha,
        })
    }

    /// As asked for; `explained` adds what the numbers mean, in plain words.
    pub fn render(&self, format: Format, explained: bool) -> String {
        match format {
            Format::Text => text::render(self, explained),
            Format::Json => {
                let mut json = serde_json::to_string_pretty(self).expect("a report is plain data");
                json.push('\n');
                json
            }
            Format::Markdown => markdown::render(self, explained),
            Format::Html => html::render(self),
        }
    }

    /// `pass` 0, `fail` 1, `insufficient` 3: the exit codes of `davy judge` and `davy gate`.
    pub fn exit_code(&self) -> u8 {
        exit_code(&self.verdict.verdict)
    }

    /// What a reader should know of where the metrics came from.
    fn notes(&self) -> Vec<String> {
        let Notes { noise, found, also_seen, refused } = &self.notes;
        let list = |what: &str, of: &[String]| (!of.is_empty()).then(|| format!("{what}: {}", of.join(", ")));
        let noise = (!noise.is_empty()).then(|| noise.clone());
        let lists = [list("found by", found), list("seen as well, not judged twice", also_seen)];
        noise.into_iter().chain(lists.into_iter().flatten()).chain(refused.iter().cloned()).collect()
    }

    fn headline(&self) -> String {
        format!("{} {} → {}: {}", self.service, self.baseline, self.canary, self.verdict.verdict)
    }
}

pub fn exit_code(verdict: &str) -> u8 {
    match verdict {
        "pass" => 0,
        "fail" => 1,
        _ => 3,
    }
}

impl Point {
    fn new(verdict: &Verdict, from: Timestamp) -> Self {
        let track = |m: &davy_detector::MetricVerdict| Track {
            name: m.name.clone(),
            estimate: finite(m.estimate),
            lower: finite(m.lower),
            upper: finite(m.upper),
            evidence: finite(m.evidence),
        };
        Self {
            t_s: verdict.at.since(from).as_secs_f64(),
            verdict: verdict.outcome.as_str().to_owned(),
            contract: verdict.contract.as_str().to_owned(),
            evidence: finite(verdict.evidence),
            metrics: verdict.metrics.iter().map(track).collect(),
        }
    }
}

/// Cells of a metric's row, alike in every form.
fn cells(m: &Metric) -> [String; 7] {
    use crate::terminal::{level, relative};
    let bounds = match (m.lower, m.upper) {
        (None, None) => "–".to_owned(),
        (lower, upper) => format!("{} … {}", relative(lower), relative(upper)),
    };
    [
        m.name.clone(),
        level(&m.class, m.baseline),
        level(&m.class, m.canary),
        relative(m.estimate),
        bounds,
        m.evidence.map_or_else(|| "–".to_owned(), |e| format!("{e:.2}")),
        m.verdict.clone(),
    ]
}

const COLUMNS: [&str; 7] =
    ["metric", "baseline", "canary", "difference", "bounds", "evidence of 1", "verdict"];
