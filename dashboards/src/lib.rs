//! Grafana's boards over Davy's data, and the provisioning that makes Grafana find them.
//!
//! [`boards`] says what is drawn, in the few typed pieces of [`build`]; the JSON in `Davy/` is what it writes, committed
//! so that a change of a board can be read, and held to it by `tests/committed.rs`. [`FILES`] embeds that JSON: what is
//! handed out is what was reviewed. [`states`] numbers the states that Davy's metrics tell and boards put into words.

pub mod boards;
pub mod build;
pub mod states;

/// Where the provisioned data sources find Davy, unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:9600";
/// How often Davy's data is scraped or pushed, unless told otherwise: Grafana sizes `$__rate_interval` by it.
pub const DEFAULT_INTERVAL: &str = "15s";
/// Where the provisioned boards lie: a folder of Grafana's own configuration, said as its environment variable.
pub const DEFAULT_BOARDS: &str = "/etc/grafana/dashboards";

/// Path below the exported folder, and text.
pub const FILES: [(&str, &str); 8] = [
    ("provisioning/datasources/davy.yaml", include_str!("../provisioning/datasources/davy.yaml")),
    ("provisioning/dashboards/davy.yaml", include_str!("../provisioning/dashboards/davy.yaml")),
    ("dashboards/Davy/davy.json", include_str!("../Davy/davy.json")),
    ("dashboards/Davy/release.json", include_str!("../Davy/release.json")),
    ("dashboards/Davy/releases.json", include_str!("../Davy/releases.json")),
    ("dashboards/Davy/service-map.json", include_str!("../Davy/service-map.json")),
    ("dashboards/Davy/service.json", include_str!("../Davy/service.json")),
    ("dashboards/Davy/thresholds.json", include_str!("../Davy/thresholds.json")),
];
