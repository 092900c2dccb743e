//! Alertmanager's webhook body, version 4 (`notify/webhook/webhook.go`, `template/template.go`), signed as
//! Standard Webhooks say. One alert to a message until alerts are grouped.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_model::Timestamp;
use reqwest::{Client, Url};
use serde::Serialize;

use super::{CONNECT_TIMEOUT, DeliveryError, failed, refused};
use crate::alert::RELEASE;
use crate::config::WebhookConfig;
use crate::egress::{self, Names, SetupError};
use crate::record::Message;
use crate::signature::Signer;
use crate::text::release_url;
use crate::time::rfc3339;

/// Go's zero time: what Alertmanager sends where an alert has no end.
const NO_END: &str = "0001-01-01T00:00:00Z";

pub(super) struct Webhook {
    client: Client,
    url: Url,
    signer: Signer,
    timeout: Duration,
}

impl Webhook {
    pub(super) fn new(owner: &str, config: &WebhookConfig, names: &Names) -> Result<Self, SetupError> {
        Ok(Self {
            client: egress::client(owner, CONNECT_TIMEOUT, names.clone())?,
            url: egress::url(owner, &config.url)?,
            signer: Signer::new(owner, config.signing_secret.as_ref())?,
            timeout: config.timeout,
        })
    }

    pub(super) async fn send(&self, id: &str, body: String, now: Timestamp) -> Result<(), DeliveryError> {
        let post = self.client.post(self.url.clone()).timeout(self.timeout).header("idempotency-key", id);
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
    truncated_alerts: u32,
    status: &'a str,
    receiver: &'a str,
    group_labels: &'a BTreeMap<&'a str, &'a str>,
    common_labels: &'a BTreeMap<&'a str, &'a str>,
    common_annotations: &'a BTreeMap<String, String>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: [AlertBody<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody<'a> {
    status: &'a str,
    labels: &'a BTreeMap<&'a str, &'a str>,
    annotations: &'a BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

pub(super) fn body(message: &Message, receiver: &str, external_url: &str, now: Timestamp) -> String {
    let alert = &message.alert;
    let labels: BTreeMap<&str, &str> = alert.labels.iter().collect();
    // An end still to come when the message was written may have passed while it waited.
    let ends_at = alert.ends_at.filter(|end| message.state.as_str() == "resolved" || *end > now);
    let status = message.state.as_str();
    let body = Body {
        version: "4",
        group_key: format!("{{}}:{}", alert.labels),
        truncated_alerts: 0,
        status,
        receiver,
        group_labels: &labels,
        common_labels: &labels,
        common_annotations: &alert.annotations,
        external_url,
        alerts: [AlertBody {
            status,
            labels: &labels,
            annotations: &alert.annotations,
            starts_at: rfc3339(alert.starts_at),
            ends_at: ends_at.map_or_else(|| NO_END.to_owned(), rfc3339),
            generator_url: release_url(external_url, alert.labels.get(RELEASE).unwrap_or("")),
            fingerprint: alert.fingerprint(),
        }],
    };
    serde_json::to_string(&body).expect("the shape has string keys only")
}
