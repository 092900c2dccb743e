//! Cost of a judge's step: one interval of one release with ten instances, in its first ten minutes, after an hour
//! (four copies of each process) and after four hours (all seven).
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

/// Intervals before those that are measured, and how many of these.
const AGES: [(&str, usize, usize); 3] =
    [("first ten minutes", 0, 40), ("after an hour", 240, 80), ("after four hours", 980, 200)];

fn judged(plan: &Plan, intervals: &[Interval]) -> AnalysisRun {
    let mut run = AnalysisRun::new(&spec(0.01), plan, at(0.0));
    intervals.iter().for_each(|i| {
        run.step(i);
    });
    run
}

fn steps(c: &mut Criterion) {
    let scenario = Scenario { intervals: 1_180, ..Scenario::mild() };
    let all = intervals(&scenario, 1);
    let mut group = c.benchmark_group("judge");
    let errors = Plan {
        metrics: vec![metric("errors", MetricClass::Errors, Direction::Increase, Margins::ERRORS)],
        requests: None,
    };
    for (name, plan) in [("errors", errors), ("five metrics", plan())] {
        for (age, before, measured) in AGES {
            let (past, next) = all.split_at(before);
            let next = &next[..measured];
            let run = judged(&plan, past);
            group.throughput(Throughput::Elements(measured as u64));
            group.bench_function(format!("{name}, {age}"), |b| {
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
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
