//! Who pushed: the labels that every series of a resource carries, and `target_info` for the rest.
//!
//! `job` and `instance` as Prometheus' OTLP receiver makes them; `service` and `version` are what Davy's
//! releases are found by.

use davy_model::{AttributeValue, Labels, Resource, name};
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::attributes::{Interner, label_text};
use super::names::label_name;

/// Attributes that became labels of their own and need not stand in `target_info` again, as with Prometheus.
const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Read in this order until one is there.
const INSTANCE_KEYS: [&str; 3] = ["service.instance.id", "k8s.pod.name", "host.name"];

/// Davy's form of the resource. Whatever identifies the service is text, whichever type the SDK gave it.
pub(crate) fn resource(pairs: &[KeyValue], interner: &mut Interner) -> Resource {
    let mut attributes = interner.attributes(pairs);
    for (key, value) in &mut attributes {
        let is_text = matches!(value, AttributeValue::String(_));
        if !is_text && (key.starts_with("service.") || INSTANCE_KEYS.contains(&&**key)) {
            *value = AttributeValue::String(value.to_string().into());
        }
    }
    Resource { attributes }
}

/// `job`, `instance`, `service` and `version`, as far as they are known.
pub(crate) fn identity(resource: &Resource) -> Labels {
    let text = |key: &str| match resource.get(key) {
        Some(AttributeValue::String(s)) => &**s,
        _ => "",
    };
    let job = match (text("service.namespace"), resource.service()) {
        ("", service) | (_, service @ "") => service.to_owned(),
        (namespace, service) => format!("{namespace}/{service}"),
    };
    Labels::from_pairs([
        (name::JOB, job.as_str()),
        (name::INSTANCE, instance(resource)),
        (name::SERVICE, resource.service()),
        (name::VERSION, resource.version()),
    ])
}

/// `service.instance.id`, else the pod's or the host's name, else the empty string.
pub(crate) fn instance(resource: &Resource) -> &str {
    let text = |key| match resource.get(key) {
        Some(AttributeValue::String(s)) => &**s,
        _ => "",
    };
    INSTANCE_KEYS.into_iter().map(text).find(|s| !s.is_empty()).unwrap_or("")
}

/// Labels of `target_info`, or `None` if the identity is empty or nothing is left to tell.
pub(crate) fn target_info(pairs: &[KeyValue], identity: &Labels) -> Option<Labels> {
    let mut labels = identity.builder();
    for kv in pairs.iter().take(super::attributes::ATTRIBUTES_MAX) {
        if IDENTIFYING.contains(&kv.key.as_str()) {
            continue;
        }
        if let Some(label) = label_name(&kv.key)
            && identity.get(&label).is_none()
        {
            labels.set(&label, &label_text(&kv.value));
        }
    }
    let labels = labels.build();
    if identity.is_empty() || labels.len() == identity.len() {
        return None;
    }
    let mut named = labels.builder();
    named.set(name::METRIC, "target_info");
    Some(named.build())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;

    fn pairs(of: &[(&str, Value)]) -> Vec<KeyValue> {
        let pair = |(key, value): &(&str, Value)| KeyValue {
            key: (*key).to_owned(),
            value: Some(AnyValue { value: Some(value.clone()) }),
            ..KeyValue::default()
        };
        of.iter().map(pair).collect()
    }

    fn text(s: &str) -> Value {
        Value::StringValue(s.to_owned())
    }

    #[test]
    fn identity_is_namespace_name_version_and_instance() {
        let check = |attributes: &[(&str, Value)], want: &str| {
            let resource = resource(&pairs(attributes), &mut Interner::default());
            assert_eq!(identity(&resource).to_string(), want);
        };
        check(
            &[
                ("service.name", text("cart")),
                ("service.namespace", text("shop")),
                ("service.version", Value::IntValue(2)),
                ("service.instance.id", text("a-1")),
                ("host.name", text("h")),
            ],
            r#"{instance="a-1", job="shop/cart", service="cart", version="2"}"#,
        );
        check(
            &[("service.name", text("cart")), ("host.name", text("h")), ("k8s.pod.name", text("p"))],
            r#"{instance="p", job="cart", service="cart"}"#,
        );
        check(&[("service.namespace", text("shop"))], "{}");
    }

    #[test]
    fn target_info_tells_the_rest() {
        let attributes = pairs(&[
            ("service.name", text("cart")),
            ("service.version", text("2")),
            ("telemetry.sdk.language", text("python")),
            ("job", text("not ours")),
        ]);
        let identity = identity(&resource(&attributes, &mut Interner::default()));
        assert_eq!(
            target_info(&attributes, &identity).map(|l| l.to_string()).as_deref(),
            Some(
                r#"target_info{job="cart", service="cart", service_version="2", telemetry_sdk_language="python", version="2"}"#
            )
        );
        let bare = pairs(&[("service.name", text("cart"))]);
        assert_eq!(target_info(&bare, &identity.only(&["job"])), None);
        assert_eq!(target_info(&attributes, &Labels::empty()), None);
    }
}
