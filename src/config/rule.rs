//! A group of rules and its rules, in Prometheus' schema.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use davy_alerting::rule::{GroupSpec, RuleKind, RuleSpec, check_template};
use davy_query::Expr;

use super::reader::{Field, Section};
use super::rule_file::RuleDefaults;
use super::value::{duration, label_name};

/// Most series or alerts that a file may allow a rule; the number itself bounds nothing.
const LIMIT_MAX: u64 = 10_000_000;

/// `groups` of a rule file. Names are unique within it.
pub(super) fn groups(s: &mut Section<'_>, file: &str, defaults: &RuleDefaults) -> Vec<GroupSpec> {
    let mut names = HashSet::new();
    s.list("groups", |field| {
        let spec = group(&field, file, defaults)?;
        if !names.insert(spec.name.clone()) {
            let name = &spec.name;
            field.error(format!("group {name:?} is given twice; each group of a file needs its own name"));
        }
        Some(spec)
    })
}

fn group(field: &Field<'_>, file: &str, defaults: &RuleDefaults) -> Option<GroupSpec> {
    field.section(|s| {
        let name = s.required("name", "metrics and logs carry it").and_then(|f| f.name());
        let interval = match s.or("interval", Duration::ZERO, |f| f.parse(duration)) {
            Duration::ZERO => defaults.interval,
            interval => interval,
        };
        let query_offset = s.or("query_offset", defaults.query_offset, |f| f.parse(duration));
        let limit = s.or("limit", 0, limit);
        let labels = s.get("labels").map(|f| labels(&f)).unwrap_or_default();
        let rules = s.list("rules", |f| rule(&f, &labels));
        Some(GroupSpec {
            file: file.to_owned(),
            name: name?.to_owned(),
            interval,
            query_offset,
            limit,
            rules,
        })
    })
}

fn limit(field: &Field<'_>) -> Option<usize> {
    let limit = field.u64()?;
    if limit > LIMIT_MAX {
        field.error(format!("got {limit}, expected at most {LIMIT_MAX}; 0 is no limit"));
    }
    usize::try_from(limit).ok()
}

fn rule(field: &Field<'_>, of_group: &BTreeMap<String, String>) -> Option<RuleSpec> {
    field.section(|s| {
        let (record, alert) = (s.get("record"), s.get("alert"));
        let expr = s.required("expr", "the PromQL expression to evaluate").and_then(|f| expr(&f));
        let mut labels_ = of_group.clone();
        let own = s.get("labels");
        labels_.extend(own.as_ref().map(labels).unwrap_or_default());
        let alerting = [s.get("for"), s.get("keep_firing_for"), s.get("annotations")];
        match (&record, &alert) {
            (Some(_), Some(alert)) => alert.error("`record` is given as well; a rule has one of the two"),
            (None, None) => s.error("`record` or `alert` is missing: what the rule makes"),
            (Some(_), None) => {
                for (field, key) in alerting.iter().zip(["for", "keep_firing_for", "annotations"]) {
                    // Zero and nothing say what is so anyway.
                    let Some(field) = field.as_ref().filter(|f| !says_nothing(f)) else { continue };
                    field.error(format!("a recording rule has no `{key}`; it belongs to alerts"));
                }
            }
            (None, Some(_)) => {}
        }
        if let Some(record) = record {
            let name = record.parse(series_name);
            return Some(RuleSpec {
                name: name?.to_owned(),
                expr: expr?,
                labels: labels_,
                kind: RuleKind::Recording,
            });
        }
        let name = alert?.name()?;
        let [hold, keep_firing_for, annotations] = alerting;
        let long = |f: Option<Field<'_>>| f.and_then(|f| f.parse(duration)).unwrap_or_default();
        templates(name, own.as_ref());
        templates(name, annotations.as_ref());
        let kind = RuleKind::Alerting {
            hold: long(hold),
            keep_firing_for: long(keep_firing_for),
            annotations: annotations.map(|f| texts(&f)).unwrap_or_default(),
        };
        Some(RuleSpec { name: name.to_owned(), expr: expr?, labels: labels_, kind })
    })
}

fn says_nothing(field: &Field<'_>) -> bool {
    if field.is_mapping() { field.entries().is_empty() } else { field.is_text("0") || field.is_text("0s") }
}

/// Any UTF-8 name; braces are those of a selector that was put in the wrong place.
fn series_name(text: &str) -> Result<&str, String> {
    if text.is_empty() {
        return Err("expected a name for the series, such as job:requests:rate5m".to_owned());
    }
    if text.contains(['{', '}']) {
        return Err("a name has no braces; a selector belongs in `expr`, labels under `labels`".to_owned());
    }
    label_name(text).map(|()| text).map_err(|e| e.replace("label name", "series name"))
}

/// A PromQL expression; what is wrong with it is shown where it stands.
pub(super) fn expr(field: &Field<'_>) -> Option<Expr> {
    let text = field.text()?;
    if text.trim().is_empty() {
        field.error("got nothing, expected a PromQL expression");
        return None;
    }
    match Expr::parse(text) {
        Ok(expr) => Some(expr),
        Err(error) => {
            let lines = text.matches('\n').count();
            let place = if lines > 0 { place(text, error.position) } else { String::new() };
            let detail = format!("not a PromQL expression: {}{place}", error.detail);
            field.error_within(error.position, detail);
            None
        }
    }
}

/// Where in an expression of several lines.
fn place(text: &str, position: usize) -> String {
    let before: String = text.chars().take(position).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!(" (line {line}, column {column} of the expression)")
}

/// Label names with values; `__name__` is the rule's own to give.
fn labels(field: &Field<'_>) -> BTreeMap<String, String> {
    for (name, value) in field.entries() {
        let reserved = || match name.as_str() {
            "__name__" => Err("the name of a series is given by `record`".to_owned()),
            _ => Ok(()),
        };
        if let Err(e) = label_name(&name).and_then(|()| reserved()) {
            value.error(format!("got label name {name:?}: {e}"));
        }
    }
    texts(field)
}

/// Names with texts; nothing written is the empty text.
fn texts(field: &Field<'_>) -> BTreeMap<String, String> {
    let text = |f: &Field<'_>| if f.is_null() { Some(String::new()) } else { f.text().map(str::to_owned) };
    field.entries().into_iter().filter_map(|(k, v)| Some((k, text(&v)?))).collect()
}

/// Reports texts that Go's templates would not parse.
fn templates(alert: &str, texts: Option<&Field<'_>>) {
    for (_, field) in texts.map(Field::entries).unwrap_or_default() {
        if field.is_null() {
            continue;
        }
        let Some(text) = field.text() else { continue };
        if let Err(error) = check_template(alert, text) {
            field.error(format!("not a Go template: {}", error.to_string().trim_start_matches("template: ")));
        }
    }
}
