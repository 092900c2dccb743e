//! A release judged from what was recorded, interval by interval, as a running davy would have.

use davy_detector::config::ReleaseSpec;
use davy_detector::{AnalysisRun, Arms, Observer, Verdict, plan_release};
use davy_model::Timestamp;
use davy_query::EvalError;
use davy_store::Snapshot;

use crate::report::{Compared, Report};

/// More intervals than this are not judged one by one.
const INTERVALS_MAX: usize = 100_000;

pub struct Judged {
    pub verdicts: Vec<Verdict>,
    /// Where judging began.
    pub from: Timestamp,
}

/// `since` is when the canary began to live.
pub fn judge(
    snapshot: &Snapshot,
    spec: &ReleaseSpec,
    arms: &Arms,
    since: Timestamp,
    (from, to): (Timestamp, Timestamp),
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
    let plan = plan_release(spec, arms, snapshot, from, to).map_err(|e| e.to_string())?;
    let mut observer = Observer::new(plan.clone(), arms.clone());
    let mut run = AnalysisRun::new(&spec.judge, &plan, since);
    let mut verdicts = Vec::new();
    let mut end = from + interval;
    while end <= to {
        let seen = observer.observe(snapshot, end - interval, end).map_err(|e: EvalError| e.to_string())?;
        verdicts.push(run.step(&seen));
        end = end + interval;
    }
    Ok(Judged { verdicts, from })
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
            alpha: spec.judge.alpha,
        };
        Report::new(compared, &self.verdicts)
    }
}
