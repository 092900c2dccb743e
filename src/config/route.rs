//! `route`: who hears which alert, Alertmanager's tree.

use std::time::Duration;

use davy_alerting::config::{GroupBy, Receiver, Route};
use davy_model::{MatchOp, Matcher};

use super::matchers::{matcher, parse_matchers};
use super::reader::{Field, Section};
use super::suggest::did_you_mean;
use super::time_interval::{Named, of_route};
use super::value::{duration, label_name, positive_duration};

/// Alertmanager's default.
const REPEAT_INTERVAL: Duration = Duration::from_secs(4 * 3600);

/// The tree, `None` if the file has neither route nor receivers: alerts are then shown and stored only.
pub(super) fn read(top: &mut Section<'_>, receivers: &[Receiver], named: &Named) -> Option<Route> {
    let Some(field) = top.get("route") else {
        if let Some(first) = receivers.first() {
            let name = &first.name;
            top.error(format!(
                "`route` is missing: no receiver would hear anything; add route: {{receiver: {name:?}}}"
            ));
        }
        return None;
    };
    let root = Inherited {
        receiver: None,
        group_by: GroupBy::Each,
        group_wait: None,
        group_interval: None,
        repeat_interval: REPEAT_INTERVAL,
    };
    let route = node(&field, &root, receivers, named)?;
    for receiver in receivers.iter().filter(|r| !uses(&route, &r.name)) {
        field.warn(&format!("no route leads to receiver {:?}", receiver.name));
    }
    Some(route)
}

struct Inherited {
    receiver: Option<String>,
    group_by: GroupBy,
    group_wait: Option<Duration>,
    group_interval: Option<Duration>,
    repeat_interval: Duration,
}

fn node(field: &Field<'_>, parent: &Inherited, receivers: &[Receiver], named: &Named) -> Option<Route> {
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
        let group_by = match s.get("group_by") {
            Some(f) => group_by(&f),
            None => parent.group_by.clone(),
        };
        let wait = |s: &mut Section<'_>, key: &'static str, parent: Option<Duration>| {
            s.get(key).map_or(parent, |f| f.parse(duration))
        };
        let group_wait = wait(s, "group_wait", parent.group_wait);
        let group_interval = wait(s, "group_interval", parent.group_interval);
        let mute_intervals = of_route(s, "mute_time_intervals", named);
        let active_intervals = of_route(s, "active_time_intervals", named);
        if is_root && !(mute_intervals.is_empty() && active_intervals.is_empty()) {
            s.error("the first route is never mute; put the times into `routes` below it");
        }
        // A wrong receiver is reported; the children are read all the same.
        let name = receiver.clone().unwrap_or_default();
        let inherited = Inherited {
            receiver: Some(name),
            group_by: group_by.clone(),
            group_wait,
            group_interval,
            repeat_interval,
        };
        let routes = s.list("routes", |f| node(&f, &inherited, receivers, named));
        Some(Route {
            receiver: receiver?,
            matchers,
            continue_matching,
            group_by,
            group_wait,
            group_interval,
            repeat_interval,
            mute_intervals,
            active_intervals,
            routes,
        })
    })
}

/// Names of labels, or `['...']` for each alert by itself.
fn group_by(field: &Field<'_>) -> GroupBy {
    let names: Vec<String> = field.items().iter().filter_map(|f| f.name().map(str::to_owned)).collect();
    if names.iter().any(|n| n == "...") {
        if names.len() > 1 {
            field.error("`...` stands for all labels and so stands alone");
        }
        return GroupBy::Each;
    }
    GroupBy::Labels(names)
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
            out.extend(value.parse(|t| matcher(&name, op, t)));
        }
    }
    out
}

fn uses(route: &Route, receiver: &str) -> bool {
    route.receiver == receiver || route.routes.iter().any(|r| uses(r, receiver))
}
