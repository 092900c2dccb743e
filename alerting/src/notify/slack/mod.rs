//! Slack: an incoming webhook, or a bot that keeps one message for each release up to date.

mod attachment;
mod blocks;
mod bot;

use std::time::Duration;

use davy_egress::{HttpClient, Names};
use davy_model::Timestamp;
use reqwest::Url;
use serde_json::Value;
use tokio::sync::Mutex;

use self::bot::{Bot, Delivery};
use super::notice::Notice;
use super::{
    ANSWER_CHARS_MAX, CONNECT_TIMEOUT, DeliveryError, Envelope, Memory, failed, permanent, refused, unready,
};
use crate::client::{self, SetupError, body_start};
use crate::config::{SlackConfig, SlackDestination, SlackForm};
use crate::template::{Markup, Text};
use crate::text::one_line;

const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Slack {
    client: HttpClient,
    destination: Destination,
    channel: Option<Text>,
    form: Option<Box<SlackForm>>,
    /// Two messages of one release must not both find that there is none yet.
    in_turn: Mutex<()>,
}

enum Destination {
    Webhook(Url),
    Bot(Bot),
}

impl Slack {
    pub(super) fn new(owner: &str, config: &SlackConfig, names: &Names) -> Result<Self, SetupError> {
        let destination = match &config.destination {
            SlackDestination::Webhook(url) => Destination::Webhook(client::url(owner, url)?),
            SlackDestination::Bot { token, post_url } => Destination::Bot(Bot {
                token: token.clone(),
                post: client::url(owner, &post_url.clone().into())?,
            }),
        };
        let url = match &destination {
            Destination::Webhook(url) | Destination::Bot(Bot { post: url, .. }) => url,
        };
        Ok(Self {
            client: client::client(owner, &config.http, url, CONNECT_TIMEOUT, names)?,
            destination,
            channel: config.channel.clone(),
            form: config.form.clone(),
            in_turn: Mutex::new(()),
        })
    }

    pub(super) async fn send(
        &self,
        envelope: &Envelope<'_>,
        memory: &dyn Memory,
    ) -> Result<(), DeliveryError> {
        let data = envelope.data();
        let channel = self.channel.as_ref().map(|c| c.expand(&data, Markup::Plain, envelope.now)).transpose();
        let channel = channel.map_err(|e| permanent(format!("its channel: {e}")))?;
        let form = self.form.as_ref().map(|form| attachment::body(form, &data, envelope.now)).transpose();
        let (form, notice) = envelope.form_or_notice(form);
        let shape = |notice: &Notice| form.clone().unwrap_or_else(|| blocks::body(notice));
        match &self.destination {
            Destination::Webhook(url) => {
                let mut body = shape(&notice);
                if let Some(channel) = channel {
                    body["channel"] = channel.into();
                }
                self.post(url, &body, envelope.now).await
            }
            Destination::Bot(bot) => {
                let channel = channel.unwrap_or_default();
                let to = Delivery {
                    id: &envelope.record.id,
                    key: format!(
                        "slack/{}/{}/{}",
                        envelope.record.receiver, envelope.message.integration, notice.thread
                    ),
                    channel: &channel,
                    language: envelope.language,
                    now: envelope.now,
                };
                let _turn = self.in_turn.lock().await;
                bot.send(self, &to, notice, shape, memory).await
            }
        }
    }

    async fn post(&self, url: &Url, body: &Value, now: Timestamp) -> Result<(), DeliveryError> {
        let post = self.client.post(url).await.map_err(unready)?.timeout(TIMEOUT);
        let post = post.header("content-type", "application/json").body(body.to_string());
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
