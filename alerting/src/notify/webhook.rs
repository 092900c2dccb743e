//! Alertmanager's webhook body, version 4 (`notify/webhook/webhook.go`, `template/template.go`), signed as
//! Standard Webhooks say.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_egress::{HttpClient, Names};
use davy_model::Timestamp;
use reqwest::Url;
use serde::Serialize;

use super::{CONNECT_TIMEOUT, DeliveryError, Envelope, failed, refused, unready};
use crate::alert::{Alert, AlertState, RELEASE};
use crate::client::{self, SetupError};
use crate::config::WebhookConfig;
use crate::record::{Message, common};
use crate::signature::Signer;
use crate::text::release_url;
use crate::time::rfc3339;

/// Alerts of one message; the others are counted.
const ALERTS_MAX: usize = 1_000;
/// Go's zero time: what Alertmanager sends where an alert has no end.
const NO_END: &str = "0001-01-01T00:00:00Z";

pub(super) struct Webhook {
    client: HttpClient,
    url: Url,
    signer: Signer,
    timeout: Duration,
    alerts_max: usize,
}

impl Webhook {
    pub(super) fn new(owner: &str, config: &WebhookConfig, names: &Names) -> Result<Self, SetupError> {
        let url = client::url(owner, &config.url)?;
        Ok(Self {
            client: client::client(owner, &config.http, &url, CONNECT_TIMEOUT, names)?,
            url,
            signer: Signer::new(owner, config.signing_secret.as_ref())?,
            timeout: config.timeout,
            alerts_max: if config.max_alerts == 0 { ALERTS_MAX } else { config.max_alerts.min(ALERTS_MAX) },
        })
    }

    pub(super) async fn send(&self, envelope: &Envelope<'_>) -> Result<(), DeliveryError> {
        let Envelope { record, message, external_url, now, .. } = envelope;
        let (id, now) = (record.id.as_str(), *now);
        let body = body(message, &record.receiver, external_url, self.alerts_max, now);
        let post = self.client.post(&self.url).await.map_err(unready)?;
        let post = post.timeout(self.timeout).header("idempotency-key", id);
        let response = self.signer.sign(post, id, now, body).send().await.map_err(failed)?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refused(response, now).await)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    version: &'static str,
    group_key: String,
    truncated_alerts: usize,
    status: &'a str,
    receiver: &'a str,
    group_labels: BTreeMap<&'a str, &'a str>,
    common_labels: BTreeMap<&'a str, &'a str>,
    common_annotations: BTreeMap<&'a str, &'a str>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<AlertBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody<'a> {
    status: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    annotations: &'a BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

fn body(message: &Message, receiver: &str, external_url: &str, alerts_max: usize, now: Timestamp) -> String {
    let kept = &message.alerts[..message.alerts.len().min(alerts_max)];
    let body = Body {
        version: "4",
        group_key: message.group_key.clone(),
        truncated_alerts: message.alerts.len() - kept.len(),
        status: message.state().as_str(),
        receiver,
        group_labels: message.group_labels.iter().collect(),
        common_labels: common(kept.iter().map(|(a, _)| a.labels.iter().collect())),
        common_annotations: common(
            kept.iter().map(|(a, _)| a.annotations.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()),
        ),
        external_url,
        alerts: kept.iter().map(|(alert, state)| alert_body(alert, *state, external_url, now)).collect(),
    };
    serde_json::to_string(&body).expect("the shape has string keys only")
}

fn alert_body<'a>(alert: &'a Alert, state: AlertState, external_url: &str, now: Timestamp) -> AlertBody<'a> {
    // An end still to come when the message was written may have passed while it waited.
    let ends_at = alert.ends_at.filter(|end| state == AlertState::Resolved || *end > now);
    AlertBody {
        status: state.as_str(),
        labels: alert.labels.iter().collect(),
        annotations: &alert.annotations,
        starts_at: rfc3339(alert.starts_at),
        ends_at: ends_at.map_or_else(|| NO_END.to_owned(), rfc3339),
        generator_url: release_url(external_url, alert.labels.get(RELEASE).unwrap_or("")),
        fingerprint: alert.fingerprint(),
    }
}
