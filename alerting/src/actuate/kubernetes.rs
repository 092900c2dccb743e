//! One object behind the API of Kubernetes, over plain REST: a Deployment, an Argo Rollout, an Istio VirtualService or
//! a Gateway API HTTPRoute. What each is read as and changed by is in [`object`].
//!
//! A write is a JSON patch that tests uid and resourceVersion, with the mark as an annotation in the same patch; the
//! API server answers 409 or 422 where a test fails. resourceVersion moves with every status update, so a conflict is
//! nothing unusual: the caller reads again, and what it compares is the logical generation.

mod object;

use std::path::PathBuf;

use davy_egress::{Auth, HttpClient, HttpConfig, Secret, TlsConfig};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use self::object::{Change, Kind};
use super::http::{ask, client, send, unready};
use crate::client::{self, SetupError};
use crate::config::{KubernetesAction, KubernetesObject};
use crate::release::{ActRequest, CallOutcome, Desired, ReadError, Subject, TargetState};

/// Where the mark is kept.
const ACTION_ANNOTATION: &str = "davy.dev/action";
/// Who would put a change back.
const GITOPS: [&str; 4] = [
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
];

pub(super) struct Kubernetes {
    client: HttpClient,
    config: KubernetesAction,
    server: Url,
    kind: Kind,
}

impl Kubernetes {
    pub(super) fn new(owner: &str, config: &KubernetesAction) -> Result<Self, SetupError> {
        let server = client::url(owner, &config.server)?;
        // The service account's token is read at each request, since it is rotated.
        let token = |path: &PathBuf| Auth::Authorization {
            scheme: "Bearer".to_owned(),
            credentials: Secret::File(path.clone()),
        };
        let http = HttpConfig {
            auth: config.token_file.as_ref().map(token),
            tls: TlsConfig { ca_file: config.ca_file.clone(), ..TlsConfig::default() },
            follow_redirects: false,
        };
        let client = client(owner, &http, &server, config.timeout)?;
        Ok(Self { client, config: config.clone(), server, kind: Kind::of(&config.object) })
    }

    fn url(&self, resource: &str, name: &str) -> Url {
        let mut url = self.server.clone();
        let (group, namespace) = (self.kind.group(), &self.config.namespace);
        url.set_path(&format!(
            "{}{group}/namespaces/{namespace}/{resource}{name}",
            url.path().trim_end_matches('/')
        ));
        url
    }

    fn object_url(&self) -> Url {
        self.url(self.kind.resource(), &format!("/{}", self.config.name))
    }

    async fn get(&self, url: Url) -> Result<Value, ReadError> {
        let get = self.client.get(&url).await.map_err(unready)?;
        ask(get.timeout(self.config.timeout)).await
    }

    pub(super) async fn read(&self, subject: &Subject) -> Result<TargetState, ReadError> {
        let object = self.get(self.object_url()).await?;
        let meta = &object["metadata"];
        let text = |field: &str| meta[field].as_str().map(str::to_owned);
        let missing = || ReadError::Unusable("its answer is no object of Kubernetes".to_owned());
        let annotation = |name: &str| meta["annotations"][name].as_str().map(str::to_owned);
        let managed = GITOPS
            .into_iter()
            .find(|name| annotation(name).is_some() || meta["labels"][*name].as_str().is_some());
        // A Rollout's abort leaves what Git holds alone.
        let fought = managed.filter(|_| !matches!(self.config.object, KubernetesObject::Rollout { .. }));
        Ok(TargetState {
            uid: text("uid").ok_or_else(missing)?,
            generation: self.kind.generation(&object)?,
            token: text("resourceVersion").ok_or_else(missing)?,
            live: self.kind.live(&object, subject)?,
            marker: annotation(ACTION_ANNOTATION),
            refusal: fought.map(|by| {
                format!("{by} says that a GitOps controller owns it, which would put the change back")
            }),
        })
    }

    pub(super) async fn call(&self, request: &ActRequest) -> CallOutcome {
        let Some(expect) = &request.expect else {
            return CallOutcome::NotSent { detail: "nothing is known of the object".to_owned() };
        };
        let not_sent = |e: ReadError| match e {
            ReadError::Unreachable(detail) => CallOutcome::NotSent { detail },
            ReadError::Unusable(detail) => CallOutcome::Rejected { detail },
        };
        let object = match self.get(self.object_url()).await {
            Ok(object) => object,
            Err(e) => return not_sent(e),
        };
        let sets = match request.desired {
            Desired::Baseline if self.kind.needs_replica_sets() => {
                match self.get(self.url("replicasets", "")).await {
                    Ok(sets) => sets,
                    Err(e) => return not_sent(e),
                }
            }
            _ => Value::Null,
        };
        let change = match self.kind.change(&object, &sets, request) {
            Ok(change) => change,
            Err(detail) => return CallOutcome::Rejected { detail },
        };
        let (url, content, body) = match change {
            Change::Patch(mut patch) => {
                patch.splice(
                    0..0,
                    [
                        json!({"op": "test", "path": "/metadata/uid", "value": expect.uid}),
                        json!({"op": "test", "path": "/metadata/resourceVersion", "value": expect.token}),
                    ],
                );
                if !object["metadata"]["annotations"].is_object() {
                    patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
                }
                let path = format!("/metadata/annotations/{}", ACTION_ANNOTATION.replace('/', "~1"));
                patch.push(json!({"op": "add", "path": path, "value": request.marker}));
                (self.object_url(), "application/json-patch+json", Value::Array(patch))
            }
            Change::Status(status) => {
                let meta = json!({"resourceVersion": expect.token, "uid": expect.uid});
                let url = self.url(self.kind.resource(), &format!("/{}/status", self.config.name));
                (url, "application/merge-patch+json", json!({"metadata": meta, "status": status}))
            }
        };
        let patch = match self.client.request(Method::PATCH, &url).await {
            Ok(patch) => patch.timeout(self.config.timeout),
            Err(e) => return CallOutcome::NotSent { detail: e.to_string() },
        };
        match send(patch.header("content-type", content).body(body.to_string())).await {
            Ok((status, _)) => {
                CallOutcome::Accepted { detail: format!("status {}", status.as_u16()), state: None }
            }
            // A test of the patch that fails is a 422.
            Err(CallOutcome::Rejected { detail }) if detail.starts_with("status 422") => {
                CallOutcome::Conflict { detail }
            }
            Err(outcome) => outcome,
        }
    }
}
