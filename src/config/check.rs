//! `davy check config FILE`: what a file says, or what is wrong with it.

use std::fmt::Write;
use std::path::Path;

use davy_alerting::config::{Integration, OnFail};
use davy_collector::config::Discovery;

use super::Config;
use super::value::show_duration;

/// The text to print, and whether the file is good. Warnings do not make it bad.
pub fn check(path: &Path) -> (String, bool) {
    match Config::load(path) {
        Ok(config) => (format!("{}: ok\n{}", path.display(), summary(&config)), true),
        Err(errors) => {
            let found = count(errors.errors.len() + errors.omitted, "error");
            (format!("{errors}\n{found}\n"), false)
        }
    }
}

fn summary(config: &Config) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        writeln!(out, "  {name:<11} {text}").expect("writing to a String cannot fail");
    };
    line("jobs", jobs(config));
    line("otlp", format!("gRPC on {}, HTTP on {}", config.otlp.grpc, config.otlp.http));
    line("storage", format!("{} kept", show_duration(config.storage.retention)));
    if !config.remote_write.is_empty() {
        line("written to", names(config.remote_write.iter().map(|r| r.name.as_str())));
    }
    if !config.sources.is_empty() {
        line("sources", names(config.sources.iter().map(|s| s.name.as_str())));
    }
    line("releases", releases(config));
    line("thresholds", names(config.thresholds.iter().map(|t| t.name.as_str())));
    if !config.rule_groups.is_empty() {
        let rules: usize = config.rule_groups.iter().map(|g| g.rules.len()).sum();
        line("rules", format!("{} in {}", count(rules, "rule"), count(config.rule_groups.len(), "group")));
    }
    line("receivers", receivers(config));
    line("actions", names(config.actions.iter().map(|a| a.name.as_str())));
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}").expect("writing to a String cannot fail");
    }
    out
}

fn jobs(config: &Config) -> String {
    let discovery = || config.scrape_configs.iter().flat_map(|c| &c.discovery);
    let targets: usize = discovery()
        .map(|d| match d {
            Discovery::Static { targets, .. } => targets.len(),
            Discovery::File { .. } | Discovery::Http { .. } => 0,
        })
        .sum();
    let dynamic = discovery().filter(|d| !matches!(d, Discovery::Static { .. })).count();
    if config.scrape_configs.is_empty() {
        return "none".to_owned();
    }
    let names = names(config.scrape_configs.iter().map(|c| c.job_name.as_str()));
    let lists =
        if dynamic > 0 { format!(", discovery by {}", count(dynamic, "list")) } else { String::new() };
    format!("{names}: {}{lists}", count(targets, "static target"))
}

fn releases(config: &Config) -> String {
    let named = config.releases.iter().map(|(spec, policy)| {
        let service = spec.service.as_deref().unwrap_or("");
        match (policy.on_fail, &policy.rollback) {
            (OnFail::Rollback, Some(action)) => {
                format!("{service} (rollback by {}, level {})", action.name, action.level.as_str())
            }
            (on_fail, _) => format!("{service} ({})", on_fail.as_str()),
        }
    });
    let named: Vec<String> = named.collect();
    let others = "every other service with two versions is judged by the presets (record)";
    if named.is_empty() { others.to_owned() } else { format!("{}; {others}", named.join(", ")) }
}

fn receivers(config: &Config) -> String {
    let kinds = |integrations: &[Integration]| {
        let kind = |i: &Integration| match i {
            Integration::Webhook(_) => "webhook",
            Integration::Slack(_) => "slack",
            Integration::Email(_) => "email",
            Integration::Alertmanager(_) => "alertmanager",
        };
        if integrations.is_empty() {
            "hears nothing".to_owned()
        } else {
            integrations.iter().map(kind).collect::<Vec<_>>().join(", ")
        }
    };
    let all: Vec<String> =
        config.receivers.iter().map(|r| format!("{} ({})", r.name, kinds(&r.integrations))).collect();
    if all.is_empty() { "none; alerts are shown and stored only".to_owned() } else { all.join(", ") }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.collect();
    if all.is_empty() { "none".to_owned() } else { format!("{} ({})", all.len(), all.join(", ")) }
}
