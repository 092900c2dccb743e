//! What boards share: variables, links, and expressions that find a service however it is measured.

use std::fmt::Write as _;

use crate::build::{Annotation, Color, DataLink, Variable};

/// Narrows Davy's own series to the chosen Davys.
pub(super) const OWN: &str = r#"job=~"$job", instance=~"$instance""#;
/// Narrows them to one release.
pub(super) const RELEASE: &str = r#"job=~"$job", instance=~"$instance", service="$service", id="$release""#;

/// Data sources and the Davys that are looked at: first on every board.
pub(super) fn davys() -> Vec<Variable> {
    vec![
        Variable::source("datasource", "Data source", "prometheus"),
        Variable::label(
            "job",
            "job",
            "Davy's own series; davy unless it is scraped by someone else",
            "label_values(davy_build_info, job)",
        )
        .many(),
        Variable::label(
            "instance",
            "instance",
            "Which Davy",
            "label_values(davy_build_info{job=~\"$job\"}, instance)",
        )
        .many(),
    ]
}

pub(super) fn traces() -> Variable {
    Variable::source("traces", "Traces", "tempo")
}

/// Where people reach Davy, for links.
pub(super) fn davy_url() -> Variable {
    let query = format!("label_values(davy_build_info{{{OWN}}}, external_url)");
    Variable::label("davy_url", "Davy", "Where people reach Davy", &query).hidden()
}

/// Opens Grafana's Explore on traces that match, over the board's time range.
pub(super) fn traces_link(title: &str, traceql: &str) -> DataLink {
    let query = traceql.replace('"', "\\\"");
    let panes = format!(
        r#"{{"a":{{"datasource":"${{traces}}","queries":[{{"refId":"A","datasource":{{"type":"tempo","uid":"${{traces}}"}},"queryType":"traceql","query":"{query}","limit":20,"tableType":"traces"}}],"range":{{"from":"${{__from}}","to":"${{__to}}"}}}}}}"#
    );
    DataLink::new(title, &format!("/explore?schemaVersion=1&orgId=1&panes={}", escape(&panes)))
}

/// Percent-encodes all but what Grafana replaces.
fn escape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let end = rest[at..].find('}').map_or(rest.len(), |n| at + n + 1);
        escape_into(&mut out, &rest[..at]);
        out.push_str(&rest[at..end]);
        rest = &rest[end..];
    }
    escape_into(&mut out, rest);
    out
}

fn escape_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a string takes all"),
        }
    }
}

/// `sum by (by) (rate(...))` of a counter of the service, which is known by its `service` label, else by its job.
fn rate(metric: &str, matchers: &str, by: &str) -> String {
    let more = if matchers.is_empty() { String::new() } else { format!(", {matchers}") };
    format!(
        "sum by ({by}) (rate({metric}{{service=\"$service\"{more}}}[$__rate_interval]) \
         or rate({metric}{{service=\"\", job=\"$service\"{more}}}[$__rate_interval]))"
    )
}

fn spans(metric: &str, matchers: &str, by: &str) -> String {
    let more = if matchers.is_empty() { String::new() } else { format!(", {matchers}") };
    format!(
        "sum by ({by}) (rate({metric}{{service=\"$service\", span_kind=~\"SPAN_KIND_SERVER|SPAN_KIND_CONSUMER\"{more}}}[$__rate_interval]))"
    )
}

/// The first of them that finds anything.
fn first(of: &[String]) -> String {
    of.join("\nor on () ")
}

/// Requests a second: by OpenTelemetry's HTTP metrics, by those of Prometheus clients, else by spans. Spans come last
/// because they may be a sample.
pub(super) fn requests(matchers: &str, by: &str) -> String {
    first(&[
        rate("http_server_request_duration_seconds_count", matchers, by),
        rate("http_requests_total", matchers, by),
        spans("traces_spanmetrics_calls_total", matchers, by),
    ])
}

/// Share of requests that failed for the server's fault. Spans first: a failed span is a failure in any protocol.
pub(super) fn errors(matchers: &str, by: &str) -> String {
    let and = |more: &str| {
        if matchers.is_empty() { more.to_owned() } else { format!("{matchers}, {more}") }
    };
    // A series of failures exists only once there was one; until then their share is zero, not unknown.
    let share = |failed: &str, all: &str| format!("(({failed} or {all} * 0) / {all})");
    first(&[
        share(
            &spans("traces_spanmetrics_calls_total", &and(r#"status_code="STATUS_CODE_ERROR""#), by),
            &spans("traces_spanmetrics_calls_total", matchers, by),
        ),
        share(
            &rate(
                "http_server_request_duration_seconds_count",
                &and(r#"http_response_status_code=~"5..""#),
                by,
            ),
            &rate("http_server_request_duration_seconds_count", matchers, by),
        ),
        share(
            &rate("http_requests_total", &and(r#"code=~"5..""#), by),
            &rate("http_requests_total", matchers, by),
        ),
    ])
}

/// Buckets of the time to answer. Spans first: their buckets are fine, and alike for every service.
pub(super) fn buckets(matchers: &str, by: &str) -> String {
    first(&[
        spans("traces_spanmetrics_latency_bucket", matchers, by),
        rate("http_server_request_duration_seconds_bucket", matchers, by),
        rate("http_request_duration_seconds_bucket", matchers, by),
    ])
}

/// A counter or a gauge of the service's processes: by its label, else by its job.
pub(super) fn of_service(metric: &str, wrap: impl Fn(&str) -> String) -> String {
    let by_label = wrap(&format!("{metric}{{service=\"$service\"}}"));
    let by_job = wrap(&format!("{metric}{{service=\"\", job=\"$service\"}}"));
    format!("({by_label} or {by_job})")
}

/// What happened to releases, where it happened in time.
pub(super) fn events(selector: &str) -> [Annotation; 4] {
    let of = |name: &str, color: Color, events: &str, title: &str| {
        let expr = format!("davy_release_event_timestamp_ms{{{selector}, event=~\"{events}\"}}");
        Annotation::at_value(name, color, &expr, title, "{{service}} {{baseline}} → {{canary}}")
    };
    [
        of("Deploys", Color::Blue, "deploy", "Canary appeared"),
        of("Judged worse", Color::Red, "fail", "Canary is worse"),
        of("Rollbacks", Color::Purple, "rollback|rolled_back|needs_human", "{{event}}"),
        of("Other decisions", Color::Gray, "pass|promote|hold|resume|close", "{{event}}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_what_grafana_replaces() {
        assert_eq!(escape(r#"{"a":"${traces}"}"#), "%7B%22a%22%3A%22${traces}%22%7D");
        assert_eq!(escape("${a}${b:raw}"), "${a}${b:raw}");
    }
}
