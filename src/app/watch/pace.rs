//! When a release is judged: as soon as the scrapes of its interval are in, and not at some later tick.
//!
//! Scrapes of an instance come at its own offset in the interval, always the same. So intervals end right after one of
//! them, the one after which nothing comes for longest, and what it completes is judged at once.

use std::sync::Arc;
use std::time::Duration;

use davy_collector::scrape::TargetStatus;
use davy_detector::Interval;
use davy_model::Timestamp;

use super::targets::Targets;

/// Samples of an interval that arrive this much after its end are still counted in it, where nobody tells that they
/// are in. A scrape is stamped when it begins and stored when it has been read.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(2);
/// An interval ends this much after the scrape that completes it: scrapes do not take equally long.
const SLACK: Duration = Duration::from_millis(30);
/// Intervals after which their end is chosen again: soon after the first time, for the scrapes of a start are slow,
/// then now and then, as instances come and go.
const ALIGN_SETTLED: u32 = 4;
const ALIGN_AGAIN: u32 = 40;
/// How soon it is looked again whether the scrapes are in.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(25);

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The instances of both arms, as last seen.
    instances: Vec<Arc<str>>,
    /// Intervals seen since their end was last chosen, once it was.
    since: Option<u32>,
    /// Whether that was after the start's rush.
    settled: bool,
}

impl Pace {
    /// Whether every instance has been scraped since the interval that ends at `end` began.
    pub(super) fn is_complete(&self, now: Timestamp, end: Timestamp, targets: &Targets<'_>) -> bool {
        let scraped = |t: &TargetStatus| t.last_scrape.is_some_and(|at| at + t.interval > end);
        now >= end
            && !self.instances.is_empty()
            && self.instances.iter().all(|i| targets.get(i).is_some_and(scraped))
    }

    /// Whether it can be told when an interval's scrapes are in: every instance is scraped by this Davy.
    pub(super) fn can_tell(&self, targets: &Targets<'_>) -> bool {
        !self.instances.is_empty() && self.instances.iter().all(|i| targets.get(i).is_some())
    }

    /// Takes who was seen, and now and then gives the end of the next interval: `next` or up to an interval sooner or
    /// later.
    pub(super) fn learn(
        &mut self,
        seen: &Interval,
        targets: &Targets<'_>,
        next: Timestamp,
        interval: Duration,
    ) -> Option<Timestamp> {
        let down = seen.down.iter().map(|(_, i)| i);
        self.instances = seen.instances.iter().map(|i| &i.instance).chain(down).cloned().collect();
        if let Some(since) = &mut self.since {
            *since += 1;
            let after = if self.settled { ALIGN_AGAIN } else { ALIGN_SETTLED };
            if *since < after {
                return None;
            }
        }
        if self.instances.is_empty() {
            return None;
        }
        let length = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let offset = |instance: &Arc<str>| {
            let t = targets.get(instance).filter(|t| t.interval == interval)?;
            Some((t.last_scrape? + t.last_duration).as_millis().rem_euclid(length))
        };
        let mut offsets: Vec<i64> = self.instances.iter().map(offset).collect::<Option<_>>()?;
        self.settled = self.since.is_some();
        self.since = Some(0);
        offsets.sort_unstable();
        // The gap after the last is around the corner.
        let following = offsets.iter().skip(1).chain(offsets.first().filter(|_| offsets.len() > 1));
        let gaps = offsets.iter().zip(following).map(|(a, b)| ((b - a).rem_euclid(length), *a));
        let best = gaps.max().map_or(offsets.first().copied()?, |(_, offset)| offset);
        let slack = i64::try_from(SLACK.as_millis()).unwrap_or(0).min(length / 4);
        let earliest = next.as_millis() - length + length / 4;
        let end = earliest + (best + slack - earliest).rem_euclid(length);
        Some(Timestamp::from_millis(end))
    }
}

#[cfg(test)]
mod tests {
    use davy_collector::scrape::Health;
    use davy_detector::{Arm, InstanceInterval};
    use davy_model::Labels;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn scraped(instance: &str, last: i64) -> Arc<TargetStatus> {
        Arc::new(TargetStatus {
            job: "shop".into(),
            labels: Labels::from_pairs([("instance", instance)]),
            discovered: Labels::empty(),
            url: String::new(),
            interval: INTERVAL,
            timeout: INTERVAL,
            health: Health::Up,
            last_scrape: Some(at(last)),
            last_duration: Duration::from_millis(10),
            last_error: None,
            reason: None,
            samples: 1,
            duplicates: 0,
            refused: 0,
            scrapes: 1,
            failures: 0,
        })
    }

    fn seen(instances: &[&str]) -> Interval {
        let instance = |i: &&str| InstanceInterval {
            arm: Arm::Baseline,
            instance: (*i).into(),
            seconds: 15.0,
            requests: None,
            measurements: Vec::new(),
        };
        Interval {
            start: at(0),
            end: at(15_000),
            edges: Vec::new(),
            instances: instances.iter().map(instance).collect(),
            down: Vec::new(),
        }
    }

    #[test]
    fn an_interval_ends_right_after_the_scrape_before_the_longest_gap() {
        // Offsets 1.01 s, 4.01 s and 13.01 s: after 4.01 s nothing comes for nine seconds.
        let targets = [scraped("a", 1_000), scraped("b", 4_000), scraped("c", 13_000)];
        let mut pace = Pace::default();
        let end = pace.learn(&seen(&["a", "b", "c"]), &Targets::of(&targets), at(30_000), INTERVAL);
        assert_eq!(end, Some(at(19_040)));
        // The scrapes of a start are slow: soon it is chosen again, from then on rarely.
        let quicker = |t: &Arc<TargetStatus>| {
            Arc::new(TargetStatus { last_duration: Duration::from_millis(2), ..TargetStatus::clone(t) })
        };
        let quick: Vec<_> = targets.iter().map(quicker).collect();
        let mut again = |n: i64| {
            let next = at(19_040 + n * 15_000);
            pace.learn(&seen(&["a", "b", "c"]), &Targets::of(&quick), next, INTERVAL)
        };
        assert_eq!([1, 2, 3].map(&mut again), [None; 3]);
        assert_eq!(again(4), Some(at(19_032 + 4 * 15_000)));
        assert!((5..44).all(|n| again(n).is_none()));
        assert_eq!(again(44), Some(at(19_032 + 44 * 15_000)));
    }

    #[test]
    fn it_is_complete_when_everyone_was_scraped_since_it_began() {
        let mut pace = Pace::default();
        pace.learn(&seen(&["a", "b"]), &Targets::of(&[]), at(30_000), INTERVAL);
        let late = [scraped("a", 20_000), scraped("b", 14_000)];
        assert!(!pace.is_complete(at(30_000), at(30_000), &Targets::of(&late)));
        let all = [scraped("a", 20_000), scraped("b", 29_000)];
        assert!(pace.is_complete(at(30_000), at(30_000), &Targets::of(&all)));
        assert!(!pace.is_complete(at(29_999), at(30_000), &Targets::of(&all)));
        assert!(!pace.can_tell(&Targets::of(&all[..1])));
    }
}
