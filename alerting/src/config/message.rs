//! Who hears what: routes, receivers and their integrations.

use std::time::Duration;

use davy_model::Matcher;
use secrecy::SecretString;

/// One node of the routing tree, Alertmanager's words. An alert goes to the deepest route that matches it.
#[derive(Debug, Clone)]
pub struct Route {
    pub receiver: String,
    /// All must match; the root has none.
    pub matchers: Vec<Matcher>,
    /// Whether siblings after this one are tried as well.
    pub continue_matching: bool,
    /// How long a firing alert waits before it is sent again.
    pub repeat_interval: Duration,
    pub routes: Vec<Route>,
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
}

/// Slack's incoming webhook.
#[derive(Debug, Clone)]
pub struct SlackConfig {
    pub api_url: SecretString,
    pub channel: Option<String>,
    pub send_resolved: bool,
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
}
