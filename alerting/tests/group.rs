//! Groups, inhibition, silences and mute times, on a virtual clock.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_alerting::alert::Alert;
use davy_alerting::book::AlertBook;
use davy_alerting::config::{GroupBy, InhibitRule, Integration, Receiver, Route, WebhookConfig};
use davy_alerting::dispatch::{Dispatch, Dispatcher};
use davy_alerting::silence::Silence;
use davy_alerting::time_interval::TimeInterval;
use davy_model::{Labels, Matcher, Timestamp};
use jiff::tz::TimeZone;

fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1000)
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn alert(name: &str, instance: &str, starts: i64) -> Alert {
    let labels = [("alertname", name), ("instance", instance), ("service", "checkout")];
    Alert::new(Labels::from_pairs(labels), BTreeMap::new(), at(starts))
}

fn grouped() -> Route {
    Route {
        receiver: "ops".into(),
        group_by: GroupBy::Labels(vec!["alertname".into()]),
        group_wait: Some(secs(30)),
        group_interval: Some(secs(300)),
        repeat_interval: secs(3600),
        ..Route::default()
    }
}

fn receiver(name: &str) -> Receiver {
    let webhook = Integration::Webhook(WebhookConfig {
        url: "http://127.0.0.1:9/".into(),
        signing_secret: None,
        send_resolved: true,
        timeout: secs(5),
        max_alerts: 0,
        http: Default::default(),
    });
    Receiver { name: name.into(), integrations: vec![webhook] }
}

fn dispatcher(route: Route) -> Dispatcher {
    Dispatcher::new(route, vec![receiver("ops")], 1)
}

/// Status and how many alerts of each message.
fn said(dispatch: &Dispatch) -> Vec<String> {
    let count = |text: &str, what: &str| text.matches(&format!("[\"{what}\",")).count();
    dispatch
        .outbox
        .iter()
        .map(|r| format!("{} firing, {} resolved", count(&r.detail, "firing"), count(&r.detail, "resolved")))
        .collect()
}

#[test]
fn a_group_waits_tells_what_changed_and_repeats() {
    let (d, mut book) = (dispatcher(grouped()), AlertBook::default());
    book.raise(alert("Errors", "a", 0), at(0));
    assert_eq!(d.wake_at(&book), Some(at(30)));
    assert!(d.poll(&mut book, at(29)).outbox.is_empty());
    book.raise(alert("Errors", "b", 10), at(10));
    book.raise(alert("Latency", "a", 20), at(20));
    assert_eq!(said(&d.poll(&mut book, at(30))), ["2 firing, 0 resolved"]);
    assert_eq!(
        said(&d.poll(&mut book, at(50))),
        ["1 firing, 0 resolved"],
        "the other group has its own wait"
    );

    // A new member and one that ended are told together, after the interval.
    book.raise(alert("Errors", "c", 60), at(60));
    book.resolve(&alert("Errors", "a", 0).fingerprint(), at(70));
    assert!(d.poll(&mut book, at(329)).outbox.is_empty());
    assert_eq!(book.open().count(), 3);
    assert_eq!(said(&d.poll(&mut book, at(330))), ["2 firing, 1 resolved"]);
    // Nothing changed: the next is a repeat.
    assert!(d.poll(&mut book, at(330 + 3599 - 280)).outbox.is_empty());
    assert_eq!(said(&d.poll(&mut book, at(50 + 3600))), ["1 firing, 0 resolved"]);
    assert_eq!(said(&d.poll(&mut book, at(330 + 3600))), ["2 firing, 0 resolved"]);
}

#[test]
fn an_end_that_waits_for_its_interval_survives_a_restart() {
    let (d, mut book) = (dispatcher(grouped()), AlertBook::default());
    book.raise(alert("Errors", "a", 0), at(0));
    d.poll(&mut book, at(30));
    book.resolve(&alert("Errors", "a", 0).fingerprint(), at(40));
    let rows = d.poll(&mut book, at(41)).alerts;
    assert_eq!(rows.last().unwrap().ends_at, None, "the row stays open until the end was told");
    let (mut book, errors) = AlertBook::load(&rows);
    assert!(errors.is_empty());
    assert!(d.poll(&mut book, at(329)).outbox.is_empty());
    assert_eq!(said(&d.poll(&mut book, at(330))), ["0 firing, 1 resolved"]);
    assert_eq!(d.poll(&mut book, at(331)), Dispatch::default());
}

#[test]
fn alerts_of_a_release_do_not_wait_unless_the_file_says_so() {
    let unsaid = Route { group_wait: None, group_interval: None, ..grouped() };
    let (d, mut book) = (dispatcher(unsaid), AlertBook::default());
    let labels = [("alertname", "CanaryRegression"), ("release", "checkout-v2-7")];
    book.raise(Alert::new(Labels::from_pairs(labels), BTreeMap::new(), at(0)), at(0));
    book.raise(alert("Errors", "a", 0), at(0));
    assert_eq!(said(&d.poll(&mut book, at(0))), ["1 firing, 0 resolved"]);
    assert_eq!(said(&d.poll(&mut book, at(30))), ["1 firing, 0 resolved"]);
}

#[test]
fn what_is_inhibited_or_silenced_is_told_once_it_is_not() {
    let rule = InhibitRule {
        source: vec![Matcher::equal("alertname", "Down")],
        target: vec![Matcher::equal("alertname", "Errors")],
        equal: vec!["service".into()],
    };
    let now = Route { group_wait: Some(secs(0)), group_interval: Some(secs(0)), ..grouped() };
    let (d, mut book) = (dispatcher(now).with_inhibition(vec![rule]), AlertBook::default());
    book.raise(alert("Down", "a", 0), at(0));
    book.raise(alert("Errors", "a", 0), at(0));
    assert_eq!(d.poll(&mut book, at(0)).outbox.len(), 1);
    book.resolve(&alert("Down", "a", 0).fingerprint(), at(60));
    let after = d.poll(&mut book, at(60));
    assert_eq!(said(&after), ["1 firing, 0 resolved", "0 firing, 1 resolved"]);

    book.set_silences(vec![Silence {
        id: "s".into(),
        matchers: vec![Matcher::equal("service", "checkout")],
        starts_at: at(100),
        ends_at: at(200),
        created_by: "ana".into(),
        comment: "known".into(),
    }]);
    book.raise(alert("Latency", "a", 150), at(150));
    assert!(d.poll(&mut book, at(150)).outbox.is_empty());
    assert_eq!(said(&d.poll(&mut book, at(200))), ["1 firing, 0 resolved"]);
}

#[test]
fn a_mute_route_says_nothing_and_catches_up() {
    let night = TimeInterval {
        times: vec![(0, 60)],
        weekdays: vec![],
        days_of_month: vec![],
        months: vec![],
        years: vec![],
        location: TimeZone::UTC,
    };
    let route = Route { mute_intervals: vec![night.clone()], ..grouped() };
    let (d, mut book) = (dispatcher(route), AlertBook::default());
    book.raise(alert("Errors", "a", 0), at(0));
    assert!(d.poll(&mut book, at(3599)).outbox.is_empty());
    assert_eq!(d.poll(&mut book, at(3600)).outbox.len(), 1);

    let route = Route { active_intervals: vec![night], ..grouped() };
    let (d, mut book) = (dispatcher(route), AlertBook::default());
    book.raise(alert("Errors", "a", 3600), at(3600));
    assert!(d.poll(&mut book, at(86_399)).outbox.is_empty());
    assert_eq!(d.poll(&mut book, at(86_400)).outbox.len(), 1);
}

#[test]
fn what_comes_back_before_a_group_was_told_of_its_end_is_news_to_whoever_was() {
    let pager = Route { receiver: "pager".into(), repeat_interval: secs(3600), ..Route::default() };
    let root = Route {
        receiver: "pager".into(),
        routes: vec![Route { continue_matching: true, ..grouped() }, pager],
        ..Route::default()
    };
    let d = Dispatcher::new(root, vec![receiver("ops"), receiver("pager")], 1);
    let a = |starts| alert("Errors", "a", starts);
    let pager = |dispatch: &Dispatch| -> Vec<String> {
        dispatch.outbox.iter().filter(|r| r.receiver == "pager").map(|r| r.id.clone()).collect()
    };

    for restarted in [false, true] {
        let mut book = AlertBook::default();
        book.raise(a(0), at(0));
        let first = d.poll(&mut book, at(0));
        d.poll(&mut book, at(30));
        book.resolve(&a(0).fingerprint(), at(40));
        let end = d.poll(&mut book, at(40));
        if restarted {
            book = AlertBook::load(&end.alerts).0;
        }
        book.raise(a(50), at(50));
        let again = d.poll(&mut book, at(50));

        assert_eq!([pager(&first).len(), pager(&end).len(), pager(&again).len()], [1, 1, 1]);
        assert_ne!(pager(&first), pager(&again), "a receiver would take it for what it has already");
        let (_, open) = book.open().next().unwrap();
        assert_eq!(open.starts_at, at(50));
        assert_eq!(again.alerts[0].id, first.alerts[0].id, "one row until all have heard of the end");
        let (mut read, _) = AlertBook::load(&again.alerts);
        read.resolve(&a(0).fingerprint(), at(60));
        assert_eq!(d.poll(&mut read, at(400)).alerts[0].id, first.alerts[0].id, "also after a restart");
    }
}
