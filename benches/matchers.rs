//! What finding series costs among a million: `cargo bench --bench matchers [-- SERIES]`; under `cargo test` a small
//! form runs. Milliseconds, median of several.
#![allow(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::time::Duration;

use davy_model::{Labels, MatchOp, Matcher, Timestamp, Value};
use davy_store::{Durability, Limits, Options, Store};

const START: i64 = 1_767_225_600_000;
/// Series of a target.
const EACH: usize = 1000;
const TIMES: usize = 9;

fn main() {
    let full = std::env::args().any(|a| a == "--bench");
    let asked = std::env::args().filter_map(|a| a.parse().ok()).next();
    let series: usize = asked.unwrap_or(if full { 1_000_000 } else { 3000 });
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        free_disk_bytes_min: 0,
        series_max: 2_000_000,
        series_per_service_max: 2_000_000,
        ..Limits::default()
    };
    let options = Options { head_range: Duration::from_secs(1800), limits, ..Options::default() };
    let store = Store::open(dir.path(), at(0), options).unwrap().0;
    for target in 0..series / EACH {
        let mut a = store.appender(at(0));
        for n in 0..EACH {
            let s = a.series(&labels(target, n)).unwrap();
            a.append(s, at(0), Value::Float(n as f64)).unwrap();
        }
        a.commit(Durability::Group).unwrap();
    }
    store.flush().unwrap();
    let snapshot = store.snapshot();
    let metric = || Matcher::metric("metric_7");
    let regex = |name: &str, re: &str| Matcher::new(name, MatchOp::Regex, re).unwrap();
    let not = |name: &str, re: &str| Matcher::new(name, MatchOp::NotRegex, re).unwrap();
    let cases = [
        ("one metric", vec![metric()]),
        ("one metric of one instance", vec![metric(), Matcher::equal("instance", "10.0.0.1:9100")]),
        ("everything of one instance", vec![Matcher::equal("instance", "10.0.0.1:9100")]),
        ("one metric, some instances by regex", vec![metric(), regex("instance", "10[.]0[.].*[37]:9100")]),
        ("one metric, not some paths", vec![metric(), not("path", "/api/[0-3]")]),
        (
            "metrics by regex, of one instance",
            vec![regex("__name__", "metric_.*7"), Matcher::equal("instance", "10.0.0.1:9100")],
        ),
        ("a label that is absent, one metric", vec![metric(), Matcher::equal("absent", "")]),
    ];
    println!("{series} series");
    for (name, matchers) in cases {
        let find = || snapshot.series(&matchers, at(0), at(1)).unwrap().len();
        let found = find();
        let mut took: Vec<f64> = (0..TIMES).map(|_| timed(find)).collect();
        took.sort_by(f64::total_cmp);
        println!("{name:<40} {found:>7} found {:>9.3} ms", took[TIMES / 2]);
    }
}

/// Milliseconds of a thread that does not wait; the kernel counts CPU time too coarsely for this.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn timed(f: impl Fn() -> usize) -> f64 {
    let before = std::time::Instant::now();
    std::hint::black_box(f());
    before.elapsed().as_secs_f64() * 1e3
}

fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(START + s * 1000)
}

fn labels(target: usize, n: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{n}").as_str()),
        ("job", "bench"),
        ("instance", &format!("10.0.{}.{}:9100", target / 250, target % 250)),
        ("service", &format!("service-{}", target / 2)),
        ("version", if target.is_multiple_of(2) { "1.0" } else { "1.1" }),
        ("path", &format!("/api/{}", n % 7)),
    ])
}
