//! Runs every scenario and seed on all cores; the order of the results does not depend on the threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use davy_fixtures::scenario::Named;

use crate::args::Args;
use crate::davy::{Decided, Judge, decide};

pub(crate) struct Measured {
    pub(crate) named: Named,
    /// By seed, then by judge.
    pub(crate) runs: Vec<Vec<Decided>>,
}

pub(crate) fn run(args: &Args, scenarios: &[Named], judges: &[Judge]) -> Vec<Measured> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let seeds: Vec<u64> = args.seeds().collect();
    let jobs = scenarios.len() * seeds.len();
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Vec<Decided>>> = (0..jobs).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for _ in 0..args.threads.unwrap_or(cores) {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let Some(result) = results.get(job) else { return };
                    let named = &scenarios[job / seeds.len()];
                    let run = named.run(seeds[job % seeds.len()]);
                    *result.lock().unwrap_or_else(PoisonError::into_inner) = decide(judges, &run);
                }
            });
        }
    });
    let mut results = results.into_iter().map(|r| r.into_inner().unwrap_or_else(PoisonError::into_inner));
    let each = scenarios
        .iter()
        .map(|named| Measured { named: named.clone(), runs: results.by_ref().take(seeds.len()).collect() });
    each.collect()
}
