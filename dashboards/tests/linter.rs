//! The rules of Grafana's dashboard-linter that apply to boards of a Prometheus data source, and some of ours.
//!
//! Named as there. Left out: `target-logql` and `target-logql-auto` (no logs). `target-job` and `target-instance` hold
//! for Davy's own series; those of services are found by their service.

use std::collections::BTreeSet;

use davy_dashboards::FILES;
use davy_query::{Expr, traceql};
use serde_json::Value;

struct Board {
    name: &'static str,
    json: Value,
}

struct Target<'a> {
    place: String,
    panel: &'a Value,
    expr: String,
}

impl Board {
    fn all() -> Vec<Self> {
        let boards = FILES.iter().filter_map(|(path, text)| {
            let name = path.strip_prefix("dashboards/Davy/")?;
            Some(Self { name, json: serde_json::from_str(text).expect("a board is JSON") })
        });
        boards.collect()
    }

    fn variables(&self) -> &Vec<Value> {
        self.json["templating"]["list"].as_array().expect("a board has variables")
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.variables().iter().find(|v| v["name"] == name)
    }

    fn items(&self) -> &Vec<Value> {
        self.json["panels"].as_array().expect("a board has panels")
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.items().iter().filter(|p| p["type"] != "row")
    }

    /// Queries of metrics, annotations' among them.
    fn targets(&self) -> Vec<Target<'_>> {
        let of_panels = self.panels().flat_map(|panel| {
            let targets = panel["targets"].as_array().expect("a panel has queries");
            let metrics = targets.iter().filter(|t| t["expr"].is_string());
            metrics.map(move |t| Target {
                place: format!("{} {} {}", self.name, panel["title"], t["refId"]),
                panel,
                expr: text(&t["expr"]),
            })
        });
        let annotations = self.json["annotations"]["list"].as_array().expect("a board has annotations");
        let of_annotations = annotations.iter().filter(|a| a["expr"].is_string()).map(|a| Target {
            place: format!("{} annotation {}", self.name, a["name"]),
            panel: a,
            expr: text(&a["expr"]),
        });
        of_panels.chain(of_annotations).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Variables as Grafana fills them in; durations as Go writes them.
fn filled(board: &Board, expr: &str) -> String {
    let mut names: Vec<String> = board.variables().iter().map(|v| text(&v["name"])).collect();
    names.sort_by_key(|n| std::cmp::Reverse(n.len()));
    let mut out =
        expr.replace("$__rate_interval", "1m0s").replace("$__range", "3600s").replace("$__interval", "15s");
    for name in names {
        out = out.replace(&format!("${name}"), "x");
    }
    out
}

/// Each selector of metrics: name and what stands in its braces.
fn selectors(expr: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (open, _) in expr.match_indices('{') {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let before = expr[..open].trim_end_matches(is_name).len();
        let close = expr[open..].find('}').map_or(expr.len(), |n| open + n);
        found.push((expr[before..open].to_owned(), expr[open + 1..close].to_owned()));
    }
    found
}

#[test]
fn template_datasource() {
    for b in Board::all() {
        let v = b.variable("datasource").unwrap_or_else(|| panic!("{}", b.name));
        assert_eq!(
            (&v["type"], &v["query"], &v["label"]),
            (&"datasource".into(), &"prometheus".into(), &"Data source".into())
        );
    }
}

#[test]
fn template_job_and_template_instance() {
    for b in Board::all().iter().filter(|b| b.name != "service-map.json") {
        for name in ["job", "instance"] {
            let v = b.variable(name).unwrap_or_else(|| panic!("{} has no ${name}", b.name));
            assert_eq!(v["label"], name, "{}", b.name);
            assert_eq!(v["allValue"], ".+", "{}", b.name);
            assert_eq!((&v["multi"], &v["includeAll"]), (&true.into(), &true.into()), "{}", b.name);
            assert_eq!(v["datasource"]["uid"], "${datasource}", "{}", b.name);
        }
    }
}

#[test]
fn template_label_promql_and_template_on_time_change_reload() {
    for b in Board::all() {
        for v in b.variables().iter().filter(|v| v["type"] == "query") {
            let definition = text(&v["definition"]);
            assert_eq!(v["query"]["query"], definition.as_str());
            assert_eq!(v["refresh"], 2, "{} ${}", b.name, v["name"]);
            let inner = definition.strip_prefix("label_values(").and_then(|d| d.strip_suffix(')'));
            let (selector, label) =
                inner.and_then(|i| i.rsplit_once(", ")).expect("label_values(selector, label)");
            assert!(label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{definition}");
            let selector = filled(&b, selector);
            assert!(Expr::parse(&selector).is_ok(), "{}: {selector}: {:?}", b.name, Expr::parse(&selector));
        }
    }
}

#[test]
fn variables_only_use_those_before_them() {
    for b in Board::all() {
        let names: Vec<String> = b.variables().iter().map(|v| text(&v["name"])).collect();
        assert_eq!(
            names.iter().collect::<BTreeSet<_>>().len(),
            names.len(),
            "{}: a name is there twice",
            b.name
        );
        for (i, v) in b.variables().iter().enumerate() {
            let definition = v["definition"].as_str().unwrap_or_default();
            for later in &names[i..] {
                let used = definition.contains(&format!("${later}\""))
                    || definition.contains(&format!("${{{later}"));
                assert!(!used, "{}: ${} uses ${later}", b.name, v["name"]);
            }
        }
    }
}

#[test]
fn panel_datasource() {
    for b in Board::all() {
        for p in b.panels() {
            let targets = p["targets"].as_array().expect("a panel has queries");
            for source in targets.iter().map(|t| &t["datasource"]).chain([&p["datasource"]]) {
                let known = source["uid"] == "${datasource}" && source["type"] == "prometheus"
                    || source["uid"] == "${traces}"
                        && source["type"] == "tempo"
                        && b.variable("traces").is_some();
                assert!(known, "{} {}: {source}", b.name, p["title"]);
            }
        }
    }
}

#[test]
fn panel_title_description() {
    for b in Board::all() {
        assert!(!text(&b.json["description"]).is_empty(), "{}", b.name);
        for p in b.panels() {
            let (title, description) = (text(&p["title"]), text(&p["description"]));
            assert!(!title.is_empty() && !description.is_empty(), "{} {title:?} {description:?}", b.name);
            assert!(description.ends_with('.'), "{}: a description is a sentence: {description:?}", b.name);
        }
    }
}

#[test]
fn panel_units() {
    // Ids of Grafana's list of value formats; unknown ones are shown as text behind the number.
    const KNOWN: [&str; 10] = [
        "short",
        "none",
        "percentunit",
        "s",
        "bytes",
        "reqps",
        "cps",
        "dateTimeFromNow",
        "bool_yes_no",
        "ms",
    ];
    for b in Board::all() {
        for p in b.panels() {
            let config = &p["fieldConfig"];
            let overridden = config["overrides"].as_array().expect("overrides are a list").iter();
            let set = overridden
                .flat_map(|o| o["properties"].as_array().expect("a list"))
                .filter(|p| p["id"] == "unit");
            for unit in set.map(|p| &p["value"]).chain([&config["defaults"]["unit"]]) {
                let unit = unit.as_str().unwrap_or_default();
                assert!(KNOWN.contains(&unit), "{} {}: unit {unit:?}", b.name, p["title"]);
            }
        }
    }
}

#[test]
fn panel_no_targets() {
    for b in Board::all() {
        for p in b.panels() {
            assert!(p["targets"].as_array().is_some_and(|t| !t.is_empty()), "{} {}", b.name, p["title"]);
        }
    }
}

#[test]
fn target_promql() {
    for b in Board::all() {
        for t in b.targets() {
            let expr = filled(&b, &t.expr);
            assert!(!expr.contains('$'), "{}: a variable is left in {expr}", t.place);
            if let Err(error) = Expr::parse(&expr) {
                panic!("{}: {error}\n{expr}", t.place);
            }
        }
    }
}

#[test]
fn target_rate_interval() {
    for b in Board::all() {
        for t in b.targets() {
            for (at, _) in t.expr.match_indices('[') {
                let range = &t.expr[at + 1..t.expr[at..].find(']').map_or(t.expr.len(), |n| at + n)];
                assert!(["$__rate_interval", "$__range"].contains(&range), "{}: [{range}]", t.place);
            }
        }
    }
}

#[test]
fn target_job_and_target_instance() {
    for b in Board::all() {
        for t in b.targets() {
            for (metric, matchers) in selectors(&t.expr) {
                let own = metric.starts_with("davy_") && metric != "davy_pushed";
                let of_davy = own || b.name == "davy.json" && !metric.starts_with("scrape_");
                if of_davy {
                    assert!(matchers.contains(r#"job=~"$job""#), "{}: {metric}{{{matchers}}}", t.place);
                    assert!(
                        matchers.contains(r#"instance=~"$instance""#),
                        "{}: {metric}{{{matchers}}}",
                        t.place
                    );
                } else {
                    let narrowed = ["$service", "$server", "$client"].iter().any(|v| matchers.contains(v));
                    assert!(narrowed, "{}: {metric}{{{matchers}}} is of no service", t.place);
                }
            }
        }
    }
}

#[test]
fn target_counter_agg() {
    for b in Board::all() {
        for t in b.targets() {
            for (metric, _) in selectors(&t.expr).into_iter().filter(|(m, _)| m.ends_with("_total")) {
                for (at, _) in t.expr.match_indices(&format!("{metric}{{")) {
                    let before = &t.expr[..at];
                    let counted = ["rate(", "increase("].iter().any(|f| before.ends_with(f));
                    assert!(counted, "{}: {metric} is a counter", t.place);
                }
            }
        }
    }
}

#[test]
fn uneditable_dashboard() {
    for b in Board::all() {
        assert_eq!(b.json["editable"], false, "{}", b.name);
    }
}

#[test]
fn ids_are_unique_and_none_is_given_by_us() {
    let mut uids = BTreeSet::new();
    for b in Board::all() {
        assert!(b.json.get("id").is_none(), "{}: Grafana gives the id", b.name);
        assert!(b.json.get("__inputs").is_none(), "{}: provisioned boards have none", b.name);
        assert!((39..=41).contains(&b.json["schemaVersion"].as_u64().expect("a number")), "{}", b.name);
        assert!(uids.insert(text(&b.json["uid"])), "{}", b.name);
        let ids: Vec<u64> = b.items().iter().map(|p| p["id"].as_u64().expect("a number")).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{}", b.name);
        for p in b.panels() {
            let refs: Vec<String> =
                p["targets"].as_array().expect("queries").iter().map(|t| text(&t["refId"])).collect();
            assert_eq!(refs.iter().collect::<BTreeSet<_>>().len(), refs.len(), "{} {}", b.name, p["title"]);
        }
        assert!(
            b.json["links"].as_array().is_some_and(|l| l.iter().any(|l| l["tags"][0] == "davy")),
            "{}",
            b.name
        );
        assert_eq!(b.json["tags"][0], "davy", "{}", b.name);
    }
}

#[test]
fn panels_do_not_overlap() {
    for b in Board::all() {
        let cells = |p: &Value| {
            let of = |k: &str| p["gridPos"][k].as_u64().expect("a number");
            let (x, y, w, h) = (of("x"), of("y"), of("w"), of("h"));
            assert!(x + w <= 24 && w > 0 && h > 0, "{} {}", b.name, p["title"]);
            (y..y + h).flat_map(move |row| (x..x + w).map(move |column| (row, column))).collect::<Vec<_>>()
        };
        let mut taken = BTreeSet::new();
        for p in b.items() {
            for cell in cells(p) {
                assert!(taken.insert(cell), "{} {} lies over another panel at {cell:?}", b.name, p["title"]);
            }
        }
    }
}

#[test]
fn overrides_speak_of_something() {
    for b in Board::all() {
        for t in b.targets() {
            let Some(overrides) = t.panel["fieldConfig"]["overrides"].as_array() else { continue };
            // Names of series come from legends, those of columns from transformations; a legend that is a label may
            // say anything.
            let shown = t.panel.to_string();
            if shown.contains("\"legendFormat\":\"{{") {
                continue;
            }
            for o in overrides.iter().filter(|o| o["matcher"]["id"] == "byName") {
                let name = text(&o["matcher"]["options"]);
                assert!(
                    shown.matches(&format!("\"{name}\"")).count() > 1,
                    "{}: nothing is called {name:?}",
                    t.place
                );
            }
        }
    }
}

#[test]
fn links_lead_to_boards_that_exist() {
    let uids: BTreeSet<String> = Board::all().iter().map(|b| text(&b.json["uid"])).collect();
    let mut links = 0;
    for b in Board::all() {
        let mut urls = Vec::new();
        collect("url", &b.json, &mut urls);
        for url in urls.iter().filter_map(|u| u.strip_prefix("/d/")) {
            let uid = url.split(['?', '/']).next().expect("split gives at least one part");
            assert!(uids.contains(uid), "{}: no board has the uid {uid}", b.name);
            links += 1;
        }
    }
    assert!(links > 0);
}

#[test]
fn traceql_of_panels_and_links_parses() {
    let mut parsed = 0;
    for b in Board::all() {
        let mut queries = Vec::new();
        for target in b.panels().flat_map(|p| p["targets"].as_array().expect("queries")) {
            queries.extend(target["query"].as_str().map(str::to_owned));
        }
        let mut urls = Vec::new();
        collect("url", &b.json, &mut urls);
        for url in urls.iter().filter_map(|u| u.strip_prefix("/explore?schemaVersion=1&orgId=1&panes=")) {
            let panes: Value =
                serde_json::from_str(&unescaped(url)).unwrap_or_else(|e| panic!("{}: {url}: {e}", b.name));
            queries.push(text(&panes["a"]["queries"][0]["query"]));
        }
        for query in queries {
            let mut filled = query.clone();
            while let Some(at) = filled.find("${") {
                let end = filled[at..].find('}').expect("a variable is closed");
                filled.replace_range(at..=at + end, "x");
            }
            let result = traceql::Query::parse(&filled);
            assert!(result.is_ok(), "{}: {query}: {:?}", b.name, result.err());
            parsed += 1;
        }
    }
    assert!(parsed > 5, "{parsed}");
}

/// Undoes percent-encoding.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = more
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).expect("a link is UTF-8")
}

#[test]
fn provisioned_sources_are_wired_to_each_other() {
    let yaml = |path: &str| -> Value {
        let (_, text) = FILES.iter().find(|(p, _)| *p == path).expect("it is embedded");
        serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let boards = yaml("provisioning/dashboards/davy.yaml");
    assert_eq!(boards["providers"][0]["options"]["foldersFromFilesStructure"], true);
    let sources = yaml("provisioning/datasources/davy.yaml");
    let list = sources["datasources"].as_array().expect("a list");
    let uids: BTreeSet<String> = list.iter().map(|s| text(&s["uid"])).collect();
    assert_eq!(uids.len(), list.len());
    assert_eq!(list.iter().map(|s| text(&s["type"])).collect::<Vec<_>>(), ["prometheus", "tempo", "jaeger"]);
    let mut named = Vec::new();
    collect("datasourceUid", &sources, &mut named);
    assert!(named.len() >= 4, "{named:?}");
    for uid in named {
        assert!(uids.contains(&uid), "{uid} is no provisioned source");
    }
    for query in queries(&sources) {
        // Grafana fills in the tags of a span; in a file $$ stands for $.
        let expr = query.replace("$$__tags", r#"service="x""#);
        assert!(Expr::parse(&expr).is_ok(), "{expr}: {:?}", Expr::parse(&expr));
    }
}

fn queries(sources: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect("query", sources, &mut found);
    found
}

/// Texts under a key, wherever it is.
fn collect(key: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (k, v) in map {
                if k == key && v.is_string() {
                    found.push(text(v));
                }
                collect(key, v, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| collect(key, v, found)),
        _ => {}
    }
}
