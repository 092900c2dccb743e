//! *Releases*: what runs, in which phase, with which verdict; one click to each.

use serde_json::json;

use super::common::{OWN, davy_url, davys, events};
use crate::build::{Color, Dashboard, DataLink, Override, Panel, Unit, instant, range, table};
use crate::states::{CONTRACTS, PHASES, SIGHTS, VERDICTS};

/// One row a release, seen from the end of the range: it may be over by now.
fn last(metric: &str) -> String {
    format!("max by (service, baseline, canary, id) (last_over_time({metric}{{{OWN}}}[$__range]))")
}

fn own(expr: &str) -> String {
    expr.replace("OWN", OWN)
}

fn to_release() -> DataLink {
    DataLink::new(
        "Open this release",
        "/d/davy-release?${datasource:queryparam}&var-service=${__data.fields.service}&var-release=${__data.fields.id}&${__url_time_range}",
    )
}

pub(super) fn board() -> Dashboard {
    let mut variables = davys();
    variables.push(davy_url());
    let board = Dashboard::new(
        "davy-releases",
        "Davy / Releases",
        "What runs, in which phase, with which verdict. Click a release to see why.",
        "now-6h",
    )
    .variables(&variables)
    .row("Now")
    .band(4, [(5, running()), (5, worse()), (5, waiting()), (5, blocked()), (4, alerts())])
    .band(9, [(24, list())])
    .row("Over time")
    .band(8, [(12, phases()), (12, verdicts())])
    .band(8, [(12, evidence()), (12, share())])
    .row("Whether Davy sees, and would act")
    .band(8, [(12, sight()), (12, drills())])
    .row("How far the judge can be trusted")
    .band(7, [(12, calibration()), (12, known())]);
    events(OWN).iter().fold(board, Dashboard::annotate)
}

fn running() -> Panel {
    Panel::stat("Releases now", Unit::Short, "Services with a canary beside a baseline.")
        .plain(Color::Blue)
        .no_value("0")
        .query(instant(
            &own("count(max by (id) (davy_release_phase{OWN, state!~\"closed|rolled_back\"})) or vector(0)"),
            "running",
        ))
}

fn worse() -> Panel {
    Panel::stat("Judged worse", Unit::Short, "Releases that run and whose canary is worse than its baseline.")
        .steps(&[(1.0, Color::Red)])
        .query(instant(
            &own("count(max by (id) (davy_release_verdict{OWN, state=\"fail\"} and on (id) davy_release_phase{OWN, state!~\"closed|rolled_back\"})) or vector(0)"),
            "worse",
        ))
}

fn waiting() -> Panel {
    Panel::stat(
        "Wait for a person",
        Unit::Short,
        "Releases on hold, those where an act waits for approval or a ramp for an operator, and those where Davy has done what it may and paged someone.",
    )
    .steps(&[(1.0, Color::Orange)])
    .query(instant(
        &own("count(max by (id) (davy_release_phase{OWN, state=~\"holding|needs_human\"}) or max by (id) (davy_release_awaits_approval{OWN}) or max by (id) (davy_release_ramp_paused{OWN} == 1)) or vector(0)"),
        "waiting",
    ))
}

fn blocked() -> Panel {
    Panel::stat(
        "Cannot be judged",
        Unit::Short,
        "Releases whose data does not let Davy judge them: an arm that is not seen, no traffic, a selector that finds nothing. Being blind is never evidence.",
    )
    .steps(&[(1.0, Color::Yellow)])
    .query(instant(
        &own("count(max by (id) (davy_release_contract{OWN, state!~\"ok|warming_up\"})) or vector(0)"),
        "blocked",
    ))
}

fn alerts() -> Panel {
    Panel::stat("Alerts firing", Unit::Short, "Alerts of releases, thresholds and rules that fire in Davy.")
        .steps(&[(1.0, Color::Red)])
        .query(instant(&own("sum(davy_alerts_firing{OWN})"), "firing"))
}

fn list() -> Panel {
    let hidden = json!({"Time": true});
    let order = json!({
        "service": 0, "baseline": 1, "canary": 2, "Value #A": 3, "Value #B": 4, "Value #C": 5, "Value #D": 6,
        "Value #E": 7, "Value #F": 8, "id": 9,
    });
    let names = json!({
        "Value #A": "Phase", "Value #B": "Verdict", "Value #C": "Evidence", "Value #D": "Canary's traffic",
        "Value #E": "Data", "Value #F": "Started",
    });
    let report =
        DataLink::new("Davy's report", "${davy_url}/api/davy/v1/releases/${__data.fields.id}/report");
    Panel::table(
        "Releases",
        "Releases of this time range. Evidence is the share of what a rollback needs: at 100 % the canary counts as worse.",
    )
    .query(table(&last("davy_release_phase_code")))
    .query(table(&last("davy_release_verdict_code")))
    .query(table(&last("davy_canary_evidence").replace(OWN, &format!("{OWN}, metric=\"release\""))))
    .query(table(&last("davy_release_traffic_share")))
    .query(table(&last("davy_release_contract_code")))
    .query(table(&last("davy_release_started_timestamp_ms")))
    .transform("merge", json!({}))
    .transform("organize", json!({"excludeByName": hidden, "indexByName": order, "renameByName": names}))
    .option("sortBy", json!([{"displayName": "Started", "desc": true}]))
    .over(Override::name("service").display("Service").links(&[to_release()]))
    .over(Override::name("baseline").display("Baseline").color(Color::BASELINE).set("custom.cellOptions", json!({"type": "color-text"})))
    .over(Override::name("canary").display("Canary").color(Color::CANARY).set("custom.cellOptions", json!({"type": "color-text"})))
    .over(Override::name("Phase").states(PHASES))
    .over(Override::name("Verdict").states(VERDICTS))
    .over(
        Override::name("Evidence")
            .unit(Unit::Share)
            .decimals(0)
            .set("max", json!(1))
            .set("min", json!(0))
            .set("color", json!({"mode": "thresholds"}))
            .set("thresholds", json!({"mode": "absolute", "steps": [
                {"color": Color::Green, "value": null}, {"color": Color::Yellow, "value": 0.2}, {"color": Color::Red, "value": 1},
            ]}))
            .set("custom.cellOptions", json!({"type": "gauge", "mode": "basic", "valueDisplayMode": "text"})),
    )
    .over(Override::name("Canary's traffic").unit(Unit::Share).decimals(0))
    .over(Override::name("Data").states(CONTRACTS))
    .over(Override::name("Started").unit(Unit::FromNow))
    .over(Override::name("id").display("Release").links(&[to_release(), report.new_tab()]))
}

fn phases() -> Panel {
    Panel::timeline("Phases", "In which phase each release was.").mapped(PHASES).query(range(
        &own("max by (service, baseline, canary, id) (davy_release_phase_code{OWN})"),
        "{{service}} {{baseline}} → {{canary}}",
    ))
}

fn verdicts() -> Panel {
    Panel::timeline("Verdicts", "What the judge said of each release.").mapped(VERDICTS).query(range(
        &own("max by (service, baseline, canary, id) (davy_release_verdict_code{OWN})"),
        "{{service}} {{baseline}} → {{canary}}",
    ))
}

fn evidence() -> Panel {
    Panel::lines(
        "Evidence that a canary is worse",
        Unit::Share,
        "As a share of what a rollback needs; the dashed line is the boundary. What lies beyond twice of it is drawn there.",
    )
    .min(0.0)
    .soft_max(1.1)
    .query(range(
        &own("clamp_max(max by (service, baseline, canary, id) (davy_canary_evidence{OWN, metric=\"release\"}), 2)"),
        "{{service}} {{baseline}} → {{canary}}",
    ))
    .query(range(&own("max(davy_release_evidence_boundary{OWN})"), "boundary"))
    .over(Override::name("boundary").color(Color::Red).dashed())
}

fn share() -> Panel {
    Panel::lines("Canary's share of the traffic", Unit::Share, "Of the requests to both versions.")
        .min(0.0)
        .max(1.0)
        .steps_line()
        .query(range(
            &own("max by (service, baseline, canary, id) (davy_release_traffic_share{OWN})"),
            "{{service}} {{baseline}} → {{canary}}",
        ))
        .query(range(
            &own("max by (service, baseline, canary, id) (davy_release_ramp_share{OWN})"),
            "{{service}} {{baseline}} → {{canary}}, as the ramp set it",
        ))
        .over(Override::regex("/as the ramp set it$/").dashed())
}

fn sight() -> Panel {
    Panel::timeline(
        "What is seen of each canary",
        "A canary that is down may be rolled back without a verdict; a Davy that sees nothing never acts.",
    )
    .mapped(SIGHTS)
    .query(range(
        &own("max by (service, baseline, canary, id) (davy_release_sight_code{OWN})"),
        "{{service}} {{baseline}} → {{canary}}",
    ))
}

fn drills() -> Panel {
    Panel::table(
        "Drills",
        "When each service's way from a bad canary to its rollback was last tried, and when it last passed every hop.",
    )
    .no_value("No drill yet: davy drill SERVICE")
    .query(table(&own("max by (service) (davy_drill_last_timestamp_seconds{OWN}) * 1000")))
    .query(table(&own("max by (service) (davy_drill_last_success_timestamp_seconds{OWN}) * 1000")))
    .transform("merge", json!({}))
    .transform(
        "organize",
        json!({"excludeByName": {"Time": true}, "renameByName": {
            "service": "Service", "Value #A": "Last tried", "Value #B": "Last passed",
        }}),
    )
    .over(Override::name("Last tried").unit(Unit::FromNow))
    .over(Override::name("Last passed").unit(Unit::FromNow))
}

fn calibration() -> Panel {
    Panel::lines(
        "False alarms on equal versions",
        Unit::Share,
        "Each service's baseline, split in two and judged as if it were a release: how often it was called worse. What is well judged stays below alpha.",
    )
    .min(0.0)
    .soft_max(0.1)
    .no_value("No release has ended yet")
    .query(range(
        &own("max by (service) (davy_judge_aa_alarms{OWN}) / (max by (service) (davy_judge_aa_runs{OWN}) > 0)"),
        "{{service}}",
    ))
}

fn known() -> Panel {
    Panel::lines(
        "Releases that taught a service's noise",
        Unit::Short,
        "With few of them the judge is careful: it asks for more evidence.",
    )
    .min(0.0)
    .decimals(0)
    .query(range(&own("max by (service) (davy_judge_calibration_releases{OWN})"), "{{service}}"))
}
