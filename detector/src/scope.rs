//! Which series are a release's: selectors that narrow a read to its service, and to an arm where an expression
//! has to be narrowed before it is evaluated. `Arms::arm_of` has the last word on every series.

use davy_model::{Matcher, name};

use crate::plan::Arm;
use crate::versions::Arms;

/// What OpenTelemetry's `service.version` becomes where nobody renames it.
const SERVICE_VERSION: &str = "service_version";

/// The service by its own label, or by `job` where there is no such label. The two share no series.
pub fn service(service: &str) -> [Vec<Matcher>; 2] {
    [
        vec![Matcher::equal(name::SERVICE, service)],
        vec![Matcher::equal(name::SERVICE, ""), Matcher::equal(name::JOB, service)],
    ]
}

/// Selectors of an arm, for the ways in which its service and its version may be written; the first that finds
/// anything is the one.
pub(crate) fn selectors(arms: &Arms, arm: Arm) -> Vec<Vec<Matcher>> {
    let matchers = match arm {
        Arm::Baseline => &arms.baseline_matchers,
        Arm::Canary => &arms.canary_matchers,
    };
    let renamed = |m: &Matcher| {
        if m.name() == arms.version_label {
            Matcher::new(SERVICE_VERSION, m.op(), m.value()).expect("its value is valid under any name")
        } else {
            m.clone()
        }
    };
    let versions = [matchers.clone(), matchers.iter().map(renamed).collect()];
    let both = |service: &Vec<Matcher>| {
        let of = |version: &Vec<Matcher>| service.iter().chain(version).cloned().collect();
        versions.iter().map(of).collect::<Vec<Vec<Matcher>>>()
    };
    service(&arms.service).iter().flat_map(both).collect()
}
