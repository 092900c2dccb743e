//! The list of target groups as files and HTTP answers write it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::target::TargetGroup;

/// Nodes of one YAML file; the reader's own budget is meant for configuration, not for lists of targets.
const YAML_NODES_MAX: usize = 2_000_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl From<Group> for TargetGroup {
    fn from(g: Group) -> Self {
        Self { targets: g.targets, labels: g.labels.unwrap_or_default() }
    }
}

fn groups(list: Vec<Group>) -> Vec<TargetGroup> {
    list.into_iter().map(Into::into).collect()
}

/// Errors name line and column.
pub(super) fn json(body: &[u8]) -> Result<Vec<TargetGroup>, String> {
    serde_json::from_slice(body).map(groups).map_err(|e| e.to_string())
}

/// Errors name line and column.
pub(super) fn yaml(body: &str) -> Result<Vec<TargetGroup>, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: YAML_NODES_MAX,
            max_events: 2 * YAML_NODES_MAX,
        },
    };
    let list: Result<Option<Vec<Group>>, _> = serde_saphyr::from_str_with_options(body, options);
    list.map(|l| groups(l.unwrap_or_default())).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(targets: &[&str], labels: &[(&str, &str)]) -> TargetGroup {
        TargetGroup {
            targets: targets.iter().map(|t| (*t).to_owned()).collect(),
            labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let want = vec![group(&["a:1", "b:2"], &[("env", "prod"), ("version", "2")]), group(&["c:3"], &[])];
        let j = br#"[{"targets":["a:1","b:2"],"labels":{"env":"prod","version":"2"}},{"targets":["c:3"]}]"#;
        let y = "- targets: ['a:1', b:2]\n  labels:\n    env: prod\n    version: 2\n- targets:\n  - c:3\n";
        assert_eq!(json(j).unwrap(), want);
        assert_eq!(yaml(y).unwrap(), want);
        assert_eq!(json(b"[]").unwrap(), []);
        assert_eq!(yaml("").unwrap(), []);
    }

    #[test]
    fn a_list_of_many_targets_is_read() {
        let body: String =
            (0..5_000).map(|i| format!("- targets: ['10.0.0.1:{i}']\n  labels: {{a: b, c: d}}\n")).collect();
        assert_eq!(yaml(&body).unwrap().len(), 5_000);
    }

    #[test]
    fn wrong_lists_are_refused_with_their_place() {
        let check = |result: Result<Vec<TargetGroup>, String>, want: &str| {
            let error = result.unwrap_err();
            assert!(error.contains(want) && error.contains("line"), "{error}");
        };
        check(json(b"{}"), "expected a sequence");
        check(json(br#"[null]"#), "invalid type: null");
        check(json(br#"[{"targets":["a"],"lables":{}}]"#), "unknown field `lables`");
        check(yaml("- targets: [a]\n  lables: {}\n"), "lables");
        check(yaml("targets: [a]\n"), "sequence");
    }
}
