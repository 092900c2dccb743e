//! What turns OTLP's streams into Prometheus' counters: deltas are summed up, and a counter that begins gets
//! a zero at its beginning, so that a canary's first errors are an increase and not a starting point.
//!
//! Source of the rules: OpenTelemetry's metrics data model, "Resets and Gaps" and "Delta-to-Cumulative".

use std::sync::Arc;
use std::time::Duration;

use davy_model::{Labels, Timestamp, Value};

use super::classic::Classic;
use super::exponential::Exponential;
use super::ledger::Ledger;

/// Streams remembered. Beyond it deltas are refused, and new cumulative counters get no zero.
pub(crate) const STREAMS_MAX: usize = 200_000;
/// Metrics of resources remembered, each with the time of its last two exports.
const FAMILIES_MAX: usize = 50_000;
/// A stream that was silent for this long is forgotten; if it returns, it begins anew.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(3600);
/// A beginning further back than this is history that Davy did not see, not an increase.
const BEGINNING_MAX: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(1);

/// A running total, or an increment to one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Total {
    Number(f64),
    Classic(Classic),
    Exponential(Exponential),
}

impl Total {
    /// What a counter of it would show.
    pub(crate) fn level(&self) -> f64 {
        match self {
            Self::Number(n) => *n,
            Self::Classic(h) => h.count() as f64,
            Self::Exponential(h) => h.count() as f64,
        }
    }

    /// Its series; `labels` carry the family's name.
    pub(crate) fn series(&self, labels: &Labels) -> Vec<(Labels, Value)> {
        match self {
            Self::Number(n) => vec![(labels.clone(), Value::Float(*n))],
            Self::Classic(h) => h.series(labels),
            Self::Exponential(h) => vec![(labels.clone(), Value::Histogram(Arc::new(h.to_native())))],
        }
    }

    /// Which of the series an exemplar of this value belongs to.
    pub(crate) fn index_of(&self, value: f64) -> usize {
        match self {
            Self::Classic(h) => h.bucket_of(value),
            Self::Number(_) | Self::Exponential(_) => 0,
        }
    }

    /// Whether adding it keeps a running total a number.
    fn is_finite(&self) -> bool {
        match self {
            Self::Number(n) => n.is_finite(),
            Self::Classic(h) => h.has_finite_sum(),
            Self::Exponential(h) => h.has_finite_sum(),
        }
    }

    /// `false`, and nothing added, if the two cannot be summed.
    fn add(&mut self, more: &Self) -> bool {
        match (self, more) {
            (Self::Number(a), Self::Number(b)) => {
                *a += b;
                true
            }
            (Self::Classic(a), Self::Classic(b)) => a.add(b),
            (Self::Exponential(a), Self::Exponential(b)) => a.add(b),
            (Self::Number(_) | Self::Classic(_) | Self::Exponential(_), _) => false,
        }
    }
}

#[derive(Debug, Clone)]
struct Stream {
    start: Option<Timestamp>,
    last: Timestamp,
    total: Total,
}

#[derive(Debug)]
pub(crate) struct Streams {
    streams: Ledger<Labels, Stream>,
    /// `(export before the last, last export)` of a metric of a resource.
    families: Ledger<Labels, (Option<Timestamp>, Timestamp)>,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self { streams: Ledger::new(STREAMS_MAX), families: Ledger::new(FAMILIES_MAX) }
    }

    /// Notes a cumulative, monotonic point whose counter (or count) is `level`.
    /// Says when the counter stood at zero, if it began or began again since it was last seen.
    pub(crate) fn cumulative(
        &mut self,
        key: &Labels,
        family: &Labels,
        start: Option<Timestamp>,
        at: Timestamp,
        level: f64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let exported_before = self.family(family, at, now);
        let zero_at = match self.streams.get(key) {
            // Late: the store refuses it.
            Some(known) if at <= known.last => return None,
            Some(known) if start > known.start => {
                let Total::Number(before) = known.total else { return None };
                // A fall is seen as a reset without help.
                (level >= before).then(|| start.unwrap_or(at).max(known.last + TICK))
            }
            Some(_) => None,
            // The whole metric was exported a moment ago without this stream: it stood at zero then.
            // A start within the millisecond of the point is still before it.
            None => exported_before
                .max(start)
                .filter(|zero| *zero <= at && at.since(*zero) <= BEGINNING_MAX)
                .map(|zero| zero.min(at - TICK)),
        };
        let stream = Stream { start, last: at, total: Total::Number(level) };
        // Unless it is remembered, the next point would get a zero too.
        self.streams.put(key, stream, now).then_some(zero_at).flatten().filter(|zero| *zero < at)
    }

    /// Adds a delta; gives the running total, and when it stood at zero if it begins or begins again.
    pub(crate) fn delta(
        &mut self,
        key: &Labels,
        start: Option<Timestamp>,
        at: Timestamp,
        increment: Total,
        now: Timestamp,
    ) -> Result<(Total, Option<Timestamp>), String> {
        if !increment.is_finite() {
            return Err("delta whose sum is not finite".to_owned());
        }
        let (total, zero_at) = match self.streams.get(key) {
            None if !self.streams.has_room() => {
                return Err(format!("limit of {STREAMS_MAX} delta streams reached"));
            }
            // A tick after the start: if Davy was restarted, the last total may be stored at the start itself.
            None => {
                let start = start.filter(|s| at.since(*s) <= BEGINNING_MAX).map(|s| s + TICK);
                (increment, start.filter(|s| *s < at).or(Some(at - TICK)))
            }
            Some(known) if at <= known.last => {
                return Err(format!("delta at {at} is not newer than the last at {}", known.last));
            }
            Some(known) => {
                let mut total = known.total.clone();
                // Overlapping intervals are summed too: two writers without an instance id look like this.
                let is_gap = start.is_some_and(|s| s > known.last);
                if !is_gap && total.add(&increment) {
                    (total, None)
                } else {
                    let begin = start.unwrap_or(known.last).max(known.last + TICK);
                    (increment, Some(begin).filter(|b| *b < at))
                }
            }
        };
        self.streams.put(key, Stream { start, last: at, total: total.clone() }, now);
        Ok((total, zero_at))
    }

    /// When the family was exported before the export at `at`.
    fn family(&mut self, family: &Labels, at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match self.families.get(family).copied() {
            Some((before, last)) if last == at => before,
            Some((_, last)) if last < at => {
                self.families.put(family, (Some(last), at), now);
                Some(last)
            }
            Some(_) => None,
            None => {
                self.families.put(family, (None, at), now);
                None
            }
        }
    }

    pub(crate) fn commit(&mut self) {
        self.streams.commit();
        self.families.commit();
    }

    pub(crate) fn rollback(&mut self) {
        self.streams.rollback();
        self.families.rollback();
    }

    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.streams.sweep(now - IDLE_MAX);
        self.families.sweep(now - IDLE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn cumulative(streams: &mut Streams, start: i64, time: i64, level: f64) -> Option<Timestamp> {
        streams.cumulative(&key("c"), &key("c"), Some(at(start)), at(time), level, at(time))
    }

    #[test]
    fn a_counter_that_began_lately_gets_a_zero_at_its_start_once() {
        let mut s = Streams::new();
        assert_eq!(cumulative(&mut s, 1000, 1010, 3.0), Some(at(1000)));
        assert_eq!(cumulative(&mut s, 1000, 1020, 4.0), None);
    }

    #[test]
    fn a_counter_that_began_within_the_millisecond_gets_a_zero_before_it() {
        let mut s = Streams::new();
        assert_eq!(cumulative(&mut s, 1000, 1000, 3.0), Some(at(1000) - TICK));
        assert_eq!(cumulative(&mut Streams::new(), 1001, 1000, 3.0), None, "began after it was read");
    }

    #[test]
    fn a_counter_with_a_history_unseen_gets_none() {
        let mut s = Streams::new();
        assert_eq!(cumulative(&mut s, 100, 1000, 3.0), None);
        let mut s = Streams::new();
        assert_eq!(s.cumulative(&key("c"), &key("c"), None, at(1000), 3.0, at(1000)), None);
    }

    #[test]
    fn a_changed_start_is_a_reset() {
        let mut s = Streams::new();
        cumulative(&mut s, 1000, 1010, 3.0);
        assert_eq!(cumulative(&mut s, 1015, 1020, 5.0), Some(at(1015)), "hidden by a higher value");
        assert_eq!(cumulative(&mut s, 1025, 1030, 1.0), None, "the fall shows it");
        let overlap = cumulative(&mut s, 1028, 1040, 9.0);
        assert_eq!(overlap, Some(Timestamp::from_millis(1_030_001)), "after what is stored");
    }

    #[test]
    fn a_label_set_that_appears_later_counts_from_the_export_before() {
        let mut s = Streams::new();
        let family = key("http_requests_total");
        let mut point = |name, time| s.cumulative(&key(name), &family, Some(at(0)), at(time), 7.0, at(time));
        assert_eq!(point("ok", 1000), None, "began long ago");
        assert_eq!(point("ok", 1010), None);
        assert_eq!(point("error", 1010), Some(at(1000)), "was not there at 1000");
        assert_eq!(point("late", 2000), None, "nobody knows what happened in between");
    }

    fn delta(s: &mut Streams, start: i64, time: i64, n: f64) -> Result<(f64, Option<Timestamp>), String> {
        let (total, zero_at) = s.delta(&key("d"), Some(at(start)), at(time), Total::Number(n), at(time))?;
        let Total::Number(total) = total else { panic!("not a number") };
        Ok((total, zero_at))
    }

    #[test]
    fn deltas_sum_up() {
        let mut s = Streams::new();
        assert_eq!(delta(&mut s, 0, 10, 3.0), Ok((3.0, Some(Timestamp::from_millis(1)))));
        assert_eq!(delta(&mut s, 10, 20, 4.0), Ok((7.0, None)));
        assert_eq!(delta(&mut s, 15, 30, 1.0), Ok((8.0, None)), "overlap");
    }

    #[test]
    fn a_gap_starts_anew_from_zero() {
        let mut s = Streams::new();
        delta(&mut s, 0, 10, 3.0).expect("first");
        assert_eq!(delta(&mut s, 20, 30, 9.0), Ok((9.0, Some(at(20)))));
    }

    #[test]
    fn late_and_repeated_deltas_are_refused() {
        let mut s = Streams::new();
        delta(&mut s, 0, 10, 3.0).expect("first");
        assert!(delta(&mut s, 0, 10, 3.0).is_err_and(|e| e.contains("not newer")));
        assert_eq!(delta(&mut s, 10, 20, 1.0), Ok((4.0, None)));
    }

    #[test]
    fn a_lost_batch_is_not_counted_twice() {
        let mut s = Streams::new();
        delta(&mut s, 0, 10, 3.0).expect("first");
        s.commit();
        delta(&mut s, 10, 20, 4.0).expect("second");
        s.rollback();
        assert_eq!(delta(&mut s, 10, 20, 4.0), Ok((7.0, None)), "the sender tries again");
    }

    #[test]
    fn idle_streams_are_forgotten() {
        let mut s = Streams::new();
        delta(&mut s, 0, 10, 3.0).expect("first");
        s.commit();
        s.sweep(at(10) + IDLE_MAX + TICK);
        assert_eq!(delta(&mut s, 7200, 7210, 1.0), Ok((1.0, Some(at(7200) + TICK))));
    }
}
