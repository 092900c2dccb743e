//! `GET /api/v1/rules` and `/api/v1/alerts`, as Prometheus answers them.
//!
//! Alerts that Davy raises without a rule (releases, thresholds) are listed as firing among those of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::router::ApiState;
use crate::view::View;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleGroup {
    pub name: String,
    pub file: String,
    pub rules: Vec<Rule>,
    /// Seconds.
    pub interval: f64,
    pub limit: usize,
    /// Seconds that the last evaluation took.
    pub evaluation_time: f64,
    pub last_evaluation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Rule {
    Alerting {
        /// `inactive`, `pending` or `firing`.
        state: &'static str,
        name: String,
        query: String,
        /// `for`, in seconds.
        duration: f64,
        keep_firing_for: f64,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        alerts: Vec<RuleAlert>,
        /// `ok`, `err` or `unknown`.
        health: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
        evaluation_time: f64,
        last_evaluation: String,
    },
    Recording {
        name: String,
        query: String,
        labels: BTreeMap<String, String>,
        health: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
        evaluation_time: f64,
        last_evaluation: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleAlert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub state: &'static str,
    pub active_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_since: Option<String>,
    /// As Go's `%e` writes it.
    pub value: String,
}

impl Rule {
    fn name(&self) -> &str {
        match self {
            Self::Alerting { name, .. } | Self::Recording { name, .. } => name,
        }
    }
}

/// What of the rules is asked for.
#[derive(Debug, Default)]
struct Asked {
    /// `alert` or `record`.
    kind: Option<String>,
    names: BTreeSet<String>,
    groups: BTreeSet<String>,
    files: BTreeSet<String>,
    exclude_alerts: bool,
    group_limit: Option<usize>,
    group_next_token: Option<String>,
}

impl Asked {
    fn read(params: Vec<(String, String)>) -> Result<Self, ApiError> {
        let bad = |name: &str, detail: String| {
            Err(ApiError::BadData(format!("invalid parameter {name:?}: {detail}")))
        };
        let mut asked = Self::default();
        for (name, value) in params {
            match name.as_str() {
                "type" if matches!(value.as_str(), "" | "alert" | "record") => {
                    asked.kind = Some(value).filter(|v| !v.is_empty());
                }
                "type" => return bad("type", format!("not supported value {value:?}")),
                "rule_name[]" => _ = asked.names.insert(value),
                "rule_group[]" => _ = asked.groups.insert(value),
                "file[]" => _ = asked.files.insert(value),
                "exclude_alerts" => match value.as_str() {
                    "" | "false" | "0" | "f" => {}
                    "true" | "1" | "t" => asked.exclude_alerts = true,
                    other => return bad("exclude_alerts", format!("expected true or false, got {other:?}")),
                },
                "group_limit" => match value.parse() {
                    Ok(limit) if limit > 0 => asked.group_limit = Some(limit),
                    _ => return bad("group_limit", "expected a whole number from 1".to_owned()),
                },
                "group_next_token" => asked.group_next_token = Some(value),
                "match[]" => return bad("match[]", "rules are not selected by labels yet".to_owned()),
                _ => {}
            }
        }
        if asked.group_next_token.is_some() && asked.group_limit.is_none() {
            let text = "group_limit needs to be present in order to paginate over the groups";
            return bad("group_limit", text.to_owned());
        }
        Ok(asked)
    }

    fn wants(&self, rule: &Rule) -> bool {
        let kind = match rule {
            Rule::Alerting { .. } => "alert",
            Rule::Recording { .. } => "record",
        };
        self.kind.as_ref().is_none_or(|k| k == kind)
            && (self.names.is_empty() || self.names.contains(rule.name()))
    }

    /// The group with the rules that are wanted; `None` without any.
    fn select(&self, group: &RuleGroup) -> Option<RuleGroup> {
        let fits = |set: &BTreeSet<String>, value: &str| set.is_empty() || set.contains(value);
        if !fits(&self.groups, &group.name) || !fits(&self.files, &group.file) {
            return None;
        }
        let mut rules: Vec<Rule> = group.rules.iter().filter(|r| self.wants(r)).cloned().collect();
        if self.exclude_alerts {
            for rule in &mut rules {
                if let Rule::Alerting { alerts, .. } = rule {
                    alerts.clear();
                }
            }
        }
        let asks_for_some = self.kind.is_some() || !self.names.is_empty();
        (!rules.is_empty() || !asks_for_some).then(|| RuleGroup { rules, ..group.clone() })
    }
}

/// `GET /api/v1/rules`.
pub(crate) async fn rules(
    State(state): State<ApiState>,
    Query(params): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let asked = Asked::read(params)?;
    let data = answer(&state.view.load().rules, &asked)?;
    Ok(Json(json!({"status": "success", "data": data})))
}

fn answer(groups: &[Arc<RuleGroup>], asked: &Asked) -> Result<Value, ApiError> {
    let mut left = groups
        .iter()
        .filter_map(|g| asked.select(g))
        .skip_while(|g| asked.group_next_token.as_ref().is_some_and(|t| *t != token(g)));
    let limit = asked.group_limit.unwrap_or(usize::MAX);
    let shown: Vec<RuleGroup> = left.by_ref().take(limit).collect();
    if shown.is_empty() && asked.group_next_token.is_some() {
        let text = "invalid parameter \"group_next_token\": no group has it; were rule files changed?";
        return Err(ApiError::BadData(text.to_owned()));
    }
    let mut data = json!({"groups": shown});
    if let Some(next) = left.next() {
        data["groupNextToken"] = Value::from(token(&next));
    }
    Ok(data)
}

/// Names a group; stable over restarts.
fn token(group: &RuleGroup) -> String {
    let bytes = group.file.bytes().chain([b';']).chain(group.name.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

/// `GET /api/v1/alerts`: pending and firing ones.
pub(crate) async fn alerts(State(state): State<ApiState>) -> Json<Value> {
    Json(json!({"status": "success", "data": {"alerts": all_alerts(&state.view.load())}}))
}

fn all_alerts(view: &View) -> Vec<Value> {
    let of_rules: Vec<&RuleAlert> = view
        .rules
        .iter()
        .flat_map(|g| &g.rules)
        .filter_map(|r| if let Rule::Alerting { alerts, .. } = r { Some(alerts) } else { None })
        .flatten()
        .collect();
    let known: BTreeSet<_> = of_rules.iter().map(|a| &a.labels).collect();
    let others = view.alerts.iter().filter(|a| !known.contains(&a.labels)).map(|a| {
        json!({"labels": a.labels, "annotations": a.annotations, "state": "firing", "activeAt": a.starts_at,
               "value": "1e+00"})
    });
    of_rules.iter().map(|a| json!(a)).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn groups() -> Vec<Arc<RuleGroup>> {
        let alert = RuleAlert {
            labels: BTreeMap::from([("alertname".into(), "Down".into())]),
            annotations: BTreeMap::new(),
            state: "pending",
            active_at: "2026-01-01T00:00:00.000Z".into(),
            keep_firing_since: None,
            value: "0e+00".into(),
        };
        let alerting = Rule::Alerting {
            state: "pending",
            name: "Down".into(),
            query: "up == 0".into(),
            duration: 300.0,
            keep_firing_for: 0.0,
            labels: BTreeMap::from([("severity".into(), "page".into())]),
            annotations: BTreeMap::new(),
            alerts: vec![alert],
            health: "ok",
            last_error: None,
            evaluation_time: 0.001,
            last_evaluation: "2026-01-01T00:00:00.000Z".into(),
        };
        let recording = Rule::Recording {
            name: "job:up:sum".into(),
            query: "sum(up)".into(),
            labels: BTreeMap::new(),
            health: "err",
            last_error: Some("no".into()),
            evaluation_time: 0.0,
            last_evaluation: "0001-01-01T00:00:00.000Z".into(),
        };
        let group = |name: &str, rules| {
            Arc::new(RuleGroup {
                name: name.into(),
                file: "a.yml".into(),
                rules,
                interval: 60.0,
                limit: 0,
                evaluation_time: 0.002,
                last_evaluation: "2026-01-01T00:00:00.000Z".into(),
            })
        };
        vec![group("one", vec![alerting]), group("two", vec![recording])]
    }

    fn ask(params: &[(&str, &str)]) -> Result<Value, String> {
        let params = params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Asked::read(params).and_then(|asked| answer(&groups(), &asked)).map_err(|e| format!("{e:?}"))
    }

    fn names(params: &[(&str, &str)]) -> Vec<String> {
        let answer = ask(params).unwrap();
        answer["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn rules_have_the_names_of_prometheus() {
        let answer = ask(&[]).unwrap();
        expect![[r#"
            {
              "groups": [
                {
                  "evaluationTime": 0.002,
                  "file": "a.yml",
                  "interval": 60.0,
                  "lastEvaluation": "2026-01-01T00:00:00.000Z",
                  "limit": 0,
                  "name": "one",
                  "rules": [
                    {
                      "alerts": [
                        {
                          "activeAt": "2026-01-01T00:00:00.000Z",
                          "annotations": {},
                          "labels": {
                            "alertname": "Down"
                          },
                          "state": "pending",
                          "value": "0e+00"
                        }
                      ],
                      "annotations": {},
                      "duration": 300.0,
                      "evaluationTime": 0.001,
                      "health": "ok",
                      "keepFiringFor": 0.0,
                      "labels": {
                        "severity": "page"
                      },
                      "lastEvaluation": "2026-01-01T00:00:00.000Z",
                      "name": "Down",
                      "query": "up == 0",
                      "state": "pending",
                      "type": "alerting"
                    }
                  ]
                },
                {
                  "evaluationTime": 0.002,
                  "file": "a.yml",
                  "interval": 60.0,
                  "lastEvaluation": "2026-01-01T00:00:00.000Z",
                  "limit": 0,
                  "name": "two",
                  "rules": [
                    {
                      "evaluationTime": 0.0,
                      "health": "err",
                      "labels": {},
                      "lastError": "no",
                      "lastEvaluation": "0001-01-01T00:00:00.000Z",
                      "name": "job:up:sum",
                      "query": "sum(up)",
                      "type": "recording"
                    }
                  ]
                }
              ]
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&answer).unwrap());
    }

    #[test]
    fn rules_are_selected_and_paged() {
        assert_eq!(names(&[("type", "alert")]), ["one"]);
        assert_eq!(names(&[("type", "record")]), ["two"]);
        assert_eq!(names(&[("rule_name[]", "Down"), ("rule_name[]", "x")]), ["one"]);
        assert_eq!(names(&[("rule_group[]", "two")]), ["two"]);
        assert_eq!(names(&[("file[]", "b.yml")]), [""; 0]);
        let first = ask(&[("group_limit", "1")]).unwrap();
        let token = first["groupNextToken"].as_str().unwrap().to_owned();
        assert_eq!(names(&[("group_limit", "1"), ("group_next_token", &token)]), ["two"]);
        assert!(ask(&[("group_limit", "1"), ("group_next_token", "no")]).is_err());
        assert!(ask(&[("group_next_token", "no")]).is_err());
        assert!(ask(&[("type", "other")]).is_err());
        let answer = ask(&[("exclude_alerts", "true")]).unwrap();
        assert_eq!(answer["groups"][0]["rules"][0]["alerts"], json!([]));
    }

    #[test]
    fn alerts_of_rules_and_of_releases_are_listed_once() {
        let alert = |name: &str| crate::wire::Alert {
            fingerprint: String::new(),
            labels: BTreeMap::from([("alertname".to_owned(), name.to_owned())]),
            annotations: BTreeMap::new(),
            starts_at: String::new(),
            ends_at: None,
        };
        let view = View { rules: groups(), alerts: vec![alert("Down"), alert("Worse")], ..View::default() };
        let states: Vec<(String, String)> = all_alerts(&view)
            .iter()
            .map(|a| (a["labels"]["alertname"].to_string(), a["state"].to_string()))
            .collect();
        let want = [("\"Down\"", "\"pending\""), ("\"Worse\"", "\"firing\"")];
        assert_eq!(states, want.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
