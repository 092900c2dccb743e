//! Plays many seeds on all cores and prints what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use davy_simulation::{Outcome, Variant, Violation, run, story};

#[derive(Parser)]
#[command(about = "Plays seeds of a release against faults, and counts what must never happen")]
struct Arguments {
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Also what the broken variants come to, over a tenth of the seeds each.
    #[arg(long)]
    broken: bool,
    /// Tell what happens in one seed, and nothing else.
    #[arg(long, value_name = "SEED")]
    story: Option<u64>,
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    rollbacks: u64,
    steps: u64,
    crashes: u64,
    messages: u64,
    attempts: u64,
    duplicates: u64,
    judged: u64,
    judged_rollbacks: u64,
    wronged: u64,
    bad: BTreeMap<Violation, (u64, u64)>,
    edges: BTreeSet<(&'static str, &'static str)>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.rollbacks += u64::from(outcome.rollbacks);
        self.steps += u64::from(outcome.steps);
        self.crashes += u64::from(outcome.crashes);
        self.messages += u64::from(outcome.messages);
        self.attempts += u64::from(outcome.attempts);
        self.duplicates += u64::from(outcome.duplicates);
        self.judged += u64::from(outcome.judged);
        self.wronged += u64::from(outcome.wronged);
        self.judged_rollbacks += if outcome.judged { u64::from(outcome.rollbacks) } else { 0 };
        self.edges.extend(outcome.edges);
        for violation in outcome.violations {
            self.bad.entry(violation).or_insert((0, seed)).0 += 1;
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.seeds += other.seeds;
        self.rollbacks += other.rollbacks;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.messages += other.messages;
        self.attempts += other.attempts;
        self.duplicates += other.duplicates;
        self.judged += other.judged;
        self.wronged += other.wronged;
        self.judged_rollbacks += other.judged_rollbacks;
        self.edges.extend(other.edges);
        for (violation, (count, seed)) in other.bad {
            let entry = self.bad.entry(violation).or_insert((0, seed));
            *entry = (entry.0 + count, entry.1.min(seed));
        }
        self
    }

    fn show(&self, variant: Variant) {
        let bad: Vec<String> =
            self.bad.iter().map(|(v, (n, seed))| format!("{} {n} (seed {seed})", v.as_str())).collect();
        let bad = if bad.is_empty() { "0 violations".to_owned() } else { bad.join(", ") };
        println!(
            "{}: {} seeds, {} rollbacks, {} steps, {} crashes: {bad}",
            variant.as_str(),
            self.seeds,
            self.rollbacks,
            self.steps,
            self.crashes
        );
    }
}

fn play(from: u64, seeds: u64, variant: Variant) -> Sum {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicU64::new(from);
    std::thread::scope(|scope| {
        let work = || {
            let mut sum = Sum::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + seeds {
                    return sum;
                }
                sum.add(seed, run(seed, variant));
            }
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let sums = all.into_iter().filter_map(|t| t.join().ok());
        sums.fold(Sum::default(), Sum::merge)
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.story {
        for line in story(seed, Variant::Whole) {
            println!("{line}");
        }
        return ExitCode::SUCCESS;
    }
    let whole = play(arguments.from, arguments.seeds, Variant::Whole);
    whole.show(Variant::Whole);
    println!(
        "{} messages, {} attempts, {} taken again; {} seeds with the real judge: {} rollbacks, {} of good canaries",
        whole.messages, whole.attempts, whole.duplicates, whole.judged, whole.judged_rollbacks, whole.wronged
    );
    let edges: Vec<String> = whole.edges.iter().map(|(a, b)| format!("{a} -> {b}")).collect();
    println!("{} edges of the machine: {}", edges.len(), edges.join(", "));
    if arguments.broken {
        for variant in Variant::BROKEN {
            play(arguments.from, arguments.seeds.div_ceil(10), variant).show(variant);
        }
    }
    if whole.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
