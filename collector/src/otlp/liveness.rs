//! Who pushes: `davy_pushed`, as `up` is for scrapes, and `target_info` for what a resource says about itself.

use std::time::Duration;

use davy_model::{Labels, STALE_NAN, Timestamp, Value, name};

use super::ledger::Ledger;
use super::point::Point;

/// `1` whenever a resource pushed; how the live versions of a service are read from the store.
pub const PUSHED: &str = "davy_pushed";

const RESOURCES_MAX: usize = 10_000;
const PUSHED_INTERVAL: Duration = Duration::from_secs(1);
/// Well within PromQL's look-back of five minutes.
const INFO_INTERVAL: Duration = Duration::from_secs(60);
const IDLE_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Liveness {
    pushed: Ledger<Labels, Timestamp>,
    infos: Ledger<Labels, (Labels, Timestamp)>,
}

impl Liveness {
    pub(crate) fn new() -> Self {
        Self { pushed: Ledger::new(RESOURCES_MAX), infos: Ledger::new(RESOURCES_MAX) }
    }

    /// A sign of life of a named service, at most one a second.
    pub(crate) fn pushed(&mut self, identity: &Labels, now: Timestamp) -> Option<Point> {
        identity.get(name::SERVICE)?;
        if self.pushed.get(identity).is_some_and(|last| now < *last + PUSHED_INTERVAL) {
            return None;
        }
        let mut labels = identity.builder();
        labels.set(name::METRIC, PUSHED);
        let point = Point::new(now, vec![(labels.build(), Value::Float(1.0))]);
        self.pushed.put(identity, now, now).then_some(point)
    }

    /// `info` at most once a minute, but at once if it changed; what it was before then ends.
    pub(crate) fn info(&mut self, identity: &Labels, info: &Labels, now: Timestamp) -> Option<Point> {
        let mut series = Vec::new();
        let mut at = now;
        if let Some((known, last)) = self.infos.get(identity) {
            if known != info {
                series.push((known.clone(), Value::Float(STALE_NAN)));
                at = now.max(*last + Duration::from_millis(1));
            } else if now < *last + INFO_INTERVAL {
                return None;
            }
        }
        series.push((info.clone(), Value::Float(1.0)));
        self.infos.put(identity, (info.clone(), at), now).then(|| Point::new(at, series))
    }

    pub(crate) fn commit(&mut self) {
        self.pushed.commit();
        self.infos.commit();
    }

    pub(crate) fn rollback(&mut self) {
        self.pushed.rollback();
        self.infos.rollback();
    }

    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.pushed.sweep(now - IDLE_MAX);
        self.infos.sweep(now - IDLE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000);

    fn cart() -> Labels {
        Labels::from_pairs([("job", "cart"), ("service", "cart"), ("version", "2")])
    }

    #[test]
    fn signs_of_life_come_once_a_second() {
        let mut liveness = Liveness::new();
        let point = liveness.pushed(&cart(), T0).expect("the first");
        assert_eq!(point.series[0].0.to_string(), r#"davy_pushed{job="cart", service="cart", version="2"}"#);
        assert_eq!(liveness.pushed(&cart(), T0 + Duration::from_millis(999)), None);
        assert!(liveness.pushed(&cart(), T0 + PUSHED_INTERVAL).is_some());
        assert_eq!(liveness.pushed(&cart().without(&["service"]), T0), None, "nobody to be alive");
    }

    #[test]
    fn a_changed_target_info_ends_the_old_one() {
        let mut liveness = Liveness::new();
        let info = |host: &str| Labels::from_pairs([("__name__", "target_info"), ("host_name", host)]);
        assert!(liveness.info(&cart(), &info("a"), T0).is_some());
        assert_eq!(liveness.info(&cart(), &info("a"), T0 + Duration::from_secs(59)), None);
        let changed = liveness.info(&cart(), &info("b"), T0).expect("changed");
        let values: Vec<_> = changed.series.iter().map(|(l, v)| (l.get("host_name"), v.is_stale())).collect();
        assert_eq!(values, [(Some("a"), true), (Some("b"), false)]);
        assert!(changed.at > T0, "the stored sample of the same time cannot be replaced");
        assert!(liveness.info(&cart(), &info("b"), T0 + INFO_INTERVAL * 2).is_some());
    }
}
