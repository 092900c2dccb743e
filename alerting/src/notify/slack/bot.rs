//! A bot: one message for each release or group, edited in place, with what came before in a few lines.
//!
//! Slack tells nobody of an edit. So what is critical is also said in the message's thread, broadcast to the channel.

use davy_model::Timestamp;
use reqwest::{Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Slack, TIMEOUT};
use crate::alert::{AlertState, SEVERITY_CRITICAL};
use crate::client::body_start;
use crate::notify::notice::Notice;
use crate::notify::{
    ANSWER_CHARS_MAX, DeliveryError, Memory, failed, permanent, refused, temporary, unready,
};
use crate::text::one_line;
use crate::words::{Language, Said};

/// Earlier titles that a message shows.
const EARLIER_MAX: usize = 12;
/// What Slack says of itself, and not of the message.
const PASSING: [&str; 6] = [
    "ratelimited",
    "rate_limited",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
];
/// The message is no longer there to be edited: a new one is written.
const GONE: [&str; 5] =
    ["message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found", "is_inactive"];

pub(super) struct Bot {
    pub(super) token: SecretString,
    pub(super) post: Url,
}

/// What is kept of a message, over restarts.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    /// As Slack answered: an id, where the file may have a name.
    channel: String,
    ts: String,
    /// The newest delivery, and what was shown before it.
    id: String,
    title: String,
    earlier: Vec<String>,
    /// What is worse and how certain: later notices do not repeat it.
    facts: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    ts: String,
}

/// One delivery by a bot.
pub(super) struct Delivery<'a> {
    pub(super) id: &'a str,
    pub(super) key: String,
    pub(super) channel: &'a str,
    pub(super) language: Language,
    pub(super) now: Timestamp,
}

impl Bot {
    /// `shape` makes the message of a notice.
    pub(super) async fn send(
        &self,
        slack: &Slack,
        to: &Delivery<'_>,
        notice: Notice,
        shape: impl Fn(&Notice) -> Value + Send,
        memory: &dyn Memory,
    ) -> Result<(), DeliveryError> {
        let kept: Option<Kept> = memory
            .recall(&to.key)
            .await
            .map_err(temporary)?
            // What cannot be read is of another version: a new message is better than none.
            .and_then(|text| serde_json::from_str(&text).ok());
        let lasting = notice.lasting();
        let title = notice.title.clone();
        let critical = notice.state == AlertState::Firing && notice.severity == SEVERITY_CRITICAL;
        let (notice, earlier) = with_history(notice, kept.as_ref(), to);
        let mut body = shape(&notice);
        if let Some(kept) = &kept {
            body["channel"] = kept.channel.as_str().into();
            body["ts"] = kept.ts.as_str().into();
            let edited = self.call(slack, &self.update(), &body, to.now).await?;
            if edited.ok {
                if critical && kept.id != to.id {
                    let reply = json!({"channel": kept.channel, "thread_ts": kept.ts, "reply_broadcast": true,
                        "text": crate::text::slack(&title)});
                    self.call(slack, &self.post, &reply, to.now).await?.check()?;
                }
                let facts = if lasting.is_empty() { kept.facts.clone() } else { lasting };
                let kept = Kept { id: to.id.to_owned(), title, earlier, facts, ..kept.clone() };
                return remember(memory, &to.key, &kept).await;
            }
            if !GONE.contains(&edited.error.as_str()) {
                return edited.check().map(drop);
            }
            if let Some(body) = body.as_object_mut() {
                body.remove("ts");
            }
        }
        body["channel"] = to.channel.into();
        let posted = self.call(slack, &self.post, &body, to.now).await?.check()?;
        let kept = Kept {
            channel: posted.channel,
            ts: posted.ts,
            id: to.id.to_owned(),
            title,
            earlier,
            facts: lasting,
        };
        remember(memory, &to.key, &kept).await
    }

    fn update(&self) -> Url {
        let mut url = self.post.clone();
        let path = url.path().trim_end_matches("chat.postMessage").to_owned();
        url.set_path(&format!("{path}chat.update"));
        url
    }

    async fn call(
        &self,
        slack: &Slack,
        url: &Url,
        body: &Value,
        now: Timestamp,
    ) -> Result<Answer, DeliveryError> {
        let post = slack.client.post(url).await.map_err(unready)?;
        let post = post.timeout(TIMEOUT).bearer_auth(self.token.expose_secret());
        let post = post.header("content-type", "application/json; charset=utf-8").body(body.to_string());
        let response: Response = post.send().await.map_err(failed)?;
        if response.status().as_u16() != 200 {
            return Err(refused(response, now).await);
        }
        let said = body_start(response).await;
        serde_json::from_slice(&said).map_err(|_| {
            let said = one_line(&String::from_utf8_lossy(&said), ANSWER_CHARS_MAX);
            permanent(format!("status 200, but the answer {said:?} is not Slack's"))
        })
    }
}

impl Answer {
    fn check(self) -> Result<Self, DeliveryError> {
        if self.ok {
            return Ok(self);
        }
        let detail = format!("Slack refuses: {}", one_line(&self.error, ANSWER_CHARS_MAX));
        Err(if PASSING.contains(&self.error.as_str()) { temporary(detail) } else { permanent(detail) })
    }
}

/// The notice with what was said before it, and the lines to keep.
fn with_history(mut notice: Notice, kept: Option<&Kept>, to: &Delivery<'_>) -> (Notice, Vec<String>) {
    let Some(kept) = kept else { return (notice, Vec::new()) };
    let mut earlier = kept.earlier.clone();
    // The same message again adds nothing.
    if kept.id != to.id {
        earlier.push(kept.title.clone());
        let surplus = earlier.len().saturating_sub(EARLIER_MAX);
        earlier.drain(..surplus);
    }
    if notice.lasting().is_empty() {
        notice.facts.splice(0..0, kept.facts.iter().cloned());
    }
    if !earlier.is_empty() {
        let heading = Said::new("heading.earlier").text(to.language);
        notice.facts.push((heading, earlier.join("\n")));
    }
    (notice, earlier)
}

/// The message is out: to fail now would only repeat it.
async fn remember(memory: &dyn Memory, key: &str, kept: &Kept) -> Result<(), DeliveryError> {
    let text = serde_json::to_string(kept).expect("texts only");
    if let Err(error) = memory.remember(key, &text).await {
        tracing::warn!(key, error, "a Slack message cannot be remembered: the next one stands by itself");
    }
    Ok(())
}
