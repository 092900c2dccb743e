//! *Dynamic thresholds*: what a series is, what its past lets expect, and when it left that.

use serde_json::json;

use super::common::{OWN, davys, events};
use crate::build::{Annotation, Color, Dashboard, Override, Panel, Unit, Variable, instant, range, table};

const ONE: &str = r#"job=~"$job", instance=~"$instance", threshold="$threshold", series=~"$series""#;

fn own(expr: &str) -> String {
    expr.replace("OWN", OWN)
}

pub(super) fn board() -> Dashboard {
    let mut variables = davys();
    variables.extend([
        Variable::label(
            "threshold",
            "Threshold",
            "An entry of `thresholds`, or a key series of a judged service",
            &own("label_values(davy_threshold_value{OWN}, threshold)"),
        ),
        Variable::label(
            "series",
            "Series",
            "Series drawn one by one",
            &own("label_values(davy_threshold_value{OWN, threshold=\"$threshold\"}, series)"),
        )
        .each(),
    ]);
    let anomalies = Annotation::at_value(
        "Anomalies",
        Color::Red,
        &format!("davy_threshold_anomaly_since_timestamp_ms{{{ONE}}}"),
        "Left its band",
        "{{threshold}} {{series}}",
    );
    let board = Dashboard::new(
        "davy-thresholds",
        "Davy / Dynamic thresholds",
        "Series whose bands are learned from their own past: the value, the band, and what is outside.",
        "now-3h",
    )
    .variables(&variables)
    .row("All thresholds")
    .band(4, [(6, outside()), (6, worst()), (6, watched()), (6, learning())])
    .band(8, [(12, list()), (12, timeline())])
    .row("$threshold")
    .band(8, [(24, scores())])
    .band(9, [(12, band())])
    .annotate(&anomalies);
    events(OWN).iter().take(1).fold(board, Dashboard::annotate)
}

fn outside() -> Panel {
    Panel::stat("Outside their band", Unit::Short, "Series that have been outside for longer than they may.")
        .steps(&[(1.0, Color::Red)])
        .query(instant(&own("sum(davy_threshold_anomaly{OWN})"), "outside"))
}

fn worst() -> Panel {
    Panel::stat(
        "Furthest from what is expected",
        Unit::Short,
        "Distance from the expected value in half-widths of the band: above 1 is outside.",
    )
    .decimals(2)
    .option("textMode", json!("value_and_name"))
    .steps(&[(0.7, Color::Yellow), (1.0, Color::Red)])
    .query(instant(&own("topk(1, max by (threshold) (davy_threshold_score{OWN}))"), "{{threshold}}"))
}

fn watched() -> Panel {
    Panel::stat("Series watched", Unit::Short, "Of all thresholds.")
        .plain(Color::Blue)
        .query(instant(&own("sum(davy_threshold_series{OWN})"), "series"))
}

fn learning() -> Panel {
    Panel::stat("Still learning", Unit::Short, "Series without a band yet: too little of their past is known.")
        .plain(Color::Blue)
        .query(instant(
            &own("count(davy_threshold_value{OWN} unless on (threshold, series) davy_threshold_upper{OWN}) or vector(0)"),
            "learning",
        ))
}

fn list() -> Panel {
    let last = |metric: &str| table(&own(&format!("max by (threshold, series) ({metric}{{OWN}})")));
    let names = json!({
        "threshold": "Threshold", "series": "Series", "Value #A": "Value", "Value #B": "Lower", "Value #C": "Expected",
        "Value #D": "Upper", "Value #E": "Score", "Value #F": "State",
    });
    let order = json!({
        "Value #F": 0, "threshold": 1, "series": 2, "Value #A": 3, "Value #B": 4, "Value #C": 5, "Value #D": 6,
        "Value #E": 7,
    });
    Panel::table("Series", "As they stand; the furthest from what is expected first.")
        .query(last("davy_threshold_value"))
        .query(last("davy_threshold_lower"))
        .query(last("davy_threshold_expected"))
        .query(last("davy_threshold_upper"))
        .query(last("davy_threshold_score"))
        .query(last("davy_threshold_anomaly"))
        .transform("merge", json!({}))
        .transform(
            "organize",
            json!({"excludeByName": {"Time": true}, "indexByName": order, "renameByName": names}),
        )
        .option("sortBy", json!([{"displayName": "Score", "desc": true}]))
        .over(Override::name("State").states(STATE).width(75))
        .over(Override::name("Threshold").width(155))
        .over(Override::name("Series").width(140))
        .over(Override::name("Score").decimals(2))
}

/// 0 and 1 of an anomaly.
const STATE: crate::states::Table = &[
    crate::states::State { name: "inside", text: "Inside", color: Color::Green },
    crate::states::State { name: "outside", text: "Outside", color: Color::Red },
];

fn timeline() -> Panel {
    Panel::timeline("Anomalies", "When each series was outside its band for longer than it may.")
        .mapped(STATE)
        .query(range(
            &own("max by (threshold, series) (davy_threshold_anomaly{OWN})"),
            "{{threshold}} {{series}}",
        ))
}

fn scores() -> Panel {
    Panel::lines(
        "Distance from what is expected",
        Unit::Short,
        "In half-widths of the band: above the dashed line is outside.",
    )
    .min(0.0)
    .query(range(&format!("max by (series) (davy_threshold_score{{{ONE}}})"), "{{series}}"))
    .query(range(&format!("max(davy_threshold_score{{{ONE}}}) * 0 + 1"), "edge of the band"))
    .over(Override::name("edge of the band").color(Color::Red).dashed())
}

fn band() -> Panel {
    let of = |metric: &str| format!("max({metric}{{{ONE}}})");
    Panel::lines("$series", Unit::Short, "The value, what its past lets expect, and the band around it.")
        .query(range(&of("davy_threshold_upper"), "upper"))
        .query(range(&of("davy_threshold_lower"), "lower"))
        .query(range(&of("davy_threshold_expected"), "expected"))
        .query(range(&of("davy_threshold_value"), "value"))
        .query(range(
            &format!("{} and on () ({} == 1)", of("davy_threshold_value"), of("davy_threshold_anomaly")),
            "outside",
        ))
        .over(Override::name("upper").color(Color::Green).fill_to("lower"))
        .over(
            Override::name("lower")
                .color(Color::Green)
                .set("custom.lineWidth", json!(0))
                .set("custom.fillOpacity", json!(0)),
        )
        .over(Override::name("expected").color(Color::Green).dashed())
        .over(
            Override::name("value")
                .color(Color::Blue)
                .set("custom.lineWidth", json!(2))
                .set("custom.fillOpacity", json!(0)),
        )
        .over(
            Override::name("outside")
                .color(Color::Red)
                .set("custom.drawStyle", json!("points"))
                .set("custom.pointSize", json!(6))
                .set("custom.showPoints", json!("always")),
        )
        .repeat("series", 2)
}
