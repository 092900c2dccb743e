//! `Panel`: one picture. Constructors give each kind the settings that all of ours share.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::field::{Color, DataLink, FieldConfig, Override, Unit, state_mappings};
use super::target::{Source, Target};
use crate::states::Table;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct GridPos {
    pub(crate) h: u32,
    pub(crate) w: u32,
    pub(crate) x: u32,
    pub(crate) y: u32,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Panel {
    pub(crate) id: u32,
    r#type: &'static str,
    title: String,
    description: String,
    datasource: Source,
    pub(crate) grid_pos: GridPos,
    field_config: FieldConfig,
    options: Map<String, Value>,
    targets: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transformations: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<DataLink>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_row: Option<u32>,
}

/// A heading.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub(crate) id: u32,
    r#type: &'static str,
    title: String,
    collapsed: bool,
    pub(crate) grid_pos: GridPos,
    panels: Vec<Panel>,
}

impl Row {
    pub(crate) fn new(title: &str) -> Self {
        let title = title.to_owned();
        Self {
            id: 0,
            r#type: "row",
            title,
            collapsed: false,
            grid_pos: GridPos::default(),
            panels: Vec::new(),
        }
    }
}

impl Panel {
    fn new(kind: &'static str, title: &str, description: &str, unit: Unit, options: Value) -> Self {
        let Value::Object(options) = options else { unreachable!("options are an object") };
        Self {
            id: 0,
            r#type: kind,
            title: title.to_owned(),
            description: description.to_owned(),
            datasource: Source::Metrics,
            grid_pos: GridPos::default(),
            field_config: FieldConfig::new(unit),
            options,
            targets: Vec::new(),
            transformations: Vec::new(),
            links: Vec::new(),
            repeat: None,
            repeat_direction: None,
            max_per_row: None,
        }
    }

    /// Lines over time.
    pub fn lines(title: &str, unit: Unit, description: &str) -> Self {
        let options = json!({
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        });
        let mut panel = Self::new("timeseries", title, description, unit, options);
        let custom = json!({
            "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 8,
            "gradientMode": "none", "showPoints": "never", "spanNulls": false, "insertNulls": false,
            "axisPlacement": "auto", "axisBorderShow": false, "axisColorMode": "text",
            "scaleDistribution": {"type": "linear"}, "stacking": {"mode": "none", "group": "A"},
            "thresholdsStyle": {"mode": "off"}, "hideFrom": {"legend": false, "tooltip": false, "viz": false},
        });
        panel.field_config.set("custom", custom);
        panel
    }

    /// One value, large.
    pub fn stat(title: &str, unit: Unit, description: &str) -> Self {
        let options = json!({
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
            "textMode": "auto", "wideLayout": true, "showPercentChange": false,
        });
        let mut panel = Self::new("stat", title, description, unit, options);
        panel.field_config.set("color", json!({"mode": "thresholds"}));
        panel
    }

    /// A state, large, on its colour.
    pub fn state(title: &str, table: Table, description: &str) -> Self {
        Self::stat(title, Unit::None, description).option("colorMode", json!("background")).mapped(table)
    }

    /// States over time.
    pub fn timeline(title: &str, description: &str) -> Self {
        let options = json!({
            "mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.9,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": false},
            "tooltip": {"mode": "single", "sort": "none"},
        });
        let mut panel = Self::new("state-timeline", title, description, Unit::None, options);
        panel.field_config.set("custom", json!({"lineWidth": 0, "fillOpacity": 75, "spanNulls": false}));
        panel.field_config.set("color", json!({"mode": "thresholds"}));
        panel
    }

    /// Rows and columns.
    pub fn table(title: &str, description: &str) -> Self {
        let options = json!({
            "showHeader": true, "cellHeight": "sm", "sortBy": [],
            "footer": {"show": false, "reducer": ["sum"], "countRows": false, "fields": ""},
        });
        let mut panel = Self::new("table", title, description, Unit::Short, options);
        let custom = json!({
            "align": "auto", "cellOptions": {"type": "auto"}, "inspect": false, "filterable": false, "minWidth": 60,
        });
        panel.field_config.set("custom", custom);
        panel.field_config.set("color", json!({"mode": "fixed", "fixedColor": Color::Gray}));
        panel
    }

    /// Where values lie, over time.
    pub fn heatmap(title: &str, scheme: &str, description: &str) -> Self {
        let options = json!({
            "calculate": false, "cellGap": 1, "showValue": "never",
            "color": {"mode": "scheme", "scheme": scheme, "steps": 64, "exponent": 0.5, "scale": "exponential",
                      "fill": "dark-orange", "reverse": false},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": false}, "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "showColorScale": false, "yHistogram": true},
            "yAxis": {"axisPlacement": "left", "reverse": false, "unit": Unit::Seconds},
        });
        Self::new("heatmap", title, description, Unit::Seconds, options)
    }

    /// Who calls whom.
    pub fn node_graph(title: &str, description: &str) -> Self {
        let options = json!({"nodes": {"mainStatUnit": "s", "secondaryStatUnit": "reqps"}, "edges": {}});
        Self::new("nodeGraph", title, description, Unit::Short, options)
    }

    pub fn query(mut self, mut target: Target) -> Self {
        let ref_id = char::from(b'A' + u8::try_from(self.targets.len()).expect("a panel has few queries"));
        self.datasource = target.source();
        target.ref_id = ref_id.to_string();
        self.targets.push(target);
        self
    }

    pub fn option(mut self, key: &str, value: Value) -> Self {
        self.options.insert(key.to_owned(), value);
        self
    }

    /// Of the panel kind's own field settings.
    pub fn custom(mut self, key: &str, value: Value) -> Self {
        let custom = self.field_config.defaults.entry("custom").or_insert_with(|| json!({}));
        custom[key] = value;
        self
    }

    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.field_config.set(key, value);
        self
    }

    pub fn min(self, min: f64) -> Self {
        self.set("min", json!(min))
    }

    pub fn max(self, max: f64) -> Self {
        self.set("max", json!(max))
    }

    /// The axis reaches at least this far: what is zero all the time is drawn at its foot.
    pub fn soft_max(self, max: f64) -> Self {
        self.custom("axisSoftMax", json!(max))
    }

    pub fn decimals(self, n: u32) -> Self {
        self.set("decimals", json!(n))
    }

    /// Colours from these values on; green below.
    pub fn steps(mut self, steps: &[(f64, Color)]) -> Self {
        self.field_config.steps(steps);
        self
    }

    /// One colour, for values that are neither good nor bad.
    pub fn plain(self, color: Color) -> Self {
        self.set("color", json!({"mode": "fixed", "fixedColor": color}))
    }

    pub fn mapped(self, table: Table) -> Self {
        self.set("mappings", state_mappings(table))
    }

    /// What a panel says instead of "No data".
    pub fn no_value(self, text: &str) -> Self {
        self.set("noValue", json!(text))
    }

    pub fn over(mut self, o: Override) -> Self {
        self.field_config.overrides.push(o);
        self
    }

    pub fn stacked(self) -> Self {
        self.custom("stacking", json!({"mode": "normal", "group": "A"})).custom("fillOpacity", json!(40))
    }

    pub fn steps_line(self) -> Self {
        self.custom("lineInterpolation", json!("stepAfter"))
    }

    /// Values beside the names in the legend.
    pub fn legend(self, calcs: &[&str]) -> Self {
        let legend =
            json!({"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": calcs});
        self.option("legend", legend)
    }

    pub fn transform(mut self, id: &str, options: Value) -> Self {
        let step = [("id".to_owned(), json!(id)), ("options".to_owned(), options)];
        self.transformations.push(Value::Object(step.into_iter().collect()));
        self
    }

    /// One such panel for each value of a variable.
    pub fn repeat(self, variable: &'static str, per_row: u32) -> Self {
        Self { repeat: Some(variable), repeat_direction: Some("h"), max_per_row: Some(per_row), ..self }
    }

    pub fn link(mut self, link: DataLink) -> Self {
        self.links.push(link);
        self
    }

    /// From any point.
    pub fn data_links(self, links: &[DataLink]) -> Self {
        self.set("links", json!(links))
    }
}
