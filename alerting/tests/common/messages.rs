//! Alerts to deliver, and a notifier with one receiver to deliver them to.

use std::sync::Arc;
use std::time::Duration;

use davy_alerting::alert::Alert;
use davy_alerting::book::AlertBook;
use davy_alerting::config::{
    EmailConfig, EmailForm, Hand, Integration, OnFail, Policy, Receiver, Route, SlackConfig,
    SlackDestination, WebhookConfig,
};
use davy_alerting::dispatch::Dispatcher;
use davy_alerting::notify::{DeliveryError, Notifier};
use davy_alerting::release::{Command, Event, Level, Liveness, ReleaseMachine};
use davy_alerting::template::Templates;
use davy_detector::{Contract, Outcome};
use davy_model::{Clock, Labels, ManualClock, Timestamp};
use davy_store::control::OutboxRecord;

use super::smtp::MailServer;
use super::verdicts::verdict;

pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
pub(crate) const DAVY: &str = "http://davy.example:9600";
/// 2026-01-02 03:04:05 UTC.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_767_323_045_000);

pub(crate) fn webhook(url: &str) -> Integration {
    Integration::Webhook(WebhookConfig {
        url: url.into(),
        signing_secret: Some(SECRET.into()),
        send_resolved: true,
        timeout: Duration::from_secs(2),
        max_alerts: 0,
        http: Default::default(),
    })
}

pub(crate) fn slack(url: &str) -> Integration {
    Integration::Slack(SlackConfig {
        destination: SlackDestination::Webhook(url.into()),
        channel: Some(Templates::default().text("#releases").expect("a plain text")),
        send_resolved: true,
        form: None,
        http: Default::default(),
    })
}

pub(crate) fn email(server: &MailServer, to: &[&str], require_tls: bool) -> Integration {
    Integration::Email(EmailConfig {
        to: to.iter().map(|&a| a.to_owned()).collect(),
        from: "Davy <davy@example.org>".into(),
        smarthost: (server.address.ip().to_string(), server.address.port()),
        auth: None,
        require_tls,
        send_resolved: true,
        form: EmailForm::default(),
    })
}

/// The alert of a release that fails its verdict and is being rolled back.
pub(crate) fn regression() -> Alert {
    let name = |s: &str| s.to_owned();
    let policy = Policy {
        on_fail: OnFail::Rollback,
        rollback: Some(Hand { name: "to-stable".into(), level: Level::C }),
        ..Policy::default()
    };
    let mut machine =
        ReleaseMachine::new(7, name("checkout-v2-7"), name("checkout"), name("v1"), name("v2"), policy, NOW);
    let live = Liveness {
        baseline_seen: true,
        canary_seen: true,
        baseline_requests: Some(900.0),
        canary_requests: Some(100.0),
        blind: false,
        ..Liveness::default()
    };
    machine.step(NOW, Event::Live(live));
    let commands = machine.step(NOW, Event::Judged(&verdict(Outcome::Fail, Contract::Ok, NOW)));
    let alert = commands.into_iter().find_map(|c| match c {
        Command::Raise(alert) => Some(alert),
        _ => None,
    });
    alert.expect("a fail raises an alert")
}

/// An alert whose every text tries to be something else.
pub(crate) fn hostile() -> Alert {
    let evil =
        "v2\r\nBcc: all@example.org\n<!channel> <http://evil|ok> @here *x* <b>&amp;\u{202e}gpj.exe\u{1b}[2J";
    let labels = Labels::from_pairs([("alertname", "Evil"), ("version", evil), ("<b>", "x")]);
    let annotations = [("summary", evil), ("action", evil), ("<script>", evil)];
    let annotations = annotations.map(|(k, v)| (k.to_owned(), v.to_owned()));
    Alert::new(labels, annotations.into(), NOW)
}

/// A notifier with one integration, and the alert's message for it.
pub(crate) fn setup(
    integration: Integration,
    alert: Alert,
    clock: Arc<dyn Clock>,
) -> (Notifier, OutboxRecord) {
    let receivers = vec![Receiver { name: "ops".into(), integrations: vec![integration] }];
    let notifier = Notifier::new(&receivers, DAVY, clock).expect("a good receiver");
    let route = Route {
        receiver: "ops".into(),
        matchers: vec![],
        continue_matching: false,
        repeat_interval: Duration::from_secs(3600),
        routes: vec![],
        ..Route::default()
    };
    let mut book = AlertBook::default();
    book.raise(alert, NOW);
    let record = Dispatcher::new(route, receivers, 0).poll(&mut book, NOW).outbox.remove(0);
    (notifier, record)
}

pub(crate) fn fixed_clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(NOW))
}

pub(crate) async fn deliver(integration: Integration, alert: Alert) -> Result<(), DeliveryError> {
    let (notifier, record) = setup(integration, alert, fixed_clock());
    notifier.deliver(&record).await
}

pub(crate) fn pretty(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).expect("a JSON body");
    serde_json::to_string_pretty(&value).unwrap()
}
