//! Rules over scripted answers: states of alerts, markers of series, what is restored, what a reload keeps. Where
//! Prometheus has the test (`rules/alerting_test.go`, `rules/manager_test.go`), the story is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_alerting::rule::{
    AlertUpdate, AlertingRule, Evaluate, EvaluateError, GroupSpec, Health, Iteration, Outside, Refused, Row,
    RuleAlertState, RuleGroup, RuleKind, RuleSpec, Surroundings,
};
use davy_model::{Labels, Matcher, Sample, Timestamp, Value, is_stale};
use davy_query::Expr;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(minutes: f64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + (minutes * 60_000.0) as i64)
}

type Found = Vec<(Labels, Value)>;

/// Answers what it is told next, whatever is asked; keeps what is written.
struct Script {
    answer: Result<Found, String>,
    written: BTreeMap<Labels, Vec<(Timestamp, f64)>>,
    refuse: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self { answer: Ok(Vec::new()), written: BTreeMap::new(), refuse: false }
    }
}

impl Evaluate for Script {
    fn instant(&self, _: &Expr, _: Timestamp) -> Result<Found, EvaluateError> {
        self.answer.clone().map_err(EvaluateError)
    }
}

impl Surroundings for Script {
    fn newest(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(Labels, Sample)>, EvaluateError> {
        let fits = |l: &Labels| matchers.iter().all(|m| m.matches(l));
        let newest = |samples: &[(Timestamp, f64)]| {
            samples
                .iter()
                .rev()
                .find(|(t, _)| *t >= from && *t <= to)
                .map(|(t, v)| Sample { timestamp: *t, value: Value::Float(*v) })
        };
        let found = self.written.iter().filter(|(l, _)| fits(l));
        Ok(found.filter_map(|(l, s)| Some((l.clone(), newest(s)?))).collect())
    }

    fn append(&mut self, rows: &[Row]) -> Result<Vec<Option<Refused>>, EvaluateError> {
        if self.refuse {
            return Ok(rows.iter().map(|_| Some(Refused::Other("the disk is full".into()))).collect());
        }
        for row in rows {
            let value = row.value.as_float().unwrap_or(f64::NAN);
            self.written.entry(row.labels.clone()).or_default().push((row.at, value));
        }
        Ok(vec![None; rows.len()])
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn one(instance: &str, value: f64) -> Found {
    vec![(labels(&[("__name__", "up"), ("instance", instance)]), Value::Float(value))]
}

fn alert(hold: Duration, keep_firing_for: Duration) -> RuleSpec {
    RuleSpec {
        name: "Down".into(),
        expr: Expr::parse("up").expect("a selector"),
        labels: BTreeMap::from([("severity".into(), "page".into())]),
        kind: RuleKind::Alerting {
            hold,
            keep_firing_for,
            annotations: BTreeMap::from([(
                "summary".into(),
                "{{ $labels.instance }} is {{ $value }}".into(),
            )]),
        },
    }
}

fn record() -> RuleSpec {
    RuleSpec {
        name: "job:up:sum".into(),
        expr: Expr::parse("up").expect("a selector"),
        labels: BTreeMap::from([("team".into(), "x".into())]),
        kind: RuleKind::Recording,
    }
}

fn group(rules: Vec<RuleSpec>) -> GroupSpec {
    GroupSpec {
        file: "rules.yml".into(),
        name: "test".into(),
        interval: MINUTE,
        query_offset: Duration::ZERO,
        limit: 0,
        rules,
    }
}

struct World {
    group: RuleGroup,
    script: Script,
}

impl World {
    fn new(spec: GroupSpec) -> Self {
        Self::with(spec, Script::default(), false)
    }

    fn with(spec: GroupSpec, script: Script, should_restore: bool) -> Self {
        Self { group: RuleGroup::new(spec, should_restore), script }
    }

    fn evaluate(&mut self, minutes: f64, answer: Found) -> Iteration {
        self.script.answer = Ok(answer);
        self.again(minutes)
    }

    fn again(&mut self, minutes: f64) -> Iteration {
        self.group.evaluate(at(minutes), at(minutes), &Outside::default(), &mut self.script)
    }

    fn rule(&self) -> &AlertingRule {
        self.group.rules()[0].alerting.as_ref().expect("an alerting rule")
    }

    fn states(&self) -> Vec<&'static str> {
        self.rule().alerts().map(|a| a.state.as_str()).collect()
    }

    /// Series with the sample at that minute.
    fn written_at(&self, minutes: f64) -> Vec<String> {
        let show = |v: f64| if is_stale(v) { "stale".to_owned() } else { v.to_string() };
        let found = self.script.written.iter();
        found
            .filter_map(|(l, s)| Some(format!("{l} {}", show(s.iter().find(|(t, _)| *t == at(minutes))?.1))))
            .collect()
    }
}

#[test]
fn an_alert_is_pending_then_firing_then_over() {
    let mut world = World::new(group(vec![alert(MINUTE * 5, Duration::ZERO)]));
    assert_eq!(world.evaluate(0.0, one("a", 0.0)).updates, []);
    assert_eq!(world.states(), ["pending"]);
    assert_eq!(world.evaluate(4.0, one("a", 0.0)).updates, []);
    let fired = world.evaluate(5.0, one("a", 0.0)).updates;
    assert_eq!(world.states(), ["firing"]);
    let [AlertUpdate { alert, resolved: false }] = &fired[..] else { panic!("{fired:?}") };
    assert_eq!(alert.labels, labels(&[("alertname", "Down"), ("instance", "a"), ("severity", "page")]));
    assert_eq!(alert.annotation("summary"), "a is 0");
    assert_eq!((alert.starts_at, alert.ends_at), (at(5.0), Some(at(9.0))));
    // It is said again after more than a minute, so that it does not seem to be over.
    assert_eq!(world.evaluate(6.0, one("a", 0.0)).updates, []);
    assert_eq!(world.evaluate(7.0, one("a", 1.0)).updates[0].alert.annotation("summary"), "a is 1");
    let over = world.evaluate(8.0, Vec::new()).updates;
    let [AlertUpdate { alert, resolved: true }] = &over[..] else { panic!("{over:?}") };
    assert_eq!((alert.starts_at, alert.ends_at), (at(5.0), Some(at(8.0))));
    assert_eq!(world.states(), ["inactive"]);
    assert_eq!(world.evaluate(9.0, Vec::new()).updates, []);
}

#[test]
fn a_pending_alert_that_ends_was_nobodys_business() {
    let mut world = World::new(group(vec![alert(MINUTE * 5, Duration::ZERO)]));
    world.evaluate(0.0, one("a", 0.0));
    assert_eq!(world.evaluate(4.0, Vec::new()).updates, []);
    assert!(world.states().is_empty());
    // And begins anew.
    world.evaluate(5.0, one("a", 0.0));
    world.evaluate(9.0, one("a", 0.0));
    assert_eq!(world.states(), ["pending"]);
}

#[test]
fn without_for_an_alert_fires_at_once() {
    let mut world = World::new(group(vec![alert(Duration::ZERO, Duration::ZERO)]));
    assert_eq!(world.evaluate(0.0, one("a", 0.0)).updates.len(), 1);
}

#[test]
fn an_alert_keeps_firing_for_a_while() {
    let mut world = World::new(group(vec![alert(Duration::ZERO, MINUTE * 3)]));
    world.evaluate(0.0, one("a", 0.0));
    for minute in [1.0, 2.0, 3.0] {
        world.evaluate(minute, Vec::new());
        assert_eq!(world.states(), ["firing"], "{minute}");
    }
    // It comes back, so the time starts over.
    world.evaluate(3.5, one("a", 0.0));
    world.evaluate(4.0, Vec::new());
    world.evaluate(6.0, Vec::new());
    assert_eq!(world.states(), ["firing"]);
    assert!(world.evaluate(7.0, Vec::new()).updates[0].resolved);
    assert_eq!(world.states(), ["inactive"]);
}

#[test]
fn a_resolved_alert_is_kept_for_fifteen_minutes() {
    let mut world = World::new(group(vec![alert(Duration::ZERO, Duration::ZERO)]));
    world.evaluate(0.0, one("a", 0.0));
    world.evaluate(1.0, Vec::new());
    world.evaluate(16.0, Vec::new());
    assert_eq!(world.states(), ["inactive"]);
    world.evaluate(16.1, Vec::new());
    assert!(world.states().is_empty());
}

#[test]
fn alerts_are_series_as_well() {
    let mut world = World::new(group(vec![alert(MINUTE, Duration::ZERO)]));
    world.evaluate(0.0, one("a", 0.0));
    let since = at(0.0).as_millis() / 1000;
    let of = r#"instance="a", severity="page"}"#;
    assert_eq!(
        world.written_at(0.0),
        [
            format!(r#"ALERTS{{alertname="Down", alertstate="pending", {of} 1"#),
            format!(r#"ALERTS_FOR_STATE{{alertname="Down", {of} {since}"#),
        ]
    );
    world.evaluate(1.0, one("a", 0.0));
    assert_eq!(
        world.written_at(1.0),
        [
            format!(r#"ALERTS{{alertname="Down", alertstate="firing", {of} 1"#),
            format!(r#"ALERTS{{alertname="Down", alertstate="pending", {of} stale"#),
            format!(r#"ALERTS_FOR_STATE{{alertname="Down", {of} {since}"#),
        ]
    );
    world.evaluate(2.0, Vec::new());
    assert_eq!(
        world.written_at(2.0),
        [
            format!(r#"ALERTS{{alertname="Down", alertstate="firing", {of} stale"#),
            format!(r#"ALERTS_FOR_STATE{{alertname="Down", {of} stale"#),
        ]
    );
}

#[test]
fn a_limit_drops_all_alerts_of_the_rule_and_says_so() {
    let mut spec = group(vec![alert(Duration::ZERO, Duration::ZERO)]);
    spec.limit = 1;
    let mut world = World::new(spec);
    world.evaluate(0.0, one("a", 0.0));
    let two = [one("a", 0.0), one("b", 0.0)].concat();
    let iteration = world.evaluate(1.0, two);
    assert_eq!(iteration.problems[0].error, "exceeded limit of 1 with 2 alerts");
    assert!(iteration.problems[0].failed && world.states().is_empty());
    assert_eq!(world.group.rules()[0].health, Health::Bad);
    world.evaluate(2.0, one("a", 0.0));
    assert_eq!(world.group.rules()[0].health, Health::Good);
}

#[test]
fn a_flood_is_refused_where_the_file_names_no_limit() {
    let mut world = World::new(group(vec![alert(Duration::ZERO, Duration::ZERO)]));
    let flood = (0..10_001).flat_map(|i| one(&i.to_string(), 0.0)).collect();
    assert_eq!(world.evaluate(0.0, flood).problems[0].error, "exceeded limit of 10000 with 10001 alerts");
}

#[test]
fn a_query_that_fails_changes_nothing() {
    let mut world = World::new(group(vec![alert(Duration::ZERO, Duration::ZERO), record()]));
    world.evaluate(0.0, one("a", 0.0));
    world.script.answer = Err("no answer".into());
    let iteration = world.again(1.0);
    assert_eq!(iteration.problems.len(), 2);
    assert_eq!(world.states(), ["firing"]);
    assert!(world.written_at(1.0).is_empty());
}

#[test]
fn labels_that_meet_after_templates_are_an_error() {
    let mut spec = alert(Duration::ZERO, Duration::ZERO);
    spec.labels.insert("instance".into(), "same".into());
    let mut world = World::new(group(vec![spec]));
    let iteration = world.evaluate(0.0, [one("a", 0.0), one("b", 0.0)].concat());
    assert_eq!(
        iteration.problems[0].error,
        "vector contains metrics with the same labelset after applying alert labels"
    );
}

#[test]
fn a_template_that_fails_is_shown_and_counted_and_the_alert_goes_out() {
    let mut spec = alert(Duration::ZERO, Duration::ZERO);
    spec.labels.insert("severity".into(), "{{ if gt $value 0.5 }}page{{ else }}ticket{{ end }}".into());
    spec.kind = RuleKind::Alerting {
        hold: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        annotations: BTreeMap::from([
            ("summary".into(), "{{ query \"up\" | first | value | humanizeX }}".into()),
            ("empty".into(), "{{ $labels.none }}".into()),
            ("broken".into(), "{{ $labels.instance | humanize }}".into()),
        ]),
    };
    let mut world = World::new(group(vec![spec]));
    let iteration = world.evaluate(0.0, one("a", 0.75));
    let alert = &iteration.updates[0].alert;
    assert_eq!(alert.labels.get("severity"), Some("page"));
    assert_eq!(
        alert.annotation("summary"),
        "<error expanding template: error parsing template __alert_Down: template: __alert_Down:1: function \"humanizeX\" not defined>"
    );
    assert_eq!(
        alert.annotation("broken"),
        "<error expanding template: error executing template __alert_Down: template: __alert_Down:1:134: executing \"__alert_Down\" at <humanize>: error calling humanize: strconv.ParseFloat: parsing \"a\": invalid syntax>"
    );
    assert!(!alert.annotations.contains_key("empty"));
    assert_eq!((iteration.expansions, iteration.expansion_failures), (4, 2));
    assert!(!iteration.problems[0].failed);
}

#[test]
fn recorded_series_carry_the_rules_name_and_labels_and_end_when_they_vanish() {
    let mut world = World::new(group(vec![record()]));
    world.evaluate(0.0, [one("a", 1.0), one("b", 2.0)].concat());
    assert_eq!(
        world.written_at(0.0),
        [r#"job:up:sum{instance="a", team="x"} 1"#, r#"job:up:sum{instance="b", team="x"} 2"#]
    );
    world.evaluate(1.0, one("a", 3.0));
    assert_eq!(
        world.written_at(1.0),
        [r#"job:up:sum{instance="a", team="x"} 3"#, r#"job:up:sum{instance="b", team="x"} stale"#]
    );
    world.evaluate(2.0, one("a", 3.0));
    assert_eq!(world.written_at(2.0).len(), 1);
}

#[test]
fn a_query_offset_moves_what_is_asked_and_what_is_written() {
    let mut spec = group(vec![record(), alert(Duration::ZERO, Duration::ZERO)]);
    spec.query_offset = MINUTE * 2;
    let mut world = World::new(spec);
    let iteration = world.evaluate(5.0, one("a", 1.0));
    assert_eq!(world.written_at(3.0).len(), 3);
    assert_eq!(iteration.updates[0].alert.starts_at, at(5.0));
}

#[test]
fn recorded_results_that_are_not_stored_are_told() {
    let mut world = World::new(group(vec![record()]));
    world.script.refuse = true;
    let iteration = world.evaluate(0.0, one("a", 1.0));
    assert_eq!(iteration.problems[0].error, "1 of 1 results were not stored, one because the disk is full");
    assert_eq!(world.group.rules()[0].health, Health::Bad);
}

#[test]
fn a_reload_keeps_what_did_not_change_and_ends_what_is_gone() {
    let other = || RuleSpec { name: "Other".into(), ..alert(Duration::ZERO, Duration::ZERO) };
    let mut world = World::new(group(vec![alert(MINUTE * 5, Duration::ZERO), other(), record()]));
    world.evaluate(0.0, one("a", 1.0));
    // `for` is longer now and the order is another; the start of the alert stays.
    let fresh = group(vec![alert(MINUTE * 7, Duration::ZERO)]);
    let old = std::mem::replace(&mut world.group, RuleGroup::new(fresh, false));
    let updates = world.group.take_state(old, at(1.0));
    let over: Vec<_> = updates.iter().map(|u| (u.alert.name(), u.resolved)).collect();
    assert_eq!(over, [("Other", true)]);
    world.evaluate(6.0, one("a", 1.0));
    assert_eq!(world.states(), ["pending"]);
    let ended: Vec<_> = world.written_at(6.0).into_iter().filter(|s| s.ends_with("stale")).collect();
    assert_eq!(ended.len(), 3, "{ended:?}");
    world.evaluate(7.0, one("a", 1.0));
    assert_eq!(world.states(), ["firing"]);
}

#[test]
fn a_group_that_is_gone_ends_its_alerts_and_series() {
    let mut world = World::new(group(vec![alert(Duration::ZERO, Duration::ZERO), record()]));
    world.evaluate(0.0, one("a", 1.0));
    let updates = world.group.withdraw(at(1.0));
    assert!(updates.len() == 1 && updates[0].resolved && updates[0].alert.ends_at == Some(at(1.0)));
    world.group.end_series(at(1.0), &mut world.script).expect("it is written");
    assert_eq!(world.written_at(1.0).iter().filter(|s| s.ends_with("stale")).count(), 3);
}

/// An alert with a `for` of half an hour, active from minute 0; Davy was down from `down` to `up`.
fn restored(down: f64, up: f64) -> (World, Vec<&'static str>) {
    let spec = || group(vec![alert(MINUTE * 30, Duration::ZERO)]);
    let mut before = World::new(spec());
    for minute in 0..=(down as i64) {
        before.evaluate(minute as f64, one("a", 0.0));
    }
    let mut world = World::with(spec(), before.script, true);
    world.evaluate(up, one("a", 0.0));
    world.evaluate(up + 1.0, one("a", 0.0));
    // Nothing is written over before it was read back.
    assert!(world.written_at(up + 1.0).is_empty());
    assert_eq!(world.group.restore(at(up + 1.0), &world.script), []);
    let mut states = Vec::new();
    for minute in 2..40 {
        world.evaluate(up + f64::from(minute), one("a", 0.0));
        states.extend(world.states());
    }
    (world, states)
}

fn pending_for(states: &[&str]) -> usize {
    states.iter().filter(|s| **s == "pending").count()
}

#[test]
fn what_was_pending_goes_on_after_a_restart() {
    // 15 of 30 minutes had passed: down time does not count, so 15 are left from the time of restoring.
    let (_, states) = restored(15.0, 20.0);
    assert_eq!(pending_for(&states), 14);
}

#[test]
fn little_that_is_left_becomes_the_grace_period() {
    // 25 of 30 had passed, but ten minutes at least are waited.
    let (_, states) = restored(25.0, 30.0);
    assert_eq!(pending_for(&states), 9);
}

#[test]
fn what_was_firing_fires_again_at_once() {
    let (_, states) = restored(35.0, 40.0);
    assert_eq!(pending_for(&states), 0);
}

#[test]
fn what_is_too_long_ago_begins_anew() {
    let (_, states) = restored(15.0, 90.0);
    assert_eq!(pending_for(&states), 28);
}

#[test]
fn short_alerts_are_not_restored() {
    let spec = group(vec![alert(MINUTE * 5, Duration::ZERO)]);
    let mut world = World::with(spec, Script::default(), true);
    world.evaluate(0.0, one("a", 0.0));
    world.evaluate(1.0, one("a", 0.0));
    assert_eq!(world.group.restore(at(1.0), &world.script), []);
    world.evaluate(5.0, one("a", 0.0));
    assert_eq!(world.states(), ["firing"]);
    assert!(!world.written_at(5.0).is_empty());
}

/// The states that a condition of on and off, a minute apart, must lead to; written anew from the documentation.
fn model(conditions: &[bool], hold: usize, keep: usize) -> Vec<Option<RuleAlertState>> {
    let mut out = Vec::new();
    let (mut since, mut firing, mut off_since): (Option<usize>, bool, Option<usize>) = (None, false, None);
    for (minute, on) in conditions.iter().enumerate() {
        if *on {
            off_since = None;
            let began = *since.get_or_insert(minute);
            firing |= minute - began >= hold;
        } else if firing && keep > 0 && minute - *off_since.get_or_insert(minute) < keep {
            // It keeps firing.
        } else {
            (since, firing, off_since) = (None, false, None);
        }
        out.push(match (since, firing) {
            (_, true) => Some(RuleAlertState::Firing),
            (Some(_), false) => Some(RuleAlertState::Pending),
            (None, false) => None,
        });
    }
    out
}

proptest! {
    #[test]
    fn states_follow_the_condition(
        conditions in proptest::collection::vec(any::<bool>(), 1..60),
        hold in 0usize..5,
        keep in 0usize..5,
    ) {
        let minutes = |n: usize| MINUTE * u32::try_from(n).unwrap();
        let mut world = World::new(group(vec![alert(minutes(hold), minutes(keep))]));
        let mut open = false;
        let want = model(&conditions, hold, keep);
        for (minute, (on, want)) in conditions.iter().zip(want).enumerate() {
            let answer = if *on { one("a", 0.0) } else { Vec::new() };
            let updates = world.evaluate(minute as f64, answer).updates;
            let got = world.rule().alerts().map(|a| a.state).find(|s| *s != RuleAlertState::Inactive);
            prop_assert_eq!(got, want, "minute {}", minute);
            for update in updates {
                // Told of its start before its end, and never of an end twice.
                prop_assert!(!update.resolved || open);
                open = !update.resolved;
            }
            prop_assert_eq!(open, want == Some(RuleAlertState::Firing));
            let series = world.written_at(minute as f64);
            let alive = series.iter().filter(|s| s.starts_with("ALERTS{") && s.ends_with(" 1")).count();
            prop_assert_eq!(alive, usize::from(want.is_some()));
        }
    }

    #[test]
    fn many_alerts_do_not_disturb_each_other(
        conditions in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 4), 1..30),
        hold in 0usize..4,
    ) {
        let minutes = |n: usize| MINUTE * u32::try_from(n).unwrap();
        let mut world = World::new(group(vec![alert(minutes(hold), Duration::ZERO)]));
        let alone: Vec<Vec<_>> = (0..4)
            .map(|i| model(&conditions.iter().map(|c| c[i]).collect::<Vec<_>>(), hold, 0))
            .collect();
        for (minute, on) in conditions.iter().enumerate() {
            let answer = (0..4).filter(|i| on[*i]).flat_map(|i| one(&i.to_string(), 0.0)).collect();
            world.evaluate(minute as f64, answer);
            for (i, want) in alone.iter().enumerate() {
                let of = |a: &&davy_alerting::rule::ActiveAlert| {
                    a.labels.get("instance") == Some(i.to_string().as_str()) && a.state != RuleAlertState::Inactive
                };
                let got = world.rule().alerts().find(of).map(|a| a.state);
                prop_assert_eq!(got, want[minute], "alert {} at minute {}", i, minute);
            }
        }
    }
}
