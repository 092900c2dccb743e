//! What reaches webhooks, Slack and mailboxes over real sockets, from the alert that a failing release raises.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::http::{Receiver as Hook, Rude, refusing, rude};
use common::smtp::MailServer;
use common::verdicts::verdict;
use common::wall_clock;
use davy_alerting::alert::Alert;
use davy_alerting::book::AlertBook;
use davy_alerting::config::{
    EmailConfig, Integration, OnFail, Policy, Receiver, Route, SlackConfig, WebhookConfig,
};
use davy_alerting::dispatch::Dispatcher;
use davy_alerting::notify::{DeliveryError, Notifier};
use davy_alerting::release::{Command, Event, Liveness, ReleaseMachine};
use davy_detector::{Contract, Outcome};
use davy_model::{Clock, Labels, ManualClock, Timestamp};
use davy_store::control::OutboxRecord;
use expect_test::expect;
use mailin::response;
use standardwebhooks::Webhook;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const DAVY: &str = "http://davy.example:9600";
/// 2026-01-02 03:04:05 UTC.
const NOW: Timestamp = Timestamp::from_millis(1_767_323_045_000);

fn webhook(url: &str) -> Integration {
    Integration::Webhook(WebhookConfig {
        url: url.into(),
        signing_secret: Some(SECRET.into()),
        send_resolved: true,
        timeout: Duration::from_secs(2),
    })
}

fn slack(url: &str) -> Integration {
    Integration::Slack(SlackConfig {
        api_url: url.into(),
        channel: Some("#releases".into()),
        send_resolved: true,
    })
}

fn email(server: &MailServer, to: &[&str], require_tls: bool) -> Integration {
    Integration::Email(EmailConfig {
        to: to.iter().map(|&a| a.to_owned()).collect(),
        from: "Davy <davy@example.org>".into(),
        smarthost: (server.address.ip().to_string(), server.address.port()),
        auth: None,
        require_tls,
        send_resolved: true,
    })
}

/// The alert of a release that fails its verdict and is being rolled back.
fn regression() -> Alert {
    let name = |s: &str| s.to_owned();
    let policy =
        Policy { on_fail: OnFail::Rollback, rollback: Some("to-stable".into()), ..Policy::default() };
    let mut machine =
        ReleaseMachine::new(7, name("checkout-v2-7"), name("checkout"), name("v1"), name("v2"), policy, NOW);
    let live = Liveness {
        baseline_seen: true,
        canary_seen: true,
        baseline_requests: Some(900.0),
        canary_requests: Some(100.0),
        blind: false,
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
fn hostile() -> Alert {
    let evil =
        "v2\r\nBcc: all@example.org\n<!channel> <http://evil|ok> @here *x* <b>&amp;\u{202e}gpj.exe\u{1b}[2J";
    let labels = Labels::from_pairs([("alertname", "Evil"), ("version", evil), ("<b>", "x")]);
    let annotations = [("summary", evil), ("action", evil), ("<script>", evil)];
    let annotations = annotations.map(|(k, v)| (k.to_owned(), v.to_owned()));
    Alert::new(labels, annotations.into(), NOW)
}

/// A notifier with one integration, and the alert's message for it.
fn setup(integration: Integration, alert: Alert, clock: Arc<dyn Clock>) -> (Notifier, OutboxRecord) {
    let receivers = vec![Receiver { name: "ops".into(), integrations: vec![integration] }];
    let notifier = Notifier::new(&receivers, DAVY, clock).expect("a good receiver");
    let route = Route {
        receiver: "ops".into(),
        matchers: vec![],
        continue_matching: false,
        repeat_interval: Duration::from_secs(3600),
        routes: vec![],
    };
    let mut book = AlertBook::default();
    book.raise(alert, NOW);
    let record = Dispatcher::new(route, receivers, 0).poll(&mut book, NOW).outbox.remove(0);
    (notifier, record)
}

fn fixed_clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(NOW))
}

async fn deliver(integration: Integration, alert: Alert) -> Result<(), DeliveryError> {
    let (notifier, record) = setup(integration, alert, fixed_clock());
    notifier.deliver(&record).await
}

fn pretty(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).expect("a JSON body");
    serde_json::to_string_pretty(&value).unwrap()
}

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
              "generatorURL": "http://davy.example:9600/api/davy/v1/releases/checkout-v2-7",
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
                    "text": "<http://davy.example:9600/api/davy/v1/releases/checkout-v2-7|Open in Davy>",
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
async fn mail_has_a_text_and_an_html_part_and_a_stable_id() {
    let server = MailServer::start().await;
    let (notifier, record) = setup(email(&server, &["ops@example.org"], false), regression(), fixed_clock());
    notifier.deliver(&record).await.unwrap();
    notifier.deliver(&record).await.unwrap();
    let mails = server.mails();
    assert_eq!((mails.len(), mails[0].from.as_str()), (2, "davy@example.org"));
    let id = format!("Message-ID: <{}@example.org>\n", record.id);
    assert!(mails.iter().all(|m| m.text.contains(&id)), "{}", mails[0].text);
    assert!(mails[0].text.contains("Auto-Submitted: auto-generated\n"));
    assert!(mails[0].text.contains("Date: Fri, 02 Jan 2026 03:04:05 +0000\n"), "{}", mails[0].text);
    expect![[r#"
        [FIRING] checkout: version v2 is worse than v1

        What is worse:
          errors: 5.12 % against 0.10 % of the baseline (+5020 %, between +1210 % and +9870 %; up to 20 % is tolerated), from 1950 of the canary's and 17550 of the baseline's observations

        How certain:
          evidence 1.25 times what a rollback needs, after 12 intervals at 10 % of the traffic

        What Davy did:
          Rolling back from v2 to v1 by the action to-stable.

        Why:
          errors are worse than tolerated

        Since:
          2026-01-02 03:04:05 UTC

        http://davy.example:9600/api/davy/v1/releases/checkout-v2-7

        alertname = CanaryRegression
        baseline = v1
        release = checkout-v2-7
        service = checkout
        severity = critical
        version = v2
    "#]].assert_eq(&part(&mails[0].text, "text/plain"));
    expect![[r#"
        <!DOCTYPE html>
        <html><body>
        <h2>[FIRING] checkout: version v2 is worse than v1</h2>
        <h3>What is worse</h3>
        <p>errors: 5.12 % against 0.10 % of the baseline (+5020 %, between +1210 % and +9870 %; up to 20 % is tolerated), from 1950 of the canary&#39;s and 17550 of the baseline&#39;s observations</p>
        <h3>How certain</h3>
        <p>evidence 1.25 times what a rollback needs, after 12 intervals at 10 % of the traffic</p>
        <h3>What Davy did</h3>
        <p>Rolling back from v2 to v1 by the action to-stable.</p>
        <h3>Why</h3>
        <p>errors are worse than tolerated</p>
        <h3>Since</h3>
        <p>2026-01-02 03:04:05 UTC</p>
        <p><a href="http://davy.example:9600/api/davy/v1/releases/checkout-v2-7">Open in Davy</a></p>
        <table>
        <tr><td>alertname</td><td>CanaryRegression</td></tr>
        <tr><td>baseline</td><td>v1</td></tr>
        <tr><td>release</td><td>checkout-v2-7</td></tr>
        <tr><td>service</td><td>checkout</td></tr>
        <tr><td>severity</td><td>critical</td></tr>
        <tr><td>version</td><td>v2</td></tr>
        </table>
        </body></html>
    "#]].assert_eq(&part(&mails[0].text, "text/html"));
}

/// A part of a multipart mail, its quoted-printable undone.
fn part(mail: &str, kind: &str) -> String {
    let start = mail.find(&format!("Content-Type: {kind}")).expect("the part is there");
    let body = mail[start..].split_once("\n\n").expect("headers end").1;
    let body = body.split("\n--").next().expect("split gives one");
    let mut bytes = Vec::new();
    let mut rest = body.replace("=\n", "").into_bytes().into_iter();
    while let Some(b) = rest.next() {
        if b == b'=' {
            let hex = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn hostile_labels_form_nothing_in_mail() {
    let server = MailServer::start().await;
    deliver(email(&server, &["ops@example.org"], false), hostile()).await.unwrap();
    let mail = &server.mails()[0];
    assert_eq!(mail.to, ["ops@example.org"]);
    let headers = mail.text.split_once("\n\n").unwrap().0;
    assert!(!headers.lines().any(|l| l.starts_with("Bcc")), "{headers}");
    assert_eq!(headers.lines().filter(|l| l.starts_with("Subject: ")).count(), 1);
    let html = part(&mail.text, "text/html");
    assert!(!html.contains("<b>") && !html.contains("<script") && !html.contains("<http"), "{html}");
    assert!(!part(&mail.text, "text/plain").contains('\u{202e}'));
}

#[tokio::test]
async fn smtp_refusals_are_final_or_not_as_their_first_digit_says() {
    let busy = response::Response::custom(451, "greylisted, try again later".into());
    let never = response::Response::custom(554, "no".into());
    let server = MailServer::with(vec![busy, never], None, false).await;
    let to_ops = || email(&server, &["ops@example.org"], false);
    let error = deliver(to_ops(), regression()).await.unwrap_err();
    assert!(error.retryable && error.detail.contains("greylisted"), "{error}");
    assert!(!deliver(to_ops(), regression()).await.unwrap_err().retryable);
    deliver(to_ops(), regression()).await.unwrap();
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn one_unknown_recipient_does_not_keep_the_mail_from_the_others() {
    let server = MailServer::with(vec![], Some("gone@"), false).await;
    deliver(email(&server, &["gone@example.org", "ops@example.org"], false), regression()).await.unwrap();
    assert_eq!(server.mails()[0].to, ["ops@example.org"]);
    assert!(
        !deliver(email(&server, &["gone@example.org"], false), regression()).await.unwrap_err().retryable
    );
}

#[tokio::test]
async fn where_tls_is_required_nothing_goes_in_the_clear() {
    let stripped = MailServer::start().await;
    let error = deliver(email(&stripped, &["ops@example.org"], true), regression()).await.unwrap_err();
    assert!(error.retryable && error.detail.contains("STARTTLS"), "{error}");
    assert!(stripped.mails().is_empty());

    let offering = MailServer::with(vec![], None, true).await;
    let error = deliver(email(&offering, &["ops@example.org"], true), regression()).await.unwrap_err();
    assert!(error.retryable, "{error}");
    // A TLS handshake record, and no SMTP command.
    assert_eq!(offering.after_starttls()[..2], [0x16, 0x03]);
    assert!(offering.mails().is_empty());
}

#[tokio::test]
async fn a_mail_server_that_is_down_or_silent_is_tried_again() {
    let mut server = MailServer::start().await;
    server.address = refusing().await.split('/').next().unwrap().parse().unwrap();
    let error = deliver(email(&server, &["ops@example.org"], false), regression()).await.unwrap_err();
    assert!(error.retryable, "{error}");
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

#[test]
fn bad_addresses_are_refused_at_the_start() {
    let receivers = |from: &str| {
        let config = EmailConfig {
            to: vec!["ops@example.org".into()],
            from: from.into(),
            smarthost: ("localhost".into(), 25),
            auth: None,
            require_tls: false,
            send_resolved: true,
        };
        vec![Receiver { name: "ops".into(), integrations: vec![Integration::Email(config)] }]
    };
    for bad in ["nobody", "a@b\r\nBcc: c@d", "<>"] {
        let error = Notifier::new(&receivers(bad), DAVY, fixed_clock()).err().expect("refused");
        assert!(error.to_string().starts_with("receiver ops: bad e-mail address"), "{error}");
    }
    assert!(Notifier::new(&receivers("Davy <davy@example.org>"), DAVY, fixed_clock()).is_ok());
}
