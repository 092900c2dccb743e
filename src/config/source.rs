//! `sources`: servers that answer as Prometheus does, and what a release says of the one it is judged from.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_egress::Secret;

use super::matchers::parse_selector;
use super::reader::{Field, Section};
use super::suggest::did_you_mean;
use super::value::{duration, http_url, positive_duration};
use super::{http, remote_write};
use crate::sources::{ReleaseSource, SourceSpec};

const TIMEOUT: Duration = Duration::from_secs(10);
const DELAY: Duration = Duration::from_secs(5);

pub(super) fn read(top: &mut Section<'_>, evaluation_interval: Duration) -> Vec<SourceSpec> {
    let mut names = std::collections::HashSet::new();
    top.list("sources", |field| {
        let spec = field.section(|s| {
            let name =
                s.required("name", "what a release calls it by").and_then(|f| f.name()).map(str::to_owned);
            source(s, name, evaluation_interval)
        })?;
        if !names.insert(spec.name.clone()) {
            field.error(format!("source {:?} is given twice; each needs its own name", spec.name));
        }
        Some(spec)
    })
}

fn source(s: &mut Section<'_>, name: Option<String>, evaluation_interval: Duration) -> Option<SourceSpec> {
    let url = s.required("url", "the server's address, as Grafana has it: https://host:9090");
    let url = url.and_then(|f| f.parse(http_url));
    let timeout = s.or("timeout", TIMEOUT, |f| f.parse(positive_duration));
    let interval = s.or("interval", evaluation_interval, |f| f.parse(positive_duration));
    let delay = s.or("delay", DELAY, |f| f.parse(duration));
    let headers: BTreeMap<String, Secret> =
        s.or("headers", BTreeMap::new(), |f| Some(remote_write::headers(f)));
    let http = http::read(s);
    Some(SourceSpec { name: name?, url: url?, http, headers, timeout, interval, delay })
}

/// `source: NAME`, or a mapping with `name` or with all that an entry of `sources` has; both may add selectors.
pub(super) fn of_release(
    field: &Field<'_>,
    service: &str,
    sources: &mut Vec<SourceSpec>,
    evaluation_interval: Duration,
) -> Option<ReleaseSource> {
    if !field.is_mapping() {
        let name = known(field, sources)?;
        return Some(ReleaseSource { source: name, selectors: Vec::new() });
    }
    field.section(|s| {
        let selectors = s.list("match", |f| f.parse(|t| parse_selector(t).map(|_| t.to_owned())));
        if let Some(name) = s.get("name") {
            if let Some(url) = s.get("url") {
                url.error("`name` means an entry of `sources`, which has its own url; keep one of them");
            }
            return Some(ReleaseSource { source: known(&name, sources)?, selectors });
        }
        let name = format!("of {service}");
        let spec = source(s, Some(name.clone()), evaluation_interval)?;
        sources.push(spec);
        Some(ReleaseSource { source: name, selectors })
    })
}

fn known(field: &Field<'_>, sources: &[SourceSpec]) -> Option<String> {
    let name = field.name()?;
    if !sources.iter().any(|s| s.name == name) {
        let hint = did_you_mean(name, sources.iter().map(|s| s.name.as_str()));
        let got = field.got();
        field.error(format!(
            "no source is called {got}; define it under `sources` at the top of the file{hint}"
        ));
        return None;
    }
    Some(name.to_owned())
}
