//! `Variable`: what a reader chooses at the top of a board.

use serde::Serialize;
use serde_json::{Map, Value, json};

#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Variable(Map<String, Value>);

/// `refresh` of a variable: on load, and when the time range changes.
const ON_TIME_RANGE: u32 = 2;

impl Variable {
    fn of(value: Value) -> Self {
        let Value::Object(map) = value else { unreachable!("a variable is an object") };
        Self(map)
    }

    /// Which data source of a kind the board reads.
    pub fn source(name: &str, label: &str, kind: &str) -> Self {
        Self::of(json!({
            "name": name, "label": label, "type": "datasource", "query": kind, "regex": "", "refresh": 1,
            "hide": 0, "multi": false, "includeAll": false, "options": [], "current": {},
            "skipUrlSync": false,
        }))
    }

    /// Values of a label: `label_values(metric{...}, label)`.
    pub fn label(name: &str, label: &str, description: &str, query: &str) -> Self {
        Self::of(json!({
            "name": name, "label": label, "description": description, "type": "query",
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "definition": query, "query": {"query": query, "refId": "variable", "qryType": 1},
            "refresh": ON_TIME_RANGE, "sort": 1, "regex": "", "hide": 0, "multi": false, "includeAll": false,
            "options": [], "current": {}, "skipUrlSync": false,
        }))
    }

    /// Several at once, all of them unless chosen.
    pub fn many(self) -> Self {
        self.set("multi", json!(true))
            .set("includeAll", json!(true))
            .set("allValue", json!(".+"))
            .set("current", json!({"selected": true, "text": ["All"], "value": ["$__all"]}))
    }

    /// Each on its own, all of them unless chosen: for panels that repeat.
    pub fn each(self) -> Self {
        let mut all = self.many();
        all.0.remove("allValue");
        all
    }

    /// Follows from the others; not shown.
    pub fn hidden(self) -> Self {
        self.set("hide", json!(2))
    }

    /// Numbers in names count: `v10` comes before `v9`.
    pub fn newest_first(self) -> Self {
        self.set("sort", json!(8))
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }
}
