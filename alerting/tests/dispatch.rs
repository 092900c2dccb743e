//! Who is told what and when, over restarts, and what becomes of a message that cannot be delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use davy_alerting::alert::Alert;
use davy_alerting::book::AlertBook;
use davy_alerting::config::{Integration, Receiver, Route, SlackConfig, SlackDestination, WebhookConfig};
use davy_alerting::dispatch::{DEAD, DELIVERED, DeliveryError, Dispatcher, MESSAGE_AGE_MAX, PENDING};
use davy_model::{Labels, Matcher, Timestamp};
use davy_store::control::OutboxRecord;

const HOUR: i64 = 3600;

fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1000)
}

fn alert(name: &str, severity: &str) -> Alert {
    let labels = Labels::from_pairs([("alertname", name), ("severity", severity)]);
    Alert::new(labels, BTreeMap::new(), at(0))
}

fn webhook(send_resolved: bool) -> Integration {
    Integration::Webhook(WebhookConfig {
        url: "http://127.0.0.1:9/".into(),
        signing_secret: None,
        send_resolved,
        timeout: Duration::from_secs(5),
        max_alerts: 0,
        http: Default::default(),
    })
}

fn slack() -> Integration {
    Integration::Slack(SlackConfig {
        destination: SlackDestination::Webhook("http://127.0.0.1:9/".into()),
        channel: None,
        send_resolved: false,
        form: None,
        http: Default::default(),
    })
}

/// Everything to `ops` every four hours, critical also to `pager` every hour.
fn dispatcher() -> Dispatcher {
    let route = |receiver: &str, matchers, hours: u64, continue_matching, routes| Route {
        receiver: receiver.into(),
        matchers,
        continue_matching,
        repeat_interval: Duration::from_secs(hours * 3600),
        routes,
        ..Route::default()
    };
    let critical = vec![Matcher::equal("severity", "critical")];
    let routes = vec![route("pager", critical, 1, true, vec![]), route("ops", vec![], 4, false, vec![])];
    let receivers = vec![
        Receiver { name: "ops".into(), integrations: vec![webhook(true), slack()] },
        Receiver { name: "pager".into(), integrations: vec![webhook(true)] },
    ];
    Dispatcher::new(route("ops", vec![], 4, false, routes), receivers, 42)
}

fn told(outbox: &[OutboxRecord]) -> Vec<String> {
    let status = |r: &OutboxRecord| if r.id.contains("_resolved_") { "resolved" } else { "firing" };
    let kind = |r: &OutboxRecord| if r.detail.contains(r#""kind":"slack""#) { "slack" } else { "webhook" };
    outbox.iter().map(|r| format!("{} {} {}", r.receiver, kind(r), status(r))).collect()
}

#[test]
fn each_integration_hears_of_each_change_once_and_of_the_end_if_it_asked() {
    let (d, mut book) = (dispatcher(), AlertBook::default());
    let a = alert("A", "critical");
    book.raise(a.clone(), at(0));
    let first = d.poll(&mut book, at(0));
    assert_eq!(told(&first.outbox), ["pager webhook firing", "ops webhook firing", "ops slack firing"]);
    assert_eq!(first.alerts.len(), 1);
    assert_eq!(d.poll(&mut book, at(1)), Default::default(), "nothing changed");
    book.raise(a.clone(), at(2));
    assert_eq!(d.poll(&mut book, at(2)), Default::default(), "raised again is no change");

    book.resolve(&a.fingerprint(), at(60));
    let end = d.poll(&mut book, at(60));
    assert_eq!(told(&end.outbox), ["pager webhook resolved", "ops webhook resolved"]);
    assert_eq!(end.alerts[0].ends_at, Some(at(60)));
    assert_eq!(d.poll(&mut book, at(61)), Default::default());
    assert_eq!(d.wake_at(&book), None);
}

#[test]
fn a_firing_alert_is_repeated_as_its_route_says() {
    let (d, mut book) = (dispatcher(), AlertBook::default());
    book.raise(alert("A", "critical"), at(0));
    d.poll(&mut book, at(0));
    let mut sent: BTreeMap<String, u32> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for _ in 0..9 {
        let wake = d.wake_at(&book).expect("a repeat is due some time");
        assert!(d.poll(&mut book, wake - Duration::from_secs(1)).outbox.is_empty(), "not before it is due");
        for record in d.poll(&mut book, wake).outbox {
            *sent.entry(record.receiver.clone()).or_default() += 1;
            assert!(ids.insert(record.id), "each repeat is a message of its own");
        }
    }
    // Nine hours: nine repeats to the pager, two to each of the two integrations of ops.
    assert_eq!(sent, BTreeMap::from([("ops".into(), 4), ("pager".into(), 9)]));
}

#[test]
fn a_restart_neither_repeats_nor_forgets() {
    let (d, mut book) = (dispatcher(), AlertBook::default());
    let a = alert("A", "critical");
    book.raise(a.clone(), at(0));
    let rows = d.poll(&mut book, at(0)).alerts;

    let (mut book, errors) = AlertBook::load(&rows);
    assert!(errors.is_empty());
    assert!(d.poll(&mut book, at(60)).outbox.is_empty(), "they were told before the restart");
    assert_eq!(told(&d.poll(&mut book, at(HOUR)).outbox), ["pager webhook firing"]);
    book.resolve(&a.fingerprint(), at(HOUR + 1));
    assert_eq!(d.poll(&mut book, at(HOUR + 1)).outbox.len(), 2);
}

#[test]
fn a_crash_before_the_write_gives_the_same_ids_again() {
    let ids = || {
        let (d, mut book) = (dispatcher(), AlertBook::default());
        book.raise(alert("A", "critical"), at(0));
        d.poll(&mut book, at(0)).outbox.into_iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ids());
}

#[test]
fn an_alert_that_began_and_ended_between_polls_is_told_to_nobody_and_kept_on_record() {
    let (d, mut book) = (dispatcher(), AlertBook::default());
    let a = alert("A", "info");
    book.raise(a.clone(), at(0));
    book.resolve(&a.fingerprint(), at(1));
    let rows = d.poll(&mut book, at(2));
    assert!(rows.outbox.is_empty());
    assert_eq!(rows.alerts[0].ends_at, Some(at(1)));
}

#[test]
fn a_row_that_cannot_be_read_is_named_and_costs_no_other() {
    let (d, mut book) = (dispatcher(), AlertBook::default());
    book.raise(alert("A", "info"), at(0));
    book.raise(alert("B", "info"), at(0));
    let mut rows = d.poll(&mut book, at(0)).alerts;
    rows[0].detail = "{".into();
    let (book, errors) = AlertBook::load(&rows);
    assert_eq!((book.open().count(), errors.len()), (1, 1));
    assert!(errors[0].to_string().contains(&rows[0].id));
}

fn message() -> OutboxRecord {
    let (d, mut book) = (dispatcher(), AlertBook::default());
    book.raise(alert("A", "info"), at(0));
    d.poll(&mut book, at(0)).outbox.remove(0)
}

fn error(retryable: bool, retry_after: Option<u64>) -> Result<(), DeliveryError> {
    Err(DeliveryError {
        retryable,
        retry_after: retry_after.map(Duration::from_secs),
        detail: "status 500".into(),
    })
}

#[test]
fn waits_double_from_a_second_to_five_minutes_with_a_quarter_of_jitter() {
    let d = dispatcher();
    let mut record = message();
    let mut now = at(0);
    for attempt in 0..14 {
        record = d.after_attempt(record, error(true, None), now);
        let wait = record.next_attempt_at.since(now).as_secs_f64();
        let base = f64::from(1 << attempt).min(300.0);
        assert!((0.75 * base..=1.25 * base).contains(&wait), "attempt {attempt}: {wait} s of {base} s");
        assert_eq!((record.state.as_str(), record.attempts), (PENDING, attempt + 1));
        now = record.next_attempt_at;
    }
    record = d.after_attempt(record, Ok(()), now);
    assert_eq!((record.state.as_str(), record.last_error.as_str(), record.attempts), (DELIVERED, "", 15));
}

#[test]
fn jitter_differs_by_message_and_is_the_same_for_the_same_seed() {
    let wait = |id: &str| {
        let record = OutboxRecord { id: id.into(), attempts: 8, ..message() };
        dispatcher().after_attempt(record, error(true, None), at(0)).next_attempt_at
    };
    assert_eq!(wait("a"), wait("a"));
    assert_eq!((0..50).map(|i| wait(&i.to_string())).collect::<BTreeSet<_>>().len(), 50);
}

#[test]
fn a_receiver_s_retry_after_is_honoured_within_an_hour() {
    let d = dispatcher();
    let next = d.after_attempt(message(), error(true, Some(90)), at(0));
    assert_eq!(next.next_attempt_at, at(90));
    let next = d.after_attempt(message(), error(true, Some(u64::MAX)), at(0));
    assert_eq!(next.next_attempt_at, at(HOUR));
}

#[test]
fn what_cannot_succeed_or_is_too_old_is_dead_and_says_why() {
    let d = dispatcher();
    let next = d.after_attempt(message(), error(false, None), at(1));
    assert_eq!((next.state.as_str(), next.last_error.as_str()), (DEAD, "status 500"));

    let (mut record, mut now) = (message(), at(0));
    while record.state == PENDING {
        record = d.after_attempt(record, error(true, None), now);
        assert!(now.since(record.created_at) <= MESSAGE_AGE_MAX, "given up by then");
        now = record.next_attempt_at;
    }
    assert_eq!(record.state, DEAD);
    // A receiver that is down for an hour is far from that.
    assert!(now.since(record.created_at) > Duration::from_secs(20 * 3600));
}
