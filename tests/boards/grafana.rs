//! What Grafana does with a board before it asks: chooses variables, repeats panels, fills in expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_model::{Labels, Timestamp};
use davy_query::{Answer, Cancel, Data, Engine, Expr, Steps};
use davy_store::Snapshot;
use serde_json::{Value, json};

use crate::world::INTERVAL;

/// Points of a panel.
const POINTS: u32 = 240;

/// What a reader of the story would choose, where Grafana's own choice is the first.
const CHOSEN: (&str, &str) = ("threshold", "lag");

/// The time range that a reader has chosen.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Range {
    fn seconds(self) -> u64 {
        self.to.since(self.from).as_secs()
    }

    fn step(self) -> Duration {
        INTERVAL.max(Duration::from_secs(self.seconds() / u64::from(POINTS)))
    }
}

/// One query of one panel, ready to be asked; `scope` says for which value the panel was repeated.
pub(crate) struct Question {
    pub(crate) panel: u64,
    pub(crate) title: String,
    pub(crate) scope: Option<(String, String)>,
    pub(crate) ref_id: String,
    pub(crate) legend: String,
    pub(crate) format: String,
    pub(crate) instant: bool,
    pub(crate) expr: String,
}

pub(crate) struct Board {
    pub(crate) name: &'static str,
    pub(crate) json: Value,
}

impl Board {
    pub(crate) fn all() -> Vec<Self> {
        let named = davy_dashboards::FILES.iter().filter_map(|(path, text)| {
            let name = path.strip_prefix("dashboards/Davy/")?;
            Some(Self { name, json: serde_json::from_str(text).expect("a board is JSON") })
        });
        named.collect()
    }

    /// Panels without headings.
    pub(crate) fn panels(&self) -> impl Iterator<Item = &Value> {
        self.json["panels"].as_array().expect("a board has panels").iter().filter(|p| p["type"] != "row")
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &Value> {
        self.json["templating"]["list"].as_array().expect("a board has variables").iter()
    }

    pub(crate) fn annotations(&self) -> impl Iterator<Item = &Value> {
        let list = self.json["annotations"]["list"].as_array().expect("a board has annotations");
        list.iter().filter(|a| a["expr"].is_string())
    }
}

/// A reader's view of a board at some time.
pub(crate) struct Reader<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) range: Range,
    /// Values by variable; several for those that repeat.
    pub(crate) values: BTreeMap<String, Vec<String>>,
    /// Values of these stand in regular expressions.
    multi: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    /// Chooses as Grafana does: all where all is offered, else the first.
    pub(crate) fn open(board: &Board, snapshot: &'a Snapshot, range: Range) -> Self {
        let mut reader = Self { snapshot, range, values: BTreeMap::new(), multi: BTreeSet::new() };
        for variable in board.variables() {
            let name = variable["name"].as_str().expect("a variable has a name").to_owned();
            let values = match variable["query"]["query"].as_str() {
                None => vec![format!("davy-{}", if name == "traces" { "traces" } else { "metrics" })],
                Some(query) => {
                    let mut found = reader.label_values(query);
                    if variable["sort"] == 8 {
                        found.reverse();
                    }
                    match (variable["allValue"].as_str(), variable["includeAll"] == true) {
                        _ if found.iter().any(|v| CHOSEN == (&*name, &**v)) => vec![CHOSEN.1.to_owned()],
                        (Some(all), _) => vec![all.to_owned()],
                        (None, true) => found,
                        (None, false) => found.into_iter().take(1).collect(),
                    }
                }
            };
            assert!(!values.is_empty(), "{}: nothing to choose for ${name}", board.name);
            if variable["multi"] == true && variable["allValue"].is_null() {
                reader.multi.insert(name.clone());
            }
            reader.values.insert(name, values);
        }
        reader
    }

    /// `label_values(selector, label)` over the range.
    fn label_values(&self, query: &str) -> Vec<String> {
        let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
        let (selector, label) =
            inner.and_then(|q| q.rsplit_once(", ")).expect("label_values(selector, label)");
        let expr = format!("group by ({label}) (last_over_time({selector}[$__range]))");
        let Data::Vector(found) = self.ask(&self.fill(&expr, None), true).data else { panic!("a vector") };
        let mut values: Vec<String> =
            found.iter().filter_map(|(l, _)| l.get(label).map(str::to_owned)).collect();
        values.sort();
        values
    }

    /// Every question that the board asks of metrics.
    pub(crate) fn questions(&self, board: &Board) -> Vec<Question> {
        board.panels().flat_map(|panel| self.of_panel(panel)).collect()
    }

    fn of_panel(&self, panel: &Value) -> Vec<Question> {
        let scopes: Vec<Option<(String, String)>> = match panel["repeat"].as_str() {
            Some(name) => self.values[name].iter().map(|v| Some((name.to_owned(), v.clone()))).collect(),
            None => vec![None],
        };
        let targets = panel["targets"].as_array().expect("a panel has queries");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let asked = |scope: &Option<(String, String)>| {
            let scope = scope.clone();
            targets.iter().filter(|t| t["expr"].is_string()).map(move |t| Question {
                panel: panel["id"].as_u64().expect("a panel has an id"),
                title: self.fill(&text(&panel["title"]), scope.as_ref()),
                ref_id: text(&t["refId"]),
                legend: text(&t["legendFormat"]),
                format: text(&t["format"]),
                instant: t["instant"] == true,
                expr: self.fill_at(&text(&t["expr"]), scope.as_ref(), minutes(&text(&t["interval"]))),
                scope: scope.clone(),
            })
        };
        scopes.iter().flat_map(asked).collect()
    }

    /// Replaces variables, and durations as Go writes them.
    pub(crate) fn fill(&self, text: &str, scope: Option<&(String, String)>) -> String {
        self.fill_at(text, scope, Duration::ZERO)
    }

    /// With a step of at least this: rates reach over it, and one scrape more.
    fn fill_at(&self, text: &str, scope: Option<&(String, String)>, step: Duration) -> String {
        let rate = (INTERVAL * 4).max(step + INTERVAL).as_secs();
        let range = self.range.seconds();
        let mut out = text
            .replace("$__rate_interval", &format!("{}m{}s", rate / 60, rate % 60))
            .replace("$__range", &format!("{range}s"))
            .replace("$__interval", &format!("{}s", self.range.step().as_secs()));
        // Longer names first: `$service` is no part of `$service_name`.
        let written = |name: &str, values: &[String]| {
            if self.multi.contains(name) { several(values) } else { values.join("|") }
        };
        let mut names: Vec<(&str, String)> =
            self.values.iter().map(|(n, v)| (n.as_str(), written(n, v))).collect();
        if let Some((name, value)) = scope {
            names.retain(|(n, _)| n != name);
            names.push((name, written(name, std::slice::from_ref(value))));
        }
        names.sort_by_key(|(n, _)| std::cmp::Reverse(n.len()));
        for (name, value) in names {
            out = out.replace(&format!("${name}"), &value);
        }
        out
    }

    pub(crate) fn ask(&self, expr: &str, instant: bool) -> Answer {
        let parsed = Expr::parse(expr).unwrap_or_else(|e| panic!("{expr}\n{e}"));
        let engine = Engine::default();
        let answer = if instant {
            engine.query(&parsed, self.snapshot, self.range.to, &Cancel::default())
        } else {
            let step = self.range.step();
            let start = self.range.from.align_down(step, Duration::ZERO);
            engine.query_range(
                &parsed,
                self.snapshot,
                Steps { start, end: self.range.to, step },
                &Cancel::default(),
            )
        };
        answer.unwrap_or_else(|e| panic!("{expr}\n{e}"))
    }
}

/// `5m`; nothing for nothing.
fn minutes(text: &str) -> Duration {
    let number = text.strip_suffix('m').and_then(|n| n.parse().ok());
    Duration::from_secs(number.unwrap_or(0) * 60)
}

/// Values of a variable of several, as a regular expression in a string; quotes stay as they are.
fn several(values: &[String]) -> String {
    let escaped = |v: &String| {
        let special = |c: char| "\\^$.|?*+()[]{}'".contains(c);
        v.chars()
            .flat_map(|c| [Some("\\\\").filter(|_| special(c)).map(str::to_owned), Some(c.to_string())])
            .flatten()
            .collect()
    };
    match values.iter().map(escaped).collect::<Vec<String>>().as_slice() {
        [one] => one.clone(),
        many => format!("({})", many.join("|")),
    }
}

pub(crate) fn is_empty(data: &Data) -> bool {
    match data {
        Data::Scalar(..) | Data::String(..) => false,
        Data::Vector(v) => v.is_empty(),
        Data::Matrix(m) => m.is_empty(),
    }
}

/// As Prometheus' API writes it.
pub(crate) fn to_json(data: &Data) -> Value {
    let metric = |l: &Labels| Value::Object(l.iter().map(|(n, v)| (n.to_owned(), json!(v))).collect());
    let point = |s: &davy_model::Sample| {
        s.value.as_float().map(|v| {
            json!([s.timestamp.as_millis(), if v.is_finite() { json!(v) } else { json!(v.to_string()) }])
        })
    };
    match data {
        Data::Scalar(at, v) => json!([{"metric": {}, "values": [[at.as_millis(), v]]}]),
        Data::String(..) => json!([]),
        Data::Vector(v) => v.iter().map(|(l, s)| json!({"metric": metric(l), "values": [point(s)]})).collect(),
        Data::Matrix(m) => m
            .iter()
            .map(|s| json!({"metric": metric(&s.labels), "values": s.samples.iter().filter_map(point).collect::<Vec<_>>()}))
            .collect(),
    }
}
