//! `Dashboard`: panels in rows, with ids and positions given out from top to bottom.

use serde::Serialize;
use serde_json::{Value, json};

use super::panel::{GridPos, Panel, Row};
use super::target::Source;
use super::{Color, Variable};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;
const SCHEMA_VERSION: u32 = 39;
/// Boards with this tag are linked with each other.
const TAG: &str = "davy";

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Item {
    Row(Row),
    Panel(Box<Panel>),
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotation {
    name: String,
    datasource: Source,
    enable: bool,
    hide: bool,
    icon_color: Color,
    expr: String,
    step: &'static str,
    title_format: String,
    text_format: String,
    /// The value is the time, in milliseconds.
    use_value_for_time: bool,
}

impl Annotation {
    /// A mark wherever the value of a series says.
    pub fn at_value(name: &str, color: Color, expr: &str, title: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            datasource: Source::Metrics,
            enable: true,
            hide: false,
            icon_color: color,
            expr: expr.to_owned(),
            step: "60s",
            title_format: title.to_owned(),
            text_format: text.to_owned(),
            use_value_for_time: true,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    title: String,
    r#type: &'static str,
    icon: &'static str,
    tags: Vec<&'static str>,
    url: String,
    as_dropdown: bool,
    include_vars: bool,
    keep_time: bool,
    target_blank: bool,
    tooltip: String,
}

impl Link {
    fn boards() -> Self {
        Self {
            title: "Davy".to_owned(),
            r#type: "dashboards",
            icon: "external link",
            tags: vec![TAG],
            url: String::new(),
            as_dropdown: false,
            include_vars: false,
            keep_time: true,
            target_blank: false,
            tooltip: String::new(),
        }
    }

    pub fn to(title: &str, url: &str, tooltip: &str) -> Self {
        Self {
            title: title.to_owned(),
            r#type: "link",
            tags: Vec::new(),
            url: url.to_owned(),
            keep_time: false,
            target_blank: true,
            tooltip: tooltip.to_owned(),
            ..Self::boards()
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    uid: &'static str,
    title: String,
    description: String,
    tags: Vec<&'static str>,
    schema_version: u32,
    version: u32,
    editable: bool,
    graph_tooltip: u32,
    refresh: &'static str,
    time: Value,
    timepicker: Value,
    timezone: &'static str,
    week_start: &'static str,
    fiscal_year_start_month: u32,
    live_now: bool,
    links: Vec<Link>,
    templating: Value,
    annotations: Value,
    panels: Vec<Item>,
    #[serde(skip)]
    y: u32,
}

impl Dashboard {
    /// `from` is where the board's time range begins, such as `now-1h`.
    pub fn new(uid: &'static str, title: &str, description: &str, from: &str) -> Self {
        let manual = json!({
            "name": "Annotations & Alerts", "builtIn": 1, "datasource": Source::Grafana, "enable": true,
            "hide": true, "iconColor": Color::Blue, "type": "dashboard",
        });
        Self {
            uid,
            title: title.to_owned(),
            description: description.to_owned(),
            tags: vec![TAG],
            schema_version: SCHEMA_VERSION,
            version: 1,
            editable: false,
            // A crosshair on all panels.
            graph_tooltip: 1,
            refresh: "30s",
            time: json!({"from": from, "to": "now"}),
            timepicker: json!({}),
            timezone: "browser",
            week_start: "",
            fiscal_year_start_month: 0,
            live_now: false,
            links: vec![Link::boards()],
            templating: json!({"list": []}),
            annotations: json!({"list": [manual]}),
            panels: Vec::new(),
            y: 0,
        }
    }

    pub fn variables(mut self, variables: &[Variable]) -> Self {
        self.templating = json!({"list": variables});
        self
    }

    pub fn annotate(mut self, annotation: &Annotation) -> Self {
        let list = self.annotations["list"].as_array_mut().expect("annotations are a list");
        list.push(json!(annotation));
        self
    }

    pub fn link(mut self, link: Link) -> Self {
        self.links.push(link);
        self
    }

    pub fn row(mut self, title: &str) -> Self {
        let mut row = Row::new(title);
        row.id = self.next_id();
        row.grid_pos = GridPos { h: 1, w: COLUMNS, x: 0, y: self.y };
        self.y += 1;
        self.panels.push(Item::Row(row));
        self
    }

    /// Panels side by side, each with its width; together as wide as the board.
    pub fn band<const N: usize>(mut self, h: u32, panels: [(u32, Panel); N]) -> Self {
        let mut x = 0;
        for (w, mut panel) in panels {
            panel.id = self.next_id();
            panel.grid_pos = GridPos { h, w, x, y: self.y };
            x += w;
            self.panels.push(Item::Panel(Box::new(panel)));
        }
        assert!(x == COLUMNS || N == 1, "a band of {} is {x} columns wide", self.uid);
        self.y += h;
        self
    }

    fn next_id(&self) -> u32 {
        u32::try_from(self.panels.len()).expect("a board has few panels") + 1
    }

    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a board is plain data");
        text.push('\n');
        text
    }
}
