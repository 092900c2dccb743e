//! Data that cannot be believed holds the verdict: never a pass, never a rollback, and no evidence.
//!
//! In every test the canary fails half of its requests, so that whatever is judged would be a rollback.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_detector::config::{ArmSpec, Direction, JudgeSpec, Margin, MetricKind, MetricSpec, ReleaseSpec};
use davy_detector::{AnalysisRun, Arms, Contract, Observer, Outcome, Verdict, plan_release};
use davy_model::{Labels, Matcher, Sample, Timestamp, Value};
use davy_query::{Expr, Recorded};
use davy_store::SeriesSamples;

fn at(s: f64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + (s * 1000.0) as i64)
}

/// What has been scraped so far.
#[derive(Default)]
struct World(BTreeMap<Labels, Vec<Sample>>);

impl World {
    fn put(&mut self, target: &[(&str, &str)], metric: &str, label: (&str, &str), s: f64, value: f64) {
        let labels = target.iter().copied().chain([("__name__", metric), ("job", "shop"), label]);
        let sample = Sample { timestamp: at(s), value: Value::Float(value) };
        self.0.entry(Labels::from_pairs(labels.filter(|(_, v)| !v.is_empty()))).or_default().push(sample);
    }

    /// One scrape at `s` whose samples are stamped `off` seconds later, after `n` requests.
    fn scrape(&mut self, target: &[(&str, &str)], s: f64, off: f64, n: f64, failed: f64) {
        self.put(target, "up", ("", ""), s, 1.0);
        let t = s + off;
        self.put(target, "http_requests_total", ("code", "200"), t, n - failed);
        self.put(target, "http_requests_total", ("code", "500"), t, failed);
        self.put(target, "process_cpu_seconds_total", ("", ""), t, n * 0.001);
    }

    fn recorded(&self) -> Recorded {
        let series = self
            .0
            .iter()
            .map(|(labels, samples)| SeriesSamples { labels: labels.clone(), samples: samples.clone() });
        Recorded(series.collect())
    }
}

const BASELINE: &[(&str, &str)] = &[("instance", "a:1"), ("version", "1"), ("track", "stable")];
const CANARY: &[(&str, &str)] = &[("instance", "c:1"), ("version", "2"), ("track", "canary")];

fn spec() -> ReleaseSpec {
    let judge = JudgeSpec { warm_up: Duration::ZERO, ..JudgeSpec::default() };
    ReleaseSpec { judge, ..ReleaseSpec::default() }
}

/// Judges `n` intervals of 15 s live: each is read before the next is written.
fn judge(spec: &ReleaseSpec, n: i32, mut write: impl FnMut(&mut World, f64, f64)) -> Vec<Verdict> {
    let arms = Arms::of(spec, "shop", "1", "2");
    let mut world = World::default();
    let mut running: Option<(Observer, AnalysisRun)> = None;
    (0..n)
        .map(|t| {
            let (start, end) = (f64::from(t) * 15.0, f64::from(t + 1) * 15.0);
            write(&mut world, f64::from(t), start + 9.0);
            let recorded = world.recorded();
            let (observer, run) = running.get_or_insert_with(|| {
                let plan = plan_release(spec, &arms, &recorded, at(-600.0), at(end + 600.0))
                    .expect("memory can be read");
                let run = AnalysisRun::new(&spec.judge, &plan, at(0.0)).expecting_share(spec.traffic_share);
                (Observer::new(plan, arms.clone()), run)
            });
            let interval = observer.observe(&recorded, at(start), at(end)).expect("memory can be read");
            run.step_under(&interval, observer.broken())
        })
        .collect()
}

fn healthy(world: &mut World, target: &[(&str, &str)], t: f64, s: f64) {
    world.scrape(target, s, 0.0, 300.0 * t, 0.0);
}

fn failing(world: &mut World, t: f64, s: f64) {
    world.scrape(CANARY, s, 0.0, 300.0 * t, 150.0 * t);
}

fn held(verdict: &Verdict, contract: Contract, reason: &str) {
    assert_eq!((verdict.outcome, verdict.contract), (Outcome::Insufficient, contract), "{}", verdict.reason);
    assert_eq!(verdict.reason, reason);
}

/// From when on the release is failed.
fn failed_at(verdicts: &[Verdict]) -> Option<usize> {
    verdicts.iter().position(|v| v.outcome == Outcome::Fail)
}

#[test]
fn believed_data_fails_this_canary_soon() {
    let verdicts = judge(&spec(), 10, |w, t, s| {
        healthy(w, BASELINE, t, s);
        failing(w, t, s);
    });
    assert!(failed_at(&verdicts).is_some_and(|t| t <= 8), "{:?}", failed_at(&verdicts));
}

#[test]
fn arms_of_one_version_are_not_compared() {
    let mut spec = spec();
    spec.baseline = ArmSpec::Matchers(vec![Matcher::equal("track", "stable")]);
    spec.canary = ArmSpec::Matchers(vec![Matcher::equal("track", "canary")]);
    let same = [("instance", "c:1"), ("version", "1"), ("track", "canary")];
    let verdicts = judge(&spec, 10, |w, t, s| {
        healthy(w, BASELINE, t, s);
        w.scrape(&same, s, 0.0, 300.0 * t, 150.0 * t);
    });
    held(&verdicts[9], Contract::SameVersion, "both arms run version 1: nothing to compare");
    assert_eq!(verdicts[9].intervals, 0);
}

#[test]
fn a_selector_of_both_arms_tells_nothing() {
    let mut spec = spec();
    spec.baseline = ArmSpec::Matchers(vec![Matcher::equal("job", "shop")]);
    spec.canary = ArmSpec::Matchers(vec![Matcher::equal("track", "canary")]);
    let verdicts = judge(&spec, 10, |w, t, s| {
        healthy(w, BASELINE, t, s);
        failing(w, t, s);
    });
    let why = "instances belong to both arms: what tells baseline and canary apart selects both";
    held(&verdicts[9], Contract::SelectorAmbiguous, why);
}

#[test]
fn selectors_that_match_nothing_or_several_things_are_named() {
    let with = |query: &str| {
        let metric = MetricSpec {
            name: "queue_lag".into(),
            kind: MetricKind::Gauge { query: Expr::parse(query).unwrap() },
            direction: Direction::Increase,
            margin: Margin { relative: 0.1, absolute: 5.0 },
            critical: true,
        };
        ReleaseSpec { metrics: vec![metric], ..spec() }
    };
    let write = |w: &mut World, t: f64, s: f64| {
        healthy(w, BASELINE, t, s);
        failing(w, t, s);
        for (target, topic) in [(BASELINE, "a"), (BASELINE, "b"), (CANARY, "a"), (CANARY, "b")] {
            w.put(target, "queue_lag", ("topic", topic), s, 5.0);
        }
    };
    let verdicts = judge(&with("queue_lagg"), 25, write);
    let why = "queue lag finds nothing in either version: queue_lagg";
    held(&verdicts[24], Contract::SelectorEmpty, why);
    let verdicts = judge(&with("queue_lag"), 6, write);
    let why = "queue lag finds several values of one instance or version: queue_lag";
    held(&verdicts[5], Contract::SelectorAmbiguous, why);
}

#[test]
fn a_canary_whose_clock_is_behind_is_held_until_it_is_right() {
    let verdicts = judge(&spec(), 30, |w, t, s| {
        healthy(w, BASELINE, t, s);
        // Stamped a minute behind, until it is set right.
        w.scrape(CANARY, s, if t < 15.0 { -60.0 } else { 0.0 }, 300.0 * t, 150.0 * t);
    });
    held(
        &verdicts[12],
        Contract::ClockSkew,
        "samples of the canary are stamped 66 s behind Davy's clock (c:1)",
    );
    assert!(failed_at(&verdicts).is_some_and(|t| t >= 15), "{:?}", failed_at(&verdicts));
}

#[test]
fn a_canary_whose_clock_is_ahead_is_held() {
    let verdicts = judge(&spec(), 12, |w, t, s| {
        healthy(w, BASELINE, t, s);
        w.scrape(CANARY, s, 90.0, 300.0 * t, 150.0 * t);
    });
    held(
        &verdicts[11],
        Contract::ClockSkew,
        "samples of the canary are stamped 90 s ahead of Davy's clock (c:1)",
    );
    assert_eq!(failed_at(&verdicts), None);
}

#[test]
fn a_cache_that_answers_for_the_canary_is_named_and_passes() {
    let verdicts = judge(&spec(), 40, |w, t, s| {
        healthy(w, BASELINE, t, s);
        // Healthy, then frozen for ten intervals, then failing.
        let n = if t < 14.0 { t.min(4.0) } else { t };
        w.scrape(CANARY, s, 0.0, 300.0 * n, if t < 14.0 { 0.0 } else { 150.0 * (t - 13.0) });
    });
    let why = "scrapes of the canary repeat the same values, CPU time too (c:1): something between serves an old answer";
    held(&verdicts[12], Contract::StaleScrape, why);
    let judged: Vec<u64> = verdicts[8..14].iter().map(|v| v.intervals).collect();
    assert!(judged.iter().all(|n| *n == judged[0]), "held intervals are no evidence: {judged:?}");
    assert_eq!(verdicts[14].contract, Contract::Ok);
    assert!(failed_at(&verdicts).is_some_and(|t| t > 14), "{:?}", failed_at(&verdicts));
}

#[test]
fn a_crash_loop_is_named() {
    let loops = |by_kubernetes: bool| {
        judge(&spec(), 20, |w, t, s| {
            healthy(w, BASELINE, t, s);
            let since = if by_kubernetes { t } else { t % 4.0 };
            w.scrape(CANARY, s, 0.0, 300.0 * since, 0.0);
            if by_kubernetes {
                let pod =
                    [("instance", "kube:8080"), ("version", "2"), ("pod", "shop-2-x"), ("container", "shop")];
                w.put(&pod, "kube_pod_container_status_restarts_total", ("", ""), s, (t / 4.0).floor());
            }
        })
    };
    let why = |n, who| {
        format!(
            "the canary is in a crash loop: counters of an instance began anew {n} times within 10 min ({who}): \
             held, not judged"
        )
    };
    let seen = loops(false);
    assert_eq!(seen[11].contract, Contract::Ok, "{}", seen[11].reason);
    held(&seen[12], Contract::CrashLoop, &why(3, "c:1"));
    held(&loops(true)[12], Contract::CrashLoop, &why(3, "shop-2-x"));
}

#[test]
fn traffic_that_is_not_split_as_declared_is_held_until_it_is() {
    let spec = ReleaseSpec { traffic_share: Some(0.05), ..spec() };
    let mut served = (0.0, 0.0);
    let verdicts = judge(&spec, 40, |w, t, s| {
        // Half of it instead of a twentieth, until the route is mended.
        let more = if t < 12.0 { (300.0, 300.0) } else { (570.0, 30.0) };
        served = (served.0 + more.0, served.1 + more.1);
        w.scrape(BASELINE, s, 0.0, served.0, 0.0);
        w.scrape(CANARY, s, 0.0, served.1, (served.1 / 2.0).floor());
    });
    let why =
        "the canary has 50 % of the requests where 5.0 % was declared: the traffic is not split as said";
    held(&verdicts[11], Contract::TrafficSplit, why);
    assert!(failed_at(&verdicts).is_some_and(|t| t >= 19), "{:?}", failed_at(&verdicts));
}

#[test]
fn a_blip_holds_nothing() {
    let verdicts = judge(&spec(), 20, |w, t, s| {
        healthy(w, BASELINE, t, s);
        // One restart, and one scrape that repeats the last.
        let n = if t == 6.0 { 5.0 } else { t };
        let n = if t > 10.0 { n - 10.0 } else { n };
        w.scrape(CANARY, s, 0.0, 300.0 * n, 0.0);
    });
    assert!(verdicts[1..].iter().all(|v| v.contract == Contract::Ok));
    assert_eq!(verdicts[19].intervals, 20);
}
