//! `actions`: named actuators, a mapping of name to kind.

use davy_alerting::config::{ActionSpec, ActuatorConfig};

use super::reader::{Field, Section};
use super::receiver::webhook_keys;

pub(super) fn read(top: &mut Section<'_>) -> Vec<ActionSpec> {
    let Some(field) = top.get("actions") else { return Vec::new() };
    field.entries().into_iter().filter_map(|(name, f)| action(name, &f)).collect()
}

fn action(name: String, field: &Field<'_>) -> Option<ActionSpec> {
    if name.is_empty()
        || name.len() > 64
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    {
        field.error("the name of an action is made of up to 64 letters, digits, `-`, `_` and `.`");
    }
    let actuator = field.section(|s| {
        s.not_yet(
            &["kubernetes", "argo_rollouts", "istio", "gateway_api", "haproxy", "nginx", "etcd"],
            "a `webhook` can call whatever does it",
        );
        s.required("webhook", "what the action calls")?.section(|s| {
            let (url, signing_secret, timeout) = webhook_keys(s);
            Some(ActuatorConfig::Webhook { url: url?, signing_secret, timeout })
        })
    })?;
    Some(ActionSpec { name, actuator })
}
