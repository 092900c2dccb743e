//! The whole of `davy run` on one screen: what is scraped, which releases are watched, what was decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use console::{measure_text_width, style};
use davy_api::View;
use davy_collector::scrape::{Health, TargetStatus};
use davy_model::{Timestamp, name};

use super::format::{count, duration};
use super::release::release_lines;

const RELEASES_MAX: usize = 4;
const TARGETS_MAX: usize = 12;
const EVENTS_MAX: usize = 8;

/// What there is to show.
pub struct Status<'a> {
    pub view: &'a View,
    pub targets: &'a [Arc<TargetStatus>],
    /// Where the API is.
    pub url: &'a str,
    pub now: Timestamp,
    pub up: Duration,
    pub series: usize,
}

/// The screen's lines, at most `width` columns wide and, as far as possible, `height` rows high.
pub fn status_lines(status: &Status<'_>, width: usize, height: usize) -> Vec<String> {
    let Status { view, targets: scraped, url, now, up, series } = status;
    let title =
        format!("{}  {url}  up {}  {} series", style("davy").bold(), duration(*up), count(*series as f64));
    let mut lines = vec![title, String::new()];
    lines.extend(releases(view, width));
    lines.push(String::new());
    lines.extend(alerts(view));
    let events = events(view, width);
    let room = height.saturating_sub(lines.len() + events.len() + 1);
    lines.extend(targets(scraped, *now, room));
    lines.push(String::new());
    lines.extend(events);
    lines.truncate(height.max(1));
    lines.into_iter().map(|l| console::truncate_str(&l, width, "…").into_owned()).collect()
}

fn heading(text: &str) -> String {
    style(text).bold().underlined().to_string()
}

fn releases(view: &View, width: usize) -> Vec<String> {
    let mut lines = vec![heading("Releases")];
    if view.releases.is_empty() {
        lines.push("  none: no service has two live versions".into());
    }
    for (service, known) in &view.services {
        lines.push(format!("  {} {}", style(service).bold(), style(known).dim()));
    }
    for release in view.releases.iter().take(RELEASES_MAX) {
        lines.extend(release_lines(release, width.saturating_sub(2)).into_iter().map(|l| format!("  {l}")));
    }
    let hidden = view.releases.len().saturating_sub(RELEASES_MAX);
    if hidden > 0 {
        lines.push(format!("  and {hidden} earlier: /api/davy/v1/releases"));
    }
    lines
}

fn alerts(view: &View) -> Vec<String> {
    if view.alerts.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![heading("Alerts")];
    for alert in view.alerts.iter().take(EVENTS_MAX) {
        let named = |k: &str| alert.labels.get(k).map_or("", String::as_str);
        let summary = alert.annotations.get("summary").map_or("", String::as_str);
        lines.push(format!(
            "  {} {} {summary}",
            style(named("alertname")).red().bold(),
            named(name::SERVICE)
        ));
    }
    lines.push(String::new());
    lines
}

fn targets(targets: &[Arc<TargetStatus>], now: Timestamp, room: usize) -> Vec<String> {
    let up = targets.iter().filter(|t| t.health == Health::Up).count();
    let mut lines = vec![format!("{}  {up} of {} up", heading("Targets"), targets.len())];
    // What is wrong comes first: with many targets it is what a person looks for.
    let mut sorted: Vec<_> = targets.iter().collect();
    sorted.sort_by_key(|t| (t.health == Health::Up, t.job.clone(), t.url.clone()));
    let shown = TARGETS_MAX.min(room.saturating_sub(2)).max(3);
    let jobs: BTreeMap<&str, usize> = sorted.iter().skip(shown).fold(BTreeMap::new(), |mut m, t| {
        *m.entry(t.job.as_str()).or_default() += 1;
        m
    });
    lines.extend(sorted.iter().take(shown).map(|t| target_line(t, now)));
    if !jobs.is_empty() {
        let rest: Vec<_> = jobs.iter().map(|(job, n)| format!("{n} of {job}")).collect();
        lines.push(format!("  and {}", rest.join(", ")));
    }
    lines
}

fn target_line(t: &TargetStatus, now: Timestamp) -> String {
    let health = match t.health {
        Health::Up => style("up     ").green(),
        Health::Down => style("down   ").red().bold(),
        Health::Unknown => style("unknown").dim(),
    };
    let instance = t.labels.get(name::INSTANCE).unwrap_or(&t.url);
    let version = t.labels.get(name::VERSION).unwrap_or("");
    let pad = |s: &str, w: usize| format!("{s}{}", " ".repeat(w.saturating_sub(measure_text_width(s))));
    let tail = match (&t.last_error, t.last_scrape) {
        (Some(error), _) => error.clone(),
        (None, Some(at)) => {
            let ago = duration(now.since(at));
            format!("{} samples in {}, {ago} ago", count(t.samples as f64), duration(t.last_duration))
        }
        (None, None) => "not scraped yet".into(),
    };
    format!("  {health} {} {} {} {tail}", pad(&t.job, 14), pad(instance, 22), pad(version, 8))
}

fn events(view: &View, width: usize) -> Vec<String> {
    let mut lines = vec![heading("Events")];
    let newest: Vec<_> = view.events.iter().rev().take(EVENTS_MAX).collect();
    for event in newest.into_iter().rev() {
        let at = davy_api::wire::rfc3339(event.at);
        let clock = at.get(11..19).unwrap_or("");
        lines.push(console::truncate_str(&format!("  {clock} {}", event.text), width, "…").into_owned());
    }
    if view.events.is_empty() {
        lines.push("  none yet".into());
    }
    lines
}
