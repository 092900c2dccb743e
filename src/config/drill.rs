//! `drills`: services whose path is tried regularly.

use std::collections::HashSet;
use std::time::Duration;

use super::reader::Section;
use super::value::positive_duration;

/// A drill takes minutes, and one runs at a time.
const EVERY_MIN: Duration = Duration::from_secs(3600);

/// A drill that is due whenever its service was not drilled for this long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillSpec {
    pub service: String,
    pub every: Duration,
}

pub(super) fn read(top: &mut Section<'_>) -> Vec<DrillSpec> {
    let mut services = HashSet::new();
    top.list("drills", |field| {
        field.section(|s| {
            let service = s.required("service", "whose path is tried").and_then(|f| f.name());
            let every = s.required("every", "how often, such as 7d").and_then(|f| {
                let every = f.parse(positive_duration)?;
                if every < EVERY_MIN {
                    f.error("a drill may be run every hour at most");
                }
                Some(every)
            });
            let service = service?.to_owned();
            if !services.insert(service.clone()) {
                s.error(format!("a drill of {service} is given twice"));
            }
            Some(DrillSpec { service, every: every? })
        })
    })
}
