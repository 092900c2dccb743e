//! The form of messages: the file's templates, and what goes out when one fails; Davy's own words in two languages.

mod common;

use common::http::Receiver as Hook;
use common::messages::{DAVY, deliver, email, fixed_clock, hostile, regression, setup, slack, webhook};
use common::smtp::MailServer;
use davy_alerting::alert::Alert;
use davy_alerting::config::{Integration, SlackField, SlackForm};
use davy_alerting::notify::Notifier;
use davy_alerting::template::{Templates, Text};
use davy_alerting::words::Language;
use serde_json::Value;

fn text(source: &str) -> Option<Text> {
    Some(Templates::default().text(source).expect("a good template"))
}

fn slack_form(url: &str, form: SlackForm) -> Integration {
    match slack(url) {
        Integration::Slack(config) => {
            Integration::Slack(davy_alerting::config::SlackConfig { form: Some(Box::new(form)), ..config })
        }
        other => other,
    }
}

async fn slack_body(form: SlackForm, alert: Alert) -> Value {
    let hook = Hook::start(vec![(200, vec![], "ok")]).await;
    deliver(slack_form(&hook.url, form), alert).await.expect("it is taken");
    serde_json::from_str(&hook.got()[0].body).expect("a JSON body")
}

#[tokio::test]
async fn slack_takes_the_file_s_form_and_values_stay_values() {
    let form = SlackForm {
        title: text(r#"{{ template "slack.default.title" . }}"#),
        text: text(r#"<!here> {{ range .Alerts }}{{ .Annotations.summary }}{{ end }}"#),
        color: text(r#"{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}"#),
        username: text("{{ .Receiver }}"),
        fields: vec![SlackField {
            title: text("Version").unwrap(),
            value: text("{{ .CommonLabels.version }}").unwrap(),
            short: true,
        }],
        ..SlackForm::default()
    };
    let body = slack_body(form, hostile()).await;
    let attachment = &body["attachments"][0];
    assert_eq!((&body["username"], &body["channel"]), (&"ops".into(), &"#releases".into()));
    assert_eq!(attachment["color"], "danger");
    let said = attachment["text"].as_str().unwrap();
    assert!(
        said.starts_with("<!here> ") && !said.contains("<!channel>") && said.contains("&lt;!channel&gt;"),
        "{said}"
    );
    assert!(!attachment["fields"][0]["value"].as_str().unwrap().contains("<http"), "{attachment}");
}

#[tokio::test]
async fn a_template_that_fails_costs_the_form_and_not_the_message() {
    let form = SlackForm { title: text("{{ (index .Alerts 7).Labels.x }}"), ..SlackForm::default() };
    let body = slack_body(form, regression()).await.to_string();
    assert!(body.contains("checkout: version v2 is worse than v1"), "{body}");
    assert!(body.contains("The receiver's template failed") && body.contains("index out of range"), "{body}");
}

#[tokio::test]
async fn mail_takes_the_file_s_subject_headers_and_bodies() {
    let server = MailServer::start().await;
    let Integration::Email(mut config) = email(&server, &["ops@example.org"], false) else { unreachable!() };
    config.form.subject = text("{{ .CommonLabels.version }}\r\nBcc: x@y");
    config.form.headers = vec![("X-Severity".to_owned(), text("{{ .CommonLabels.severity }}").unwrap())];
    config.form.html = text("<p>{{ .CommonAnnotations.summary }}</p>");
    deliver(Integration::Email(config), hostile()).await.unwrap();
    let mail = server.mails()[0].text.clone();
    assert!(mail.contains("text/html"), "{mail}");
    let (headers, body) = mail.split_once("\n\n").expect("a mail has a body");
    assert!(headers.contains("X-Severity:"), "{headers}");
    assert!(!headers.lines().any(|l| l.starts_with("Bcc:")), "{headers}");
    assert!(!body.contains('\u{202e}') && body.contains("\\u{202e}"), "{body}");
    assert!(body.contains("&lt;!channel&gt;"), "{body}");
}

#[tokio::test]
async fn a_webhook_tells_no_more_alerts_than_it_is_asked_to() {
    let hook = Hook::start(vec![(200, vec![], "")]).await;
    let Integration::Webhook(mut config) = webhook(&hook.url) else { unreachable!() };
    config.max_alerts = 1;
    deliver(Integration::Webhook(config), regression()).await.unwrap();
    let body: Value = serde_json::from_str(&hook.got()[0].body).unwrap();
    assert_eq!(
        (body["truncatedAlerts"].as_u64(), body["alerts"].as_array().map(Vec::len)),
        (Some(0), Some(1))
    );
}

#[tokio::test]
async fn headings_are_in_the_reader_s_language() {
    let hook = Hook::start(vec![(200, vec![], "ok")]).await;
    let (_, record) = setup(slack(&hook.url), regression(), fixed_clock());
    let receivers =
        [davy_alerting::config::Receiver { name: "ops".into(), integrations: vec![slack(&hook.url)] }];
    let notifier = Notifier::new(&receivers, DAVY, fixed_clock()).unwrap().in_language(Language::Chinese);
    notifier.deliver(&record).await.unwrap();
    let body = &hook.got()[0].body;
    assert!(
        body.contains("[告警]") && body.contains("哪里变差") && body.contains("在 Davy 中打开"),
        "{body}"
    );
}
