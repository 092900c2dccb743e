//! Ten thousand alerts at once: routed, grouped, written as messages. CPU seconds of one poll that tells everything,
//! and of one that tells nothing. `cargo bench --bench dispatch`

#![expect(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use davy_alerting::alert::Alert;
use davy_alerting::book::AlertBook;
use davy_alerting::config::{GroupBy, Integration, Receiver, Route, WebhookConfig};
use davy_alerting::dispatch::Dispatcher;
use davy_model::{Labels, Matcher, Timestamp};

const ROUTES: usize = 50;
const ROUNDS: usize = 5;

fn dispatcher() -> Dispatcher {
    let names = |n: usize| format!("team{n}");
    let leaf = |n: usize| Route {
        receiver: names(n),
        matchers: vec![Matcher::equal("team", &n.to_string())],
        group_by: GroupBy::Labels(vec!["alertname".into(), "service".into()]),
        group_wait: Some(Duration::ZERO),
        ..Route::default()
    };
    let root = Route { receiver: names(0), routes: (0..ROUTES).map(leaf).collect(), ..Route::default() };
    let webhook = || {
        Integration::Webhook(WebhookConfig {
            url: "http://127.0.0.1:9/".into(),
            signing_secret: None,
            send_resolved: true,
            timeout: Duration::from_secs(5),
            max_alerts: 0,
            http: Default::default(),
        })
    };
    let receivers = (0..ROUTES).map(|n| Receiver { name: names(n), integrations: vec![webhook()] });
    Dispatcher::new(root, receivers.collect(), 1)
}

fn main() {
    let full = std::env::args().any(|a| a == "--bench");
    let alerts = if full { 10_000 } else { 100 };
    let (dispatcher, now) = (dispatcher(), Timestamp::from_millis(0));
    let mut book = AlertBook::default();
    for n in 0..alerts {
        let (name, team) = (format!("Alert{}", n % 7), (n % ROUTES).to_string());
        let (service, instance) = (format!("service{}", n % 500), format!("10.0.0.{n}:9090"));
        let labels = [
            ("alertname", name.as_str()),
            ("team", &team),
            ("service", &service),
            ("instance", &instance),
            ("severity", "critical"),
        ];
        let annotations =
            BTreeMap::from([("summary".to_owned(), format!("{name} of {service} is too high"))]);
        book.raise(Alert::new(Labels::from_pairs(labels), annotations, now), now);
    }
    let (mut tells, mut quiet, mut messages) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let mut book = book.clone();
        let began = Instant::now();
        messages = dispatcher.poll(&mut book, now).outbox.len();
        tells.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        dispatcher.poll(&mut book, now + Duration::from_secs(1));
        quiet.push(began.elapsed().as_secs_f64());
    }
    // One thread that waits for nothing: the least of several is the time of the core.
    let least = |all: &[f64]| all.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "{alerts} alerts in {messages} messages: {:.3} core seconds; nothing new: {:.3}",
        least(&tells),
        least(&quiet)
    );
}
