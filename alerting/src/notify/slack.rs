//! Slack's incoming webhook: one attachment of blocks, with a plain text for notifications.
//!
//! Text from outside is escaped and sent `verbatim`, so that it forms no mention, link or channel name.

use std::time::Duration;

use davy_model::Timestamp;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use super::notice::Notice;
use super::{ANSWER_CHARS_MAX, CONNECT_TIMEOUT, DeliveryError, failed, permanent, refused};
use crate::alert::AlertState;
use crate::config::SlackConfig;
use crate::egress::{self, Names, SetupError, body_start};
use crate::text::{one_line, slack};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Slack's own limits, in characters after escaping.
const HEADER_CHARS_MAX: usize = 150;
const SECTION_CHARS_MAX: usize = 3000;
const CONTEXT_CHARS_MAX: usize = 2000;

pub(super) struct Slack {
    client: Client,
    url: Url,
    channel: Option<String>,
}

impl Slack {
    pub(super) fn new(owner: &str, config: &SlackConfig, names: &Names) -> Result<Self, SetupError> {
        Ok(Self {
            client: egress::client(owner, CONNECT_TIMEOUT, names.clone())?,
            url: egress::url(owner, &config.api_url)?,
            channel: config.channel.clone(),
        })
    }

    pub(super) async fn send(&self, notice: &Notice, now: Timestamp) -> Result<(), DeliveryError> {
        let body = body(notice, self.channel.as_deref()).to_string();
        let post = self.client.post(self.url.clone()).timeout(TIMEOUT);
        let post = post.header("content-type", "application/json").body(body);
        let response = post.send().await.map_err(failed)?;
        if response.status().as_u16() != 200 {
            return Err(refused(response, now).await);
        }
        match body_start(response).await.as_slice() {
            b"ok" => Ok(()),
            // Sending it again would repeat it where a look-alike took it and answers in its own way.
            other => {
                let said = one_line(&String::from_utf8_lossy(other), ANSWER_CHARS_MAX);
                Err(permanent(format!("status 200, but the answer is {said:?} and not \"ok\"")))
            }
        }
    }
}

pub(super) fn body(notice: &Notice, channel: Option<&str>) -> Value {
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "emoji": false, "text": cut(&slack(&notice.title), HEADER_CHARS_MAX)},
    })];
    blocks.extend(notice.facts.iter().map(|(heading, text)| {
        let text = format!("*{}*\n{}", slack(heading), slack(text));
        json!({"type": "section", "text": mrkdwn(&cut(&text, SECTION_CHARS_MAX))})
    }));
    let link = format!("<{}|Open in Davy>", slack(&notice.link).replace('|', "%7C"));
    blocks.push(json!({"type": "section", "text": mrkdwn(&link)}));
    let labels: Vec<String> = notice.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
    if !labels.is_empty() {
        let text = cut(&slack(&labels.join("  ")), CONTEXT_CHARS_MAX);
        blocks.push(json!({
            "type": "context",
            "elements": [{"type": "plain_text", "emoji": false, "text": text}],
        }));
    }
    let mut body = json!({
        "text": slack(&notice.title),
        "unfurl_links": false,
        "unfurl_media": false,
        "attachments": [{"color": color(notice), "fallback": slack(&notice.title), "blocks": blocks}],
    });
    if let Some(channel) = channel {
        body["channel"] = json!(channel);
    }
    body
}

fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "verbatim": true, "text": text})
}

/// Cuts without leaving half an entity behind.
fn cut(escaped: &str, chars_max: usize) -> String {
    if escaped.chars().count() <= chars_max {
        return escaped.to_owned();
    }
    let mut kept: String = escaped.chars().take(chars_max - 1).collect();
    if let Some(amp) = kept.rfind('&')
        && !kept[amp..].contains(';')
    {
        kept.truncate(amp);
    }
    kept + "…"
}

fn color(notice: &Notice) -> &'static str {
    match (notice.state, notice.severity.as_str()) {
        (AlertState::Resolved, _) | (AlertState::Firing, "info") => "#2eb67d",
        (AlertState::Firing, "warning") => "#ecb22e",
        (AlertState::Firing, _) => "#e01e5a",
    }
}
