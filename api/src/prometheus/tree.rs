//! A parsed query as JSON in the shape of Prometheus' `translateAST`, from the parser's own, which differs a little.

use promql_parser::parser::Expr;
use serde_json::{Map, Value, json};

/// As deep as the engine let the expression be.
pub(super) fn json(expr: &Expr) -> Value {
    let mut tree = serde_json::to_value(expr).expect("a tree of texts and numbers is JSON");
    adapt(&mut tree);
    tree
}

fn adapt(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(adapt),
        Value::Object(fields) => {
            fields.values_mut().for_each(adapt);
            match fields.get("type").and_then(Value::as_str) {
                Some("vectorSelector" | "matrixSelector") => selector(fields),
                Some("binaryExpr") => matching(fields),
                Some("call") => drop(fields["func"].as_object_mut().map(|f| f.remove("experimental"))),
                Some("subquery") if fields["step"].is_null() => fields["step"] = json!(0),
                Some("numberLiteral") if fields["val"] == "Inf" => fields["val"] = json!("+Inf"),
                _ => {}
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The metric's name is a matcher too; a selector without one is named by the empty text.
fn selector(fields: &mut Map<String, Value>) {
    if fields["name"].is_null() {
        fields["name"] = json!("");
    } else if let Some(matchers) = fields.get("matchers").and_then(Value::as_array) {
        let named = json!({"name": "__name__", "type": "=", "value": fields["name"]});
        fields["matchers"] = matchers.iter().cloned().chain([named]).collect();
    }
}

/// Said of two vectors only, and then always.
fn matching(fields: &mut Map<String, Value>) {
    if !is_vector(&fields["lhs"]) || !is_vector(&fields["rhs"]) {
        fields["matching"] = Value::Null;
        return;
    }
    let Some(matching) = fields["matching"].as_object_mut() else {
        fields["matching"] = json!({"card": "one-to-one", "include": [], "labels": [], "on": false});
        return;
    };
    matching.remove("fillValues");
    let card = match &matching["card"] {
        Value::Object(card) => card.iter().next().map(|(kind, include)| (json!(kind), include.clone())),
        _ => None,
    };
    if let Some((kind, include)) = card {
        matching["card"] = kind;
        matching["include"] = include;
    }
}

fn is_vector(node: &Value) -> bool {
    match node["type"].as_str() {
        Some("vectorSelector" | "aggregation") => true,
        Some("parenExpr" | "unaryExpr") => is_vector(&node["expr"]),
        Some("binaryExpr") => is_vector(&node["lhs"]) || is_vector(&node["rhs"]),
        Some("call") => node["func"]["returnType"] == "vector",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Value {
        json(&promql_parser::parser::parse(text).unwrap())
    }

    #[test]
    fn selectors_name_their_metric_twice() {
        assert_eq!(
            tree("a{b=\"c\"}"),
            json!({"type": "vectorSelector", "name": "a", "offset": 0, "startOrEnd": null, "timestamp": null,
                   "matchers": [{"name": "b", "type": "=", "value": "c"}, {"name": "__name__", "type": "=", "value": "a"}]})
        );
        assert_eq!(tree("{b=\"c\"}")["name"], "");
    }

    #[test]
    fn matching_is_said_between_vectors() {
        let plain = json!({"card": "one-to-one", "include": [], "labels": [], "on": false});
        let left = json!({"card": "many-to-one", "include": ["y"], "labels": ["x"], "on": true});
        assert_eq!(tree("a + (-rate(b[5m]))")["matching"], plain);
        assert_eq!(tree("a * on (x) group_left (y) b")["matching"], left);
        assert_eq!(tree("a and b")["matching"]["card"], "many-to-many");
        for text in ["a > bool 1", "1 + 2", "time() - a"] {
            assert_eq!(tree(text)["matching"], Value::Null, "{text}");
        }
    }

    #[test]
    fn the_rest_is_as_prometheus_has_it() {
        assert_eq!(tree("x[1h:]")["step"], 0);
        assert_eq!(tree("Inf")["val"], "+Inf");
        assert_eq!(
            tree("time()")["func"],
            json!({"name": "time", "argTypes": [], "variadic": 0, "returnType": "scalar"})
        );
    }
}
