//! Who hears what: routes, receivers and their integrations.

use std::time::Duration;

use davy_egress::HttpConfig;
use davy_model::Matcher;
use secrecy::SecretString;

use crate::template::Text;
use crate::time_interval::TimeInterval;

/// One node of the routing tree, Alertmanager's words. An alert goes to the deepest route that matches it.
#[derive(Debug, Clone)]
pub struct Route {
    pub receiver: String,
    /// All must match; the root has none.
    pub matchers: Vec<Matcher>,
    /// Whether siblings after this one are tried as well.
    pub continue_matching: bool,
    pub group_by: GroupBy,
    /// How long a new group waits for more alerts. `None` is not said: thirty seconds for groups, nothing for alerts
    /// that go by themselves and for those of a release, which are urgent.
    pub group_wait: Option<Duration>,
    /// How long a group waits before it tells what changed; as above, with five minutes.
    pub group_interval: Option<Duration>,
    /// How long a firing alert waits before it is sent again.
    pub repeat_interval: Duration,
    /// Nothing is sent while one of these holds, or while there are active ones and none of them holds.
    pub mute_intervals: Vec<TimeInterval>,
    pub active_intervals: Vec<TimeInterval>,
    pub routes: Vec<Route>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            receiver: String::new(),
            matchers: Vec::new(),
            continue_matching: false,
            group_by: GroupBy::Each,
            group_wait: None,
            group_interval: None,
            repeat_interval: Duration::from_secs(4 * 3600),
            mute_intervals: Vec::new(),
            active_intervals: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// Which alerts make one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// Each by itself: `['...']`.
    Each,
    /// Those that are equal in these labels; without any, all of the route.
    Labels(Vec<String>),
}

/// While an alert of the source fires, those of the target that are equal in these labels are not told.
#[derive(Debug, Clone)]
pub struct InhibitRule {
    pub source: Vec<Matcher>,
    pub target: Vec<Matcher>,
    pub equal: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Receiver {
    pub name: String,
    pub integrations: Vec<Integration>,
}

#[derive(Debug, Clone)]
pub enum Integration {
    Webhook(WebhookConfig),
    Slack(SlackConfig),
    Email(EmailConfig),
    Alertmanager(AlertmanagerConfig),
}

/// Alertmanager's webhook body, version 4, with a Standard Webhooks signature where a secret is set.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// A secret: webhook URLs carry tokens.
    pub url: SecretString,
    /// Base64, with or without the `whsec_` prefix.
    pub signing_secret: Option<SecretString>,
    pub send_resolved: bool,
    pub timeout: Duration,
    /// Alerts of one message; zero is Davy's own bound.
    pub max_alerts: usize,
    pub http: HttpConfig,
}

#[derive(Debug, Clone)]
pub struct SlackConfig {
    pub destination: SlackDestination,
    /// Required with a bot.
    pub channel: Option<Text>,
    pub send_resolved: bool,
    /// The file's own form; Davy's without.
    pub form: Option<Box<SlackForm>>,
    pub http: HttpConfig,
}

#[derive(Debug, Clone)]
pub enum SlackDestination {
    /// An incoming webhook.
    Webhook(SecretString),
    /// A bot with `chat:write`: one message for a release or group, edited in place.
    Bot { token: SecretString, post_url: String },
}

/// An attachment, as `slack_configs` of Alertmanager describe it.
#[derive(Debug, Clone, Default)]
pub struct SlackForm {
    pub username: Option<Text>,
    pub icon_emoji: Option<Text>,
    pub icon_url: Option<Text>,
    pub link_names: bool,
    pub title: Option<Text>,
    pub title_link: Option<Text>,
    pub pretext: Option<Text>,
    pub text: Option<Text>,
    pub fallback: Option<Text>,
    pub footer: Option<Text>,
    pub color: Option<Text>,
    pub image_url: Option<Text>,
    pub thumb_url: Option<Text>,
    pub fields: Vec<SlackField>,
    pub mrkdwn_in: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
pub struct SlackField {
    pub title: Text,
    pub value: Text,
    pub short: bool,
}

#[derive(Debug, Clone)]
pub struct EmailConfig {
    pub to: Vec<String>,
    pub from: String,
    /// Host and port of the SMTP server.
    pub smarthost: (String, u16),
    pub auth: Option<(String, SecretString)>,
    /// TLS (STARTTLS, or from the first byte on port 465) is required; only a loopback smarthost may go without.
    pub require_tls: bool,
    pub send_resolved: bool,
    pub form: EmailForm,
}

/// What the file says of the mail itself; where it says nothing, Davy's form.
#[derive(Debug, Clone, Default)]
pub struct EmailForm {
    pub subject: Option<Text>,
    /// Further headers.
    pub headers: Vec<(String, Text)>,
    pub html: Option<Text>,
    pub text: Option<Text>,
}

impl EmailForm {
    /// Whether the file says anything of it.
    pub fn is_own(&self) -> bool {
        self.subject.is_some() || self.html.is_some() || self.text.is_some() || !self.headers.is_empty()
    }
}

/// An Alertmanager that takes alerts over its API, version 2.
#[derive(Debug, Clone)]
pub struct AlertmanagerConfig {
    /// Without the path of the API.
    pub url: SecretString,
    pub send_resolved: bool,
    pub timeout: Duration,
    pub http: HttpConfig,
}
