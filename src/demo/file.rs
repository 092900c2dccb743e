//! The file that Davy is run with, as a user would write it, and the list of targets that it names.

use std::net::SocketAddr;
use std::path::Path;

use super::davy::Ports;

/// Where things are that the file must name.
pub(super) struct Places<'a> {
    pub(super) targets: &'a Path,
    pub(super) service: &'a str,
    pub(super) action: Action<'a>,
    /// Steps of the canary's share in per cent.
    pub(super) ramp: &'a [u8],
    pub(super) inbox: SocketAddr,
    pub(super) smtp: SocketAddr,
    pub(super) signing_secret: &'a str,
}

/// What Davy sets the shares with.
pub(super) enum Action<'a> {
    /// The Davy protocol, at the demo's own splitter.
    Webhook {
        admin: SocketAddr,
    },
    Haproxy {
        socket: &'a Path,
        backend: String,
        baseline: Vec<String>,
        canary: Vec<String>,
    },
}

/// Margins are wider than the presets' for errors, latency and memory, and so are what a pass must show: a step of
/// this ramp is to be decided within seconds, not within the hours that production has.
pub(super) fn config(places: &Places<'_>, ports: &Ports) -> String {
    let Places { targets, service, action, ramp, inbox, smtp, signing_secret } = places;
    let Ports { otlp_grpc, otlp_http, .. } = ports;
    let (targets, split) = (targets.display(), split(action, signing_secret));
    format!(
        r##"# What `davy demo` runs Davy with.
global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}
scrape_configs:
  - job_name: {service}
    file_sd_configs: [{{files: ["{targets}"], refresh_interval: 1s}}]
otlp: {{grpc: "{otlp_grpc}", http: "{otlp_http}"}}
releases:
  - service: {service}
    metrics:
      - {{preset: http}}
      - {{preset: process}}
      # Wider margins than the presets': a step is to be passed within seconds.
      - {{name: errors, kind: proportion, events: 'http_requests_total{{code=~"5.."}}', trials: http_requests_total, margin: {{relative: 0.1, absolute: 0.005}}}}
      - {{name: latency, kind: latency, histogram: http_request_duration_seconds_bucket, margin: {{relative: 0.25}}}}
      - {{name: memory, kind: gauge, query: process_resident_memory_bytes, margin: {{relative: 0.15}}}}
      - {{name: memory_growth, kind: gauge, query: 'deriv(process_resident_memory_bytes[10s])', margin: {{absolute: 5e5}}}}
      - {{name: conversion, kind: proportion, events: orders_total, trials: checkouts_total, direction: decrease, margin: {{relative: 0.03}}}}
    policy: {{alpha: 0.02, interval: 1s, warm_up: 5s, watch: 1h, on_fail: rollback, ramp: {ramp:?}}}
    actions: {{rollback: split, promote: split}}
actions:
  split:
{split}
route: {{receiver: oncall}}
receivers:
  - name: oncall
    webhook_configs: [{{url: "http://{inbox}/alerts", signing_secret: "{signing_secret}"}}]
    slack_configs: [{{api_url: "http://{inbox}/slack", channel: "#releases"}}]
    email_configs: [{{to: oncall@localhost, from: davy@localhost, smarthost: "{smtp}", require_tls: false}}]
"##
    )
}

fn split(action: &Action<'_>, signing_secret: &str) -> String {
    match action {
        Action::Webhook { admin } => format!(
            "    webhook: {{url: \"http://{admin}/split\", state_url: \"http://{admin}/state\", \
             signing_secret: \"{signing_secret}\"}}"
        ),
        Action::Haproxy { socket, backend, baseline, canary } => format!(
            "    haproxy: {{socket: \"{}\", backend: {backend}, baseline: [{}], canary: [{}]}}",
            socket.display(),
            baseline.join(", "),
            canary.join(", "),
        ),
    }
}

/// One group of targets, as `file_sd_configs` reads them.
pub(super) fn targets<'a>(
    service: &str,
    versions: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>,
) -> String {
    let groups: Vec<_> = versions
        .into_iter()
        .map(|(version, addresses)| {
            serde_json::json!({"targets": addresses, "labels": {"service": service, "version": version}})
        })
        .collect();
    serde_json::to_string_pretty(&groups).expect("groups are plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::SIGNING_SECRET;

    #[tokio::test]
    async fn the_file_is_one_that_davy_takes_with_either_splitter() {
        let ports = Ports::choose().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("haproxy.sock");
        let servers = |version: &str| (0..3).map(|i| format!("{version}-{i}")).collect();
        let haproxy = Action::Haproxy {
            socket: &socket,
            backend: "checkout".to_owned(),
            baseline: servers("v1"),
            canary: servers("v2"),
        };
        for action in [haproxy, Action::Webhook { admin: ports.web }] {
            let places = Places {
                targets: &folder.path().join("targets.json"),
                service: "checkout",
                action,
                ramp: &[25, 50, 100],
                inbox: ports.web,
                smtp: ports.web,
                signing_secret: SIGNING_SECRET,
            };
            let file = folder.path().join("davy.yaml");
            std::fs::write(&file, config(&places, &ports)).unwrap();
            let (report, ok) = crate::config::check(&file);
            assert!(ok, "{report}");
        }
    }

    #[test]
    fn targets_are_written_as_file_sd_reads_them() {
        let text = targets("checkout", [("v1", vec!["127.0.0.1:1", "127.0.0.1:2"])]);
        let groups: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!([{"targets": ["127.0.0.1:1", "127.0.0.1:2"],
            "labels": {"service": "checkout", "version": "v1"}}]);
        assert_eq!(groups, expected);
    }
}
