//! A receiver of the Davy protocol, as anyone may write one, and one that misbehaves.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use davy_alerting::config::{ActuatorConfig, WebhookAction};
use davy_alerting::release::{CallOutcome, Desired, ReadError};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::kit::{Target, actuator, conforms, expect, is_away, request, subject};

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Split>>);

#[derive(Default)]
struct Split {
    share: u64,
    generation: u64,
    marker: Option<String>,
    mood: Mood,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Good,
    /// 200, and nothing is done.
    Idle,
    /// Done, and the answer is an error.
    Broken,
    Redirects,
}

async fn state(State(r): State<Receiver>) -> (StatusCode, String) {
    let split = r.0.lock().unwrap();
    if split.mood == Mood::Broken {
        return (StatusCode::SERVICE_UNAVAILABLE, "later".into());
    }
    let state = json!({
        "uid": "checkout", "generation": split.generation, "share": split.share,
        "baseline": "v1", "canary": "v2", "marker": split.marker,
    });
    (StatusCode::OK, state.to_string())
}

async fn change(State(r): State<Receiver>, body: String) -> (StatusCode, String) {
    let body: Value = serde_json::from_str(&body).unwrap();
    let mut split = r.0.lock().unwrap();
    if split.mood == Mood::Redirects {
        return (StatusCode::TEMPORARY_REDIRECT, String::new());
    }
    if body["expect"]["generation"].as_str() != Some(split.generation.to_string().as_str()) {
        return (StatusCode::CONFLICT, format!("at {}", split.generation));
    }
    if split.mood != Mood::Idle {
        split.share = body["share"].as_u64().unwrap();
        split.generation += 1;
        split.marker = body["marker"].as_str().map(str::to_owned);
    }
    let status = if split.mood == Mood::Broken { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    (status, String::new())
}

async fn start() -> (Receiver, ActuatorConfig) {
    let receiver = Receiver::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app =
        Router::new().route("/state", get(state)).route("/change", post(change)).with_state(receiver.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (receiver, config(&format!("http://{address}")))
}

fn config(base: &str) -> ActuatorConfig {
    ActuatorConfig::Webhook(WebhookAction {
        url: format!("{base}/change").into(),
        state_url: Some(format!("{base}/state").into()),
        signing_secret: None,
        timeout: Duration::from_secs(2),
        http: Default::default(),
    })
}

#[tokio::test]
async fn a_receiver_of_the_davy_protocol_conforms() {
    let (receiver, config) = start().await;
    let someone_sets = Box::new(move |percent: u8| {
        let mut split = receiver.0.lock().unwrap();
        split.share = u64::from(percent);
        split.generation += 1;
    });
    conforms(&Target { config, someone_sets }).await;
    is_away(&self::config("http://127.0.0.1:9")).await;
}

#[tokio::test]
async fn one_that_misbehaves_is_found_out_by_reading() {
    let (receiver, config) = start().await;
    let davy = actuator(&config);
    receiver.0.lock().unwrap().share = 25;
    let before = davy.read(&subject()).await.unwrap();
    let mood = |mood| receiver.0.lock().unwrap().mood = mood;

    mood(Mood::Idle);
    let outcome = davy.call(&request(Desired::Baseline, Some(expect(&before)))).await;
    assert!(matches!(outcome, CallOutcome::Accepted { .. }), "{outcome:?}");
    assert_eq!(davy.read(&subject()).await.unwrap(), before, "what was done is seen, not believed");

    mood(Mood::Redirects);
    let outcome = davy.call(&request(Desired::Baseline, Some(expect(&before)))).await;
    assert!(
        matches!(&outcome, CallOutcome::Rejected { detail } if detail.contains("redirects")),
        "{outcome:?}"
    );

    mood(Mood::Broken);
    let outcome = davy.call(&request(Desired::Baseline, Some(expect(&before)))).await;
    assert!(matches!(outcome, CallOutcome::Unknown { .. }), "it may have been done: {outcome:?}");
    assert!(matches!(davy.read(&subject()).await, Err(ReadError::Unreachable(_))));
}
