//! An existing Alertmanager, over its API of version 2: Davy tells what fires, and the Alertmanager does the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_egress::{HttpClient, Names};
use davy_model::Timestamp;
use reqwest::Url;
use serde::Serialize;

use super::{CONNECT_TIMEOUT, DeliveryError, Envelope, failed, refused, unready};
use crate::alert::{AlertState, RELEASE};
use crate::client::{self, SetupError};
use crate::config::AlertmanagerConfig;
use crate::record::Message;
use crate::text::release_url;
use crate::time::rfc3339;

/// An alert without an end is over there after this long, unless it is told again: longer than the usual repeat.
const LASTS: Duration = Duration::from_secs(6 * 3600);

pub(super) struct Alertmanager {
    client: HttpClient,
    url: Url,
    timeout: Duration,
}

impl Alertmanager {
    pub(super) fn new(owner: &str, config: &AlertmanagerConfig, names: &Names) -> Result<Self, SetupError> {
        let mut url = client::url(owner, &config.url)?;
        url.set_path(&format!("{}/api/v2/alerts", url.path().trim_end_matches('/')));
        Ok(Self {
            client: client::client(owner, &config.http, &url, CONNECT_TIMEOUT, names)?,
            url,
            timeout: config.timeout,
        })
    }

    pub(super) async fn send(&self, envelope: &Envelope<'_>) -> Result<(), DeliveryError> {
        let now = envelope.now;
        let body = body(&envelope.message, envelope.external_url, now);
        let post = self.client.post(&self.url).await.map_err(unready)?.timeout(self.timeout);
        let post = post.header("content-type", "application/json").body(body);
        let response = post.send().await.map_err(failed)?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refused(response, now).await)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody<'a> {
    labels: BTreeMap<&'a str, &'a str>,
    annotations: &'a BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

fn body(message: &Message, external_url: &str, now: Timestamp) -> String {
    let alerts: Vec<AlertBody<'_>> = message
        .alerts
        .iter()
        .map(|(alert, state)| {
            let end = match state {
                // It was over when the message was written, however late it goes out.
                AlertState::Resolved => alert.ends_at.unwrap_or(now),
                AlertState::Firing => alert.ends_at.filter(|end| *end > now).unwrap_or(now + LASTS),
            };
            AlertBody {
                labels: alert.labels.iter().collect(),
                annotations: &alert.annotations,
                starts_at: rfc3339(alert.starts_at),
                ends_at: rfc3339(end),
                generator_url: release_url(external_url, alert.labels.get(RELEASE).unwrap_or("")),
            }
        })
        .collect();
    serde_json::to_string(&alerts).expect("the shape has string keys only")
}
