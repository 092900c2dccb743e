//! `SourceStates`: until when each sourced service's samples are complete; written by the feeds, read by the tick.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use davy_model::Timestamp;

/// The least that a source may lie back before Davy is blind.
const BEHIND_MAX: Duration = Duration::from_secs(60);
/// The same in intervals of the release.
const BEHIND_INTERVALS: u32 = 4;

/// A service whose samples come from another server.
#[derive(Debug, Clone, PartialEq)]
pub struct Fed {
    pub source: String,
    /// All samples up to here are in the store.
    pub complete_until: Timestamp,
    /// Why there are none after that, if there is a reason.
    pub error: Option<String>,
    pub delay: Duration,
}

/// How far a release may be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Reach {
    /// Intervals that end after this have not ended yet.
    pub until: Timestamp,
    /// Intervals that end after this are blind.
    pub complete_until: Timestamp,
    /// What to say of those.
    pub why: String,
}

impl Fed {
    /// Waits for a source that lies a little back, and goes on blind without one that lies far back.
    pub fn reach(&self, now: Timestamp, interval: Duration) -> Reach {
        let behind_max = self.delay + (interval * BEHIND_INTERVALS).max(BEHIND_MAX);
        let behind = now.since(self.complete_until);
        let until = if behind <= behind_max { self.complete_until.min(now) } else { now };
        let error = self.error.as_deref().unwrap_or("it has no newer samples");
        let why = format!("the source {} is {} s behind: {error}", self.source, behind.as_secs());
        Reach { until, complete_until: self.complete_until, why }
    }
}

/// By service; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SourceStates(Arc<RwLock<BTreeMap<String, Fed>>>);

impl SourceStates {
    pub fn get(&self, service: &str) -> Option<Fed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }

    pub fn set(&self, service: &str, fed: Fed) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(service.to_owned(), fed);
    }

    /// Forgets services that are no longer fed.
    pub fn keep(&self, services: impl Fn(&str) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|s, _| services(s));
    }

    pub fn all(&self) -> BTreeMap<String, Fed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_waited_for_and_then_gone_on_without() {
        let at = |s: i64| Timestamp::from_millis(s * 1000);
        let fed = Fed {
            source: "fleet".into(),
            complete_until: at(100),
            error: Some("connection refused".into()),
            delay: Duration::from_secs(5),
        };
        let reach = |now, interval| fed.reach(at(now), Duration::from_secs(interval));
        assert_eq!(reach(130, 15).until, at(100), "not judged further than the samples");
        assert_eq!(reach(165, 15).until, at(100));
        let blind = reach(166, 15);
        assert_eq!((blind.until, blind.complete_until), (at(166), at(100)));
        assert_eq!(blind.why, "the source fleet is 66 s behind: connection refused");
        assert_eq!(reach(166, 60).until, at(100), "four intervals");
        assert_eq!(reach(90, 15).until, at(90), "a source whose clock is ahead");
    }
}
