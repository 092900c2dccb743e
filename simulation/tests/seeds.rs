//! A hundred thousand seeds on every change; a million by `simulate --seeds 1000000`.

use std::collections::BTreeSet;

use davy_simulation::{Variant, Violation, run};

/// Overrides how many seeds are played.
fn seeds() -> u64 {
    std::env::var("DAVY_SIMULATION_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(100_000)
}

#[test]
fn no_seed_breaks_an_invariant_and_the_machine_is_walked() {
    let (first, all) = (1, seeds());
    let halves = [first..first + all / 2, first + all / 2..first + all];
    let played = std::thread::scope(|scope| {
        let threads = halves.map(|range| {
            scope.spawn(move || {
                let (mut bad, mut edges, mut rollbacks, mut judged) = (Vec::new(), BTreeSet::new(), 0, 0);
                for seed in range {
                    let outcome = run(seed, Variant::Whole);
                    bad.extend(outcome.violations.iter().map(|v| (seed, v.as_str())));
                    edges.extend(outcome.edges);
                    rollbacks += outcome.rollbacks;
                    judged += if outcome.judged { outcome.rollbacks } else { 0 };
                }
                (bad, edges, rollbacks, judged)
            })
        });
        threads.map(|t| t.join().expect("a seed does not panic"))
    });
    let mut edges = BTreeSet::new();
    let (mut rollbacks, mut judged) = (0, 0);
    for (bad, walked, applied, by_the_judge) in played {
        assert_eq!(bad, [], "play one with: cargo run -p davy-simulation -- --story SEED");
        edges.extend(walked);
        rollbacks += applied;
        judged += by_the_judge;
    }
    assert!(rollbacks > 0, "nothing was ever rolled back");
    if all >= 10_000 {
        assert!(judged > 0, "the real judge never led to a rollback");
        assert!(edges.len() >= 30, "only {} edges: {edges:?}", edges.len());
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let traces: BTreeSet<u64> = (1..200)
        .map(|seed| {
            let (a, b) = (run(seed, Variant::Whole), run(seed, Variant::Whole));
            assert_eq!(a.trace, b.trace, "seed {seed}");
            a.trace
        })
        .collect();
    assert!(traces.len() > 190, "seeds hardly differ: {}", traces.len());
}

/// Each of them breaks something within ten thousand seeds.
#[test]
fn what_is_left_out_is_missed() {
    let expected = [
        (Variant::NoCompareAndSet, Violation::Double),
        (Variant::NoCompareAndSet, Violation::NotJudged),
        (Variant::RevisionAsGeneration, Violation::NotJudged),
        (Variant::NoMarker, Violation::NotJudged),
        (Variant::NoDurableIntent, Violation::NoIntent),
        (Variant::TimeoutIsNotSent, Violation::Double),
        (Variant::BlindIsBad, Violation::Blind),
        (Variant::ToldWithoutRow, Violation::Unended),
        (Variant::NoOrder, Violation::Overtaken),
        (Variant::ToldWithoutRow, Violation::Silent),
        (Variant::NoAnswerIsDelivered, Violation::Undelivered),
        (Variant::SentBeforeWritten, Violation::Unwritten),
        (Variant::NewIdEachAttempt, Violation::Unwritten),
        (Variant::IdOfLane, Violation::TwoFaced),
    ];
    for (variant, violation) in expected {
        let found = (1..=10_000).find(|seed| run(*seed, variant).violations.contains(&violation));
        assert!(found.is_some(), "{} does not lead to {}", variant.as_str(), violation.as_str());
    }
}
