//! A report in plain words, for an engineer without statistics.

use davy_api::wire::Metric;

use std::time::Duration;

use super::Report;
use crate::terminal::{count, duration, level, relative};

/// Paragraphs: what was asked, what was seen of each metric, what would change the verdict.
pub fn explain(report: &Report) -> Vec<String> {
    let v = &report.verdict;
    let mut out = vec![format!(
        "Davy asks of every metric whether the canary ({}) is worse than the baseline ({}) by more than the tolerated \
         margin, and looks again every {} s. Evidence grows only if what is seen is unlikely for a canary at the edge \
         of its margin, and it is counted so that looking often does not add false alarms. {} At 1 of what is needed \
         the release fails; now it stands at {}.",
        report.canary,
        report.baseline,
        report.interval_s,
        report.promise().unwrap_or_default(),
        v.evidence.map_or_else(|| "nothing".to_owned(), |e| format!("{e:.2}")),
    )];
    if v.contract != "ok" {
        out.push(format!("The data cannot be judged as they are ({}): {}", v.contract, v.reason));
    }
    out.extend(v.metrics.iter().map(metric));
    out.push(next(report));
    out
}

fn metric(m: &Metric) -> String {
    let name = m.name.replace('_', " ");
    let (Some(baseline), Some(canary)) = (m.baseline, m.canary) else {
        return format!("{name}: nothing to compare yet ({}).", m.source);
    };
    let unit = match m.class.as_str() {
        "errors" | "proportion" | "latency" => "requests",
        _ => "observations",
    };
    let seen = format!(
        "{name}: {} on the baseline ({} {unit}), {} on the canary ({})",
        level(&m.class, Some(baseline)),
        count(m.baseline_n),
        level(&m.class, Some(canary)),
        count(m.canary_n),
    );
    let range = match (m.lower, m.upper) {
        (Some(lower), Some(upper)) => format!(
            "; the true difference lies between {} and {}, whenever one looks, and {} is tolerated",
            relative(Some(lower)),
            relative(Some(upper)),
            relative(Some(m.margin))
        ),
        _ => String::new(),
    };
    let meaning = match m.verdict.as_str() {
        "fail" => "Chance does not explain this.".to_owned(),
        "pass" => "A canary that is worse than its margin would hardly look like this: shown to be no worse.".to_owned(),
        _ => match &m.needed {
            Some(n) => match n.seconds {
                Some(s) => format!(
                    "Neither worse nor no worse is shown. If the versions are equal, about {} more requests to the \
                     canary ({}) will show it.",
                    count(n.requests as f64),
                    duration(Duration::from_secs(s))
                ),
                None => "With so few instances, the luck of one instance could hide a difference of the margin's size: \
                         more time does not help, more instances do."
                    .to_owned(),
            },
            None => "Neither worse nor no worse is shown.".to_owned(),
        },
    };
    format!("{seen}{range}. {meaning}")
}

/// What would change the verdict.
fn next(report: &Report) -> String {
    let v = &report.verdict;
    match v.verdict.as_str() {
        "fail" => {
            "A failure is final for this release: later intervals cannot take it back, because by then the \
                   traffic may have been moved. A new release is judged afresh."
                .to_owned()
        }
        "pass" => {
            "A pass is taken back, and the release can still fail, if the canary becomes worse later on."
                .to_owned()
        }
        _ => {
            let open: Vec<String> =
                v.metrics.iter().filter(|m| m.verdict != "pass").map(|m| m.name.replace('_', " ")).collect();
            if open.is_empty() {
                "What is missing is not evidence but data; see above.".to_owned()
            } else {
                format!(
                    "It passes once these are shown too: {}. It fails once the evidence reaches 1.",
                    open.join(", ")
                )
            }
        }
    }
}
