//! `receivers`: webhooks, Slack, e-mail, in Alertmanager's schema.

use std::collections::HashSet;
use std::time::Duration;

use davy_alerting::config::{
    AlertmanagerConfig, EmailConfig, EmailForm, Integration, Receiver, SlackConfig, SlackDestination,
    SlackField, SlackForm, WebhookConfig,
};
use davy_alerting::template::Templates;
use secrecy::{ExposeSecret, SecretString};

use super::global::{Global, Smtp, check_secret_url, slack_app_url};
use super::http;
use super::reader::{Field, Section};
use super::secrets::read_secret;
use super::template;
use super::value::positive_duration;

const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Recipients of one mail; mailing lists exist.
const RECIPIENTS_MAX: usize = 100;

/// Headers that Davy writes: a second one would make two mails of one, or send it elsewhere.
const OWN_HEADERS: [&str; 12] = [
    "From",
    "To",
    "Cc",
    "Bcc",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Auto-Submitted",
];
const SLACK_POST_URL: &str = "https://slack.com/api/chat.postMessage";
/// Alertmanager's.
const USUAL_COLOR: &str = r#"{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}"#;

/// Alertmanager's other integrations.
const OTHERS: [&str; 15] = [
    "discord_configs",
    "incidentio_configs",
    "jira_configs",
    "mattermost_configs",
    "msteams_configs",
    "msteamsv2_configs",
    "opsgenie_configs",
    "pagerduty_configs",
    "pushover_configs",
    "rocketchat_configs",
    "sns_configs",
    "telegram_configs",
    "victorops_configs",
    "webex_configs",
    "wechat_configs",
];

pub(super) fn read(top: &mut Section<'_>, global: &Global, templates: &Templates) -> Vec<Receiver> {
    let mut names = HashSet::new();
    top.list("receivers", |field| {
        let receiver = receiver(&field, global, templates)?;
        if !names.insert(receiver.name.clone()) {
            field.error(format!("receiver {:?} is given twice; give each its own name", receiver.name));
        }
        Some(receiver)
    })
}

fn receiver(field: &Field<'_>, global: &Global, templates: &Templates) -> Option<Receiver> {
    field.section(|s| {
        let name = s.required("name", "routes refer to it").and_then(|f| f.name());
        let mut integrations = s.list("webhook_configs", |f| webhook(&f, global).map(Integration::Webhook));
        integrations
            .extend(s.list("slack_configs", |f| slack(&f, global, templates).map(Integration::Slack)));
        integrations
            .extend(s.list("email_configs", |f| email(&f, &global.smtp, templates).map(Integration::Email)));
        integrations.extend(
            s.list("alertmanager_configs", |f| alertmanager(&f, global).map(Integration::Alertmanager)),
        );
        s.not_yet(&OTHERS, "a webhook reaches anything that takes Alertmanager's webhook body");
        Some(Receiver { name: name?.to_owned(), integrations })
    })
}

fn webhook(field: &Field<'_>, global: &Global) -> Option<WebhookConfig> {
    field.section(|s| {
        let (url, signing_secret, timeout) = webhook_keys(s);
        let send_resolved = s.or("send_resolved", true, Field::bool);
        let http = http::section(s, &global.http);
        let max_alerts = s.or("max_alerts", 0, |f| f.u64().map(|n| usize::try_from(n).unwrap_or(usize::MAX)));
        s.not_yet(&["payload"], "the body is Alertmanager's, version 4");
        Some(WebhookConfig { url: url?, signing_secret, send_resolved, timeout, max_alerts, http })
    })
}

/// What every webhook has, for alerts and for actions: `url`, `signing_secret`, `timeout`.
pub(super) fn webhook_keys(s: &mut Section<'_>) -> (Option<SecretString>, Option<SecretString>, Duration) {
    let url = secret_url(s, "url", "url_file");
    if url.is_none() {
        s.missing_one_of("url", "url_file");
    }
    let signing_secret = read_secret(s, "signing_secret", "signing_secret_file");
    if let Some(secret) = &signing_secret
        && standardwebhooks::Webhook::new(secret.expose_secret()).is_err()
        && let Some(field) = s.get("signing_secret").or_else(|| s.get("signing_secret_file"))
    {
        field.error("the signing secret is not base64; make one with: openssl rand -base64 32");
    }
    let timeout = s.or("timeout", WEBHOOK_TIMEOUT, |f| f.parse(positive_duration));
    (url, signing_secret, timeout)
}

/// A URL that is a secret, inline or in a file.
pub(super) fn secret_url(
    s: &mut Section<'_>,
    key: &'static str,
    key_file: &'static str,
) -> Option<SecretString> {
    let url = read_secret(s, key, key_file)?;
    let field = s.get(key).or_else(|| s.get(key_file))?;
    check_secret_url(&field, &url);
    Some(url)
}

/// Davy's own word: Alertmanager has no receiver that is another Alertmanager.
fn alertmanager(field: &Field<'_>, global: &Global) -> Option<AlertmanagerConfig> {
    field.section(|s| {
        let url = secret_url(s, "url", "url_file");
        if url.is_none() {
            s.missing_one_of("url", "url_file");
        }
        let send_resolved = s.or("send_resolved", true, Field::bool);
        let timeout = s.or("timeout", WEBHOOK_TIMEOUT, |f| f.parse(positive_duration));
        let http = http::section(s, &global.http);
        Some(AlertmanagerConfig { url: url?, send_resolved, timeout, http })
    })
}

fn slack(field: &Field<'_>, global: &Global, templates: &Templates) -> Option<SlackConfig> {
    field.section(|s| {
        let destination = slack_destination(s, global);
        let channel = template::optional(s, "channel", templates);
        if matches!(destination, Some(SlackDestination::Bot { .. })) && s.get("channel").is_none() {
            s.error("`channel` is missing: a bot must be told where to post");
        }
        let send_resolved = s.or("send_resolved", false, Field::bool);
        let form = slack_form(s, templates).map(Box::new);
        let mut http = http::section(s, &global.http);
        if matches!(destination, Some(SlackDestination::Bot { .. })) {
            if s.get("http_config").is_some() && http.auth.is_some() {
                s.error("a bot logs in with its `app_token`: leave credentials out of its `http_config`");
            }
            http.auth = None;
        }
        s.not_yet(&["timeout"], "a message may take thirty seconds");
        s.not_yet(&["callback_id", "actions"], "messages have no buttons");
        s.not_yet(&["message_text"], "write `text`");
        Some(SlackConfig { destination: destination?, channel, send_resolved, form, http })
    })
}

/// A bot where a token is given, here or, without a webhook here, under `global`.
fn slack_destination(s: &mut Section<'_>, global: &Global) -> Option<SlackDestination> {
    let webhook = secret_url(s, "api_url", "api_url_file");
    let own_webhook = s.get("api_url").is_some() || s.get("api_url_file").is_some();
    let own_token = read_secret(s, "app_token", "app_token_file");
    let post_url = s.get("app_url").and_then(|f| f.parse(slack_app_url));
    if own_webhook && own_token.is_some() {
        s.error("`api_url` and `app_token` are both given: a webhook or a bot, not both");
        return None;
    }
    let post_url =
        post_url.or_else(|| global.slack_app_url.clone()).unwrap_or_else(|| SLACK_POST_URL.to_owned());
    let bot = |token| SlackDestination::Bot { token, post_url };
    if own_webhook {
        return webhook.map(SlackDestination::Webhook);
    }
    if let Some(token) = own_token.or_else(|| global.slack_app_token.clone()) {
        return Some(bot(token));
    }
    if global.slack_api_url.is_none() {
        s.error("`api_url` is missing: give it here, or `slack_api_url` under `global`, or the file that holds it; or `app_token` for a bot");
    }
    global.slack_api_url.clone().map(SlackDestination::Webhook)
}

/// `None` where the file says nothing of the message's form.
fn slack_form(s: &mut Section<'_>, templates: &Templates) -> Option<SlackForm> {
    let mut given = false;
    let mut text = |s: &mut Section<'_>, key: &'static str| {
        given |= s.get(key).is_some();
        template::optional(s, key, templates)
    };
    let username = text(s, "username");
    let icon_emoji = text(s, "icon_emoji");
    let icon_url = text(s, "icon_url");
    let title = text(s, "title");
    let title_link = text(s, "title_link");
    let pretext = text(s, "pretext");
    let body = text(s, "text");
    let fallback = text(s, "fallback");
    let footer = text(s, "footer");
    let color = text(s, "color");
    let image_url = text(s, "image_url");
    let thumb_url = text(s, "thumb_url");
    let short_fields = s.or("short_fields", false, Field::bool);
    let fields = s.list("fields", |f| {
        f.section(|s| {
            let title =
                s.required("title", "the field's heading").and_then(|f| template::text(&f, templates));
            let value = s.required("value", "the field's text").and_then(|f| template::text(&f, templates));
            let short = s.or("short", short_fields, Field::bool);
            Some(SlackField { title: title?, value: value?, short })
        })
    });
    let link_names = s.or("link_names", false, Field::bool);
    let mrkdwn_in = s.has("mrkdwn_in").then(|| s.list("mrkdwn_in", |f| f.name().map(str::to_owned)));
    let usual = |name: &str| templates.text(&format!("{{{{ template \"slack.default.{name}\" . }}}}")).ok();
    (given || !fields.is_empty()).then(|| SlackForm {
        username,
        icon_emoji,
        icon_url,
        link_names,
        title: title.or_else(|| usual("title")),
        title_link: title_link.or_else(|| usual("titlelink")),
        pretext: pretext.or_else(|| usual("pretext")),
        text: body.or_else(|| usual("text")),
        fallback: fallback.or_else(|| usual("fallback")),
        footer: footer.or_else(|| usual("footer")),
        color: color.or_else(|| templates.text(USUAL_COLOR).ok()),
        image_url,
        thumb_url,
        fields,
        mrkdwn_in,
    })
}

fn email(field: &Field<'_>, smtp: &Smtp, templates: &Templates) -> Option<EmailConfig> {
    field.section(|s| {
        let to = s.required("to", "who gets the mail").and_then(|f| f.parse(mailboxes));
        let from = own_or(s, "from", smtp.from.clone(), "smtp_from", |f| f.parse(mailbox));
        let host = own_or(s, "smarthost", smtp.smarthost.clone(), "smtp_smarthost", |f| f.parse(smarthost));
        let username = s.get("auth_username").and_then(|f| f.name()).map(str::to_owned);
        let username = username.or_else(|| smtp.auth_username.clone());
        let password =
            read_secret(s, "auth_password", "auth_password_file").or_else(|| smtp.auth_password.clone());
        let auth = match (username, password) {
            (Some(username), Some(password)) => Some((username, password)),
            (Some(_), None) => {
                s.missing_one_of("auth_password", "auth_password_file");
                None
            }
            (None, Some(_)) => {
                s.error("`auth_username` is missing: a password is given");
                None
            }
            (None, None) => None,
        };
        let require_tls = s.or("require_tls", smtp.require_tls.unwrap_or(true), Field::bool);
        if !require_tls
            && let Some((name, _)) = &host
            && !is_loopback(name)
        {
            s.error(format!(
                "`require_tls: false` is only for a mail server on this machine, not for {name}"
            ));
        }
        let send_resolved = s.or("send_resolved", false, Field::bool);
        s.ignored("hello", "Davy greets with the name of its machine");
        s.not_yet(
            &["auth_identity", "auth_secret", "auth_secret_file", "tls_config"],
            "use user name and password over TLS",
        );
        let form = email_form(s, templates);
        s.not_yet(&["threading"], "mails of a release or group are one thread");
        s.not_yet(&["force_implicit_tls"], "TLS starts at once on port 465");
        Some(EmailConfig { to: to?, from: from?, smarthost: host?, auth, require_tls, send_resolved, form })
    })
}

fn email_form(s: &mut Section<'_>, templates: &Templates) -> EmailForm {
    let mut form = EmailForm {
        html: template::optional(s, "html", templates),
        text: template::optional(s, "text", templates),
        ..EmailForm::default()
    };
    for (name, field) in s.get("headers").map(|f| f.entries()).unwrap_or_default() {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if !is_name {
            field.error(format!("{name:?} is no name of a mail header"));
            continue;
        }
        if OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
            field.error(format!("the header {name} is Davy's own; what can be set: Subject, Reply-To, X-…"));
            continue;
        }
        let Some(text) = template::text(&field, templates) else { continue };
        if name.eq_ignore_ascii_case("subject") {
            form.subject = Some(text);
        } else {
            form.headers.push((name, text));
        }
    }
    form
}

/// The section's own value, or the one from `global`.
fn own_or<'a, T>(
    s: &mut Section<'a>,
    key: &'static str,
    global: Option<T>,
    global_key: &str,
    read: impl FnOnce(&Field<'a>) -> Option<T>,
) -> Option<T> {
    let Some(field) = s.get(key) else {
        if global.is_none() {
            s.error(format!("`{key}` is missing: give it here, or `{global_key}` under `global`"));
        }
        return global;
    };
    read(&field)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// `host:port`; an IPv6 address stands in brackets and is returned without.
pub(super) fn smarthost(text: &str) -> Result<(String, u16), String> {
    let wrong = || "expected host:port of the mail server, such as smtp.example.com:587".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:_".contains(c));
    match port.parse::<u16>() {
        Ok(port @ 1..) if plain => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

/// Addresses separated by commas.
fn mailboxes(text: &str) -> Result<Vec<String>, String> {
    let all: Vec<String> = text.split(',').map(|t| mailbox(t.trim())).collect::<Result<_, _>>()?;
    if all.len() > RECIPIENTS_MAX {
        return Err(format!("{} recipients are more than the {RECIPIENTS_MAX} allowed", all.len()));
    }
    Ok(all)
}

/// `name@host` or `Name <name@host>`, without anything that could end a header line.
pub(super) fn mailbox(text: &str) -> Result<String, String> {
    let wrong = || "expected an address such as team@example.com or \"Davy <davy@example.com>\"".to_owned();
    if text.contains(char::is_control) {
        return Err(wrong());
    }
    let (display, address) = match text.split_once('<') {
        Some((display, rest)) => (display.trim(), rest.strip_suffix('>').ok_or_else(wrong)?),
        None => ("", text),
    };
    let (local, domain) = address.rsplit_once('@').ok_or_else(wrong)?;
    let atom = |c: char| c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
    let local_ok = !local.is_empty()
        && local.chars().all(atom)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let display_ok = display.chars().all(|c| c.is_alphanumeric() || " -_'.".contains(c));
    if local_ok && domain.split('.').all(label) && display_ok { Ok(text.to_owned()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_addresses_are_taken_and_header_injection_is_not() {
        for ok in ["a@b", "on.call+x@mail.example.com", "Davy Lamp <davy@example.com>"] {
            assert!(mailbox(ok).is_ok(), "{ok}");
        }
        let wrong =
            ["", "a", "a@", "@b", "a@b\r\nBcc: x@y", "a b@c", "A\n<a@b>", "<a@b", "a@-b", "a..b@c", "a@b>"];
        for text in wrong {
            assert!(mailbox(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn smarthosts_need_a_port() {
        assert_eq!(smarthost("smtp.x:587"), Ok(("smtp.x".to_owned(), 587)));
        assert_eq!(smarthost("[::1]:25"), Ok(("::1".to_owned(), 25)));
        for wrong in ["smtp.x", "smtp.x:", ":25", "a b:25", "smtp.x:0", "smtp.x:70000"] {
            assert!(smarthost(wrong).is_err(), "{wrong}");
        }
    }
}
