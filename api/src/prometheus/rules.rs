//! Rules and alerts: `/api/v1/rules`, `/api/v1/alerts` and `/api/v1/alertmanagers`.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::Response;
use davy_model::Matcher;
use md5::{Digest as _, Md5};
use serde_json::json;

use super::envelope::success;
use super::params::{Params, invalid};
use crate::error::ApiError;
use crate::router::ApiState;
use crate::view::View;
use crate::wire;
use crate::wire::rules::{Rule, RuleAlert, RuleGroup, value_text};

/// `GET /api/v1/rules[?type=alert|record&rule_name[]=&rule_group[]=&file[]=&match[]=&exclude_alerts=&group_limit=
/// &group_next_token=]`.
pub(super) async fn rules(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let filter = Filter::new(&params)?;
    let page = Page::new(&params)?;
    let (groups, next) = page.of(&state.view.load().rules, &filter)?;
    Ok(success(&match next {
        None => json!({"groups": groups}),
        Some(token) => json!({"groups": groups, "groupNextToken": token}),
    }))
}

struct Filter {
    alerting: bool,
    recording: bool,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    matchers: Vec<Vec<Matcher>>,
    without_alerts: bool,
}

impl Filter {
    fn new(params: &Params) -> Result<Self, ApiError> {
        let kind = params.get("type").unwrap_or("").to_ascii_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(invalid("type", &format!("not supported value {kind:?}, expected alert or record")));
        }
        let all = |name: &str| params.all(name).map(str::to_owned).collect();
        Ok(Self {
            alerting: kind != "record",
            recording: kind != "alert",
            names: all("rule_name[]"),
            groups: all("rule_group[]"),
            files: all("file[]"),
            matchers: params.selectors()?,
            without_alerts: params.boolean("exclude_alerts")?.unwrap_or(false),
        })
    }

    /// What is left of the group; `None` if nothing is.
    fn group(&self, group: &RuleGroup) -> Option<RuleGroup> {
        let wanted = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        if !wanted(&self.groups, &group.name) || !wanted(&self.files, &group.file) {
            return None;
        }
        let mut rules: Vec<Rule> = group.rules.iter().filter(|r| self.rule(r)).cloned().collect();
        if self.without_alerts {
            for rule in &mut rules {
                if let Rule::Alerting(rule) = rule {
                    rule.alerts.clear();
                }
            }
        }
        (!rules.is_empty()).then(|| RuleGroup { rules, ..group.clone() })
    }

    fn rule(&self, rule: &Rule) -> bool {
        let kind = match rule {
            Rule::Alerting(_) => self.alerting,
            Rule::Recording(_) => self.recording,
        };
        let named = self.names.is_empty() || self.names.iter().any(|n| n == rule.name());
        kind && named && self.matches(rule)
    }

    /// A label whose value is a template has none yet.
    fn matches(&self, rule: &Rule) -> bool {
        let value = |m: &Matcher| rule.labels().get(m.name()).filter(|v| !v.contains("{{"));
        let all = |set: &Vec<Matcher>| set.iter().all(|m| m.matches_value(value(m).map_or("", |v| v)));
        self.matchers.is_empty() || self.matchers.iter().any(all)
    }
}

/// `group_limit` groups from the one that `group_next_token` names.
struct Page {
    limit: Option<usize>,
    from: Option<String>,
}

impl Page {
    fn new(params: &Params) -> Result<Self, ApiError> {
        let limit = match params.integer("group_limit")? {
            None => None,
            Some(n) => match usize::try_from(n) {
                Ok(n) if n > 0 => Some(n),
                _ => return Err(invalid("group_limit", "group_limit needs to be greater than 0")),
            },
        };
        let from = params.get("group_next_token").map(str::to_owned);
        if from.is_some() && limit.is_none() {
            let detail = "group_limit needs to be present in order to paginate over the groups";
            return Err(invalid("group_next_token", detail));
        }
        Ok(Self { limit, from })
    }

    fn of(&self, all: &[RuleGroup], filter: &Filter) -> Result<(Vec<RuleGroup>, Option<String>), ApiError> {
        let first = match &self.from {
            None => 0,
            Some(from) => all.iter().position(|g| token(g) == *from).ok_or_else(|| {
                let detail = format!("invalid group_next_token '{from}'. were rule groups changed?");
                invalid("group_next_token", &detail)
            })?,
        };
        let mut page = Vec::new();
        for group in &all[first..] {
            let Some(shown) = filter.group(group) else { continue };
            if self.limit == Some(page.len()) {
                return Ok((page, Some(token(group))));
            }
            page.push(shown);
        }
        Ok((page, None))
    }
}

/// Names a group in a URL, whatever its file is called.
fn token(group: &RuleGroup) -> String {
    let digest = Md5::digest(format!("{};{}", group.file, group.name));
    digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// `GET /api/v1/alerts`: of rules, pending or firing, and Davy's own, which fire.
pub(super) async fn alerts(State(state): State<ApiState>) -> Response {
    success(&json!({"alerts": active(&state.view.load())}))
}

fn active(view: &View) -> Vec<RuleAlert> {
    let mut all: Vec<RuleAlert> = Vec::new();
    for rule in view.rules.iter().flat_map(|g| &g.rules) {
        if let Rule::Alerting(rule) = rule {
            all.extend(rule.alerts.iter().cloned());
        }
    }
    let of_rules = all.len();
    for alert in view.alerts.iter().filter(|a| a.ends_at.is_none()) {
        // The dispatcher knows the firing ones of rules as well.
        if !all[..of_rules].iter().any(|a| a.labels == alert.labels) {
            all.push(own(alert));
        }
    }
    all
}

fn own(alert: &wire::Alert) -> RuleAlert {
    RuleAlert {
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        state: "firing".to_owned(),
        active_at: alert.starts_at.clone(),
        keep_firing_since: None,
        value: value_text(1.0),
    }
}

/// `GET /api/v1/alertmanagers`: Davy sends by its own routes.
pub(super) async fn alertmanagers() -> Response {
    success(&json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::wire::rules::{AlertingRule, NEVER, RecordingRule};

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn alert(name: &str, state: &str) -> RuleAlert {
        RuleAlert {
            labels: labels(&[("alertname", name)]),
            annotations: labels(&[]),
            state: state.into(),
            active_at: NEVER.into(),
            keep_firing_since: None,
            value: "1e+00".into(),
        }
    }

    fn groups() -> Vec<RuleGroup> {
        let alerting = |name: &str, severity: &str| {
            Rule::Alerting(AlertingRule {
                state: "pending".into(),
                name: name.into(),
                query: "up == 0".into(),
                duration: 60.0,
                keep_firing_for: 0.0,
                labels: labels(&[("severity", severity)]),
                annotations: labels(&[]),
                alerts: vec![alert(name, "pending")],
                health: "ok".into(),
                last_error: None,
                evaluation_time: 0.0,
                last_evaluation: NEVER.into(),
            })
        };
        let recording = Rule::Recording(RecordingRule {
            name: "job:up:sum".into(),
            query: "sum by (job) (up)".into(),
            labels: labels(&[]),
            health: "ok".into(),
            last_error: None,
            evaluation_time: 0.0,
            last_evaluation: NEVER.into(),
        });
        let group = |file: &str, name: &str, rules| RuleGroup {
            name: name.into(),
            file: file.into(),
            rules,
            interval: 15.0,
            limit: 0,
            evaluation_time: 0.0,
            last_evaluation: NEVER.into(),
        };
        vec![
            group("a.yml", "one", vec![alerting("Down", "page"), recording]),
            group("a.yml", "two", vec![alerting("Slow", "{{ $labels.x }}")]),
            group("b.yml", "one", vec![alerting("Full", "ticket")]),
        ]
    }

    /// Rules by `file/group`, for a URL's parameters.
    fn check(query: &str, want: &[&str]) -> Option<String> {
        let params = Params::parse(query.as_bytes());
        let (filter, page) = (Filter::new(&params).unwrap(), Page::new(&params).unwrap());
        let (groups, next) = page.of(&groups(), &filter).unwrap();
        let shown: Vec<String> = groups
            .iter()
            .flat_map(|g| g.rules.iter().map(|r| format!("{}/{}/{}", g.file, g.name, r.name())))
            .collect();
        assert_eq!(shown, want, "{query}");
        next
    }

    #[test]
    fn rules_are_filtered_by_everything_that_prometheus_filters_by() {
        let all = ["a.yml/one/Down", "a.yml/one/job:up:sum", "a.yml/two/Slow", "b.yml/one/Full"];
        check("", &all);
        check("type=alert", &[all[0], all[2], all[3]]);
        check("type=record", &[all[1]]);
        check("file[]=a.yml&rule_group[]=one", &all[..2]);
        check("rule_name[]=Full&rule_name[]=Slow", &all[2..]);
        check("rule_name[]=nosuch", &[]);
        check("match[]={severity=\"page\"}&match[]={severity=\"ticket\"}", &[all[0], all[3]]);
        check("match[]={severity=~\".%2B\"}", &[all[0], all[3]]);
    }

    #[test]
    fn pages_follow_each_other_over_what_is_filtered() {
        let next = check("group_limit=1&type=alert", &["a.yml/one/Down"]).unwrap();
        let query = format!("group_limit=1&type=alert&group_next_token={next}");
        let next = check(&query, &["a.yml/two/Slow"]).unwrap();
        let query = format!("group_limit=1&type=alert&group_next_token={next}");
        assert_eq!(check(&query, &["b.yml/one/Full"]), None);
        check(
            "group_limit=9",
            &["a.yml/one/Down", "a.yml/one/job:up:sum", "a.yml/two/Slow", "b.yml/one/Full"],
        );
    }

    #[test]
    fn wrong_parameters_are_refused() {
        let refused = |query: &str| {
            let params = Params::parse(query.as_bytes());
            let page = Filter::new(&params).and_then(|f| Page::new(&params)?.of(&groups(), &f));
            let Err(ApiError::BadData(why)) = page else { panic!("{query} is taken") };
            why
        };
        assert!(refused("type=x").starts_with("invalid parameter \"type\""));
        assert!(refused("exclude_alerts=maybe").starts_with("invalid parameter \"exclude_alerts\""));
        assert!(refused("group_limit=0").contains("greater than 0"));
        assert!(refused("group_limit=x").contains("expected a whole number"));
        assert!(refused("group_next_token=x").contains("group_limit needs to be present"));
        assert!(refused("group_limit=1&group_next_token=x").contains("were rule groups changed?"));
        assert!(refused("match[]=up[5m]").contains("parse error"));
    }

    #[test]
    fn alerts_are_those_of_rules_and_davys_own() {
        let own = |name: &str| wire::Alert {
            fingerprint: String::new(),
            labels: labels(&[("alertname", name)]),
            annotations: labels(&[]),
            starts_at: NEVER.into(),
            ends_at: None,
        };
        let view = View { rules: groups(), alerts: vec![own("Down"), own("CanaryWorse")], ..View::default() };
        let shown: Vec<(String, String)> =
            active(&view).into_iter().map(|a| (a.labels["alertname"].clone(), a.state)).collect();
        let want = [("Down", "pending"), ("Slow", "pending"), ("Full", "pending"), ("CanaryWorse", "firing")];
        assert_eq!(shown, want.map(|(n, s)| (n.to_owned(), s.to_owned())));
    }

    #[test]
    fn alerts_can_be_left_out() {
        let filter = Filter::new(&Params::parse(b"exclude_alerts=true")).unwrap();
        let Some(Rule::Alerting(rule)) = filter.group(&groups()[0]).map(|g| g.rules[0].clone()) else {
            panic!("the first rule is an alert")
        };
        assert!(rule.alerts.is_empty());
    }
}
