//! Groups: alerts of one route that make one message, and when that is due. Alertmanager's waits.
//!
//! Nothing is kept of a group but what its alerts carry: when their receiver was told of each. So a group is the same
//! after a restart.

use std::time::Duration;

use davy_model::{Labels, Timestamp};

use crate::alert::{Fnv1a, RELEASE};
use crate::book::Entry;
use crate::config::{GroupBy, Route};

/// In place of the route, which begins with `{}`.
pub(crate) const DIGEST: &str = "digest";
const GROUP_WAIT: Duration = Duration::from_secs(30);
const GROUP_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Names a group: the way through the routing tree, and the labels that its alerts share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) route: String,
    pub(crate) labels: Labels,
}

impl GroupKey {
    pub(crate) fn of(path: &str, route: &Route, labels: &Labels) -> Self {
        let labels = match &route.group_by {
            GroupBy::Each => labels.clone(),
            GroupBy::Labels(names) => {
                Labels::from_pairs(names.iter().map(|n| (n.as_str(), labels.get(n).unwrap_or(""))))
            }
        };
        Self { route: path.to_owned(), labels }
    }

    /// Of the message that stands for a flood of them.
    pub(crate) fn digest() -> Self {
        Self { route: DIGEST.to_owned(), labels: Labels::empty() }
    }

    /// As Alertmanager writes it: `{}/{severity="critical"}:{alertname="X"}`.
    pub(crate) fn text(&self) -> String {
        format!("{}:{}", self.route, self.labels)
    }

    /// One receiver's messages of a group are sent in order: those of the same lane.
    pub(crate) fn lane(&self, target: &str) -> u64 {
        Fnv1a::default().write(self.text().as_bytes()).write(&[0xff]).write(target.as_bytes()).0
    }
}

/// A member of a group, as one receiver knows it.
pub(crate) struct Member<'a> {
    pub(crate) entry: &'a Entry,
    /// When the receiver was last told of it.
    pub(crate) told: Option<Timestamp>,
    /// Silenced or inhibited: it fires, and is not told.
    pub(crate) muted: bool,
    pub(crate) send_resolved: bool,
}

impl Member<'_> {
    /// It ended, and who was told that it began is still to be told.
    pub(crate) fn tells_end(&self) -> bool {
        self.entry.resolved && self.told.is_some() && self.send_resolved && !self.muted
    }

    pub(crate) fn tells_begin(&self) -> bool {
        !self.entry.resolved && self.told.is_none() && !self.muted
    }

    fn fires(&self) -> bool {
        !self.entry.resolved && !self.muted
    }
}

/// When the group has something to say; `None` while it has not.
pub(crate) fn due_at(route: &Route, members: &[Member<'_>]) -> Option<Timestamp> {
    let urgent = members.iter().any(|m| m.entry.alert.labels.get(RELEASE).is_some());
    let usual = |said: Option<Duration>, usual: Duration| {
        let by_itself = route.group_by == GroupBy::Each;
        said.unwrap_or(if by_itself || urgent { Duration::ZERO } else { usual })
    };
    let last = members.iter().filter_map(|m| m.told).max();
    let changed = members.iter().any(|m| m.tells_begin() || m.tells_end());
    match last {
        // What it waits for began when its first alert did.
        None => {
            let first = members.iter().filter(|m| m.tells_begin()).map(|m| m.entry.alert.starts_at).min()?;
            Some(first + usual(route.group_wait, GROUP_WAIT))
        }
        Some(last) if changed => Some(last + usual(route.group_interval, GROUP_INTERVAL)),
        Some(last) => members.iter().any(Member::fires).then(|| last + route.repeat_interval),
    }
}

/// Whether the route sends at all now.
pub(crate) fn is_muted(route: &Route, now: Timestamp) -> bool {
    let any = |intervals: &[crate::time_interval::TimeInterval]| intervals.iter().any(|i| i.holds(now));
    any(&route.mute_intervals) || (!route.active_intervals.is_empty() && !any(&route.active_intervals))
}
