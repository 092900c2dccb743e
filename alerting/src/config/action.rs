//! What may be called: named actuators.

use std::path::PathBuf;
use std::time::Duration;

use davy_egress::HttpConfig;
use secrecy::SecretString;

use crate::release::Level;

/// A named actuator.
#[derive(Debug, Clone)]
pub struct ActionSpec {
    pub name: String,
    pub actuator: ActuatorConfig,
}

impl ActionSpec {
    pub fn level(&self) -> Level {
        self.actuator.level()
    }
}

#[derive(Debug, Clone)]
pub enum ActuatorConfig {
    Webhook(WebhookAction),
    Etcd(EtcdAction),
    Haproxy(HaproxyAction),
    Nginx(NginxAction),
    Kubernetes(KubernetesAction),
}

/// One POST of the body. Without a `state_url` at most once.
#[derive(Debug, Clone)]
pub struct WebhookAction {
    pub url: SecretString,
    /// Where the target says what it is: the Davy protocol.
    pub state_url: Option<SecretString>,
    pub signing_secret: Option<SecretString>,
    pub timeout: Duration,
    pub http: HttpConfig,
}

/// A key that holds the split as JSON.
#[derive(Debug, Clone)]
pub struct EtcdAction {
    pub endpoint: SecretString,
    pub key: String,
    pub auth: Option<(String, SecretString)>,
    pub timeout: Duration,
    pub http: HttpConfig,
}

/// Weights of the servers of one backend, by the runtime API.
#[derive(Debug, Clone)]
pub struct HaproxyAction {
    pub socket: HaproxySocket,
    pub backend: String,
    pub baseline: Vec<String>,
    pub canary: Vec<String>,
    pub timeout: Duration,
}

#[derive(Debug, Clone)]
pub enum HaproxySocket {
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
}

/// A file of nginx that Davy owns, with one `split_clients`.
#[derive(Debug, Clone)]
pub struct NginxAction {
    pub file: PathBuf,
    /// What a request is split by, such as `$request_id`.
    pub key: String,
    /// Gets the name of one of the two, without `$`.
    pub variable: String,
    pub baseline: String,
    pub canary: String,
    /// Programs with their arguments; no shell.
    pub test: Vec<String>,
    pub reload: Vec<String>,
    pub timeout: Duration,
}

/// One object behind the API of Kubernetes.
#[derive(Debug, Clone)]
pub struct KubernetesAction {
    pub object: KubernetesObject,
    pub namespace: String,
    pub name: String,
    pub server: SecretString,
    /// Read again at each call, since tokens are rotated.
    pub token_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KubernetesObject {
    /// Its pod template goes back to that of the baseline's ReplicaSet. The label of the template names the version.
    Deployment { version_label: String },
    /// Abort and full promotion.
    Rollout { version_label: String },
    /// Weights of two destinations, each a host with or without a subset.
    VirtualService { baseline: Destination, canary: Destination },
    /// Weights of two backends.
    HttpRoute { baseline: String, canary: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub host: String,
    pub subset: Option<String>,
}

impl ActuatorConfig {
    pub fn level(&self) -> Level {
        match self {
            Self::Webhook(w) if w.state_url.is_none() => Level::C,
            Self::Webhook(_) | Self::Etcd(_) => Level::A,
            Self::Haproxy(_) | Self::Nginx(_) => Level::B,
            Self::Kubernetes(k) => match k.object {
                // The mark is not part of the write to the status.
                KubernetesObject::Rollout { .. } => Level::B,
                KubernetesObject::Deployment { .. }
                | KubernetesObject::VirtualService { .. }
                | KubernetesObject::HttpRoute { .. } => Level::A,
            },
        }
    }

    /// Whether it can set any share of the requests, or only one version or the other.
    pub fn sets_shares(&self) -> bool {
        match self {
            Self::Webhook(_) | Self::Etcd(_) | Self::Haproxy(_) | Self::Nginx(_) => true,
            Self::Kubernetes(k) => matches!(
                k.object,
                KubernetesObject::VirtualService { .. } | KubernetesObject::HttpRoute { .. }
            ),
        }
    }
}
