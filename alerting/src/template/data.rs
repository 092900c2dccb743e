//! What `.` is in a template of a message: Alertmanager's `Data`.

use std::collections::BTreeMap;
use std::sync::Arc;

use davy_model::{Labels, Timestamp};

use crate::alert::{ALERTNAME, Alert, AlertState, RELEASE};
use crate::gotemplate::{Map, Value};
use crate::record::{Message, common};
use crate::text::release_url;

pub(super) const KV: &str = "template.KV";
pub(super) const ALERTS: &str = "template.Alerts";

pub(crate) fn data(message: &Message, receiver: &str, external_url: &str) -> Value {
    let alerts = message.alerts.iter().map(|(alert, state)| one(alert, *state, external_url));
    let labels = message.alerts.iter().map(|(a, _)| a.labels.iter().collect());
    let annotations = message.alerts.iter().map(|(a, _)| texts(&a.annotations).collect());
    Value::record(
        "*template.Data",
        vec![
            ("Receiver", receiver.into()),
            ("Status", message.state().as_str().into()),
            ("Alerts", Value::list(ALERTS, alerts.collect())),
            ("GroupLabels", kv(message.group_labels.iter())),
            ("CommonLabels", kv(common(labels))),
            ("CommonAnnotations", kv(common(annotations))),
            ("ExternalURL", external_url.trim_end_matches('/').into()),
            ("TruncatedAlerts", Value::Uint(0)),
        ],
    )
}

/// To try a text with before there is any alert.
pub(super) fn sample() -> Value {
    let labels =
        Labels::from_pairs([(ALERTNAME, "Sample"), ("severity", "critical"), ("service", "checkout")]);
    let annotations = BTreeMap::from([("summary".to_owned(), "A sample".to_owned())]);
    let alert = Alert::new(labels.clone(), annotations, Timestamp::from_millis(0));
    let message = Message {
        alerts: vec![(alert.clone(), AlertState::Firing), (alert, AlertState::Resolved)],
        group_key: "{}:{}".to_owned(),
        group_labels: labels,
        kind: String::new(),
        integration: 0,
    };
    data(&message, "sample", "http://localhost:9600")
}

fn one(alert: &Alert, state: AlertState, external_url: &str) -> Value {
    let time =
        |at: Timestamp| jiff::Timestamp::from_millisecond(at.as_millis()).map_or(Value::Nil, Value::Time);
    let end = alert.ends_at.map_or_else(|| Value::Time(NO_END), time);
    let url = release_url(external_url, alert.labels.get(RELEASE).unwrap_or(""));
    Value::record(
        "template.Alert",
        vec![
            ("Status", state.as_str().into()),
            ("Labels", kv(alert.labels.iter())),
            ("Annotations", kv(texts(&alert.annotations))),
            ("StartsAt", time(alert.starts_at)),
            ("EndsAt", end),
            ("GeneratorURL", url.into()),
            ("Fingerprint", alert.fingerprint().into()),
        ],
    )
}

/// Go's zero time.
const NO_END: jiff::Timestamp = jiff::Timestamp::constant(-62_135_596_800, 0);

fn texts(of: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    of.iter().map(|(n, v)| (n.as_str(), v.as_str()))
}

pub(super) fn kv<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let entries = pairs.into_iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
    Value::Map(Arc::new(Map { type_name: KV, entries, missing: Value::from("") }))
}
