//! Cost of a judge's step: one interval of one release with five metrics, ten instances and all seven epochs.
//!
//!     cargo bench --bench judge

#[path = "../detector/tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{at, intervals, metric, plan, spec};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use davy_detector::config::Direction;
use davy_detector::{AnalysisRun, Interval, Margins, MetricClass, Plan};
use davy_fixtures::scenario::Scenario;

/// Past the start of the last epoch, so that every copy runs.
const WARM: usize = 980;

fn judged(plan: &Plan, intervals: &[Interval]) -> AnalysisRun {
    let mut run = AnalysisRun::new(&spec(0.01), plan, at(0.0));
    intervals.iter().for_each(|i| {
        run.step(i);
    });
    run
}

fn steps(c: &mut Criterion) {
    let scenario = Scenario { intervals: WARM + 200, ..Scenario::mild() };
    let all = intervals(&scenario, 1);
    let (past, next) = all.split_at(WARM);
    let mut group = c.benchmark_group("judge");
    group.throughput(Throughput::Elements(next.len() as u64));
    let errors = Plan {
        metrics: vec![metric("errors", MetricClass::Errors, Direction::Increase, Margins::ERRORS)],
        requests: None,
    };
    for (name, plan) in [("errors", errors), ("five metrics", plan())] {
        let run = judged(&plan, past);
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || run.clone(),
                |run| {
                    for i in next {
                        black_box(run.step(i));
                    }
                },
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
