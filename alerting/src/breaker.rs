//! `Breakers`: a receiver that does not answer is asked with one message at a time, and the others wait for it.
//!
//! A receiver that is down for an hour would else be asked with every message every few minutes, and one that takes
//! messages and loses its answers would get each of them as often.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_model::Timestamp;
use davy_store::control::OutboxRecord;

use crate::dispatch::DeliveryError;
use crate::record::target_of;

/// Failures in a row after which a receiver counts as down.
const FAILURES_MAX: u32 = 3;
/// Time to the first probe; doubles up to [`PROBE_MAX`].
const PROBE_MIN: Duration = Duration::from_secs(2);
const PROBE_MAX: Duration = Duration::from_secs(2 * 60);
/// A receiver may not ask for more patience than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// By `<receiver>/<index of the integration>`. Not kept over restarts: then each is asked anew.
#[derive(Debug, Clone, Default)]
pub struct Breakers {
    by_target: BTreeMap<String, Breaker>,
}

#[derive(Debug, Clone, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    /// Where it is open: when one message may be tried.
    probe_at: Option<Timestamp>,
}

impl Breakers {
    /// Those that nothing is sent to at `now`.
    pub fn open(&self, now: Timestamp) -> Vec<String> {
        let open = self.by_target.iter().filter(|(_, b)| b.probe_at.is_some_and(|at| at > now));
        open.map(|(target, _)| target.clone()).collect()
    }

    /// How many messages may go to the target at once: all, or one to see whether it is back.
    fn at_once(&self, target: &str) -> usize {
        let down = self.by_target.get(target).is_some_and(|b| b.probe_at.is_some());
        if down { 1 } else { usize::MAX }
    }

    /// Of the messages that are due those that may go now: of one that is down, the first.
    pub fn admit(&self, due: Vec<OutboxRecord>) -> Vec<OutboxRecord> {
        if self.down() == 0 {
            return due;
        }
        let mut admitted: BTreeMap<String, usize> = BTreeMap::new();
        let admit = |record: &OutboxRecord| {
            let target = target_of(record);
            let limit = self.at_once(&target);
            let count = admitted.entry(target).or_default();
            *count += 1;
            *count <= limit
        };
        due.into_iter().filter(admit).collect()
    }

    /// When the next of those that nothing is sent to at `now` may be asked. One that may be asked already waits for
    /// its message, which has a time of its own.
    pub fn next_probe(&self, now: Timestamp) -> Option<Timestamp> {
        self.by_target.values().filter_map(|b| b.probe_at).filter(|at| *at > now).min()
    }

    /// How many are down.
    pub fn down(&self) -> usize {
        self.by_target.values().filter(|b| b.probe_at.is_some()).count()
    }

    /// Takes what came of an attempt. A refusal that is final shows that someone is there.
    pub fn heard(&mut self, target: &str, result: &Result<(), DeliveryError>, now: Timestamp) {
        let error = match result {
            Err(error) if error.retryable => error,
            Ok(()) | Err(_) => {
                self.by_target.remove(target);
                return;
            }
        };
        let breaker = self.by_target.entry(target.to_owned()).or_default();
        breaker.failures = breaker.failures.saturating_add(1);
        // One that names a time is taken at its word at once.
        let asked = error.retry_after.map(|d| d.min(RETRY_AFTER_MAX));
        let usual = breaker
            .failures
            .checked_sub(FAILURES_MAX)
            .map(|n| PROBE_MIN.saturating_mul(1 << n.min(10)).min(PROBE_MAX));
        if let Some(wait) = usual.max(asked) {
            breaker.probe_at = Some(now + wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    fn failed(retryable: bool, retry_after: Option<u64>) -> Result<(), DeliveryError> {
        let retry_after = retry_after.map(Duration::from_secs);
        Err(DeliveryError { retryable, retry_after, detail: String::new() })
    }

    #[test]
    fn three_failures_in_a_row_open_and_one_success_closes() {
        let mut breakers = Breakers::default();
        for _ in 0..2 {
            breakers.heard("ops/0", &failed(true, None), at(0));
        }
        assert_eq!((breakers.open(at(0)), breakers.at_once("ops/0")), (vec![], usize::MAX));
        breakers.heard("ops/0", &failed(true, None), at(0));
        assert_eq!(breakers.open(at(1)), ["ops/0"]);
        // Now one may try, and the wait doubles.
        assert_eq!((breakers.open(at(2)), breakers.at_once("ops/0")), (vec![], 1));
        breakers.heard("ops/0", &failed(true, None), at(2));
        assert_eq!(breakers.next_probe(at(2)), Some(at(6)));
        breakers.heard("ops/0", &Ok(()), at(6));
        assert_eq!((breakers.down(), breakers.at_once("ops/0")), (0, usize::MAX));
    }

    #[test]
    fn probes_come_at_least_every_two_minutes() {
        let mut breakers = Breakers::default();
        for _ in 0..1000 {
            breakers.heard("ops/0", &failed(true, None), at(0));
        }
        assert_eq!(breakers.next_probe(at(0)), Some(at(120)));
    }

    #[test]
    fn a_time_that_the_receiver_names_holds_for_all_its_messages() {
        let mut breakers = Breakers::default();
        breakers.heard("ops/0", &failed(true, Some(30)), at(0));
        assert_eq!((breakers.open(at(29)), breakers.open(at(30))), (vec!["ops/0".to_owned()], vec![]));
        breakers.heard("ops/0", &failed(true, Some(1 << 40)), at(30));
        assert_eq!(breakers.next_probe(at(30)), Some(at(3630)));
    }

    #[test]
    fn a_refusal_that_is_final_shows_that_someone_is_there() {
        let mut breakers = Breakers::default();
        for _ in 0..9 {
            breakers.heard("ops/0", &failed(true, None), at(0));
        }
        breakers.heard("ops/0", &failed(false, None), at(1));
        assert_eq!(breakers.down(), 0);
    }
}
