//! A release judged from what was recorded, interval by interval, as a running davy would have.

use davy_api::wire::Evidence;
use davy_detector::config::ReleaseSpec;
use davy_detector::{Arms, Calibration, Observer, Verdict, survey};
use davy_model::Timestamp;
use davy_query::EvalError;
use davy_store::Snapshot;

use crate::analysis::{Analysis, in_words};
use crate::report::{Compared, Notes, Report};

/// More intervals than this are not judged one by one.
const INTERVALS_MAX: usize = 100_000;

pub struct Judged {
    pub verdicts: Vec<Verdict>,
    /// Where judging began.
    pub from: Timestamp,
    pub notes: Notes,
}

/// `since` is when the canary began to live.
pub fn judge(
    snapshot: &Snapshot,
    spec: &ReleaseSpec,
    arms: &Arms,
    since: Timestamp,
    (from, to): (Timestamp, Timestamp),
    known: &Calibration,
) -> Result<Judged, String> {
    let from = from.max(since);
    let interval = spec.judge.interval;
    let intervals = to.since(from).as_secs_f64() / interval.as_secs_f64();
    if intervals > INTERVALS_MAX as f64 {
        return Err(format!(
            "{intervals:.0} intervals of {}: at most {INTERVALS_MAX} are judged; say --from",
            crate::terminal::duration(interval)
        ));
    }
    let survey = survey(spec, arms, snapshot, from, to).map_err(|e| e.to_string())?;
    let mut observer = Observer::new(survey.plan.clone(), arms.clone());
    let mut run = Analysis::new(spec, &survey.plan, since, known);
    let mut verdicts = Vec::new();
    let mut end = from + interval;
    while end <= to {
        let seen = observer.observe(snapshot, end - interval, end).map_err(|e: EvalError| e.to_string())?;
        verdicts.push(run.step(&seen, observer.broken()));
        end = end + interval;
    }
    let noise = in_words(&run.learned());
    let found = survey.found.iter().map(|(metric, by)| format!("{metric}: {by}")).collect();
    let notes = Notes { noise, found, also_seen: survey.also_seen, refused: survey.refused };
    Ok(Judged { verdicts, from, notes })
}

impl Judged {
    /// `None` if not one interval was long enough ago.
    pub fn report(&self, spec: &ReleaseSpec, arms: &Arms, source: &str) -> Option<Report> {
        let compared = Compared {
            service: arms.service.clone(),
            baseline: arms.baseline.clone(),
            canary: arms.canary.clone(),
            source: source.to_owned(),
            from: self.from,
            interval_s: spec.judge.interval.as_secs_f64(),
            alpha: Some(spec.judge.alpha),
        };
        Report::new(compared, self.verdicts.iter().map(Evidence::new).collect(), self.notes.clone())
    }
}
