//! A flood: people get one message, programs get each, and nothing that follows overtakes it.

mod common;

use common::messages::{DAVY, NOW, email, fixed_clock, webhook};
use common::smtp::MailServer;
use davy_alerting::alert::Alert;
use davy_alerting::book::AlertBook;
use davy_alerting::config::{Receiver, Route};
use davy_alerting::dispatch::Dispatcher;
use davy_alerting::notify::Notifier;
use davy_model::Labels;
use davy_store::control::OutboxRecord;

/// The part of an id that says in what order messages go.
fn lane(record: &OutboxRecord) -> &str {
    &record.id[..20]
}

fn alert(name: &str, severity: &str) -> Alert {
    let annotations = [("summary".to_owned(), format!("{name} is bad"))];
    Alert::new(Labels::from_pairs([("alertname", name), ("severity", severity)]), annotations.into(), NOW)
}

fn dispatcher(receivers: &[Receiver]) -> Dispatcher {
    Dispatcher::new(Route { receiver: "ops".into(), ..Route::default() }, receivers.to_vec(), 0)
}

#[tokio::test]
async fn a_flood_is_one_mail_and_a_request_for_each_alert() {
    let server = MailServer::start().await;
    let integrations = vec![email(&server, &["ops@example.org"], false), webhook("http://127.0.0.1:9/")];
    let receivers = vec![Receiver { name: "ops".into(), integrations }];
    let (dispatcher, mut book) = (dispatcher(&receivers), AlertBook::default());
    for n in 0..50 {
        book.raise(alert(&format!("A{n:02}"), if n == 30 { "critical" } else { "warning" }), NOW);
    }
    let out = dispatcher.poll(&mut book, NOW).outbox;
    let (mails, requests): (Vec<_>, Vec<_>) =
        out.into_iter().partition(|r| r.detail.contains("\"kind\":\"email\""));
    assert_eq!((mails.len(), requests.len()), (1, 50));

    let notifier = Notifier::new(&receivers, DAVY, fixed_clock()).unwrap();
    notifier.deliver(&mails[0]).await.unwrap();
    let mail = &server.mails()[0].text;
    // The most severe gives the title.
    assert!(mail.contains("Subject: [FIRING] 50 alerts: A30 is bad"), "{mail}");
    assert!(mail.contains("and 39 more"), "{mail}");

    // Its end is told after the digest, and so is what is told of it again after a restart.
    let ended = alert("A30", "critical");
    let records = book.open().count();
    assert_eq!(records, 50);
    book.resolve(&ended.fingerprint(), NOW);
    let end = dispatcher.poll(&mut book, NOW).outbox;
    let end = end.iter().find(|r| r.detail.contains("\"kind\":\"email\"")).expect("a mail of the end");
    assert_eq!(lane(end), lane(&mails[0]));
}

#[tokio::test]
async fn a_few_alerts_are_a_mail_each() {
    let server = MailServer::start().await;
    let integrations = vec![email(&server, &["ops@example.org"], false)];
    let receivers = vec![Receiver { name: "ops".into(), integrations }];
    let mut book = AlertBook::default();
    for n in 0..10 {
        book.raise(alert(&format!("A{n}"), "warning"), NOW);
    }
    assert_eq!(dispatcher(&receivers).poll(&mut book, NOW).outbox.len(), 10);
}

#[tokio::test]
async fn who_was_told_in_a_digest_is_known_after_a_restart() {
    let server = MailServer::start().await;
    let integrations = vec![email(&server, &["ops@example.org"], false)];
    let receivers = vec![Receiver { name: "ops".into(), integrations }];
    let (dispatcher, mut book) = (dispatcher(&receivers), AlertBook::default());
    for n in 0..20 {
        book.raise(alert(&format!("A{n}"), "warning"), NOW);
    }
    let first = dispatcher.poll(&mut book, NOW);
    let (mut restarted, errors) = AlertBook::load(&first.alerts);
    assert!(errors.is_empty(), "{errors:?}");
    restarted.resolve(&alert("A3", "warning").fingerprint(), NOW);
    let end = dispatcher.poll(&mut restarted, NOW).outbox;
    assert_eq!((end.len(), lane(&end[0])), (1, lane(&first.outbox[0])));
}
