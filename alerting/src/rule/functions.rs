//! What an alert's template may call: Prometheus' functions.

use std::sync::Arc;

use davy_model::{Histogram, Labels, Timestamp, Value};
use davy_query::Expr;

use super::template::go_value;
use super::{Evaluate, Outside};
use crate::gotemplate::humanize::{
    humanize, humanize_1024, humanize_duration, humanize_percentage, humanize_timestamp, to_float, to_time,
};
use crate::gotemplate::library::{self, one, text, two};
use crate::gotemplate::{CallError, Functions, List, Map, Value as Go, escape_query, float};

const NAMES: [&str; 27] = [
    "query",
    "first",
    "label",
    "value",
    "strvalue",
    "args",
    "reReplaceAll",
    "safeHtml",
    "match",
    "title",
    "toUpper",
    "toLower",
    "graphLink",
    "tableLink",
    "sortByLabel",
    "stripPort",
    "stripDomain",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "toTime",
    "pathPrefix",
    "externalURL",
    "parseDuration",
    "tmpl",
];

const QUERY_RESULT: &str = "template.queryResult";
const SAMPLE: &str = "*template.sample";
pub(super) fn is_function(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) struct AlertFunctions<'a, E> {
    pub(super) source: &'a E,
    pub(super) at: Timestamp,
    pub(super) outside: &'a Outside,
}

type Result<T = Go> = std::result::Result<T, CallError>;

impl<E: Evaluate> Functions for AlertFunctions<'_, E> {
    fn has(&self, name: &str) -> bool {
        is_function(name)
    }

    fn call(&self, name: &str, args: &[Go]) -> Result {
        let number = |f: fn(f64) -> String| to_float(one(name, args)?).map(|v| Go::from(f(v)));
        match name {
            "query" => self.query(text(one(name, args)?)?),
            "first" => match &results(one(name, args)?)?.items[..] {
                [first, ..] => Ok(first.clone()),
                [] => Err(CallError::failed("first() called on vector with no elements")),
            },
            "label" => {
                let (label, sample) = two(name, args)?;
                Ok(label_of(sample, text(label)?)?)
            }
            "value" => field(one(name, args)?, "Value"),
            "strvalue" => label_of(one(name, args)?, "__value__"),
            "args" => Ok(named_args(args)),
            "safeHtml" => text(one(name, args)?).map(Go::from),
            "graphLink" => text(one(name, args)?).map(|t| Go::from(link(t, 0))),
            "tableLink" => text(one(name, args)?).map(|t| Go::from(link(t, 1))),
            "sortByLabel" => {
                let (label, of) = two(name, args)?;
                sort_by_label(text(label)?, results(of)?)
            }
            "stripPort" => text(one(name, args)?)
                .map(|t| Go::from(split_host_port(t).map_or_else(|| t.to_owned(), |(h, _)| h.to_owned()))),
            "stripDomain" => text(one(name, args)?).map(|t| Go::from(strip_domain(t))),
            "humanize" => number(humanize),
            "humanize1024" => number(humanize_1024),
            "humanizeDuration" => number(humanize_duration),
            "humanizePercentage" => number(humanize_percentage),
            "humanizeTimestamp" => humanize_timestamp(to_float(one(name, args)?)?),
            "toTime" => to_time(to_float(one(name, args)?)?),
            "pathPrefix" => Ok(Go::from(path(&self.outside.external_url))),
            "externalURL" => Ok(Go::from(self.outside.external_url.as_str())),
            "parseDuration" => parse_duration(text(one(name, args)?)?).map(Go::Float),
            other => library::call(other, args)
                .unwrap_or_else(|| Err(CallError::failed(format!("{other} is not defined")))),
        }
    }
}

impl<E: Evaluate> AlertFunctions<'_, E> {
    fn query(&self, text: &str) -> Result {
        let expr = Expr::parse(text).map_err(|e| CallError::failed(e.to_string()))?;
        let found = self.source.instant(&expr, self.at).map_err(|e| CallError::failed(e.to_string()))?;
        Ok(Go::list(QUERY_RESULT, found.iter().map(|(labels, value)| sample(labels, value)).collect()))
    }
}

fn sample(labels: &Labels, value: &Value) -> Go {
    Go::record(SAMPLE, vec![("Labels", Go::texts(labels.iter())), ("Value", go_value(value))])
}

fn results(v: &Go) -> Result<&Arc<List>> {
    match v {
        Go::List(list) if list.type_name == QUERY_RESULT => Ok(list),
        other => Err(CallError::wrong_type(QUERY_RESULT, other)),
    }
}

fn field(v: &Go, name: &str) -> Result {
    match v {
        Go::Record(r) if r.type_name == SAMPLE => {
            Ok(r.fields.iter().find(|(n, _)| *n == name).map_or(Go::Nil, |(_, v)| v.clone()))
        }
        other => Err(CallError::wrong_type(SAMPLE, other)),
    }
}

fn label_of(sample: &Go, name: &str) -> Result {
    Ok(match field(sample, "Labels")? {
        Go::Map(labels) => labels.entries.get(name).cloned().unwrap_or_else(|| Go::text("")),
        _ => Go::text(""),
    })
}

fn named_args(args: &[Go]) -> Go {
    let entries = args.iter().enumerate().map(|(i, v)| (format!("arg{i}"), v.clone())).collect();
    Go::Map(Arc::new(Map { type_name: "map[string]interface {}", entries, missing: Go::Nil }))
}

fn sort_by_label(label: &str, list: &List) -> Result {
    let mut keyed =
        list.items.iter().map(|s| Ok((label_of(s, label)?, s.clone()))).collect::<Result<Vec<_>>>()?;
    keyed.sort_by(|a, b| a.0.as_text().cmp(&b.0.as_text()));
    Ok(Go::list(QUERY_RESULT, keyed.into_iter().map(|(_, s)| s).collect()))
}

fn link(expr: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", escape_query(expr))
}

/// Go's `net.SplitHostPort`; `None` where it gives an error.
fn split_host_port(of: &str) -> Option<(&str, &str)> {
    let (host, port) = of.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return (!inner.contains(['[', ']'])).then_some((inner, port));
    }
    (!host.contains([':', '[', ']']) && !port.contains([':', '[', ']'])).then_some((host, port))
}

fn strip_domain(of: &str) -> String {
    let (host, port) = split_host_port(of).unwrap_or((of, ""));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return of.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    match port {
        "" => host.to_owned(),
        port if host.contains(':') => format!("[{host}]:{port}"),
        port => format!("{host}:{port}"),
    }
}

/// The path of a URL.
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |i| &rest[i..])
}

/// Seconds of a duration in Prometheus' notation.
fn parse_duration(of: &str) -> Result<f64> {
    let wrong = || CallError::failed(format!("not a valid duration string: {of:?}"));
    if of == "0" {
        return Ok(0.0);
    }
    if of.is_empty() {
        return Err(CallError::failed("empty duration string"));
    }
    let units = [
        ("y", 31_536_000.0),
        ("w", 604_800.0),
        ("d", 86_400.0),
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
        ("ms", 1e-3),
    ];
    let (mut rest, mut from, mut millis) = (of, 0, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0).ok_or_else(wrong)?;
        let count: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let at = units
            .iter()
            .position(|(u, _)| *u == &rest[..letters])
            .filter(|i| *i >= from)
            .ok_or_else(wrong)?;
        millis += count * units[at].1 * 1000.0;
        (rest, from) = (&rest[letters..], at + 1);
    }
    Ok(millis / 1000.0)
}

/// As Prometheus prints a native histogram.
pub(super) fn histogram_text(h: &Histogram) -> String {
    let g = |v| float::general(v, None);
    let mut out = format!("{{count:{}, sum:{}", g(h.count), g(h.sum));
    for (lower, upper, count) in h.buckets().into_iter().filter(|b| b.2 != 0.0) {
        let zero = lower == -h.zero_threshold && upper == h.zero_threshold;
        let (open, close) = match (zero, upper <= 0.0) {
            (true, _) => ('[', ']'),
            (false, true) => ('[', ')'),
            (false, false) => ('(', ']'),
        };
        out += &format!(", {open}{},{}{close}:{}", g(lower), g(upper), g(count));
    }
    out + "}"
}
