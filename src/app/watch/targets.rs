//! `Targets`: what the scrapes know of every target, found by instance.

use std::collections::HashMap;
use std::sync::Arc;

use davy_collector::scrape::{Health, Reason, TargetStatus};

/// Every release looks for its own in each of its intervals, so all are looked at once.
pub(super) struct Targets<'a> {
    by_instance: HashMap<&'a str, &'a TargetStatus>,
    /// More than half of all fail at once: that is trouble of Davy's own.
    pub(super) blind: bool,
}

impl<'a> Targets<'a> {
    pub(super) fn of(all: &'a [Arc<TargetStatus>]) -> Self {
        let mut by_instance = HashMap::with_capacity(all.len());
        let (mut tried, mut silent) = (0_usize, 0_usize);
        for target in all {
            tried += usize::from(target.health != Health::Unknown);
            silent += usize::from(is_silent(target));
            if let Some(instance) = target.labels.get("instance") {
                by_instance.entry(instance).or_insert(&**target);
            }
        }
        Self { by_instance, blind: tried > 0 && silent * 2 > tried }
    }

    pub(super) fn get(&self, instance: &str) -> Option<&'a TargetStatus> {
        self.by_instance.get(instance).copied()
    }
}

/// Down, with nothing that answered: a refused connection is an answer.
fn is_silent(target: &TargetStatus) -> bool {
    target.health == Health::Down
        && matches!(target.reason, Some(Reason::Timeout | Reason::Dns | Reason::Connection | Reason::Config))
}
