//! `remote_write`: where samples are sent on to, Prometheus' schema.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use davy_collector::remote_write_out::{MetadataConfig, Protocol, QueueConfig, RemoteWriteConfig};
use davy_egress::Secret;

use super::global::Global;
use super::reader::{Field, Section};
use super::value::{duration, http_url, positive_duration, show_duration};
use super::{http, relabel};

const REMOTE_TIMEOUT: Duration = Duration::from_secs(30);
/// More requests at the same time help nobody.
const SHARDS_MAX: u64 = 500;
const SAMPLES_PER_SEND_MAX: u64 = 50_000;

/// Headers that the protocol or another key sets.
const RESERVED: [&str; 10] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "x-prometheus-remote-write-version",
];

const PROTOCOLS: [(&str, Protocol); 4] = [
    ("prometheus.WriteRequest", Protocol::V1),
    ("io.prometheus.write.v2.Request", Protocol::V2),
    // Short for the two.
    ("io.prometheus.write.v1", Protocol::V1),
    ("io.prometheus.write.v2", Protocol::V2),
];

pub(super) fn read(top: &mut Section<'_>, global: &Global) -> Vec<RemoteWriteConfig> {
    let mut names = HashSet::new();
    top.list("remote_write", |field| {
        let config = destination(&field, global)?;
        if !names.insert(config.name.clone()) {
            field.error(format!(
                "{:?} is given twice; each destination needs a `name` of its own, where its position is kept",
                config.name
            ));
        }
        Some(config)
    })
}

fn destination(field: &Field<'_>, global: &Global) -> Option<RemoteWriteConfig> {
    field.section(|s| {
        let url =
            s.required("url", "the server's address for remote write, such as https://host/api/v1/write");
        let url = url.and_then(|f| f.parse(http_url));
        let name = s.get("name").and_then(|f| f.name()).map(str::to_owned);
        let remote_timeout = s.or("remote_timeout", REMOTE_TIMEOUT, |f| f.parse(positive_duration));
        let headers = s.or("headers", BTreeMap::new(), |f| Some(headers(f)));
        let write_relabel = s.list("write_relabel_configs", |f| relabel::read(&f));
        let http = http::read(s);
        let protocol = s.or("protobuf_message", Protocol::V1, |f| f.one_of(&PROTOCOLS));
        let send_exemplars = s.or("send_exemplars", false, Field::bool);
        let send_native_histograms = s.or("send_native_histograms", false, Field::bool);
        let queue = s.or("queue_config", QueueConfig::default(), queue);
        let metadata = s.or("metadata_config", MetadataConfig::default(), metadata);
        s.only("round_robin_dns", &["false"], "the first address that a name resolves to is asked");
        s.not_yet(&["sigv4", "azuread", "google_iam"], "use `basic_auth` or `authorization`");
        let url = url?;
        Some(RemoteWriteConfig {
            name: name.unwrap_or_else(|| url.clone()),
            url,
            remote_timeout,
            headers,
            external_labels: global.external_labels.clone(),
            write_relabel,
            http,
            protocol,
            send_exemplars,
            send_native_histograms,
            queue,
            metadata,
        })
    })
}

/// Headers of a request; whatever they hold is taken for a secret.
pub(super) fn headers(field: &Field<'_>) -> BTreeMap<String, Secret> {
    let one = |(name, value): (String, Field<'_>)| {
        let lower = name.to_ascii_lowercase();
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if RESERVED.contains(&lower.as_str()) {
            value.error("this header is set by the protocol, or by `basic_auth` and `authorization`");
        } else if name.is_empty() || !name.chars().all(is_token) {
            value.error("expected the name of a header, such as X-Scope-OrgID");
        }
        let text = value.text()?;
        if !text.chars().all(|c| (' '..='~').contains(&c)) {
            value.error("got text that is not shown: a header's value is printable ASCII");
        }
        Some((name, Secret::Inline(text.into())))
    };
    field.entries().into_iter().filter_map(one).collect()
}

fn queue(field: &Field<'_>) -> Option<QueueConfig> {
    let default = QueueConfig::default();
    field.section(|s| {
        let count = |s: &mut Section<'_>, key, default: usize, max: u64| {
            s.or(key, default, |f| match f.u64()? {
                n if n > 0 && n <= max => usize::try_from(n).ok(),
                _ => {
                    f.error(format!("got {}, expected a number from 1 to {max}", f.got()));
                    None
                }
            })
        };
        let min_shards = count(s, "min_shards", default.min_shards, SHARDS_MAX);
        let max_shards = count(s, "max_shards", default.max_shards.max(min_shards), SHARDS_MAX);
        if min_shards > max_shards {
            s.error(format!("min_shards of {min_shards} is more than max_shards of {max_shards}"));
        }
        let max_samples_per_send =
            count(s, "max_samples_per_send", default.max_samples_per_send, SAMPLES_PER_SEND_MAX);
        let time = |s: &mut Section<'_>, key, default| s.or(key, default, |f| f.parse(positive_duration));
        let batch_send_deadline = time(s, "batch_send_deadline", default.batch_send_deadline);
        let min_backoff = time(s, "min_backoff", default.min_backoff);
        let max_backoff = time(s, "max_backoff", default.max_backoff.max(min_backoff));
        if min_backoff > max_backoff {
            let (min, max) = (show_duration(min_backoff), show_duration(max_backoff));
            s.error(format!("min_backoff of {min} is more than max_backoff of {max}"));
        }
        let retry_on_http_429 = s.or("retry_on_http_429", default.retry_on_http_429, Field::bool);
        let sample_age_limit = s.or("sample_age_limit", Duration::ZERO, |f| f.parse(duration));
        s.ignored("capacity", "samples wait in Davy's log on disk, not in memory");
        Some(QueueConfig {
            min_shards,
            max_shards: max_shards.max(min_shards),
            max_samples_per_send,
            batch_send_deadline,
            min_backoff,
            max_backoff: max_backoff.max(min_backoff),
            retry_on_http_429,
            sample_age_limit: Some(sample_age_limit).filter(|d| !d.is_zero()),
        })
    })
}

fn metadata(field: &Field<'_>) -> Option<MetadataConfig> {
    let default = MetadataConfig::default();
    field.section(|s| {
        let send = s.or("send", default.send, Field::bool);
        let send_interval = s.or("send_interval", default.send_interval, |f| f.parse(positive_duration));
        let max_samples_per_send =
            s.or("max_samples_per_send", default.max_samples_per_send, |f| match f.u64()? {
                n if n > 0 && n <= SAMPLES_PER_SEND_MAX => usize::try_from(n).ok(),
                _ => {
                    f.error(format!("got {}, expected a number from 1 to {SAMPLES_PER_SEND_MAX}", f.got()));
                    None
                }
            });
        Some(MetadataConfig { send, send_interval, max_samples_per_send })
    })
}
