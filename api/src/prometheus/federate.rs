//! `GET /federate?match[]=`: the newest sample of each series in the text format, for another Prometheus to scrape.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use davy_model::{Labels, Sample, is_stale, name};

use super::number;
use super::params::Params;
use crate::error::ApiError;
use crate::router::ApiState;

/// What a scraper says that reads names of any characters.
const ANY_NAME: &str = "escaping=allow-utf-8";

/// By metric, then by labels.
type Newest = BTreeMap<(String, Labels), Sample>;

/// As Prometheus: untyped, without native histograms (the text format has none), without series that ended.
pub(super) async fn federate(
    State(state): State<ApiState>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = params.selectors()?;
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let escape = !accept.into_iter().any(|v| v.replace(' ', "").contains(ANY_NAME));
    let (store, now, view) = (state.store.clone(), state.clock.now(), state.view.load());
    let lookback = state.queries.engine(None).lookback;
    let work = move |_: &_| {
        let snapshot = store.snapshot();
        let mut newest = Newest::new();
        for matchers in &selectors {
            let found = snapshot.columns(matchers, now - lookback, now);
            for series in found.map_err(|e| ApiError::Internal(e.to_string()))? {
                let metric = series.labels.metric_name().to_owned();
                if let Some(sample) = series.samples.into_samples().pop() {
                    newest.insert((metric, series.labels), sample);
                }
            }
        }
        Ok(exposition(&newest, &view.external_labels, escape))
    };
    let text = state.queries.run(None, work).await?.value;
    let content_type = if escape {
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    } else {
        "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8"
    };
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// A label `instance` is always said, empty if need be: the scraper would add its own.
fn exposition(newest: &Newest, external: &BTreeMap<String, String>, escape: bool) -> Vec<u8> {
    let mut external = external.clone();
    external.entry(name::INSTANCE.to_owned()).or_default();
    let mut out = Vec::new();
    let mut described = "";
    for ((metric, labels), sample) in newest {
        let Some(v) = sample.value.as_float().filter(|v| !is_stale(*v)) else { continue };
        if metric.is_empty() {
            continue;
        }
        if described != metric {
            out.extend_from_slice(format!("# TYPE {} untyped\n", metric_text(metric, escape)).as_bytes());
            described = metric;
        }
        series(&mut out, metric, labels, &external, escape);
        out.push(b' ');
        number::float(&mut out, v);
        out.extend_from_slice(format!(" {}\n", sample.timestamp.as_millis()).as_bytes());
    }
    out
}

/// `http_requests_total{code="200",instance=""}`, or `{"http.requests",code="200",instance=""}`.
fn series(
    out: &mut Vec<u8>,
    metric: &str,
    labels: &Labels,
    external: &BTreeMap<String, String>,
    escape: bool,
) {
    let bare = escape || is_plain(metric, true);
    let own = labels.iter().filter(|(n, _)| *n != name::METRIC);
    let more = external.iter().filter(|(n, _)| labels.get(n).is_none());
    let mut pairs: Vec<String> = (!bare).then(|| metric_text(metric, escape)).into_iter().collect();
    pairs.extend(
        own.chain(more.map(|(n, v)| (n.as_str(), v.as_str())))
            .map(|(n, v)| format!("{}=\"{}\"", label_text(n, escape), escaped(v))),
    );
    if bare {
        out.extend_from_slice(metric_text(metric, escape).as_bytes());
    }
    out.extend_from_slice(format!("{{{}}}", pairs.join(",")).as_bytes());
}

fn metric_text(metric: &str, escape: bool) -> String {
    name_text(metric, true, escape)
}

fn label_text(label: &str, escape: bool) -> String {
    name_text(label, false, escape)
}

/// Other names stand in quotes, or with underscores for what old scrapers do not read.
fn name_text(text: &str, colons: bool, escape: bool) -> String {
    if is_plain(text, colons) {
        return text.to_owned();
    }
    if !escape {
        return format!("\"{}\"", escaped(text));
    }
    let legal = |(i, c): (usize, char)| {
        let ok = c.is_ascii_alphabetic() || c == '_' || (colons && c == ':') || (c.is_ascii_digit() && i > 0);
        if ok { c } else { '_' }
    };
    text.chars().enumerate().map(legal).collect()
}

fn is_plain(text: &str, colons: bool) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (colons && b == b':');
    !text.is_empty() && text.bytes().all(legal) && !text.as_bytes()[0].is_ascii_digit()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use davy_model::{STALE_NAN, Timestamp, Value};
    use expect_test::{Expect, expect};

    use super::*;

    fn check(rows: &[(&[(&str, &str)], Value)], external: &[(&str, &str)], escape: bool, want: &Expect) {
        let newest = rows.iter().map(|(pairs, value)| {
            let labels = Labels::from_pairs(pairs.iter().copied());
            let sample = Sample { timestamp: Timestamp::from_millis(1_500), value: value.clone() };
            ((labels.metric_name().to_owned(), labels), sample)
        });
        let external = external.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        want.assert_eq(std::str::from_utf8(&exposition(&newest.collect(), &external, escape)).unwrap());
    }

    #[test]
    fn families_come_together_and_labels_from_outside_fill_up() {
        let rows: [(&[(&str, &str)], Value); 4] = [
            (&[("__name__", "up"), ("job", "b"), ("instance", "i")], Value::Float(1.0)),
            (&[("__name__", "up"), ("job", "a\"\\\n")], Value::Float(f64::INFINITY)),
            (&[("__name__", "gone")], Value::Float(STALE_NAN)),
            (&[("job", "nameless")], Value::Float(1.0)),
        ];
        check(
            &rows,
            &[("region", "eu"), ("job", "other")],
            true,
            &expect![[r#"
                # TYPE up untyped
                up{instance="i",job="b",region="eu"} 1 1500
                up{job="a\"\\\n",instance="",region="eu"} +Inf 1500
            "#]],
        );
        check(&rows[2..], &[], true, &expect![""]);
    }

    #[test]
    fn other_names_are_quoted_for_those_who_read_them() {
        let rows: [(&[(&str, &str)], Value); 1] =
            [(&[("__name__", "http.requests"), ("http.code", "200")], Value::Float(2.5))];
        check(
            &rows,
            &[],
            false,
            &expect![[r#"
                # TYPE "http.requests" untyped
                {"http.requests","http.code"="200",instance=""} 2.5 1500
            "#]],
        );
        check(
            &rows,
            &[],
            true,
            &expect![[r#"
                # TYPE http_requests untyped
                http_requests{http_code="200",instance=""} 2.5 1500
            "#]],
        );
    }
}
