//! Who hears what, what may be called and what a verdict may lead to, after parsing: every value here is already
//! valid.

mod action;
mod message;
mod policy;

pub use action::{
    ActionSpec, ActuatorConfig, Destination, EtcdAction, HaproxyAction, HaproxySocket, KubernetesAction,
    KubernetesObject, NginxAction, WebhookAction,
};
pub use message::{
    AlertmanagerConfig, EmailConfig, EmailForm, GroupBy, InhibitRule, Integration, Receiver, Route,
    SlackConfig, SlackDestination, SlackField, SlackForm, WebhookConfig,
};
pub use policy::{Approval, Hand, OnFail, Policy, Ramp, RollbackLimits};
