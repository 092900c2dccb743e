//! The boards over a story that Davy itself has told: every panel has something to draw.
//!
//! `DAVY_BOARDS_DUMP=FILE` writes what was asked and answered, for `dashboards/preview` to draw.

mod grafana;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use davy_dashboards::states;
use davy_model::{Matcher, Timestamp};
use davy_store::{Snapshot, SpanQuery};
use serde_json::{Value, json};

use grafana::{Board, Range, Reader, is_empty, to_json};
use world::World;

/// A tick comes this much after its scrapes, rounded up.
const TICK: Duration = Duration::from_secs(4);

/// A service: one canary that takes over, then one that goes bad and is rolled back; seen at three times.
struct Story {
    _dir: tempfile::TempDir,
    snapshot: Snapshot,
    /// While the second canary is still judged.
    judged: Range,
    /// Once it is rolled back.
    over: Range,
    /// Long after.
    end: Timestamp,
}

static STORY: LazyLock<Story> = LazyLock::new(Story::tell);

impl Story {
    fn tell() -> Self {
        let mut world = World::new();
        let from = world.now();
        world.steps(30);
        world.deploy("2.3.0");
        world.steps(40);
        world.promote("2.3.0");
        world.steps(50);
        world.deploy("2.4.0");
        world.steps(24);
        let judged = Range { from, to: world.now() + TICK };
        world.regress();
        for _ in 0..80 {
            if world.phase() == "rolled_back" {
                break;
            }
            world.step();
        }
        assert_eq!(world.phase(), "rolled_back");
        world.steps(12);
        let over = Range { from, to: world.now() + TICK };
        world.remove_canary();
        world.steps(125);
        let end = world.now() + TICK;
        let (dir, store) = world.end();
        Self { _dir: dir, snapshot: store.snapshot(), judged, over, end }
    }
}

#[test]
fn every_panel_has_something_to_draw() {
    let (story, snapshot) = (&*STORY, &STORY.snapshot);
    let mut empty: BTreeMap<String, String> = BTreeMap::new();
    let mut drawn: BTreeSet<String> = BTreeSet::new();
    let mut dump = serde_json::Map::new();
    for board in Board::all() {
        for range in [story.judged, story.over] {
            let reader = Reader::open(&board, snapshot, range);
            let questions = reader.questions(&board);
            assert!(questions.len() > 5, "{} asks something", board.name);
            for q in &questions {
                // Of a panel that repeats, one is enough: not every metric has bounds.
                let key = format!("{} {} {}", board.name, q.panel, q.ref_id);
                if is_empty(&reader.ask(&q.expr, q.instant).data) {
                    empty.insert(key, format!("{:?} {}", q.title, q.expr));
                } else {
                    drawn.insert(key);
                }
            }
        }
        dump.insert(board.name.to_owned(), picture(&board, story));
    }
    if let Some(file) = std::env::var_os("DAVY_BOARDS_DUMP") {
        std::fs::write(file, Value::Object(dump).to_string()).expect("the dump can be written");
    }
    empty.retain(|key, _| !drawn.contains(key));
    let told: Vec<String> = empty.iter().map(|(key, expr)| format!("{key}: {expr}")).collect();
    assert!(told.is_empty(), "nothing to draw in\n{}", told.join("\n\n"));
}

#[test]
fn every_metric_that_is_named_exists() {
    let snapshot = &STORY.snapshot;
    let there: BTreeSet<String> = snapshot
        .label_values("__name__", &[], Timestamp::MIN, Timestamp::MAX)
        .expect("names can be read")
        .into_iter()
        .collect();
    // Alternatives for services that are measured otherwise than the one of the story.
    let elsewhere =
        ["http_server_request_duration_seconds_count", "http_server_request_duration_seconds_bucket"];
    let mut missing = BTreeSet::new();
    for board in Board::all() {
        let asked = board.panels().flat_map(|p| p["targets"].as_array().cloned().unwrap_or_default());
        let texts = asked.map(|t| t["expr"].clone()).chain(board.annotations().map(|a| a["expr"].clone()));
        let texts = texts.chain(board.variables().map(|v| v["definition"].clone()));
        for text in texts.filter_map(|t| t.as_str().map(str::to_owned)) {
            for name in metrics(&text) {
                if !there.contains(&name) && !elsewhere.contains(&name.as_str()) {
                    missing.insert(format!("{}: {name}", board.name));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Words that look like the names of our metrics.
fn metrics(text: &str) -> BTreeSet<String> {
    const FAMILIES: [&str; 5] = ["davy_", "traces_", "http_", "process_", "scrape_"];
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |w: &&str| FAMILIES.iter().any(|f| w.starts_with(f)) || *w == "up";
    // Labels of the same kind.
    let labels = ["http_response_status_code", "davy_url"];
    words.filter(is_metric).filter(|w| !labels.contains(w)).map(str::to_owned).collect()
}

#[test]
fn a_release_that_is_over_leaves_no_lines_that_go_on() {
    let (story, snapshot) = (&*STORY, &STORY.snapshot);
    let at = |metric: &str, to: Timestamp| {
        let from = to - Duration::from_secs(20);
        let found = snapshot.select(&[Matcher::metric(metric)], from, to).expect("the store can be read");
        let live = |s: &davy_store::SeriesSamples| {
            s.samples.last().and_then(|x| x.value.as_float()).is_some_and(|v| !davy_model::is_stale(v))
        };
        found.iter().filter(|s| live(s)).count()
    };
    for metric in ["davy_release_info", "davy_release_event_timestamp_ms", "davy_canary_estimate"] {
        assert!(at(metric, story.over.to) > 0, "{metric} is there while the release runs");
        assert_eq!(at(metric, story.end), 0, "{metric} ends with its release");
    }
}

#[test]
fn events_on_boards_are_events_that_davy_tells() {
    let snapshot = &STORY.snapshot;
    let told =
        snapshot.label_values("event", &[], Timestamp::MIN, Timestamp::MAX).expect("labels can be read");
    for event in ["deploy", "fail", "rollback", "rolled_back"] {
        assert!(told.iter().any(|t| &**t == event), "{event} in {told:?}");
    }
    let named: Vec<String> = Board::all()
        .iter()
        .flat_map(|b| b.annotations().map(|a| a["expr"].to_string()).collect::<Vec<_>>())
        .collect();
    for event in states::EVENTS {
        assert!(named.iter().any(|expr| expr.contains(event.name)), "{} is marked on a board", event.name);
    }
}

/// What the preview draws: the board at the end of the story.
fn picture(board: &Board, story: &Story) -> Value {
    let snapshot = &story.snapshot;
    // The canary's own part of the story, and a little before.
    let from = story.over.to - Duration::from_secs(if board.name == "release.json" { 1_800 } else { 3_600 });
    let reader = Reader::open(board, snapshot, Range { from, ..story.over });
    let answers: Vec<Value> = reader
        .questions(board)
        .iter()
        .map(|q| {
            let result = to_json(&reader.ask(&q.expr, q.instant).data);
            json!({"panel": q.panel, "title": q.title, "scope": q.scope.as_ref().map(|(_, v)| v), "refId": q.ref_id,
                   "legend": q.legend, "format": q.format, "instant": q.instant, "result": result})
        })
        .collect();
    let marks: Vec<Value> = board
        .annotations()
        .map(|a| {
            let expr = reader.fill(a["expr"].as_str().expect("an annotation has a query"), None);
            json!({"name": a["name"], "color": a["iconColor"], "title": a["titleFormat"], "result": to_json(&reader.ask(&expr, false).data)})
        })
        .collect();
    let exemplars: Vec<Value> = snapshot
        .exemplars(&[Matcher::metric("traces_spanmetrics_latency_bucket")], from, story.over.to)
        .into_iter()
        .flat_map(|(labels, found)| {
            let (service, version) =
                (labels.get("service").map(str::to_owned), labels.get("version").map(str::to_owned));
            found.into_iter().map(move |e| json!([e.timestamp.as_millis(), e.value, service, version]))
        })
        .collect();
    let spans = |query: SpanQuery| -> Vec<Value> {
        let found = snapshot.spans(&query, from, story.over.to).expect("spans can be read");
        let root = found.iter().filter(|s| s.parent_span_id.is_zero());
        root.map(|s| {
            json!({"traceID": s.trace_id.to_string(), "service": s.resource.service(), "name": &*s.name,
                   "start": s.start_nanos / 1_000_000, "ms": s.duration_nanos() as f64 / 1e6})
        })
        .take(20)
        .collect()
    };
    let failed = spans(SpanQuery { errors_only: true, limit: 200, ..SpanQuery::default() });
    let slow = spans(SpanQuery {
        duration_min: Some(Duration::from_millis(150)),
        limit: 200,
        ..SpanQuery::default()
    });
    json!({
        "from": from.as_millis(), "to": story.over.to.as_millis(), "variables": reader.values, "answers": answers,
        "marks": marks, "exemplars": exemplars, "failed": failed, "slow": slow,
    })
}
