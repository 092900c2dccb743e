//! `route`: who hears which alert, Alertmanager's tree.

use std::time::Duration;

use davy_alerting::config::{Receiver, Route};
use davy_model::{MatchOp, Matcher};

use super::matchers::parse_matchers;
use super::reader::{Field, Section};
use super::suggest::did_you_mean;
use super::value::{label_name, positive_duration};

/// Alertmanager's default.
const REPEAT_INTERVAL: Duration = Duration::from_secs(4 * 3600);

/// The tree, `None` if the file has neither route nor receivers: alerts are then shown and stored only.
pub(super) fn read(top: &mut Section<'_>, receivers: &[Receiver]) -> Option<Route> {
    let Some(field) = top.get("route") else {
        if let Some(first) = receivers.first() {
            let name = &first.name;
            top.error(format!(
                "`route` is missing: no receiver would hear anything; add route: {{receiver: {name:?}}}"
            ));
        }
        return None;
    };
    let root = Inherited { receiver: None, repeat_interval: REPEAT_INTERVAL };
    let route = node(&field, &root, receivers)?;
    for receiver in receivers.iter().filter(|r| !uses(&route, &r.name)) {
        field.warn(&format!("no route leads to receiver {:?}", receiver.name));
    }
    Some(route)
}

struct Inherited {
    receiver: Option<String>,
    repeat_interval: Duration,
}

fn node(field: &Field<'_>, parent: &Inherited, receivers: &[Receiver]) -> Option<Route> {
    let is_root = parent.receiver.is_none();
    field.section(|s| {
        let receiver = match s.get("receiver") {
            Some(f) => known_receiver(&f, receivers),
            None if is_root => {
                s.error("`receiver` is missing: the first route names who hears what no other route takes");
                None
            }
            None => parent.receiver.clone(),
        };
        let matchers = matchers(s);
        let continue_matching = s.or("continue", false, Field::bool);
        if is_root && !matchers.is_empty() {
            s.error("the first route takes every alert and has no matchers; put them into `routes` below it");
        }
        if is_root && continue_matching {
            s.error("`continue` has no meaning on the first route");
        }
        let repeat_interval = s.or("repeat_interval", parent.repeat_interval, |f| f.parse(positive_duration));
        s.not_yet(&["group_by", "group_wait", "group_interval"], "each alert is sent at once and by itself");
        s.not_yet(&["mute_time_intervals", "active_time_intervals"], "alerts are sent at any time");
        // A wrong receiver is reported; the children are read all the same.
        let name = receiver.clone().unwrap_or_default();
        let inherited = Inherited { receiver: Some(name), repeat_interval };
        let routes = s.list("routes", |f| node(&f, &inherited, receivers));
        Some(Route { receiver: receiver?, matchers, continue_matching, repeat_interval, routes })
    })
}

fn known_receiver(field: &Field<'_>, receivers: &[Receiver]) -> Option<String> {
    let name = field.name()?;
    if receivers.iter().any(|r| r.name == name) {
        return Some(name.to_owned());
    }
    let names: Vec<&str> = receivers.iter().map(|r| r.name.as_str()).collect();
    let hint = did_you_mean(name, names.iter().copied());
    let known = if names.is_empty() {
        "none is defined".to_owned()
    } else {
        format!("known are {}", names.join(", "))
    };
    field.error(format!(
        "no receiver is called {}{}",
        field.got(),
        if hint.is_empty() { format!("; {known}") } else { hint }
    ));
    None
}

/// `matchers` strings, and the old `match` and `match_re`.
fn matchers(s: &mut Section<'_>) -> Vec<Matcher> {
    let mut out: Vec<Matcher> =
        s.list("matchers", |f| f.parse(parse_matchers)).into_iter().flatten().collect();
    for (key, op) in [("match", MatchOp::Equal), ("match_re", MatchOp::Regex)] {
        for (name, value) in s.get(key).map(|f| f.entries()).unwrap_or_default() {
            if let Err(e) = label_name(&name) {
                value.error(e);
            }
            out.extend(value.parse(|t| Matcher::new(&name, op, t).map_err(|e| e.to_string())));
        }
    }
    out
}

fn uses(route: &Route, receiver: &str) -> bool {
    route.receiver == receiver || route.routes.iter().any(|r| uses(r, receiver))
}
