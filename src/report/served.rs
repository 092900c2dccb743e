//! The report that a running davy serves of a release, from the verdicts that it wrote down.

use davy_api::ReportFormat;
use davy_api::wire::{Calibration, Evidence, Release};
use davy_model::Timestamp;

use super::{Compared, Format, Notes, Report};
use crate::analysis;

/// What [`davy_api::ApiState`] asks for. `None` before the first interval.
pub fn served(
    release: &Release,
    verdicts: Vec<Evidence>,
    known: Option<&Calibration>,
    format: ReportFormat,
) -> Option<String> {
    let millis = |text: &str| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    let from = Timestamp::from_millis(millis(&release.started_at)?);
    // The usual distance: some verdicts may be left out of a long release.
    let times: Vec<i64> =
        std::iter::once(from.as_millis()).chain(verdicts.iter().filter_map(|v| millis(&v.at))).collect();
    let mut steps: Vec<i64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    steps.sort_unstable();
    let interval_s = *steps.get(steps.len() / 2)? as f64 / 1000.0;
    let noise = known.map(|k| davy_detector::Calibration {
        releases: k.releases,
        aa_runs: k.aa_runs,
        aa_alarms: k.aa_alarms,
        ..Default::default()
    });
    let compared = Compared {
        service: release.service.clone(),
        baseline: release.baseline.clone(),
        canary: release.canary.clone(),
        source: format!("as davy judged release {}", release.id),
        from,
        interval_s,
        alpha: None,
    };
    let notes = Notes { noise: analysis::in_words(&noise.unwrap_or_default()), ..Notes::default() };
    let format = match format {
        ReportFormat::Html => Format::Html,
        ReportFormat::Markdown => Format::Markdown,
        ReportFormat::Text => Format::Text,
        ReportFormat::Json => Format::Json,
    };
    Report::new(compared, verdicts, notes).map(|r| r.render(format, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_a_page_after_its_first_interval_and_none_before() {
        let release = Release {
            id: "checkout-2-1".into(),
            generation: 1,
            service: "checkout".into(),
            baseline: "1".into(),
            canary: "2".into(),
            phase: "watching".into(),
            verdict: "insufficient".into(),
            reason: String::new(),
            started_at: "2026-01-31T12:00:00Z".into(),
            decided_at: None,
            traffic_share: None,
            evidence: None,
            contract: "ok".into(),
            intervals: 0,
            metrics: Vec::new(),
            actions: Vec::new(),
            traces: Vec::new(),
            ..Release::default()
        };
        let first = Evidence {
            at: "2026-01-31T12:00:15Z".into(),
            intervals: 1,
            verdict: "insufficient".into(),
            contract: "ok".into(),
            evidence: None,
            traffic_share: None,
            reason: "nothing to compare yet".into(),
            metrics: Vec::new(),
        };
        let page = |verdicts| served(&release, verdicts, None, ReportFormat::Html);
        assert!(page(vec![first]).unwrap().contains("1 intervals of 15 s"));
        assert_eq!(page(Vec::new()), None);
    }
}
