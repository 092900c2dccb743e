//! The outbox over HTTP: what was given up is listed and sent again, by whom stands in the audit.

#![expect(clippy::unwrap_used, reason = "a test may end early")]

mod common;

use axum::body::Body;
use axum::http::Request;
use common::{Answer, Server, at};
use davy_store::control::{ControlBatch, OutboxRecord};
use serde_json::{Value, json};

/// As the dispatcher writes it.
const DETAIL: &str = r#"{"format":2,"kind":"webhook","integration":0,"group_key":"{}","group_labels":{},"alerts":[["firing",{"labels":{"alertname":"CanaryRegression"},"annotations":{"summary":"checkout: v2 is worse"},"starts_at":0,"ends_at":null}]]}"#;

fn message(id: &str, receiver: &str, state: &str) -> OutboxRecord {
    OutboxRecord {
        id: id.into(),
        receiver: receiver.into(),
        created_at: at(-90_000),
        next_attempt_at: at(-3_600),
        attempts: 9,
        state: state.into(),
        last_error: "status 404".into(),
        detail: DETAIL.into(),
    }
}

async fn server() -> Server {
    let server = Server::start().await;
    let outbox = vec![
        message("a", "ops", "dead"),
        message("b", "ops", "dead"),
        message("c", "team", "dead"),
        message("d", "team", "delivered"),
    ];
    server.control.write(&ControlBatch { outbox, ..ControlBatch::default() }).unwrap();
    server
}

async fn resend(server: &Server, body: Value) -> Answer {
    let request = Request::post("/api/davy/v1/outbox/resend").header("content-type", "application/json");
    server.send(request.body(Body::from(body.to_string())).unwrap()).await
}

fn ids(server: &Server, state: &str) -> Vec<String> {
    server.control.outbox(state, 10).unwrap().into_iter().map(|r| r.id).collect()
}

#[tokio::test]
async fn what_was_given_up_is_listed_with_its_reason() {
    let server = server().await;
    let dead = server.get("/api/davy/v1/outbox").await.json();
    assert_eq!(dead.as_array().unwrap().len(), 3);
    assert_eq!(dead[0]["about"], "CanaryRegression firing: checkout: v2 is worse");
    assert_eq!(dead[0]["last_error"], "status 404");
    let wrong = server.get("/api/davy/v1/outbox?state=lost").await.json();
    assert_eq!(wrong["error"], "`state`: expected dead, pending or delivered, got \"lost\"");
}

#[tokio::test]
async fn messages_are_sent_again_under_their_ids_with_a_day_of_their_own() {
    let server = server().await;
    let answer = resend(&server, json!({"receiver": "ops", "actor": "ann", "reason": "fixed the URL"})).await;
    assert_eq!(answer.json(), json!({"ids": ["a", "b"]}));
    assert_eq!(
        (ids(&server, "dead"), ids(&server, "pending")),
        (vec!["c".into()], vec!["a".into(), "b".into()])
    );
    let again = server.control.outbox("pending", 1).unwrap().remove(0);
    assert_eq!((again.attempts, again.created_at, again.next_attempt_at), (0, at(0), at(0)));
    let audit = server.control.audit(1).unwrap().remove(0);
    let told = (audit.actor.as_str(), audit.action.as_str(), audit.target.as_str(), audit.reason.as_str());
    assert_eq!(told, ("ann", "resend", "messages of ops", "fixed the URL"));
    assert_eq!(audit.outcome, "2 messages");
}

#[tokio::test]
async fn only_what_was_given_up_is_sent_again_and_nothing_where_one_is_unknown() {
    let server = server().await;
    for (body, status, error) in [
        (json!({"ids": ["a", "d"], "actor": "ann", "reason": "x"}), 404, "no message \"d\" was given up"),
        (json!({"actor": "ann", "reason": "x"}), 400, "give one of `ids`, `receiver` and `all`"),
        (json!({"all": true, "ids": ["a"], "actor": "ann", "reason": "x"}), 400, "give one of"),
        (json!({"all": true, "actor": "", "reason": "x"}), 400, "`actor`: expected 1 to 4096 bytes"),
    ] {
        let answer = resend(&server, body).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        let said = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(said.starts_with(error), "{said}");
    }
    assert_eq!(ids(&server, "dead").len(), 3);
    assert!(server.control.audit(1).unwrap().is_empty());
    let all = resend(&server, json!({"all": true, "actor": "ann", "reason": "x"})).await.json();
    assert_eq!(all, json!({"ids": ["a", "b", "c"]}));
}
