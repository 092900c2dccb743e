//! A verdict on paper: what was compared, what came of it and why, for a terminal, a script, a pull request or a
//! browser. Pure: a [`Report`] in, text out.

mod chart;
mod explain;
mod html;
mod markdown;
mod served;
mod text;

use davy_api::wire::{Evidence, Metric, rfc3339};
use davy_detector::Outcome;
use davy_model::Timestamp;
use serde::Serialize;

pub use explain::explain;
pub use served::served;

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
    /// Probability that a canary at the edge of its margins is ever called worse; `null` where it is not known.
    pub alpha: Option<f64>,
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
    pub alpha: Option<f64>,
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
    pub fn new(compared: Compared, verdicts: Vec<Evidence>, notes: Notes) -> Option<Self> {
        let is = |outcome: Outcome| move |v: &&Evidence| v.verdict == outcome.as_str();
        let last = verdicts.iter().find(is(Outcome::Fail)).or(verdicts.last())?.clone();
        // The beginning of the run of equal outcomes that ends with the last.
        let upto = verdicts.iter().rposition(|v| v.at <= last.at).map_or(0, |i| i + 1);
        let decided = verdicts[..upto].iter().rev().take_while(|v| v.verdict == last.verdict).last();
        let decided = decided.filter(|_| last.verdict != Outcome::Insufficient.as_str());
        Some(Self {
            from: rfc3339(compared.from),
            to: verdicts.last()?.at.clone(),
            decided_at: decided.map(|v| v.at.clone()),
            promoted_at: verdicts.iter().find(is(Outcome::Pass)).map(|v| v.at.clone()),
            verdict: last,
            notes,
            track: verdicts.into_iter().map(|v| Point::new(v, compared.from)).collect(),
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

    /// What a reader should know of where the metrics came from.
    fn notes(&self) -> Vec<String> {
        let Notes { noise, found, also_seen, refused } = &self.notes;
        let list = |what: &str, of: &[String]| (!of.is_empty()).then(|| format!("{what}: {}", of.join(", ")));
        let noise = (!noise.is_empty()).then(|| noise.clone());
        let lists = [list("found by", found), list("seen as well, not judged twice", also_seen)];
        noise.into_iter().chain(lists.into_iter().flatten()).chain(refused.iter().cloned()).collect()
    }

    /// What alpha promises.
    fn promise(&self) -> Option<String> {
        let alpha = crate::terminal::share(Some(self.alpha?));
        Some(format!(
            "A canary that is just as much worse as is tolerated is ever called worse with a probability of at most \
             {alpha}, however often one looks."
        ))
    }

    fn headline(&self) -> String {
        format!("{} {} → {}: {}", self.service, self.baseline, self.canary, self.verdict.verdict)
    }
}

impl Point {
    fn new(v: Evidence, from: Timestamp) -> Self {
        let at = v.at.parse::<jiff::Timestamp>().map_or(from.as_millis(), jiff::Timestamp::as_millisecond);
        let track = |m: Metric| Track {
            name: m.name,
            estimate: m.estimate,
            lower: m.lower,
            upper: m.upper,
            evidence: m.evidence,
        };
        Self {
            t_s: (at - from.as_millis()) as f64 / 1000.0,
            verdict: v.verdict,
            contract: v.contract,
            evidence: v.evidence,
            metrics: v.metrics.into_iter().map(track).collect(),
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
