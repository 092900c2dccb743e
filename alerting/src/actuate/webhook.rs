//! A webhook: the dumb kind, which cannot be asked what it did (level C), and one that speaks the Davy protocol
//! (level A): it tells its state, refuses what is not expected with 409 or 412, and keeps the marker.
//! `docs/actuators/webhook.md` is the protocol.

use std::sync::Arc;
use std::time::Duration;

use davy_egress::HttpClient;
use davy_model::Clock;
use reqwest::Url;
use serde::Serialize;
use serde_json::Value;

use super::http::{ask, client, send, text_of, unready};
use crate::client::{SetupError, url};
use crate::config::WebhookAction;
use crate::release::{ActRequest, CallOutcome, Live, ReadError, Subject, TargetState, verdict_json};
use crate::signature::Signer;
use crate::text;

pub(super) struct Webhook {
    client: HttpClient,
    url: Url,
    /// Where it tells its state, and who asks.
    state: Option<(HttpClient, Url)>,
    signer: Signer,
    timeout: Duration,
    external_url: String,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    pub(super) fn new(
        owner: &str,
        config: &WebhookAction,
        external_url: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let reach = |secret| {
            let url = url(owner, secret)?;
            Ok((client(owner, &config.http, &url, config.timeout)?, url))
        };
        let (client, url) = reach(&config.url)?;
        Ok(Self {
            client,
            url,
            state: config.state_url.as_ref().map(reach).transpose()?,
            signer: Signer::new(owner, config.signing_secret.as_ref())?,
            timeout: config.timeout,
            external_url: external_url.to_owned(),
            clock,
        })
    }

    pub(super) async fn read(&self, subject: &Subject) -> Result<TargetState, ReadError> {
        let Some((client, url)) = &self.state else {
            return Err(ReadError::Unusable("a webhook without a state_url cannot be asked".to_owned()));
        };
        let mut url = url.clone();
        url.query_pairs_mut()
            .append_pair("service", &subject.service)
            .append_pair("baseline", &subject.baseline)
            .append_pair("canary", &subject.canary);
        let get = client.get(&url).await.map_err(unready)?;
        let state = ask(get.timeout(self.timeout)).await?;
        state_of(&state, subject)
    }

    pub(super) async fn call(&self, request: &ActRequest) -> CallOutcome {
        let body = Body::json(request, &self.external_url);
        let post = match self.client.post(&self.url).await {
            Ok(post) => post.timeout(self.timeout),
            Err(e) => return CallOutcome::NotSent { detail: e.to_string() },
        };
        let post = post.header("idempotency-key", &request.key);
        match send(self.signer.sign(post, &request.key, self.clock.now(), body)).await {
            Ok((status, body)) => {
                // One that speaks the protocol may say what it is now.
                let said: Option<Value> = self.state.as_ref().and(serde_json::from_slice(&body).ok());
                let state = said.and_then(|s| state_of(&s, &request.subject).ok());
                CallOutcome::Accepted { detail: format!("status {}", status.as_u16()), state }
            }
            Err(outcome) => outcome,
        }
    }
}

/// `{uid, generation, token?, share, canary?, marker?, refusal?}`; `share` is the canary's, in percent.
fn state_of(state: &Value, subject: &Subject) -> Result<TargetState, ReadError> {
    let generation = text_of(state, "generation")?;
    let share = state["share"]
        .as_f64()
        .filter(|s| (0.0..=100.0).contains(s))
        .ok_or_else(|| ReadError::Unusable("its answer has no `share` from 0 to 100".to_owned()))?;
    let other = |field: &str, ours: &str| {
        let said = state[field].as_str()?;
        (said != ours).then(|| Live::Other(said.to_owned()))
    };
    let live = if share > 0.0 {
        other("canary", &subject.canary).unwrap_or(Live::Share(share / 100.0))
    } else {
        other("baseline", &subject.baseline).unwrap_or(Live::Baseline)
    };
    Ok(TargetState {
        uid: text_of(state, "uid")?,
        token: text_of(state, "token").unwrap_or_else(|_| generation.clone()),
        generation,
        live,
        marker: state["marker"].as_str().map(str::to_owned),
        refusal: state["refusal"].as_str().map(str::to_owned),
    })
}

/// Design section 4.
#[derive(Serialize)]
struct Body<'a> {
    action: &'static str,
    release_id: &'a str,
    service: &'a str,
    from_version: &'a str,
    to_version: &'a str,
    /// The canary's, in percent.
    share: u8,
    marker: &'a str,
    expect: Expect<'a>,
    reason: &'a str,
    evidence: Option<Value>,
    report_url: String,
}

#[derive(Serialize)]
struct Expect<'a> {
    revision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    /// The target's own, or where it has none, Davy's number of the release.
    generation: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl Body<'_> {
    fn json(request: &ActRequest, external_url: &str) -> String {
        let expect = request.expect.as_ref();
        let body = Body {
            action: request.desired.as_str(),
            release_id: &request.release_id,
            service: &request.subject.service,
            from_version: &request.subject.canary,
            to_version: &request.subject.baseline,
            share: request.desired.percent(),
            marker: &request.marker,
            expect: Expect {
                revision: &request.subject.canary,
                uid: expect.map(|e| e.uid.as_str()),
                generation: expect.map_or(request.release.into(), |e| e.generation.as_str().into()),
                token: expect.map(|e| e.token.as_str()),
            },
            reason: &request.reason,
            evidence: request.evidence.as_ref().map(verdict_json),
            report_url: text::release_url(external_url, &request.release_id),
        };
        serde_json::to_string(&body).expect("the shape has string keys only")
    }
}
