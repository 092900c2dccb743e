//! `global`: defaults of Prometheus' and Alertmanager's blocks, in one place as both call it so.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_alerting::words::Language;
use davy_collector::config::ScrapeLimits;
use davy_egress::HttpConfig;
use secrecy::SecretString;

use super::reader::Section;
use super::secrets::read_secret;
use super::value::{duration, http_url, labels, positive_duration, show_duration};
use super::{http, scrape};

#[derive(Default)]
pub(super) struct Global {
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    pub evaluation_interval: Duration,
    pub rule_query_offset: Duration,
    pub external_labels: BTreeMap<String, String>,
    pub limits: ScrapeLimits,
    pub smtp: Smtp,
    pub slack_api_url: Option<SecretString>,
    pub slack_app_token: Option<SecretString>,
    pub slack_app_url: Option<String>,
    pub language: Language,
    /// Of receivers that have none of their own.
    pub http: HttpConfig,
}

/// Defaults of every `email_configs` entry.
#[derive(Default)]
pub(super) struct Smtp {
    pub from: Option<String>,
    pub smarthost: Option<(String, u16)>,
    pub auth_username: Option<String>,
    pub auth_password: Option<SecretString>,
    pub require_tls: Option<bool>,
}

impl Global {
    fn defaults() -> Self {
        Self {
            scrape_interval: Duration::from_secs(15),
            scrape_timeout: Duration::from_secs(10),
            evaluation_interval: Duration::from_secs(15),
            ..Self::default()
        }
    }
}

pub(super) fn read(top: &mut Section<'_>) -> Global {
    let Some(field) = top.get("global") else { return Global::defaults() };
    field.section(|s| Some(section(s))).unwrap_or_else(Global::defaults)
}

fn section(s: &mut Section<'_>) -> Global {
    let default = Global::defaults();
    let scrape_interval = s.or("scrape_interval", default.scrape_interval, |f| f.parse(positive_duration));
    let scrape_timeout = match s.get("scrape_timeout") {
        None => default.scrape_timeout.min(scrape_interval),
        Some(f) => {
            let timeout = f.parse(positive_duration).unwrap_or(scrape_interval);
            if timeout > scrape_interval {
                let interval = show_duration(scrape_interval);
                f.error(format!("got {}, expected at most the scrape_interval of {interval}", f.got()));
            }
            timeout
        }
    };
    let evaluation_interval =
        s.or("evaluation_interval", default.evaluation_interval, |f| f.parse(positive_duration));
    let rule_query_offset = s.or("rule_query_offset", Duration::ZERO, |f| f.parse(duration));
    let external_labels = s.get("external_labels").map(|f| labels(&f, true)).unwrap_or_default();
    let limits = scrape::limits(s, &default.limits);
    let smtp = smtp(s);
    let slack_api_url = read_secret(s, "slack_api_url", "slack_api_url_file");
    if let (Some(url), Some(field)) = (&slack_api_url, s.get("slack_api_url")) {
        check_secret_url(&field, url);
    }
    let slack_app_token = read_secret(s, "slack_app_token", "slack_app_token_file");
    let slack_app_url = s.get("slack_app_url").and_then(|f| f.parse(slack_app_url));
    let language =
        s.get("language").and_then(|f| f.one_of(&Language::ALL.map(|l| (l.as_str(), l)))).unwrap_or_default();
    let http = http::section(s, &default.http);
    other_keys(s);
    Global {
        scrape_interval,
        scrape_timeout,
        evaluation_interval,
        rule_query_offset,
        external_labels,
        limits,
        smtp,
        slack_api_url,
        slack_app_token,
        slack_app_url,
        language,
        http,
    }
}

/// Where a bot posts; what edits stands beside it.
pub(super) fn slack_app_url(text: &str) -> Result<String, String> {
    http_url(text)?;
    if !text.ends_with("/chat.postMessage") {
        return Err(
            "expected the URL of chat.postMessage, such as https://slack.com/api/chat.postMessage".into()
        );
    }
    Ok(text.to_owned())
}

/// Reports a URL that is none without repeating it.
pub(super) fn check_secret_url(field: &super::reader::Field<'_>, url: &SecretString) {
    use secrecy::ExposeSecret;
    if let Err(e) = http_url(url.expose_secret()) {
        field.error(format!("got text that is not shown: {e}"));
    }
}

fn smtp(s: &mut Section<'_>) -> Smtp {
    use super::receiver::{mailbox, smarthost};
    Smtp {
        from: s.get("smtp_from").and_then(|f| f.parse(mailbox)),
        smarthost: s.get("smtp_smarthost").and_then(|f| f.parse(smarthost)),
        auth_username: s.get("smtp_auth_username").and_then(|f| f.name()).map(str::to_owned),
        auth_password: read_secret(s, "smtp_auth_password", "smtp_auth_password_file"),
        require_tls: s.get("smtp_require_tls").and_then(|f| f.bool()),
    }
}

fn other_keys(s: &mut Section<'_>) {
    // Alertmanager's: when to resolve alerts whose sender names no end. Davy's alerts name theirs.
    if let Some(field) = s.get("resolve_timeout") {
        field.parse(duration);
    }
    s.ignored("smtp_hello", "Davy greets with the name of its machine");
    s.not_yet(
        &["smtp_auth_identity", "smtp_auth_secret", "smtp_tls_config"],
        "use user name and password over TLS",
    );
    s.not_yet(
        &[
            "jira_api_url",
            "opsgenie_api_key",
            "opsgenie_api_key_file",
            "opsgenie_api_url",
            "pagerduty_url",
            "rocketchat_api_url",
            "rocketchat_token",
            "rocketchat_token_file",
            "rocketchat_token_id",
            "rocketchat_token_id_file",
            "telegram_api_url",
            "telegram_bot_token",
            "telegram_bot_token_file",
            "victorops_api_key",
            "victorops_api_key_file",
            "victorops_api_url",
            "webex_api_url",
            "wechat_api_corp_id",
            "wechat_api_secret",
            "wechat_api_secret_file",
            "wechat_api_url",
        ],
        "receivers are webhook, Slack, e-mail and another Alertmanager",
    );
    scrape::native_histograms(s);
    s.not_yet(&["scrape_protocols"], "the text format 0.0.4 and OpenMetrics 1.0 are negotiated");
    s.only("metric_name_validation_scheme", &["utf8"], "names are UTF-8");
    s.only("metric_name_escaping_scheme", &["allow-utf-8"], "names are UTF-8");
    s.ignored("keep_dropped_targets", "Davy keeps no list of dropped targets");
    s.not_yet(&["query_log_file", "scrape_failure_log_file", "runtime"], "");
}
