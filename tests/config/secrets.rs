//! No secret of the file is ever shown: not by `Debug`, not by an error, not in the line that an error quotes.

use std::fs;
use std::path::Path;

use davy::config::Config;
use proptest::prelude::*;

/// Stands in every place that holds a secret.
const MARKER: &str = "HUNTER2";

/// A good file with the marker as every secret there is.
const FILE: &str = r#"
global:
  smtp_from: davy@example.com
  smtp_smarthost: smtp.example.com:587
  smtp_auth_username: davy
  smtp_auth_password: HUNTER2
  slack_api_url: https://hooks.slack.com/HUNTER2
scrape_configs:
  - job_name: a
    basic_auth: {username: u, password: HUNTER2}
    params: {token: [HUNTER2]}
    static_configs:
      - targets: ['a:1']
  - job_name: b
    authorization:
      type: Bearer
      credentials: HUNTER2
    http_sd_configs:
      - url: http://sd.example.com/targets
        bearer_token: "HUNTER2"
  - job_name: c
    bearer_token: |
      HUNTER2
      HUNTER2
actions:
  to-stable:
    webhook:
      url: https://deploy.example.com/HUNTER2
      signing_secret: whsec_HUNTER2HUNTER2HUNTER2HUNTER2abcd
route:
  receiver: team
receivers:
  - name: team
    webhook_configs:
      - url: https://a.example.com/HUNTER2
        signing_secret: HUNTER2HUNTER2HUNTER2HUNTER2abcd
    slack_configs:
      - api_url: >-
          https://b.example.com/HUNTER2
    email_configs:
      - to: a@b
        auth_password: HUNTER2
"#;

fn parse(text: &str) -> Result<Config, davy::config::ConfigErrors> {
    Config::parse(text, Path::new("davy.yaml"), Path::new("/nonexistent"))
}

#[test]
fn debug_shows_no_secret() {
    let mut config = parse(FILE).unwrap_or_else(|e| panic!("{e}"));
    // `params` are no secrets to Prometheus either: they stand in every target's URL.
    for job in &mut config.scrape_configs {
        job.params.clear();
    }
    assert!(!format!("{config:?}").contains(MARKER));
    assert!(!format!("{config:#?}").contains(MARKER));
}

#[test]
fn errors_beside_and_about_secrets_show_none() {
    let wrong = [
        "scrape_configs: [{job_name: a, basic_auth: {username: u, password: HUNTER2, x: 1}, scheme: x}]",
        "scrape_configs: [{job_name: a, basic_auth: {username: u, passwrod: HUNTER2}}]",
        "scrape_configs: [{job_name: a, basic_auth: {username: u, pw: HUNTER2}}]",
        "scrape_configs: [{job_name: a, basic_auth: {HUNTER2}}]",
        "scrape_configs: [{job_name: a, basic_auth: {password=HUNTER2}}]",
        "scrape_configs: [{job_name: a, basic_auth: HUNTER2}]",
        "scrape_configs: [{job_name: a, basic_auth: {username: u, password: {x: HUNTER2}}}]",
        "scrape_configs: [{job_name: a, basic_auth: {username: u, password: [HUNTER2]}}]",
        "scrape_configs: [{job_name: a, authorization: HUNTER2}]",
        "scrape_configs: [{job_name: a, oauth2: {client_id: a, client_secret: HUNTER2}}]",
        "scrape_configs: [{job_name: a, bearer_token: HUNTER2, basic_auth: {username: u, password: HUNTER2}}]",
        "scrape_configs: [{job_name: a, http_sd_configs: [{url: 'http://u:HUNTER2@h/'}]}]",
        "scrape_configs: [{job_name: a, http_sd_configs: [{url: 'HUNTER2'}]}]",
        "password: !HUNTER2 x",
        "password: *HUNTER2",
        "password: 'HUNTER2",
        "password: HUNTER2: x",
        "{password: HUNTER2, password: HUNTER2, a",
        "receivers: [{name: a, slack_configs: ['https://HUNTER2']}]",
        "receivers: [{name: a, slack_configs: 'https://HUNTER2'}]",
        "receivers: [{name: a, webhook_configs: [{url: 'HUNTER2', signing_secret: 'HUNTER2!'}]}]",
        "receivers: [{name: a, email_configs: [{auth_pasword: HUNTER2}]}]",
        "receivers: [{name: a, pagerduty_configs: [{routing_key: HUNTER2}]}]",
        "remote_write: [{url: HUNTER2, basic_auth: {password: HUNTER2}}]",
        "global: {smtp_auth_password: HUNTER2, smtp_auth_pasword: HUNTER2, slack_api_url: HUNTER2}",
        "access: {tokens: [HUNTER2]}",
        "tokens: [HUNTER2]",
        "x: &a HUNTER2\nglobal: {slack_api_url: *a, x: *a}",
        "actions: {a: {webhook: HUNTER2}, b: HUNTER2, c: [HUNTER2]}",
        "scrape_configs:\n- job_name: c\n  bearer_token: |\n?\n      HUNTER2\n",
        "scrape_configs:\n  - job_name: c\n    bearer_token: |\n  ?\n      HUNTER2\n      HUNTER2\n",
    ];
    for text in wrong {
        let errors = parse(text).expect_err(text);
        assert!(!errors.to_string().contains(MARKER), "{text}\n{errors}");
        assert!(!format!("{errors:?}").contains(MARKER), "{text}\n{errors:?}");
    }
}

#[test]
fn secret_files_are_read_and_warned_about_and_not_shown() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let secret = folder.path().join("password");
    fs::write(&secret, "HUNTER2\n").expect("it is ours to write");
    set_mode(&secret, 0o644);
    let text = "scrape_configs: [{job_name: a, basic_auth: {username: u, password_file: password}}]";
    let config = Config::parse(text, Path::new("davy.yaml"), folder.path()).unwrap_or_else(|e| panic!("{e}"));
    assert!(config.warnings[0].contains("chmod 600"), "{:?}", config.warnings);
    assert!(!format!("{config:?}").contains(MARKER));

    set_mode(&secret, 0o600);
    let config = Config::parse(text, Path::new("davy.yaml"), folder.path()).unwrap_or_else(|e| panic!("{e}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);

    for (content, wrong) in [(&b""[..], "is empty"), (b"\n", "is empty"), (b"\xff", "not UTF-8")] {
        fs::write(&secret, content).expect("it is ours to write");
        let errors = Config::parse(text, Path::new("davy.yaml"), folder.path()).expect_err(wrong);
        assert!(errors.to_string().contains(wrong), "{errors}");
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours to change");
}

proptest! {
    /// Whatever is pasted between the lines of a good file, no secret on the other lines is told.
    #[test]
    fn damage_to_the_file_brings_no_secret_to_light(
        line in 0..FILE.lines().count(),
        junk in r#"[ ]{0,8}[-a-z:{}\[\]"'|>&*!%@#? ,\t]{1,12}"#,
    ) {
        let mut lines: Vec<&str> = FILE.lines().collect();
        lines.insert(line, &junk);
        if let Err(errors) = parse(&lines.join("\n")) {
            prop_assert!(!errors.to_string().contains(MARKER), "line {line}: {junk:?}\n{errors}");
        }
    }
}
