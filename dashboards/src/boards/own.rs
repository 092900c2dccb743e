//! *Davy itself*: whether it sees, judges, stores and delivers.

use serde_json::json;

use super::common::{OWN, davys};
use crate::build::{Color, Dashboard, Override, Panel, Unit, instant, range, table};

fn own(expr: &str) -> String {
    expr.replace("OWN", OWN)
}

/// Everyone exports these: only those of a Davy.
fn process(expr: &str) -> String {
    format!("{expr} and on (job, instance) davy_build_info{{OWN}}")
}

fn line(expr: &str, legend: &str) -> crate::build::Target {
    range(&own(expr), legend)
}

fn lines(title: &str, unit: Unit, description: &str) -> Panel {
    Panel::lines(title, unit, description).min(0.0).soft_max(match unit {
        Unit::Seconds => 0.001,
        _ => 0.1,
    })
}

pub(super) fn board() -> Dashboard {
    Dashboard::new(
        "davy-self",
        "Davy / Davy itself",
        "Whether Davy sees, judges, stores and delivers: look here when a verdict does not come.",
        "now-3h",
    )
    .variables(&davys())
    .row("In short")
    .band(4, [(4, up()), (4, down()), (4, file()), (4, unwritten()), (4, refused_now()), (4, pending())])
    .row("Judging")
    .band(8, [(8, tick_quantiles()), (8, ticks()), (8, decisions())])
    .row("Coming in")
    .band(8, [(8, samples()), (8, refused()), (8, spans())])
    .band(8, [(8, otlp_requests()), (8, remote_write_requests()), (8, remote_write_samples())])
    .row("Scrapes")
    .band(8, [(8, targets()), (8, scrape_durations()), (8, slowest())])
    .row("Storage")
    .band(8, [(8, bytes()), (8, series()), (8, maintenance())])
    .band(8, [(8, backlog()), (8, partitions()), (8, damage())])
    .row("Queries and rules")
    .band(8, [(8, query_durations()), (8, queries()), (8, rule_groups())])
    .row("Going out, and the process")
    .band(8, [(6, messages()), (6, undelivered()), (6, cpu()), (6, memory())])
}

fn up() -> Panel {
    Panel::table("Davys", "Each Davy with its version.")
        .option("showHeader", json!(false))
        .query(table(&own("max by (instance, version) (davy_build_info{OWN})")))
        .transform("organize", json!({"excludeByName": {"Time": true, "Value": true}}))
}

fn down() -> Panel {
    Panel::stat("Targets down", Unit::Short, "Scrape targets that do not answer.")
        .steps(&[(1.0, Color::Orange)])
        .query(instant(&own("sum(davy_targets{OWN, health=\"down\"})"), "down"))
}

fn file() -> Panel {
    Panel::stat(
        "File is right",
        Unit::YesNo,
        "Whether the file was right when it was last read; a wrong one leaves the old rules in force.",
    )
    .set(
        "thresholds",
        json!({"mode": "absolute", "steps": [{"color": Color::Red, "value": null}, {"color": Color::Green, "value": 1}]}),
    )
    .query(instant(&own("min(davy_config_last_reload_successful{OWN})"), "right"))
}

fn unwritten() -> Panel {
    Panel::stat(
        "Decisions unwritten",
        Unit::Short,
        "Rows that wait because the control database cannot be written. While there are any, Davy takes no action.",
    )
    .steps(&[(1.0, Color::Red)])
    .query(instant(&own("sum(davy_control_rows_unwritten{OWN})"), "rows"))
}

fn refused_now() -> Panel {
    Panel::stat("Samples refused", Unit::PerSecond, "By the store, for any reason.")
        .decimals(1)
        .steps(&[(0.1, Color::Yellow)])
        .query(instant(
            &own("sum(rate(davy_storage_samples_refused_total{OWN}[$__rate_interval]))"),
            "refused",
        ))
}

fn pending() -> Panel {
    Panel::stat(
        "Messages waiting",
        Unit::Short,
        "In the outbox: alerts and reports that no receiver has taken yet.",
    )
    .steps(&[(10.0, Color::Orange)])
    .query(instant(&own("sum(davy_outbox_pending{OWN})"), "waiting"))
}

fn tick_quantiles() -> Panel {
    let of = |q: &str| {
        format!(
            "histogram_quantile({q}, sum by (le) (rate(davy_tick_duration_seconds_bucket{{OWN}}[$__rate_interval])))"
        )
    };
    lines(
        "Time to judge everything",
        Unit::Seconds,
        "One tick: versions, releases, thresholds, alerts, one transaction.",
    )
    .query(line(&of("0.5"), "50 %"))
    .query(line(&of("0.99"), "99 %"))
}

fn ticks() -> Panel {
    lines("Ticks", Unit::PerSecond, "A tick that is missing was late: nothing is made up for.")
        .query(line("sum by (instance) (rate(davy_ticks_total{OWN}[$__rate_interval]))", "{{instance}}"))
}

fn decisions() -> Panel {
    lines("Releases and alerts", Unit::Short, "What is under watch.")
        .decimals(0)
        .steps_line()
        .query(line("count(max by (id) (davy_release_info{OWN})) or vector(0)", "releases"))
        .query(line("sum(davy_alerts_firing{OWN})", "alerts firing"))
        .over(Override::name("alerts firing").color(Color::Red))
}

fn samples() -> Panel {
    lines("Samples", Unit::PerSecond, "Appended a second, from scrapes, pushes and Davy's own.")
        .query(line("sum(rate(davy_storage_samples_appended_total{OWN}[$__rate_interval]))", "appended"))
}

fn refused() -> Panel {
    lines("Samples refused", Unit::PerSecond, "By the reason that the store gave.").query(line(
        "sum by (reason) (rate(davy_storage_samples_refused_total{OWN}[$__rate_interval]))",
        "{{reason}}",
    ))
}

fn spans() -> Panel {
    lines(
        "Spans and metric points over OTLP",
        Unit::PerSecond,
        "Received a second, by outcome; and what the service graph leaves out.",
    )
    .query(line("sum by (outcome) (rate(davy_otlp_spans_total{OWN}[$__rate_interval]))", "spans {{outcome}}"))
    .query(line(
        "sum by (outcome) (rate(davy_otlp_points_total{OWN}[$__rate_interval]))",
        "points {{outcome}}",
    ))
    .query(line(
        "sum(rate(davy_service_graph_dropped_total{OWN}[$__rate_interval]))",
        "left out of the graph",
    ))
    .over(Override::regex("/refused/").color(Color::Red))
}

fn otlp_requests() -> Panel {
    lines("OTLP requests", Unit::RequestsPerSecond, "By how they ended.")
        .query(line(
            "sum by (outcome) (rate(davy_otlp_requests_total{OWN}[$__rate_interval]))",
            "{{outcome}}",
        ))
        .over(Override::name("ok").color(Color::Green))
}

fn remote_write_requests() -> Panel {
    lines("Remote write requests", Unit::RequestsPerSecond, "By how they ended.")
        .query(line(
            "sum by (outcome) (rate(davy_remote_write_requests_total{OWN}[$__rate_interval]))",
            "{{outcome}}",
        ))
        .over(Override::name("ok").color(Color::Green))
}

fn remote_write_samples() -> Panel {
    lines("Remote write samples", Unit::PerSecond, "Received a second, by outcome.")
        .query(line(
            "sum by (outcome) (rate(davy_remote_write_samples_total{OWN}[$__rate_interval]))",
            "samples {{outcome}}",
        ))
        .query(line(
            "sum by (outcome) (rate(davy_remote_write_exemplars_total{OWN}[$__rate_interval]))",
            "exemplars {{outcome}}",
        ))
        .over(Override::regex("/refused/").color(Color::Red))
}

fn targets() -> Panel {
    lines("Targets", Unit::Short, "By health.")
        .decimals(0)
        .stacked()
        .query(line("sum by (health) (davy_targets{OWN})", "{{health}}"))
        .over(Override::name("up").color(Color::Green))
        .over(Override::name("down").color(Color::Red))
        .over(Override::name("unknown").color(Color::Gray))
}

fn scrape_durations() -> Panel {
    lines("Scrape durations", Unit::Seconds, "Of all targets: half of them answer within the lower line.")
        .query(range("quantile(0.5, scrape_duration_seconds)", "50 %"))
        .query(range("quantile(0.99, scrape_duration_seconds)", "99 %"))
        .query(range("max(scrape_duration_seconds)", "slowest"))
}

fn slowest() -> Panel {
    Panel::table("Slowest targets", "By how long their last scrape took.")
        .query(table("topk(10, max by (job, instance) (scrape_duration_seconds))"))
        .query(table("max by (job, instance) (scrape_samples_scraped) and on (job, instance) topk(10, max by (job, instance) (scrape_duration_seconds))"))
        .transform("merge", json!({}))
        .transform(
            "organize",
            json!({"excludeByName": {"Time": true}, "renameByName": {
                "instance": "Instance", "job": "Job", "Value #A": "Took", "Value #B": "Samples",
            }}),
        )
        .option("sortBy", json!([{"displayName": "Took", "desc": true}]))
        .over(Override::name("Instance").width(190))
        .over(Override::name("Took").unit(Unit::Seconds))
}

fn bytes() -> Panel {
    lines(
        "Bytes on disk",
        Unit::Bytes,
        "Telemetry is the log, the catalogue and the spans; partitions are sealed samples.",
    )
    .stacked()
    .query(line("sum by (part) (davy_storage_bytes{OWN})", "{{part}}"))
}

fn series() -> Panel {
    lines("Series", Unit::Short, "In memory; the limit is in the file.")
        .query(line("sum(davy_storage_series{OWN})", "series in the head"))
        .query(line("sum(davy_remote_write_series{OWN})", "known to remote write"))
}

fn maintenance() -> Panel {
    lines(
        "Sealing and compaction",
        Unit::Seconds,
        "Time that a minute's share of it takes: 99 % within the upper line.",
    )
    .query(line(
        "histogram_quantile(0.5, sum by (le) (rate(davy_storage_maintenance_duration_seconds_bucket{OWN}[$__rate_interval])))",
        "50 %",
    ).min_step("5m"))
    .query(line(
        "histogram_quantile(0.99, sum by (le) (rate(davy_storage_maintenance_duration_seconds_bucket{OWN}[$__rate_interval])))",
        "99 %",
    ).min_step("5m"))
}

fn backlog() -> Panel {
    lines("Waiting for the disk", Unit::Short, "Samples and spans that are in memory only.")
        .query(line("sum(davy_storage_backlog{OWN})", "samples and spans"))
}

fn partitions() -> Panel {
    lines("Partitions", Unit::Short, "One a day. A day that is over is compacted, a slice a minute.")
        .decimals(0)
        .query(line("sum(davy_storage_partitions{OWN})", "partitions"))
        .query(line(
            "sum(increase(davy_storage_partitions_compacted_total{OWN}[$__range]))",
            "compacted in this range",
        ))
}

fn damage() -> Panel {
    lines("Damage", Unit::Short, "Anything but zero wants a look: a disk that fails or is full.")
        .query(line("sum(davy_storage_quarantined_chunks{OWN})", "chunks set aside"))
        .query(line(
            "sum(increase(davy_storage_write_errors_total{OWN}[$__rate_interval]))",
            "transactions failed",
        ))
        .query(line(
            "sum(increase(davy_storage_maintenance_failed_total{OWN}[$__rate_interval]))",
            "maintenance failed",
        ))
        .query(line("max(davy_storage_disk_low{OWN})", "disk is low"))
        .query(line(
            "sum(increase(davy_own_metrics_failed_total{OWN}[$__rate_interval]))",
            "own metrics not stored",
        ))
}

fn query_durations() -> Panel {
    let of = |q: &str| {
        format!(
            "histogram_quantile({q}, sum by (le) (rate(davy_query_duration_seconds_bucket{{OWN}}[$__rate_interval])))"
        )
    };
    lines("Query durations", Unit::Seconds, "From the request to its answer, waiting included.")
        .query(line(&of("0.5"), "50 %"))
        .query(line(&of("0.99"), "99 %"))
}

fn queries() -> Panel {
    lines(
        "Queries",
        Unit::RequestsPerSecond,
        "Answered a second, by how they ended; and how many run and wait.",
    )
    .query(line(
        "sum by (outcome) (rate(davy_query_duration_seconds_count{OWN}[$__rate_interval]))",
        "{{outcome}}",
    ))
    .query(line("sum(davy_queries_running{OWN})", "running"))
    .query(line("sum(davy_queries_waiting{OWN})", "waiting"))
    .over(Override::name("success").color(Color::Green))
    .over(Override::regex("/running|waiting/").unit(Unit::Short).dashed())
}

fn rule_groups() -> Panel {
    Panel::table("Groups of rules", "How long each takes of its interval, and rules that cannot be evaluated.")
        .no_value("No rule files")
        .query(table(&own("max by (rule_group) (davy_rule_group_last_duration_seconds{OWN})")))
        .query(table(&own(
            "max by (rule_group) (davy_rule_group_last_duration_seconds{OWN}) / max by (rule_group) (davy_rule_group_interval_seconds{OWN})",
        )))
        .query(table(&own("sum by (rule_group) (davy_rule_group_health{OWN})")))
        .query(table(&own("sum by (rule_group) (davy_rule_group_health{OWN, health=\"err\"})")))
        .transform("merge", json!({}))
        .transform(
            "organize",
            json!({"excludeByName": {"Time": true}, "renameByName": {
                "rule_group": "Group", "Value #A": "Took", "Value #B": "Busy", "Value #C": "Rules", "Value #D": "Failing",
            }}),
        )
        .over(Override::name("Took").unit(Unit::Seconds))
        .over(Override::name("Busy").unit(Unit::Share).decimals(1))
}

fn messages() -> Panel {
    lines("Messages", Unit::PerSecond, "To receivers: taken, and attempts that failed and are made again.")
        .query(line("sum(rate(davy_messages_delivered_total{OWN}[$__rate_interval]))", "delivered"))
        .query(line("sum(rate(davy_messages_failed_total{OWN}[$__rate_interval]))", "failed"))
        .over(Override::name("delivered").color(Color::Green))
        .over(Override::name("failed").color(Color::Red))
}

fn undelivered() -> Panel {
    lines(
        "Receivers down, and messages given up",
        Unit::Short,
        "A receiver that is down is asked with one message at a time. `davy outbox resend` sends again what was given up.",
    )
    .decimals(0)
    .query(line("sum(davy_receivers_down{OWN})", "receivers down"))
    .query(line("sum(increase(davy_messages_dead_total{OWN}[$__range]))", "given up in this range"))
    .over(Override::name("receivers down").color(Color::Orange))
    .over(Override::name("given up in this range").color(Color::Red))
}

fn cpu() -> Panel {
    lines("CPU", Unit::Short, "Cores.")
        .query(line(&process("rate(process_cpu_seconds_total{OWN}[$__rate_interval])"), "{{instance}}"))
}

fn memory() -> Panel {
    lines("Memory and files", Unit::Bytes, "Resident memory; open files and sockets on the right.")
        .query(line(&process("process_resident_memory_bytes{OWN}"), "memory {{instance}}"))
        .query(line(&process("process_open_fds{OWN}"), "open files {{instance}}"))
        .over(
            Override::regex("/^open files/")
                .unit(Unit::Short)
                .set("custom.axisPlacement", json!("right"))
                .set("custom.fillOpacity", json!(0)),
        )
}
