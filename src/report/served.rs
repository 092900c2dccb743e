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
    let mut steps: Vec<i64> =
        verdicts.windows(2).filter_map(|w| Some(millis(&w[1].at)? - millis(&w[0].at)?)).collect();
    steps.sort_unstable();
    let interval_s = steps.get(steps.len() / 2).map_or(f64::NAN, |ms| *ms as f64 / 1000.0);
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
