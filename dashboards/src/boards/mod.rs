//! The boards: what is drawn, for whom.

mod common;
mod own;
mod release;
mod releases;
mod service;
mod service_map;
mod thresholds;

use crate::build::Dashboard;

/// File name below `Davy/`, and the board.
pub fn all() -> [(&'static str, Dashboard); 6] {
    [
        ("davy.json", own::board()),
        ("release.json", release::board()),
        ("releases.json", releases::board()),
        ("service-map.json", service_map::board()),
        ("service.json", service::board()),
        ("thresholds.json", thresholds::board()),
    ]
}
