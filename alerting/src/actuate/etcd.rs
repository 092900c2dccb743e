//! A key of etcd that holds the split as JSON, `{baseline, canary, share, marker}`, for whoever watches it. Level A.
//!
//! uid is the key's creation revision, generation and token its modification revision: a transaction writes only if
//! both are as they were read. Over etcd's JSON gateway, whose bytes are base64.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use davy_egress::HttpClient;
use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::http::{ask, client, send, text_of, unready};
use crate::client::{self, SetupError};
use crate::config::EtcdAction;
use crate::release::{ActRequest, CallOutcome, Expect, Live, ReadError, Subject, TargetState};

pub(super) struct Etcd {
    client: HttpClient,
    endpoint: Url,
    key: String,
    auth: Option<(String, SecretString)>,
    timeout: Duration,
}

impl Etcd {
    pub(super) fn new(owner: &str, config: &EtcdAction) -> Result<Self, SetupError> {
        let endpoint = client::url(owner, &config.endpoint)?;
        Ok(Self {
            client: client(owner, &config.http, &endpoint, config.timeout)?,
            endpoint,
            key: STANDARD.encode(&config.key),
            auth: config.auth.clone(),
            timeout: config.timeout,
        })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<RequestBuilder, ReadError> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/v3/{path}", url.path().trim_end_matches('/')));
        let post = self.client.post(&url).await.map_err(unready)?;
        let post = post.timeout(self.timeout).header("content-type", "application/json");
        Ok(post.body(body.to_string()))
    }

    /// The same, as the user that is configured.
    async fn signed_in(&self, path: &str, body: &Value) -> Result<RequestBuilder, ReadError> {
        let post = self.post(path, body).await?;
        let Some((name, password)) = &self.auth else { return Ok(post) };
        let who = json!({"name": name, "password": password.expose_secret()});
        let answer = ask(self.post("auth/authenticate", &who).await?).await?;
        Ok(post.header("authorization", text_of(&answer, "token")?))
    }

    pub(super) async fn read(&self, subject: &Subject) -> Result<TargetState, ReadError> {
        let answer = ask(self.signed_in("kv/range", &json!({"key": self.key})).await?).await?;
        let Some(kv) = answer["kvs"].get(0) else {
            return Err(ReadError::Unusable("the key does not exist".to_owned()));
        };
        let value = text_of(kv, "value").ok().and_then(|v| STANDARD.decode(v).ok()).unwrap_or_default();
        let split: Value = serde_json::from_slice(&value)
            .map_err(|_| ReadError::Unusable("the key does not hold JSON".to_owned()))?;
        let share = split["share"].as_f64().filter(|s| (0.0..=100.0).contains(s));
        let share = share
            .ok_or_else(|| ReadError::Unusable("the key's value has no `share` from 0 to 100".to_owned()))?;
        let other = |field: &str, ours: &str| split[field].as_str().filter(|s| *s != ours).map(str::to_owned);
        let live = match (share > 0.0, other("canary", &subject.canary), other("baseline", &subject.baseline))
        {
            (true, Some(other), _) | (false, _, Some(other)) => Live::Other(other),
            (true, None, _) => Live::Share(share / 100.0),
            (false, _, None) => Live::Baseline,
        };
        let revision = text_of(kv, "mod_revision")?;
        Ok(TargetState {
            uid: text_of(kv, "create_revision")?,
            generation: revision.clone(),
            token: revision,
            live,
            marker: split["marker"].as_str().map(str::to_owned),
            refusal: None,
        })
    }

    pub(super) async fn call(&self, request: &ActRequest) -> CallOutcome {
        let Some(Expect { uid, token, .. }) = &request.expect else {
            return CallOutcome::NotSent { detail: "nothing is known of the key".to_owned() };
        };
        let value = json!({
            "service": request.subject.service,
            "baseline": request.subject.baseline,
            "canary": request.subject.canary,
            "share": request.desired.percent(),
            "marker": request.marker,
            "release": request.release_id,
        });
        let is = |target: &str, field: &str, value: &str| json!({"key": self.key, "target": target, "result": "EQUAL", field: value});
        let body = json!({
            "compare": [is("MOD", "mod_revision", token), is("CREATE", "create_revision", uid)],
            "success": [{"request_put": {"key": self.key, "value": STANDARD.encode(value.to_string())}}],
        });
        let post = match self.signed_in("kv/txn", &body).await {
            Ok(post) => post,
            Err(ReadError::Unreachable(detail) | ReadError::Unusable(detail)) => {
                return CallOutcome::NotSent { detail };
            }
        };
        let answer = match send(post).await {
            Ok((_, body)) => body,
            Err(outcome) => return outcome,
        };
        match serde_json::from_slice::<Value>(&answer) {
            Ok(said) if said["succeeded"] == true => {
                let revision = text_of(&said["header"], "revision").unwrap_or_default();
                CallOutcome::Accepted { detail: format!("revision {revision}"), state: None }
            }
            // Fields that are false are left out.
            Ok(said) if said["header"].is_object() => {
                CallOutcome::Conflict { detail: "the key has been written or made anew since".to_owned() }
            }
            Ok(_) | Err(_) => CallOutcome::Unknown { detail: "its answer is not that of etcd".to_owned() },
        }
    }
}
