//! `Actuator`: reads a target and carries a change out, once, and says what is known of how it went.
//!
//! Hop 7. Fails closed: whatever may have left the machine is never called "not sent", and whatever may have been
//! carried out is never called refused. One file a kind; each declares its level, and one kit
//! (`alerting/tests/conformance.rs`) holds them all to it.

mod etcd;
mod haproxy;
mod http;
mod kubernetes;
mod nginx;
mod webhook;

use std::sync::Arc;

use davy_model::Clock;

pub use crate::client::SetupError;
use crate::config::{ActionSpec, ActuatorConfig};
use crate::release::Level;
pub use crate::release::{ActRequest, CallOutcome, ReadError, Subject, TargetState};

/// One named action of the file.
pub struct Actuator {
    name: String,
    level: Level,
    kind: Kind,
}

enum Kind {
    Webhook(webhook::Webhook),
    Etcd(etcd::Etcd),
    Haproxy(haproxy::Haproxy),
    Nginx(nginx::Nginx),
    Kubernetes(kubernetes::Kubernetes),
}

impl Actuator {
    /// `external_url` is where people reach Davy.
    pub fn new(spec: &ActionSpec, external_url: &str, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let owner = format!("action {}", spec.name);
        let kind = match &spec.actuator {
            ActuatorConfig::Webhook(c) => {
                Kind::Webhook(webhook::Webhook::new(&owner, c, external_url, clock)?)
            }
            ActuatorConfig::Etcd(c) => Kind::Etcd(etcd::Etcd::new(&owner, c)?),
            ActuatorConfig::Haproxy(c) => Kind::Haproxy(haproxy::Haproxy::new(c)),
            ActuatorConfig::Nginx(c) => Kind::Nginx(nginx::Nginx::new(c)),
            ActuatorConfig::Kubernetes(c) => Kind::Kubernetes(kubernetes::Kubernetes::new(&owner, c)?),
        };
        Ok(Self { name: spec.name.clone(), level: spec.level(), kind })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// What the target says of itself.
    pub async fn read(&self, subject: &Subject) -> Result<TargetState, ReadError> {
        match &self.kind {
            Kind::Webhook(k) => k.read(subject).await,
            Kind::Etcd(k) => k.read(subject).await,
            Kind::Haproxy(k) => k.read().await,
            Kind::Nginx(k) => k.read().await,
            Kind::Kubernetes(k) => k.read(subject).await,
        }
    }

    /// One call, never repeated here.
    pub async fn call(&self, request: &ActRequest) -> CallOutcome {
        match &self.kind {
            Kind::Webhook(k) => k.call(request).await,
            Kind::Etcd(k) => k.call(request).await,
            Kind::Haproxy(k) => k.call(request).await,
            Kind::Nginx(k) => k.call(request).await,
            Kind::Kubernetes(k) => k.call(request).await,
        }
    }
}

/// Whether what is there now is what the caller read before; for targets that cannot check it themselves.
fn conflict(request: &ActRequest, now: &TargetState) -> Option<CallOutcome> {
    let expect = request.expect.as_ref()?;
    let moved = (&expect.uid, &expect.generation) != (&now.uid, &now.generation);
    moved.then(|| CallOutcome::Conflict { detail: format!("it is at generation {} now", now.generation) })
}
