//! `Actuator`: carries a rollback out, once, and says what is known of how it went.
//!
//! Hop 7. Fails closed: whatever may have left the machine is never called "not sent".

use std::sync::Arc;
use std::time::Duration;

use davy_model::Clock;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;

use crate::config::{ActionSpec, ActuatorConfig};
pub use crate::egress::SetupError;
use crate::egress::{self, Names, body_start};
use crate::release::verdict_json;
pub use crate::release::{ActRequest, CallOutcome, ReadError, Subject, TargetState};
use crate::signature::Signer;
use crate::text;

/// Connecting may take half of the whole time, and at most this: it must end on its own clock, because a
/// time-out of the whole call counts as "may have been sent".
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Longest part of a refusal that is kept, in characters.
const REFUSAL_CHARS_MAX: usize = 300;

/// One named action of the file.
pub struct Actuator {
    name: String,
    webhook: Webhook,
}

/// The dumb kind: it cannot be asked what it did.
struct Webhook {
    client: Client,
    url: Url,
    signer: Signer,
    timeout: Duration,
    external_url: String,
    clock: Arc<dyn Clock>,
}

impl Actuator {
    /// `external_url` is where people reach Davy.
    pub fn new(spec: &ActionSpec, external_url: &str, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let owner = format!("action {}", spec.name);
        let ActuatorConfig::Webhook { url, signing_secret, timeout } = &spec.actuator;
        let webhook = Webhook {
            client: egress::client(&owner, (*timeout / 2).min(CONNECT_TIMEOUT_MAX), Names::default())?,
            url: egress::url(&owner, url)?,
            signer: Signer::new(&owner, signing_secret.as_ref())?,
            timeout: *timeout,
            external_url: external_url.to_owned(),
            clock,
        };
        Ok(Self { name: spec.name.clone(), webhook })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the target says of itself.
    #[expect(clippy::unused_async, reason = "other kinds ask over the network")]
    pub async fn read(&self, _: &Subject) -> Result<TargetState, ReadError> {
        Err(ReadError::Unusable("a webhook cannot be asked".to_owned()))
    }

    /// One request, never repeated here.
    pub async fn call(&self, request: &ActRequest) -> CallOutcome {
        self.webhook.call(request).await
    }
}

impl Webhook {
    async fn call(&self, request: &ActRequest) -> CallOutcome {
        let body = Body::json(request, &self.external_url);
        let post = self.client.post(self.url.clone()).timeout(self.timeout);
        let post = post.header("idempotency-key", &request.key);
        match self.signer.sign(post, &request.key, self.clock.now(), body).send().await {
            Ok(response) => {
                let status = response.status();
                if status.is_success() {
                    return CallOutcome::Accepted {
                        detail: format!("status {}", status.as_u16()),
                        state: None,
                    };
                }
                answered(status, &body_start(response).await)
            }
            // Neither connected nor resolved, or never built: no byte of it has left.
            Err(e) if e.is_connect() || e.is_builder() => {
                CallOutcome::NotSent { detail: egress::describe(e) }
            }
            Err(e) => CallOutcome::Unknown { detail: egress::describe(e) },
        }
    }
}

fn answered(status: StatusCode, body: &[u8]) -> CallOutcome {
    let said = text::one_line(&String::from_utf8_lossy(body), REFUSAL_CHARS_MAX);
    if status.is_client_error() {
        return CallOutcome::Rejected { detail: format!("status {}: {said}", status.as_u16()) };
    }
    if status.is_redirection() {
        let detail = format!("status {}: redirects are not followed", status.as_u16());
        return CallOutcome::Rejected { detail };
    }
    CallOutcome::Unknown { detail: format!("status {}: {said}", status.as_u16()) }
}

/// Design section 4.
#[derive(Serialize)]
struct Body<'a> {
    action: &'static str,
    release_id: &'a str,
    service: &'a str,
    from_version: &'a str,
    to_version: &'a str,
    expect: Expect<'a>,
    reason: &'a str,
    evidence: Option<serde_json::Value>,
    report_url: String,
}

#[derive(Serialize)]
struct Expect<'a> {
    revision: &'a str,
    generation: i64,
}

impl Body<'_> {
    fn json(request: &ActRequest, external_url: &str) -> String {
        let body = Body {
            action: request.desired.as_str(),
            release_id: &request.release_id,
            service: &request.subject.service,
            from_version: &request.subject.canary,
            to_version: &request.subject.baseline,
            expect: Expect { revision: &request.subject.canary, generation: request.release },
            reason: &request.reason,
            evidence: request.evidence.as_ref().map(verdict_json),
            report_url: text::release_url(external_url, &request.release_id),
        };
        serde_json::to_string(&body).expect("the shape has string keys only")
    }
}
