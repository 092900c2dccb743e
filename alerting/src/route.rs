//! Who hears of an alert: a walk down the routing tree, as Alertmanager does it.

use davy_model::Labels;

use crate::config::Route;

/// Names of the receivers of an alert with these labels, each once, in the order of the tree.
pub fn resolve<'a>(root: &'a Route, labels: &Labels) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (_, route) in matching(root, labels) {
        if !names.contains(&route.receiver.as_str()) {
            names.push(&route.receiver);
        }
    }
    names
}

/// The deepest matching routes, each with its way through the tree: a node is taken itself only when none of its
/// children matches, and siblings after a match are tried only if it says `continue`.
pub(crate) fn matching<'a>(root: &'a Route, labels: &Labels) -> Vec<(String, &'a Route)> {
    below(root, "", labels)
}

fn below<'a>(route: &'a Route, parent: &str, labels: &Labels) -> Vec<(String, &'a Route)> {
    if !route.matchers.iter().all(|m| m.matches(labels)) {
        return Vec::new();
    }
    let matchers: Vec<String> = route.matchers.iter().map(ToString::to_string).collect();
    let path = if parent.is_empty() {
        format!("{{{}}}", matchers.join(","))
    } else {
        format!("{parent}/{{{}}}", matchers.join(","))
    };
    let mut found = Vec::new();
    for (i, child) in route.routes.iter().enumerate() {
        // Two children may have the same matchers.
        let lower = below(child, &path, labels);
        let stop = !lower.is_empty() && !child.continue_matching;
        found.extend(lower.into_iter().map(|(p, r)| (if i == 0 { p } else { format!("{p}#{i}") }, r)));
        if stop {
            break;
        }
    }
    if found.is_empty() {
        found.push((path, route));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use davy_model::Matcher;

    use super::*;

    fn route(
        receiver: &str,
        matchers: &[(&str, &str)],
        continue_matching: bool,
        routes: Vec<Route>,
    ) -> Route {
        Route {
            receiver: receiver.into(),
            matchers: matchers.iter().map(|(n, v)| Matcher::equal(n, v)).collect(),
            continue_matching,
            repeat_interval: Duration::from_secs(3600),
            routes,
            ..Route::default()
        }
    }

    fn check(root: &Route, labels: &[(&str, &str)], want: &[&str]) {
        assert_eq!(resolve(root, &Labels::from_pairs(labels.iter().copied())), want, "{labels:?}");
    }

    #[test]
    fn the_deepest_match_wins_and_continue_goes_on() {
        let root = route(
            "default",
            &[],
            false,
            vec![
                route("audit", &[("severity", "critical")], true, vec![]),
                route(
                    "payments",
                    &[("team", "payments")],
                    false,
                    vec![route("payments-pager", &[("severity", "critical")], false, vec![])],
                ),
                route("everyone", &[("severity", "critical")], false, vec![]),
                route("never reached for critical", &[("severity", "critical")], false, vec![]),
            ],
        );
        check(&root, &[("severity", "info")], &["default"]);
        check(&root, &[("team", "payments")], &["payments"]);
        check(&root, &[("severity", "critical")], &["audit", "everyone"]);
        check(&root, &[("severity", "critical"), ("team", "payments")], &["audit", "payments-pager"]);
    }

    #[test]
    fn a_receiver_reached_twice_hears_once() {
        let root = route(
            "default",
            &[],
            false,
            vec![
                route("ops", &[("severity", "critical")], true, vec![]),
                route("ops", &[("team", "a")], false, vec![]),
            ],
        );
        check(&root, &[("severity", "critical"), ("team", "a")], &["ops"]);
    }
}
