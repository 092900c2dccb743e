//! The rollback webhook over real sockets: what is known of a call after everything that can happen to it.

mod common;

use std::time::Duration;

use common::http::{Received, Receiver, Rude, refusing, rude};
use common::verdicts::verdict;
use common::wall_clock;
use davy_alerting::actuate::{ActRequest, Actuator, CallOutcome, SetupError};
use davy_alerting::config::{ActionSpec, ActuatorConfig, WebhookAction};
use davy_alerting::release::{Desired, Subject};
use davy_detector::{Contract, Outcome};
use davy_model::Timestamp;
use expect_test::expect;
use standardwebhooks::Webhook;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn actuator(url: &str) -> Result<Actuator, SetupError> {
    let actuator = ActuatorConfig::Webhook(WebhookAction {
        url: url.into(),
        signing_secret: Some(SECRET.into()),
        timeout: Duration::from_secs(2),
        state_url: None,
        http: Default::default(),
    });
    let spec = ActionSpec { name: "to-stable".into(), actuator };
    Actuator::new(&spec, "http://davy.example:9600", wall_clock())
}

fn request() -> ActRequest {
    ActRequest {
        actuator: "to-stable".into(),
        key: "checkout-v2-7-rollback".into(),
        release_id: "checkout-v2-7".into(),
        marker: "checkout-v2-7-rollback".into(),
        desired: Desired::Baseline,
        release: 7,
        subject: Subject { service: "checkout".into(), baseline: "v1".into(), canary: "v2".into() },
        expect: None,
        reason: "errors are worse than tolerated".into(),
        evidence: Some(verdict(Outcome::Fail, Contract::Ok, Timestamp::from_millis(1_767_323_045_000))),
    }
}

async fn call(url: &str) -> CallOutcome {
    actuator(url).expect("a good url").call(&request()).await
}

fn assert_unknown(outcome: &CallOutcome) {
    assert!(matches!(outcome, CallOutcome::Unknown { .. }), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("s3cret"), "{outcome:?}");
}

fn assert_not_sent(outcome: &CallOutcome) {
    assert!(matches!(outcome, CallOutcome::NotSent { .. }), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("s3cret"), "{outcome:?}");
}

#[tokio::test]
async fn an_accepted_call_carries_key_signature_precondition_and_evidence() {
    let receiver = Receiver::start(vec![(204, vec![], "")]).await;
    assert_eq!(call(&receiver.url).await, CallOutcome::Accepted { detail: "status 204".into(), state: None });
    let got = receiver.got();
    let [Received { headers, body }] = got.as_slice() else { panic!("one request, got {}", got.len()) };
    assert_eq!(headers["idempotency-key"], "checkout-v2-7-rollback");
    assert_eq!(headers["webhook-id"], "checkout-v2-7-rollback");
    Webhook::new(SECRET).unwrap().verify(body.as_bytes(), headers).expect("a good signature");
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    expect![[r#"
        {
          "action": "rollback",
          "evidence": {
            "at": "2026-01-02T03:04:05Z",
            "contract": "ok",
            "evidence": 1.25,
            "intervals": 12,
            "metrics": [
              {
                "baseline": 0.001,
                "baseline_n": 17550.0,
                "canary": 0.0512,
                "canary_n": 1950.0,
                "class": "errors",
                "estimate": 50.2,
                "evidence": 1.25,
                "lower": 12.1,
                "margin": 0.2,
                "name": "errors",
                "needed": null,
                "reason": "the share of errors is at least 12 times higher",
                "source": "http_requests_total{service=\"checkout\"}",
                "upper": 98.7,
                "verdict": "fail"
              },
              {
                "baseline": 0.25,
                "baseline_n": 17550.0,
                "canary": 0.26,
                "canary_n": 1950.0,
                "class": "latency",
                "estimate": 0.04,
                "evidence": 0.2,
                "lower": -0.05,
                "margin": 0.1,
                "name": "latency_p99",
                "needed": {
                  "requests": 1200,
                  "seconds": 90
                },
                "reason": "no slower so far",
                "source": "http_request_duration_seconds_bucket{service=\"checkout\"}",
                "upper": null,
                "verdict": "insufficient"
              }
            ],
            "reason": "errors are worse than tolerated",
            "traffic_share": 0.1,
            "verdict": "fail"
          },
          "expect": {
            "generation": 7,
            "revision": "v2"
          },
          "from_version": "v2",
          "marker": "checkout-v2-7-rollback",
          "reason": "errors are worse than tolerated",
          "release_id": "checkout-v2-7",
          "report_url": "http://davy.example:9600/api/davy/v1/releases/checkout-v2-7/report",
          "service": "checkout",
          "share": 0,
          "to_version": "v1"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&json).unwrap());
}

#[tokio::test]
async fn refusals_are_rejected_and_redirects_not_followed() {
    let elsewhere = Receiver::start(vec![(200, vec![], "")]).await;
    let receiver = Receiver::start(vec![
        (409, vec![], "generation is\n8"),
        (404, vec![], ""),
        (307, vec![("location", elsewhere.url.clone())], ""),
        (302, vec![("location", elsewhere.url.clone())], ""),
    ])
    .await;
    let rejected =
        |status: u16, detail: &str| CallOutcome::Rejected { detail: format!("status {status}: {detail}") };
    let conflict = CallOutcome::Conflict { detail: "status 409: generation is 8".into() };
    assert_eq!(call(&receiver.url).await, conflict);
    assert_eq!(call(&receiver.url).await, rejected(404, ""));
    assert_eq!(call(&receiver.url).await, rejected(307, "redirects are not followed"));
    assert_eq!(call(&receiver.url).await, rejected(302, "redirects are not followed"));
    assert!(elsewhere.got().is_empty());
}

#[tokio::test]
async fn whatever_may_have_left_is_unknown_and_is_sent_once() {
    let receiver = Receiver::start(vec![(500, vec![], "later"), (503, vec![], ""), (200, vec![], "")]).await;
    assert_eq!(call(&receiver.url).await, CallOutcome::Unknown { detail: "status 500: later".into() });
    assert_unknown(&call(&receiver.url).await);
    assert_eq!(receiver.got().len(), 2, "one request each, no retry inside");

    for manners in
        [Rude::Silent, Rude::ResetAfterRequest, Rude::ResetAtOnce, Rude::CloseAfterRequest, Rude::NotHttp]
    {
        let url = format!("http://{}", rude(manners).await);
        assert_unknown(&call(&url).await);
    }
}

#[tokio::test]
async fn no_connection_means_not_sent() {
    assert_not_sent(&call(&format!("http://{}", refusing().await)).await);
    assert_not_sent(&call("http://no-such-host.invalid/hook?token=s3cret").await);
    // The handshake fails before a byte of the request is written.
    assert_not_sent(&call(&format!("https://{}", rude(Rude::NotHttp).await)).await);
    assert_not_sent(&call(&format!("https://{}", rude(Rude::ResetAtOnce).await)).await);
    // A handshake that hangs ends by the connection's own time-out.
    assert_not_sent(&call(&format!("https://{}", rude(Rude::Silent).await)).await);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let url = format!("http://{}", rude(Rude::Endless(200)).await);
    assert_eq!(call(&url).await, CallOutcome::Accepted { detail: "status 200".into(), state: None });
    let url = format!("http://{}", rude(Rude::Endless(400)).await);
    let CallOutcome::Rejected { detail } = call(&url).await else { panic!("not rejected") };
    assert!(detail.chars().count() <= 320, "{} characters", detail.chars().count());
}

#[tokio::test]
async fn a_key_that_is_no_header_is_not_sent() {
    let receiver = Receiver::start(vec![(200, vec![], "")]).await;
    let outcome = actuator(&receiver.url)
        .unwrap()
        .call(&ActRequest { key: "a\r\nx-admin: yes".into(), ..request() })
        .await;
    assert_not_sent(&outcome);
    assert!(receiver.got().is_empty());
}

#[test]
fn bad_urls_and_secrets_are_refused_at_the_start_without_showing_them() {
    for url in ["http://169.254.169.254/?token=s3cret", "ftp://x/?token=s3cret", "s3cret"] {
        let error = actuator(url).err().expect("refused").to_string();
        assert!(error.starts_with("action to-stable: ") && !error.contains("s3cret"), "{error}");
    }
    let spec = ActionSpec {
        name: "to-stable".into(),
        actuator: ActuatorConfig::Webhook(WebhookAction {
            url: "http://127.0.0.1/".into(),
            signing_secret: Some("not base64!".into()),
            timeout: Duration::from_secs(2),
            state_url: None,
            http: Default::default(),
        }),
    };
    let error = Actuator::new(&spec, "", wall_clock()).err().expect("refused").to_string();
    assert_eq!(error, "action to-stable: the signing secret is not base64");
}
