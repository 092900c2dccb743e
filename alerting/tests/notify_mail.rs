//! What reaches mailboxes through a real SMTP conversation.

mod common;

use common::http::refusing;
use common::messages::{DAVY, deliver, email, fixed_clock, hostile, regression, setup};
use common::smtp::MailServer;
use davy_alerting::config::{EmailConfig, EmailForm, Integration, Receiver, Route};
use davy_alerting::dispatch::{DELIVERED, Dispatcher, PENDING};
use davy_alerting::notify::Notifier;
use expect_test::expect;
use mailin::response;

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

        http://davy.example:9600/api/davy/v1/releases/checkout-v2-7/report

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
        <p><a href="http://davy.example:9600/api/davy/v1/releases/checkout-v2-7/report">Open in Davy</a></p>
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
            let hex: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&hex, 16).expect("two hex digits follow"));
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).expect("mail in UTF-8")
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

/// As the outbox's loop does, with the time that it waits taken for passed.
#[tokio::test]
async fn a_greylisted_mail_comes_again_under_its_id_and_once_more_when_nobody_answered() {
    let greylisted = response::Response::custom(451, "greylisted, try again later".into());
    let closing = response::Response::custom(421, "closing, come back".into());
    let server = MailServer::with(vec![greylisted, closing], None, false).await;
    server.leave_unanswered(1);
    let (notifier, mut record) =
        setup(email(&server, &["ops@example.org"], false), regression(), fixed_clock());
    let dispatcher = Dispatcher::new(Route::default(), Vec::new(), 1);
    let mut errors = Vec::new();
    while record.state == PENDING {
        let now = record.next_attempt_at;
        let result = notifier.deliver(&record).await;
        record = dispatcher.after_attempt(record, result, now);
        errors.push(record.last_error.clone());
        assert!(record.attempts < 9, "{errors:?}");
    }
    assert_eq!((record.state.as_str(), record.attempts), (DELIVERED, 4), "{errors:?}");
    assert!(errors[0].contains("greylisted") && errors[1].contains("closing"), "{errors:?}");
    let id = format!("Message-ID: <{}@example.org>\n", record.id);
    let mails = server.mails();
    assert_eq!(mails.len(), 2, "the one that was never answered, and the one after it");
    assert!(mails.iter().all(|m| m.text.contains(&id)), "{}", mails[1].text);
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
            form: EmailForm::default(),
        };
        vec![Receiver { name: "ops".into(), integrations: vec![Integration::Email(config)] }]
    };
    for bad in ["nobody", "a@b\r\nBcc: c@d", "<>"] {
        let error = Notifier::new(&receivers(bad), DAVY, fixed_clock()).err().expect("refused");
        assert!(error.to_string().starts_with("receiver ops: bad e-mail address"), "{error}");
    }
    assert!(Notifier::new(&receivers("Davy <davy@example.org>"), DAVY, fixed_clock()).is_ok());
}
