//! The real judge, for a share of the seeds: counts made up interval by interval, read as Davy would read its store.
//!
//! A restart replays them, as the app does, and must come to the same verdict.

use std::sync::Arc;
use std::time::Duration;

use davy_detector::config::{Direction, JudgeSpec};
use davy_detector::{
    AnalysisRun, Arm, InstanceInterval, Interval, Margins, Measurement, Metric, MetricClass, Plan, Reading,
    Verdict,
};

use crate::Rng;
use crate::replica::at;

/// Requests of all instances in one interval.
const REQUESTS: f64 = 3_000.0;
const BASELINE_INSTANCES: usize = 2;
/// Seconds that the faster of the requests take at most, and the slower.
const EDGES: [f64; 3] = [0.05, 0.1, 0.5];
const SLOW: f64 = 0.1;

pub(crate) struct Judge {
    since: i64,
    plan: Plan,
    edges: Vec<Arc<[f64]>>,
    instances: Vec<(Arm, Arc<str>)>,
    /// What the store has.
    seen: Vec<Interval>,
    run: AnalysisRun,
    last: Option<Verdict>,
}

impl Judge {
    pub(crate) fn new(since: i64) -> Self {
        let metric = |name: &str, class, margins| Metric {
            name: name.to_owned(),
            class,
            direction: Direction::Increase,
            margins,
            critical: true,
            source: "".into(),
            reading: Reading::Given,
        };
        let plan = Plan {
            metrics: vec![
                metric("errors", MetricClass::Errors, Margins::ERRORS),
                metric("latency", MetricClass::Latency, Margins::LATENCY),
            ],
            requests: None,
        };
        let baseline = (0..BASELINE_INSTANCES).map(|i| (Arm::Baseline, format!("b{i}").into()));
        Self {
            since,
            edges: vec![Arc::new([]), Arc::new(EDGES)],
            instances: baseline.chain([(Arm::Canary, "c0".into())]).collect(),
            seen: Vec::new(),
            run: run(&plan, since),
            plan,
            last: None,
        }
    }

    /// One interval: nothing of it is seen by one who is blind.
    pub(crate) fn step(
        &mut self,
        rng: &mut Rng,
        (start, end): (i64, i64),
        share: f64,
        bad: bool,
        blind: bool,
    ) -> Verdict {
        let mut instances = Vec::new();
        for (arm, name) in self.instances.iter().filter(|_| !blind) {
            let (share, errors, slow) = match arm {
                Arm::Baseline => ((1.0 - share) / BASELINE_INSTANCES as f64, 0.01, SLOW),
                Arm::Canary if bad => (share, 0.06, 3.0 * SLOW),
                Arm::Canary => (share, 0.01, SLOW),
            };
            if share == 0.0 {
                continue;
            }
            let requests = counted(rng, REQUESTS * share);
            let (errors, slow) = (part(rng, requests, errors), part(rng, requests, slow));
            let buckets = vec![(requests - slow) / 2.0, (requests - slow) / 2.0, slow, 0.0];
            instances.push(InstanceInterval {
                arm: *arm,
                instance: Arc::clone(name),
                seconds: (end - start) as f64 / 1000.0,
                requests: Some(requests),
                measurements: vec![
                    Some(Measurement::Proportion { events: errors, trials: requests }),
                    Some(Measurement::Buckets(buckets)),
                ],
            });
        }
        let edges = self.edges.clone();
        let interval = Interval { start: at(start), end: at(end), edges, instances, down: Vec::new() };
        let verdict = self.run.step(&interval);
        self.seen.push(interval);
        self.last = Some(verdict.clone());
        verdict
    }

    /// From the store alone. Says whether it came to the same.
    pub(crate) fn replay(&mut self) -> bool {
        self.run = run(&self.plan, self.since);
        let mut last = None;
        for interval in &self.seen {
            last = Some(self.run.step(interval));
        }
        // Not-a-number is not equal to itself, so by its words.
        format!("{last:?}") == format!("{:?}", self.last)
    }
}

fn run(plan: &Plan, since: i64) -> AnalysisRun {
    let spec = JudgeSpec { warm_up: Duration::from_secs(60), ..JudgeSpec::default() };
    AnalysisRun::new(&spec, plan, at(since))
}

/// A whole number about `mean`, as far from it as a count would be.
fn counted(rng: &mut Rng, mean: f64) -> f64 {
    (mean + mean.sqrt() * normal(rng)).round().max(0.0)
}

fn part(rng: &mut Rng, whole: f64, share: f64) -> f64 {
    let mean = whole * share;
    (mean + (mean * (1.0 - share)).sqrt() * normal(rng)).round().clamp(0.0, whole)
}

/// Nearly: the sum of twelve even ones.
fn normal(rng: &mut Rng) -> f64 {
    (0..12).map(|_| rng.range(0, 1_000_000) as f64 / 1e6).sum::<f64>() - 6.0
}
