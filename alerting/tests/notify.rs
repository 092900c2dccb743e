//! What reaches webhooks and Slack over real sockets, from the alert that a failing release raises.

mod common;

use std::time::Duration;

use common::http::{Receiver as Hook, Rude, refusing, rude};
use common::messages::{SECRET, deliver, fixed_clock, hostile, pretty, regression, setup, slack, webhook};
use common::wall_clock;
use davy_alerting::config::{Integration, WebhookConfig};
use davy_alerting::notify::DeliveryError;
use davy_egress::{Auth, HttpConfig, Secret};
use expect_test::expect;
use standardwebhooks::Webhook;

#[tokio::test]
async fn the_webhook_body_is_alertmanager_s_version_4() {
    let hook = Hook::start(vec![(200, vec![], "")]).await;
    deliver(webhook(&hook.url), regression()).await.unwrap();
    expect![[r#"
        {
          "alerts": [
            {
              "annotations": {
                "action": "Rolling back from v2 to v1 by the action to-stable.",
                "certainty": "evidence 1.25 times what a rollback needs, after 12 intervals at 10 % of the traffic",
                "description": "errors are worse than tolerated",
                "summary": "checkout: version v2 is worse than v1",
                "worse": "errors: 5.12 % against 0.10 % of the baseline (+5020 %, between +1210 % and +9870 %; up to 20 % is tolerated), from 1950 of the canary's and 17550 of the baseline's observations"
              },
              "endsAt": "0001-01-01T00:00:00Z",
              "fingerprint": "a1371b06cc1d8928",
              "generatorURL": "http://davy.example:9600/api/davy/v1/releases/checkout-v2-7/report",
              "labels": {
                "alertname": "CanaryRegression",
                "baseline": "v1",
                "release": "checkout-v2-7",
                "service": "checkout",
                "severity": "critical",
                "version": "v2"
              },
              "startsAt": "2026-01-02T03:04:05Z",
              "status": "firing"
            }
          ],
          "commonAnnotations": {
            "action": "Rolling back from v2 to v1 by the action to-stable.",
            "certainty": "evidence 1.25 times what a rollback needs, after 12 intervals at 10 % of the traffic",
            "description": "errors are worse than tolerated",
            "summary": "checkout: version v2 is worse than v1",
            "worse": "errors: 5.12 % against 0.10 % of the baseline (+5020 %, between +1210 % and +9870 %; up to 20 % is tolerated), from 1950 of the canary's and 17550 of the baseline's observations"
          },
          "commonLabels": {
            "alertname": "CanaryRegression",
            "baseline": "v1",
            "release": "checkout-v2-7",
            "service": "checkout",
            "severity": "critical",
            "version": "v2"
          },
          "externalURL": "http://davy.example:9600",
          "groupKey": "{}:{alertname=\"CanaryRegression\", baseline=\"v1\", release=\"checkout-v2-7\", service=\"checkout\", severity=\"critical\", version=\"v2\"}",
          "groupLabels": {
            "alertname": "CanaryRegression",
            "baseline": "v1",
            "release": "checkout-v2-7",
            "service": "checkout",
            "severity": "critical",
            "version": "v2"
          },
          "receiver": "ops",
          "status": "firing",
          "truncatedAlerts": 0,
          "version": "4"
        }"#]].assert_eq(&pretty(&hook.got()[0].body));
}

#[tokio::test]
async fn credentials_are_read_anew_for_each_message() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let hook = Hook::start(vec![(200, vec![], "")]).await;
    let Integration::Webhook(config) = webhook(&hook.url) else { unreachable!("it is one") };
    let credentials = Secret::File(file.clone());
    let auth = Auth::Authorization { scheme: "Bearer".into(), credentials };
    let http = HttpConfig { auth: Some(auth), ..HttpConfig::default() };
    let config = Integration::Webhook(WebhookConfig { http, ..config });
    let (notifier, record) = setup(config, regression(), wall_clock());
    for (token, got) in [(Some("one\n"), 1), (None, 1), (Some("two"), 2)] {
        match token {
            Some(token) => std::fs::write(&file, token).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let delivered = notifier.deliver(&record).await;
        match (token, delivered) {
            (Some(_), delivered) => delivered.unwrap(),
            // Someone is just writing it: the message waits.
            (None, Err(error)) => {
                assert!(error.retryable && error.detail.starts_with("cannot read "), "{error:?}");
            }
            (None, Ok(())) => panic!("sent without its credentials"),
        }
        assert_eq!(hook.got().len(), got);
    }
    let sent: Vec<String> = hook.got().iter().map(|r| r.header("authorization").to_owned()).collect();
    assert_eq!(sent, ["Bearer one", "Bearer two"]);
}

#[tokio::test]
async fn a_webhook_that_fails_first_gets_the_same_id_and_a_good_signature_again() {
    let hook =
        Hook::start(vec![(500, vec![("retry-after", "7".into())], "not now"), (200, vec![], "")]).await;
    let (notifier, record) = setup(webhook(&hook.url), regression(), wall_clock());
    let error = notifier.deliver(&record).await.unwrap_err();
    let want = DeliveryError {
        retryable: true,
        retry_after: Some(Duration::from_secs(7)),
        detail: "status 500: not now".into(),
    };
    assert_eq!(error, want);
    notifier.deliver(&record).await.unwrap();
    let got = hook.got();
    assert_eq!(got.len(), 2);
    for request in &got {
        assert_eq!(request.header("webhook-id"), record.id);
        assert_eq!(request.header("idempotency-key"), record.id);
        Webhook::new(SECRET)
            .unwrap()
            .verify(request.body.as_bytes(), &request.headers)
            .expect("a good signature");
    }
}

#[tokio::test]
async fn which_answers_are_worth_another_try() {
    let elsewhere = Hook::start(vec![(200, vec![], "")]).await;
    for (status, retryable) in [
        (400, false),
        (404, false),
        (408, true),
        (410, false),
        (429, true),
        (500, true),
        (503, true),
        (307, false),
    ] {
        let location = vec![("location", elsewhere.url.clone())];
        let hook = Hook::start(vec![(status, location, "")]).await;
        let error = deliver(webhook(&hook.url), regression()).await.unwrap_err();
        assert_eq!(error.retryable, retryable, "{status}");
    }
    assert!(elsewhere.got().is_empty(), "redirects are not followed");

    let date = vec![("retry-after", "Fri, 02 Jan 2026 03:05:05 GMT".to_owned())];
    let hook = Hook::start(vec![(429, date, "")]).await;
    let error = deliver(webhook(&hook.url), regression()).await.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn receivers_that_break_off_are_tried_again_and_their_urls_stay_secret() {
    let mut urls = vec![refusing().await];
    for manners in
        [Rude::Silent, Rude::ResetAfterRequest, Rude::ResetAtOnce, Rude::NotHttp, Rude::Endless(500)]
    {
        urls.push(rude(manners).await);
    }
    for url in urls {
        let error = deliver(webhook(&format!("http://{url}")), regression()).await.unwrap_err();
        assert!(error.retryable, "{error}");
        assert!(!error.detail.contains("s3cret") && error.detail.len() < 1000, "{error}");
    }
}

#[tokio::test]
async fn slack_gets_text_and_blocks() {
    let hook = Hook::start(vec![(200, vec![], "ok")]).await;
    deliver(slack(&hook.url), regression()).await.unwrap();
    expect![[r##"
        {
          "attachments": [
            {
              "blocks": [
                {
                  "text": {
                    "emoji": false,
                    "text": "[FIRING] checkout: version v2 is worse than v1",
                    "type": "plain_text"
                  },
                  "type": "header"
                },
                {
                  "text": {
                    "text": "*What is worse*\nerrors: 5.12 % against 0.10 % of the baseline (+5020 %, between +1210 % and +9870 %; up to 20 % is tolerated), from 1950 of the canary's and 17550 of the baseline's observations",
                    "type": "mrkdwn",
                    "verbatim": true
                  },
                  "type": "section"
                },
                {
                  "text": {
                    "text": "*How certain*\nevidence 1.25 times what a rollback needs, after 12 intervals at 10 % of the traffic",
                    "type": "mrkdwn",
                    "verbatim": true
                  },
                  "type": "section"
                },
                {
                  "text": {
                    "text": "*What Davy did*\nRolling back from v2 to v1 by the action to-stable.",
                    "type": "mrkdwn",
                    "verbatim": true
                  },
                  "type": "section"
                },
                {
                  "text": {
                    "text": "*Why*\nerrors are worse than tolerated",
                    "type": "mrkdwn",
                    "verbatim": true
                  },
                  "type": "section"
                },
                {
                  "text": {
                    "text": "*Since*\n2026-01-02 03:04:05 UTC",
                    "type": "mrkdwn",
                    "verbatim": true
                  },
                  "type": "section"
                },
                {
                  "text": {
                    "text": "<http://davy.example:9600/api/davy/v1/releases/checkout-v2-7/report|Open in Davy>",
                    "type": "mrkdwn",
                    "verbatim": true
                  },
                  "type": "section"
                },
                {
                  "elements": [
                    {
                      "emoji": false,
                      "text": "alertname=CanaryRegression  baseline=v1  release=checkout-v2-7  service=checkout  severity=critical  version=v2",
                      "type": "plain_text"
                    }
                  ],
                  "type": "context"
                }
              ],
              "color": "#e01e5a",
              "fallback": "[FIRING] checkout: version v2 is worse than v1"
            }
          ],
          "channel": "#releases",
          "text": "[FIRING] checkout: version v2 is worse than v1",
          "unfurl_links": false,
          "unfurl_media": false
        }"##]].assert_eq(&pretty(&hook.got()[0].body));
}

#[tokio::test]
async fn slack_has_taken_a_message_only_when_it_says_ok() {
    let hook = Hook::start(vec![
        (200, vec![], "<html>log in first</html>"),
        (404, vec![], "no_service"),
        (429, vec![("retry-after", "30".into())], "rate_limited"),
    ])
    .await;
    let error = deliver(slack(&hook.url), regression()).await.unwrap_err();
    assert_eq!(
        (error.retryable, error.detail.as_str()),
        (false, "status 200, but the answer is \"<html>log in first</html>\" and not \"ok\"")
    );
    assert!(!deliver(slack(&hook.url), regression()).await.unwrap_err().retryable);
    let error = deliver(slack(&hook.url), regression()).await.unwrap_err();
    assert_eq!((error.retryable, error.retry_after), (true, Some(Duration::from_secs(30))));

    let endless = rude(Rude::Endless(200)).await;
    let error = deliver(slack(&format!("http://{endless}")), regression()).await.unwrap_err();
    assert!(error.detail.len() < 1000, "the answer is cut off");
}

#[tokio::test]
async fn hostile_labels_form_nothing_in_slack() {
    let hook = Hook::start(vec![(200, vec![], "ok")]).await;
    deliver(slack(&hook.url), hostile()).await.unwrap();
    let body = &hook.got()[0].body;
    // The only markup is Davy's own link.
    assert_eq!(body.matches('<').count(), 1, "{body}");
    assert!(body.contains("<http://davy.example:9600|Open in Davy>"), "{body}");
    assert!(!body.contains('\u{202e}') && body.contains(r"\\u{202e}gpj.exe\\u{1b}[2J"), "{body}");
    assert_eq!(body.matches(r#""verbatim":true"#).count(), body.matches(r#""type":"mrkdwn""#).count());
}

#[tokio::test]
async fn a_message_for_a_receiver_that_the_file_no_longer_has_is_dead() {
    let hook = Hook::start(vec![(200, vec![], "ok")]).await;
    let (_, record) = setup(webhook(&hook.url), regression(), fixed_clock());
    let (notifier, _) = setup(slack(&hook.url), regression(), fixed_clock());
    let error = notifier.deliver(&record).await.unwrap_err();
    assert_eq!(
        (error.retryable, error.detail.as_str()),
        (false, "receiver ops has no such webhook any more")
    );
    assert!(hook.got().is_empty());
}
