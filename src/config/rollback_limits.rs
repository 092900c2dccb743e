//! `rollback_limits`: what Davy may roll back by itself, over all releases.

use davy_alerting::config::RollbackLimits;

use super::reader::Section;

/// More is no limit.
const COUNT_MAX: f64 = 100_000.0;

pub(super) fn read(top: &mut Section<'_>) -> RollbackLimits {
    let default = RollbackLimits::default();
    let Some(field) = top.get("rollback_limits") else { return default };
    let read = field.section(|s| {
        let count = |s: &mut Section<'_>, key: &'static str, default: usize| {
            let Some(field) = s.get(key) else { return default };
            let number = field.number(1.0..=COUNT_MAX).filter(|n| {
                let whole = n.fract() == 0.0;
                if !whole {
                    field.error("expected a whole number");
                }
                whole
            });
            number.map_or(default, |n| n as usize)
        };
        Some(RollbackLimits {
            per_service_per_day: count(s, "per_service_per_day", default.per_service_per_day),
            per_hour: count(s, "per_hour", default.per_hour),
            at_once: count(s, "at_once", default.at_once),
            common_cause_services: count(s, "common_cause_services", default.common_cause_services),
        })
    });
    read.unwrap_or(default)
}
