//! How values look: units, colours, thresholds, words for numbers, links, and exceptions by name.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::states::Table;

/// Units by Grafana's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    #[serde(rename = "short")]
    Short,
    #[serde(rename = "none")]
    None,
    #[serde(rename = "percentunit")]
    Share,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "reqps")]
    RequestsPerSecond,
    #[serde(rename = "cps")]
    PerSecond,
    #[serde(rename = "dateTimeFromNow")]
    FromNow,
    #[serde(rename = "bool_yes_no")]
    YesNo,
}

/// Fixed colours: a thing has one colour on every board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Color {
    #[serde(rename = "blue")]
    Blue,
    #[serde(rename = "green")]
    Green,
    #[serde(rename = "light-green")]
    LightGreen,
    #[serde(rename = "yellow")]
    Yellow,
    #[serde(rename = "orange")]
    Orange,
    #[serde(rename = "light-orange")]
    LightOrange,
    #[serde(rename = "red")]
    Red,
    #[serde(rename = "purple")]
    Purple,
    #[serde(rename = "text")]
    Gray,
    #[serde(rename = "transparent")]
    None,
}

impl Color {
    pub const CANARY: Self = Self::Orange;
    pub const BASELINE: Self = Self::Blue;
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataLink {
    title: String,
    url: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    target_blank: bool,
}

impl DataLink {
    pub fn new(title: &str, url: &str) -> Self {
        Self { title: title.to_owned(), url: url.to_owned(), target_blank: false }
    }

    pub fn new_tab(self) -> Self {
        Self { target_blank: true, ..self }
    }
}

#[derive(Debug, Clone)]
pub enum Matcher {
    Name(&'static str),
    Regex(&'static str),
    /// The fields of one query.
    Query(&'static str),
}

#[derive(Debug, Clone, Serialize)]
struct Property {
    id: &'static str,
    value: Value,
}

/// What is different about the fields that match.
#[derive(Debug, Clone, Serialize)]
pub struct Override {
    matcher: Value,
    properties: Vec<Property>,
}

impl Override {
    pub fn of(matcher: &Matcher) -> Self {
        let (id, options) = match matcher {
            Matcher::Name(name) => ("byName", name),
            Matcher::Regex(regex) => ("byRegexp", regex),
            Matcher::Query(ref_id) => ("byFrameRefID", ref_id),
        };
        Self { matcher: json!({"id": id, "options": options}), properties: Vec::new() }
    }

    pub fn name(name: &'static str) -> Self {
        Self::of(&Matcher::Name(name))
    }

    pub fn regex(regex: &'static str) -> Self {
        Self::of(&Matcher::Regex(regex))
    }

    pub fn set(mut self, id: &'static str, value: Value) -> Self {
        self.properties.push(Property { id, value });
        self
    }

    pub fn unit(self, unit: Unit) -> Self {
        self.set("unit", json!(unit))
    }

    pub fn color(self, color: Color) -> Self {
        self.set("color", json!({"mode": "fixed", "fixedColor": color}))
    }

    pub fn display(self, name: &str) -> Self {
        self.set("displayName", json!(name))
    }

    pub fn width(self, pixels: u32) -> Self {
        self.set("custom.width", json!(pixels))
    }

    pub fn decimals(self, n: u32) -> Self {
        self.set("decimals", json!(n))
    }

    pub fn links(self, links: &[DataLink]) -> Self {
        self.set("links", json!(links))
    }

    /// A line of dashes without points or fill: a bound, not a measurement.
    pub fn dashed(self) -> Self {
        self.set("custom.lineStyle", json!({"fill": "dash", "dash": [6, 6]}))
            .set("custom.fillOpacity", json!(0))
            .set("custom.lineWidth", json!(1))
    }

    /// Numbers of a state as coloured words.
    pub fn states(self, table: Table) -> Self {
        self.set("mappings", state_mappings(table))
            .set("custom.cellOptions", json!({"type": "color-text"}))
            .set("color", json!({"mode": "thresholds"}))
            .set("unit", json!(Unit::None))
    }

    /// Fills the space down to another line.
    pub fn fill_to(self, other: &str) -> Self {
        self.set("custom.fillBelowTo", json!(other))
            .set("custom.lineWidth", json!(0))
            .set("custom.fillOpacity", json!(18))
    }

    /// In neither tooltip nor legend.
    pub fn quiet(self) -> Self {
        self.set("custom.hideFrom", json!({"legend": true, "tooltip": false, "viz": false}))
    }
}

fn mapped(index: usize, text: &str, color: Color) -> Value {
    json!({"index": index, "text": text, "color": color})
}

/// Words for the numbers of a state.
pub fn state_mappings(table: Table) -> Value {
    let options: Map<String, Value> =
        table.iter().enumerate().map(|(i, s)| (i.to_string(), mapped(i, s.text, s.color))).collect();
    json!([{"type": "value", "options": options}])
}

#[derive(Debug, Clone, Serialize)]
pub struct FieldConfig {
    pub(crate) defaults: Map<String, Value>,
    pub(crate) overrides: Vec<Override>,
}

impl FieldConfig {
    pub(crate) fn new(unit: Unit) -> Self {
        let mut config = Self { defaults: Map::new(), overrides: Vec::new() };
        config.set("unit", json!(unit));
        config.set("color", json!({"mode": "palette-classic"}));
        config.steps(&[]);
        config
    }

    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.defaults.insert(key.to_owned(), value);
    }

    /// Green below the first step.
    pub(crate) fn steps(&mut self, steps: &[(f64, Color)]) {
        let base = json!({"color": Color::Green, "value": null});
        let more = steps.iter().map(|(value, color)| json!({"color": color, "value": value}));
        let steps: Vec<Value> = std::iter::once(base).chain(more).collect();
        self.set("thresholds", json!({"mode": "absolute", "steps": steps}));
    }
}
