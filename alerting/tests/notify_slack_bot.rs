//! Slack's bot: one message for a release, edited in place, over a kill of Davy too.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod common;

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::routing::post;
use axum::{Json, Router};
use common::messages::{DAVY, NOW, fixed_clock, regression};
use davy_alerting::alert::Alert;
use davy_alerting::book::AlertBook;
use davy_alerting::config::{Integration, Receiver, Route, SlackConfig, SlackDestination};
use davy_alerting::dispatch::Dispatcher;
use davy_alerting::notify::{Forgetful, Memory, Notifier};
use davy_alerting::template::Templates;
use davy_model::Labels;
use davy_store::control::OutboxRecord;
use serde_json::{Value, json};

/// Slack's API as far as a bot uses it: messages by their `ts`, and the errors it is told to give.
#[derive(Clone, Default)]
struct Slack {
    got: Arc<Mutex<Vec<(String, Value)>>>,
    fails: Arc<Mutex<Vec<&'static str>>>,
}

impl Slack {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/chat.postMessage", listener.local_addr().unwrap());
        let answer = |State(slack): State<Self>, uri: Uri, headers: HeaderMap, Json(body): Json<Value>| async move {
            assert_eq!(headers["authorization"], "Bearer xoxb-secret");
            let method = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
            if let Some(error) = slack.fails.lock().unwrap().pop() {
                return Json(json!({"ok": false, "error": error}));
            }
            let mut got = slack.got.lock().unwrap();
            got.push((method, body.clone()));
            let ts = body["ts"].as_str().map_or_else(|| format!("17.{:06}", got.len()), str::to_owned);
            Json(json!({"ok": true, "channel": "C042", "ts": ts}))
        };
        let router = Router::new().route("/api/{method}", post(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn got(&self) -> Vec<(String, Value)> {
        self.got.lock().unwrap().clone()
    }
}

fn receivers(url: &str) -> Vec<Receiver> {
    let config = SlackConfig {
        destination: SlackDestination::Bot { token: "xoxb-secret".into(), post_url: url.into() },
        channel: Templates::default().text("#releases").ok(),
        send_resolved: true,
        form: None,
        http: Default::default(),
    };
    vec![Receiver { name: "ops".into(), integrations: vec![Integration::Slack(config)] }]
}

fn notifier(url: &str, memory: &Arc<Forgetful>) -> Notifier {
    let memory: Arc<dyn Memory> = memory.clone();
    Notifier::new(&receivers(url), DAVY, fixed_clock()).unwrap().with_memory(memory)
}

fn message(url: &str, alert: Alert) -> OutboxRecord {
    let mut book = AlertBook::default();
    book.raise(alert, NOW);
    let route = Route { receiver: "ops".into(), ..Route::default() };
    Dispatcher::new(route, receivers(url), 0).poll(&mut book, NOW).outbox.remove(0)
}

/// Another alert of the same release.
fn next(name: &str, severity: &str) -> Alert {
    let labels = [("alertname", name), ("severity", severity), ("release", "checkout-v2-7")];
    let annotations = [("summary".to_owned(), format!("checkout: {name}"))];
    Alert::new(Labels::from_pairs(labels), annotations.into(), NOW)
}

fn methods(slack: &Slack) -> Vec<String> {
    slack.got().into_iter().map(|(method, _)| method).collect()
}

#[tokio::test]
async fn a_release_is_one_message_that_is_edited_over_a_restart() {
    let slack = Slack::default();
    let url = slack.start().await;
    let memory = Arc::new(Forgetful::default());
    notifier(&url, &memory).deliver(&message(&url, regression())).await.unwrap();
    // Another process, the same memory.
    notifier(&url, &memory).deliver(&message(&url, next("RollbackVerified", "info"))).await.unwrap();
    assert_eq!(methods(&slack), ["chat.postMessage", "chat.update"]);
    let (_, edited) = &slack.got()[1];
    assert_eq!((&edited["channel"], &edited["ts"]), (&"C042".into(), &"17.000001".into()));
    let said = edited.to_string();
    // The newest first, what is worse still there, and what came before.
    assert!(said.contains("[FIRING] checkout: RollbackVerified") && said.contains("5.12 %"), "{said}");
    assert!(
        said.contains("Earlier") && said.contains("[FIRING] checkout: version v2 is worse than v1"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_critical_is_also_said_where_people_are_told() {
    let slack = Slack::default();
    let url = slack.start().await;
    let notifier = notifier(&url, &Arc::default());
    notifier.deliver(&message(&url, regression())).await.unwrap();
    let page = message(&url, next("RollbackNeedsHuman", "critical"));
    notifier.deliver(&page).await.unwrap();
    assert_eq!(methods(&slack), ["chat.postMessage", "chat.update", "chat.postMessage"]);
    let (_, reply) = &slack.got()[2];
    assert_eq!((&reply["thread_ts"], &reply["reply_broadcast"]), (&"17.000001".into(), &true.into()));
    // Its answer was lost, so it comes again: an edit, and no second reply.
    notifier.deliver(&page).await.unwrap();
    assert_eq!(methods(&slack).len(), 4);
    assert_eq!(slack.got()[3].1["attachments"].to_string().matches("is worse than").count(), 1);
}

#[tokio::test]
async fn two_messages_of_one_release_at_once_are_one() {
    let slack = Slack::default();
    let url = slack.start().await;
    let notifier = notifier(&url, &Arc::default());
    let (a, b) = (message(&url, regression()), message(&url, next("RampPaused", "warning")));
    let (first, second) = tokio::join!(notifier.deliver(&a), notifier.deliver(&b));
    first.and(second).unwrap();
    assert_eq!(methods(&slack), ["chat.postMessage", "chat.update"]);
}

#[tokio::test]
async fn a_message_that_someone_deleted_is_written_anew() {
    let slack = Slack::default();
    let url = slack.start().await;
    let notifier = notifier(&url, &Arc::default());
    notifier.deliver(&message(&url, regression())).await.unwrap();
    slack.fails.lock().unwrap().push("message_not_found");
    notifier.deliver(&message(&url, next("RampPaused", "warning"))).await.unwrap();
    assert_eq!(methods(&slack), ["chat.postMessage", "chat.postMessage"]);
    assert!(slack.got()[1].1.get("ts").is_none());
}

#[tokio::test]
async fn slack_s_errors_are_final_or_pass() {
    let slack = Slack::default();
    let url = slack.start().await;
    let notifier = notifier(&url, &Arc::default());
    for (error, retryable) in [("invalid_auth", false), ("not_in_channel", false), ("ratelimited", true)] {
        slack.fails.lock().unwrap().push(error);
        let refused = notifier.deliver(&message(&url, regression())).await.unwrap_err();
        assert_eq!(
            (refused.retryable, refused.detail.as_str()),
            (retryable, format!("Slack refuses: {error}").as_str())
        );
        assert!(!refused.detail.contains("xoxb"));
    }
}
