//! Where targets come from: `static_configs`, `file_sd_configs`, `http_sd_configs`.

use std::time::Duration;

use davy_collector::config::Discovery;

use super::http;
use super::reader::{Field, Section};
use super::value::{http_url, labels, positive_duration};

/// Prometheus' defaults.
const FILE_REFRESH: Duration = Duration::from_secs(300);
const HTTP_REFRESH: Duration = Duration::from_secs(60);

pub(super) fn read(s: &mut Section<'_>) -> Vec<Discovery> {
    let mut out = s.list("static_configs", |f| statics(&f));
    out.extend(s.list("file_sd_configs", |f| files(&f)));
    out.extend(s.list("http_sd_configs", |f| http_sd(&f)));
    out
}

fn statics(field: &Field<'_>) -> Option<Discovery> {
    field.section(|s| {
        let targets = s.list("targets", |f| f.parse(target).map(str::to_owned));
        let labels = s.get("labels").map(|f| labels(&f, false)).unwrap_or_default();
        Some(Discovery::Static { targets, labels })
    })
}

/// `host:port`; the port may be left to the scheme.
fn target(text: &str) -> Result<&str, String> {
    if text.contains("://") {
        return Err("expected host:port; the scheme goes to `scheme`, the path to `metrics_path`".to_owned());
    }
    if text.is_empty() || text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err("expected host:port; a path goes to `metrics_path`".to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        Some(_) if !text.starts_with('[') => {
            return Err("expected an IPv6 address in brackets, such as [::1]:9100".to_owned());
        }
        _ => (text, None),
    };
    if host.is_empty() {
        return Err("the host is missing; expected host:port".to_owned());
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(text),
        Some(_) => Err("the port is not a number from 1 to 65535".to_owned()),
    }
}

fn files(field: &Field<'_>) -> Option<Discovery> {
    field.section(|s| {
        let list = s.required("files", "paths such as targets/*.json")?;
        let files: Vec<_> = list
            .items()
            .iter()
            .filter_map(|f| {
                f.parse(sd_path)?;
                f.path()
            })
            .collect();
        if files.is_empty() {
            list.error("no file is named; expected paths such as targets/*.json");
        }
        let refresh_interval = s.or("refresh_interval", FILE_REFRESH, |f| f.parse(positive_duration));
        Some(Discovery::File { files, refresh_interval })
    })
}

fn sd_path(text: &str) -> Result<(), String> {
    let (folder, name) = text.rsplit_once('/').unwrap_or(("", text));
    if folder.contains('*') || name.matches('*').count() > 1 {
        return Err("one `*` may stand in the file's name, none in its folder".to_owned());
    }
    if [".json", ".yml", ".yaml"].iter().any(|ext| name.ends_with(ext)) {
        return Ok(());
    }
    Err("expected a path that ends in .json, .yml or .yaml".to_owned())
}

fn http_sd(field: &Field<'_>) -> Option<Discovery> {
    field.section(|s| {
        let url = s.required("url", "the server that lists targets").and_then(|f| f.parse(http_url));
        let refresh_interval = s.or("refresh_interval", HTTP_REFRESH, |f| f.parse(positive_duration));
        let http = http::read(s);
        Some(Discovery::Http { url: url?, refresh_interval, http })
    })
}
