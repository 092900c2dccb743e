//! `Scored`: what a recorded run came to, as a line of results.

use std::path::Path;

use davy_detector::config::JudgeSpec;
use davy_detector::{AnalysisRun, MetricVerdict, Outcome, Verdict};
use serde::Serialize;

use super::intervals::Recording;

pub(super) struct Scored {
    pub(super) outcome: Outcome,
    failed_at: Option<usize>,
    passed_at: Option<usize>,
    insufficient_until: Option<usize>,
    last: Option<Verdict>,
}

/// Numbers that are not finite are written as null.
#[derive(Serialize)]
struct Line<'a> {
    file: String,
    verdict: &'static str,
    at_interval: Option<usize>,
    metric: Option<&'a str>,
    promoted_at_interval: Option<usize>,
    insufficient_until: Option<usize>,
    reason: &'a str,
    metrics: Vec<MetricLine<'a>>,
}

#[derive(Serialize)]
struct MetricLine<'a> {
    name: &'a str,
    verdict: &'static str,
    estimate: f64,
    lower: f64,
    upper: f64,
    margin: f64,
    evidence: f64,
    needed: Option<NeededLine>,
    reason: &'a str,
}

#[derive(Serialize)]
struct NeededLine {
    requests: u64,
    /// Null when it can never be decided at this traffic.
    seconds: Option<u64>,
}

impl Scored {
    /// Judges every interval; a failure is final, a pass is not.
    pub(super) fn of(recording: &Recording, spec: &JudgeSpec) -> Self {
        let spec = JudgeSpec { interval: recording.interval, ..*spec };
        let mut run = AnalysisRun::new(&spec, &recording.plan, recording.began);
        let mut scored = Self {
            outcome: Outcome::Insufficient,
            failed_at: None,
            passed_at: None,
            insufficient_until: None,
            last: None,
        };
        for (i, interval) in recording.intervals.iter().enumerate() {
            let verdict = run.step(interval);
            scored.outcome = verdict.outcome;
            scored.last = Some(verdict);
            match scored.outcome {
                Outcome::Fail => {
                    scored.failed_at = Some(i + 1);
                    break;
                }
                Outcome::Pass => scored.passed_at = scored.passed_at.or(Some(i + 1)),
                Outcome::Insufficient => scored.insufficient_until = Some(i + 1),
            }
        }
        scored
    }

    pub(super) fn line(&self, file: &Path) -> String {
        let metrics = self.last.as_ref().map_or(&[][..], |v| &v.metrics);
        let most = metrics.iter().max_by(|a, b| a.evidence.total_cmp(&b.evidence));
        let line = Line {
            file: file.display().to_string(),
            verdict: self.outcome.as_str(),
            at_interval: match self.outcome {
                Outcome::Fail => self.failed_at,
                Outcome::Pass => self.passed_at,
                Outcome::Insufficient => None,
            },
            metric: most.filter(|_| self.outcome == Outcome::Fail).map(|m| &*m.name),
            promoted_at_interval: self.passed_at,
            insufficient_until: self.insufficient_until,
            reason: self.last.as_ref().map_or("the file has no intervals", |v| &v.reason),
            metrics: metrics.iter().map(metric_line).collect(),
        };
        serde_json::to_string(&line).expect("strings and numbers have a JSON form")
    }
}

fn metric_line(m: &MetricVerdict) -> MetricLine<'_> {
    MetricLine {
        name: &m.name,
        verdict: m.outcome.as_str(),
        estimate: m.estimate,
        lower: m.lower,
        upper: m.upper,
        margin: m.margin,
        evidence: m.evidence,
        needed: m.needed.map(|n| NeededLine { requests: n.requests, seconds: n.seconds }),
        reason: &m.reason,
    }
}
