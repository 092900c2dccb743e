//! Where a counter began: the zero that a scrape did not see.
//!
//! A series that only grows starts at zero, but its first scraped value may already be a hundred. Without the zero the
//! first increments of every new series are lost to `increase`: a canary's first errors (prometheus#1673, #3886).

use std::time::Duration;

use davy_model::Timestamp;

/// How old a start may be, in intervals, for the first scrape of a target to count from it.
const FIRST_SCRAPE_INTERVALS: u32 = 2;

/// Seconds of work that a process may do in a second: threads on as many cores. A counter of seconds that says more
/// counts what the process did not do, as a node exporter's does.
const SECONDS_PER_SECOND_MAX: f64 = 256.0;

/// What is known about the target when a series is first seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// The previous successful scrape, if this loop made one with the same configuration.
    pub(super) previous: Option<Timestamp>,
    pub(super) interval: Duration,
    /// `process_start_time_seconds` of the same scrape.
    pub(super) process_start: Option<Timestamp>,
}

/// A sample of a series that only grows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) at: Timestamp,
    pub(super) value: f64,
    /// When the series started, by its own word.
    pub(super) start: Option<Timestamp>,
}

/// Where to put a zero before the first sample of a series; always before the sample. A sample that is zero itself
/// needs none.
pub(super) fn zero_of_new(point: Point, known: &Circumstances) -> Option<Timestamp> {
    if point.value == 0.0 || point.value.is_nan() {
        return None;
    }
    let before = |t: &Timestamp| *t < point.at;
    let start = point.start.filter(before);
    let process_start = known.process_start.filter(before);
    match known.previous.filter(before) {
        // The series was not there at the previous scrape: it began after it.
        Some(previous) => {
            let after = |t: &Timestamp| *t > previous;
            Some(start.filter(after).or(process_start.filter(after)).unwrap_or(previous))
        }
        None if known.previous.is_some() => None,
        None => {
            let recent = point.at - known.interval * FIRST_SCRAPE_INTERVALS;
            start.filter(|t| *t >= recent).or(process_start.filter(|t| *t >= recent))
        }
    }
}

/// Whether the counter can have come to this value since then. Only counters of seconds can tell.
pub(super) fn is_plausible(metric: &str, point: Point, since: Timestamp) -> bool {
    let worked = SECONDS_PER_SECOND_MAX * point.at.since(since).as_secs_f64();
    !metric.ends_with("_seconds_total") || point.value <= worked
}

/// Whether the metric says that its target is an exporter, whose counters are older than its process.
pub(super) fn is_of_exporter(metric: &str) -> bool {
    metric.ends_with("exporter_build_info")
}

/// Where to put a zero when a known series began anew without its value showing it.
pub(super) fn zero_of_restarted(point: Point, last: Point) -> Option<Timestamp> {
    let (start, before) = (point.start?, last.start?);
    let hidden = start > before && point.value >= last.value;
    (hidden && start > last.at && start < point.at).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn new(
        sample: i64,
        start: Option<i64>,
        previous: Option<i64>,
        process_start: Option<i64>,
    ) -> Option<i64> {
        let known = Circumstances {
            previous: previous.map(at),
            interval: INTERVAL,
            process_start: process_start.map(at),
        };
        let point = Point { at: at(sample), value: 3.0, start: start.map(at) };
        zero_of_new(point, &known).map(|t| t.as_millis() / 1000)
    }

    #[test]
    fn a_series_with_a_start_of_its_own_counts_from_there() {
        assert_eq!(new(100, Some(92), Some(85), None), Some(92));
        assert_eq!(new(100, Some(75), None, None), Some(75), "first scrape, a young series");
    }

    #[test]
    fn a_series_that_was_not_there_counts_from_the_previous_scrape() {
        assert_eq!(new(100, None, Some(85), None), Some(85));
        assert_eq!(new(100, Some(20), Some(85), None), Some(85), "the target's clock is behind");
        assert_eq!(new(100, Some(103), Some(85), None), Some(85), "the target's clock is ahead");
        assert_eq!(new(1000, None, Some(85), Some(990)), Some(990), "back after an outage, as a new process");
    }

    #[test]
    fn at_the_first_scrape_only_a_young_process_counts_from_its_start() {
        assert_eq!(new(100, None, None, Some(71)), Some(71));
        assert_eq!(new(100, None, None, Some(69)), None);
        assert_eq!(new(100, Some(10), None, None), None);
        assert_eq!(new(100, None, None, None), None);
    }

    #[test]
    fn a_counter_of_seconds_is_not_older_than_it_can_be() {
        let check = |metric, value| is_plausible(metric, Point { at: at(100), value, start: None }, at(98));
        assert!(check("app_cpu_seconds_total", 500.0) && !check("node_cpu_seconds_total", 4556.0));
        assert!(check("bytes_total", 1e12));
        assert!(is_of_exporter("node_exporter_build_info") && is_of_exporter("nginxexporter_build_info"));
        assert!(!is_of_exporter("checkout_build_info"));
    }

    #[test]
    fn a_zero_is_never_at_or_after_its_sample() {
        assert_eq!(new(100, Some(100), None, Some(101)), None);
        assert_eq!(new(100, None, Some(100), None), None);
        assert_eq!(new(80, Some(70), Some(85), Some(71)), None, "a sample from before the previous scrape");
    }

    #[test]
    fn a_reset_that_the_value_hides_is_seen_by_its_start() {
        let check = |last: (i64, f64, Option<i64>), now: (i64, f64, Option<i64>)| {
            let point =
                |(t, value, start): (i64, f64, Option<i64>)| Point { at: at(t), value, start: start.map(at) };
            zero_of_restarted(point(now), point(last)).map(|t| t.as_millis() / 1000)
        };
        assert_eq!(check((85, 5.0, Some(10)), (100, 7.0, Some(90))), Some(90));
        assert_eq!(check((85, 5.0, Some(10)), (100, 7.0, Some(10))), None, "the same start");
        assert_eq!(check((85, 5.0, Some(10)), (100, 2.0, Some(90))), None, "the fall shows the reset");
        assert_eq!(check((85, 5.0, Some(10)), (100, 7.0, Some(80))), None, "not after the last sample");
        assert_eq!(check((85, 5.0, Some(10)), (100, 7.0, Some(100))), None, "not before this sample");
        assert_eq!(check((85, 5.0, None), (100, 7.0, Some(90))), None, "the start was not known before");
    }
}
