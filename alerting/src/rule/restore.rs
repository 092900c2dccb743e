//! After a restart: since when an alert's condition held, from `ALERTS_FOR_STATE` in the store.

use std::collections::BTreeMap;

use davy_model::{Labels, Matcher, Sample, Timestamp, name};

use super::alerting::{ALERTS_FOR_STATE, AlertingRule, series_labels};
use super::{EvaluateError, FOR_GRACE_PERIOD, OUTAGE_TOLERANCE, RuleSpec, Surroundings};

impl AlertingRule {
    /// Moves the start of pending alerts to where they were; time that Davy was down does not count. Whatever comes
    /// of it, the rule's series are written from now on.
    pub(super) fn restore(
        &mut self,
        rule: &RuleSpec,
        now: Timestamp,
        source: &impl Surroundings,
    ) -> Result<(), EvaluateError> {
        self.restored = true;
        if self.hold() < FOR_GRACE_PERIOD {
            return Ok(());
        }
        let found = source.newest(&matchers(rule), now - OUTAGE_TOLERANCE, now)?;
        let before: BTreeMap<Labels, Sample> =
            found.into_iter().map(|(l, s)| (l.without(&[name::METRIC]), s)).collect();
        let hold = self.hold();
        for (labels, alert) in &mut self.active {
            let Some(sample) = before.get(labels) else { continue };
            let Some(since) = sample.value.as_float().filter(|v| !davy_model::is_stale(*v)) else { continue };
            let Some(since) = Timestamp::from_secs_f64(since) else { continue };
            let pending = sample.timestamp.since(since);
            alert.active_at = match hold.checked_sub(pending) {
                // It was firing; the next evaluation finds it so.
                None => since,
                Some(rest) if rest.is_zero() => since,
                Some(rest) if rest < FOR_GRACE_PERIOD => now + FOR_GRACE_PERIOD - hold,
                Some(_) => since + now.since(sample.timestamp),
            };
        }
        Ok(())
    }
}

/// Labels that are templates say nothing of what was stored.
fn matchers(rule: &RuleSpec) -> Vec<Matcher> {
    let labels = series_labels(rule, None).build();
    let plain = labels.iter().filter(|(_, v)| !v.contains("{{"));
    let own = plain.map(|(n, v)| Matcher::equal(n, v));
    std::iter::once(Matcher::metric(ALERTS_FOR_STATE)).chain(own).collect()
}
