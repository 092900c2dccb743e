//! Standard Webhooks headers: `webhook-id`, `webhook-timestamp`, and `webhook-signature` where there is a secret.

use davy_model::Timestamp;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

use crate::client::SetupError;

pub(crate) struct Signer(Option<Webhook>);

impl Signer {
    /// The secret is base64, with or without `whsec_`.
    pub(crate) fn new(owner: &str, secret: Option<&SecretString>) -> Result<Self, SetupError> {
        let bad = |_| SetupError::Secret { owner: owner.to_owned() };
        Ok(Self(secret.map(|s| Webhook::new(s.expose_secret()).map_err(bad)).transpose()?))
    }

    /// Adds the headers and the body. `id` stays the same over retries; receivers deduplicate by it.
    pub(crate) fn sign(
        &self,
        request: RequestBuilder,
        id: &str,
        now: Timestamp,
        body: String,
    ) -> RequestBuilder {
        let seconds = now.as_millis().div_euclid(1000);
        let mut request = request
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, seconds)
            .header("content-type", "application/json");
        if let Some(webhook) = &self.0 {
            let signature = webhook.sign(id, seconds, body.as_bytes()).expect("a String is UTF-8");
            request = request.header(HEADER_WEBHOOK_SIGNATURE, signature);
        }
        request.body(body)
    }
}
