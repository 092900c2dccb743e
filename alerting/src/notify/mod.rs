//! `Notifier`: delivers a message of the outbox to one integration of one receiver.
//!
//! Hop 7. Alerts fail open: whatever might succeed later is retryable, and a message is built anew for each
//! attempt under the same id.

mod alertmanager;
mod email;
mod notice;
mod slack;
mod webhook;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use davy_egress::{ClientError, Names, describe};
use davy_model::{Clock, Timestamp};
use davy_store::control::OutboxRecord;
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use tracing::warn;

pub use crate::client::SetupError;
use crate::client::body_start;
use crate::config::{Integration, Receiver};
pub use crate::dispatch::DeliveryError;
use crate::gotemplate::Value;
use crate::record::{Message, message_of};
use crate::template::{TemplateError, data};
use crate::text;
use crate::words::Language;
use notice::Notice;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest part of an answer that is kept with an error, in characters.
const ANSWER_CHARS_MAX: usize = 200;

pub struct Notifier {
    receivers: BTreeMap<String, Vec<Sender>>,
    external_url: String,
    clock: Arc<dyn Clock>,
    language: Language,
    memory: Arc<dyn Memory>,
}

/// What a receiver must know of its earlier messages, kept over restarts.
pub trait Memory: Send + Sync {
    fn recall<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, String>>;
    fn remember<'a>(&'a self, key: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), String>>;
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Forgets with the process.
#[derive(Debug, Default)]
pub struct Forgetful(std::sync::Mutex<BTreeMap<String, String>>);

impl Memory for Forgetful {
    fn recall<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, String>> {
        let found = self.0.lock().expect("no holder panics").get(key).cloned();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn remember<'a>(&'a self, key: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.0.lock().expect("no holder panics").insert(key.to_owned(), value.to_owned());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// One message on its way to one integration.
struct Envelope<'a> {
    record: &'a OutboxRecord,
    message: Message,
    external_url: &'a str,
    language: Language,
    now: Timestamp,
}

impl Envelope<'_> {
    /// For the file's templates.
    fn data(&self) -> Value {
        data(&self.message, &self.record.receiver, self.external_url)
    }

    fn notice(&self) -> Notice {
        Notice::of(&self.message, self.external_url, self.language)
    }

    /// A template that fails costs the form and not the message: Davy's own form goes out and says why.
    fn form_or_notice<T>(&self, form: Result<Option<T>, TemplateError>) -> (Option<T>, Notice) {
        let mut notice = self.notice();
        match form {
            Ok(form) => (form, notice),
            Err(error) => {
                warn!(receiver = self.record.receiver, %error, "the message goes out in Davy's own form");
                notice.template_failed(&error.to_string(), self.language);
                (None, notice)
            }
        }
    }
}

enum Sender {
    Webhook(webhook::Webhook),
    Slack(slack::Slack),
    Email(email::Email),
    Alertmanager(alertmanager::Alertmanager),
}

impl Sender {
    fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Email(_) => "email",
            Self::Alertmanager(_) => "alertmanager",
        }
    }
}

impl Notifier {
    /// `external_url` is where people reach Davy; messages link to it.
    pub fn new(
        receivers: &[Receiver],
        external_url: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        Self::with_names(receivers, external_url, clock, &Names::default())
    }

    fn with_names(
        receivers: &[Receiver],
        external_url: &str,
        clock: Arc<dyn Clock>,
        names: &Names,
    ) -> Result<Self, SetupError> {
        let sender = |owner: &str, integration: &Integration| {
            Ok(match integration {
                Integration::Webhook(c) => Sender::Webhook(webhook::Webhook::new(owner, c, names)?),
                Integration::Slack(c) => Sender::Slack(slack::Slack::new(owner, c, names)?),
                Integration::Email(c) => Sender::Email(email::Email::new(owner, c, names)?),
                Integration::Alertmanager(c) => {
                    Sender::Alertmanager(alertmanager::Alertmanager::new(owner, c, names)?)
                }
            })
        };
        let mut by_name = BTreeMap::new();
        for receiver in receivers {
            let owner = format!("receiver {}", receiver.name);
            let senders: Result<Vec<Sender>, SetupError> =
                receiver.integrations.iter().map(|i| sender(&owner, i)).collect();
            by_name.insert(receiver.name.clone(), senders?);
        }
        Ok(Self {
            receivers: by_name,
            external_url: external_url.to_owned(),
            clock,
            language: Language::default(),
            memory: Arc::new(Forgetful::default()),
        })
    }

    /// Of what Davy says itself.
    #[must_use]
    pub fn in_language(self, language: Language) -> Self {
        Self { language, ..self }
    }

    #[must_use]
    pub fn with_memory(self, memory: Arc<dyn Memory>) -> Self {
        Self { memory, ..self }
    }

    /// One attempt; [`Dispatcher::after_attempt`](crate::dispatch::Dispatcher::after_attempt) says what is next.
    pub async fn deliver(&self, record: &OutboxRecord) -> Result<(), DeliveryError> {
        let message = message_of(record).map_err(|e| permanent(e.to_string()))?;
        let sender = self
            .receivers
            .get(&record.receiver)
            .and_then(|senders| senders.get(message.integration))
            .filter(|sender| sender.kind() == message.kind)
            .ok_or_else(|| {
                permanent(format!("receiver {} has no such {} any more", record.receiver, message.kind))
            })?;
        let envelope = Envelope {
            record,
            message,
            external_url: &self.external_url,
            language: self.language,
            now: self.clock.now(),
        };
        match sender {
            Sender::Webhook(to) => to.send(&envelope).await,
            Sender::Alertmanager(to) => to.send(&envelope).await,
            Sender::Slack(to) => to.send(&envelope, &*self.memory).await,
            Sender::Email(to) => to.send(&envelope).await,
        }
    }
}

fn permanent(detail: String) -> DeliveryError {
    DeliveryError { retryable: false, retry_after: None, detail }
}

fn temporary(detail: String) -> DeliveryError {
    DeliveryError { retryable: true, retry_after: None, detail }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: reqwest::Error) -> DeliveryError {
    temporary(describe(&error))
}

/// Credentials that cannot be read now may be readable later.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unready(error: ClientError) -> DeliveryError {
    temporary(error.to_string())
}

/// What an answer other than success means: 4xx is final save for 408 and 429, as is a redirect.
async fn refused(response: Response, now: Timestamp) -> DeliveryError {
    let status = response.status();
    let retry_after = retry_after(&response, now);
    let said = text::one_line(&String::from_utf8_lossy(&body_start(response).await), ANSWER_CHARS_MAX);
    let again = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    let retryable = again || !(status.is_client_error() || status.is_redirection());
    let code = status.as_u16();
    let detail = if said.is_empty() { format!("status {code}") } else { format!("status {code}: {said}") };
    DeliveryError { retryable, retry_after, detail }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(response: &Response, now: Timestamp) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Timestamp::from_millis(date.as_millisecond()).since(now))
}
