//! `Sender`: sends the items of a shard, a batch after the other, until each is taken or refused for good.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use davy_egress::{HttpClient, describe, secret_header};
use davy_model::{Clock, Metadata};
use davy_store::{Snapshot, Store};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::config::{Protocol, RemoteWriteConfig};
use super::encode;
use super::round::{Item, Shard};
use super::stats::{DestinationStats, add};

/// A batch that is refused as a whole may hold good samples: it is cut this often to find them.
const CUTS_MAX: usize = 32;
/// No destination is waited for longer than this because it asked for it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How long a request in progress may take to end when Davy stops.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// What is kept of the text of a refusal.
const WHY_BYTES_MAX: usize = 300;
const WRITTEN_SAMPLES: &str = "x-prometheus-remote-write-samples-written";
const WRITTEN_HISTOGRAMS: &str = "x-prometheus-remote-write-histograms-written";
const WRITTEN_EXEMPLARS: &str = "x-prometheus-remote-write-exemplars-written";
/// What a metric's series add to the name of its family.
const SUFFIXES: [&str; 6] = ["_total", "_bucket", "_count", "_sum", "_created", "_info"];

pub(super) struct Sender {
    pub(super) client: HttpClient,
    pub(super) url: Url,
    pub(super) config: RemoteWriteConfig,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<DestinationStats>,
    /// The last request did not get through; said once.
    pub(super) failing: AtomicBool,
}

/// How a request ended.
enum Ended {
    Taken,
    /// So many of it, and the rest never.
    TakenPartly {
        written: u64,
        why: String,
    },
    /// Worth another try.
    NotNow {
        after: Option<Duration>,
        why: String,
    },
    /// Never, as it is.
    Refused {
        why: String,
        may_hold_good: bool,
    },
}

enum Settled {
    Taken,
    Refused { why: String, may_hold_good: bool },
    Stopped,
}

impl Sender {
    /// How many of the shard's are done: all of them, unless Davy stops meanwhile.
    pub(super) async fn run(&self, shard: Shard, stop: &CancellationToken) -> usize {
        let mut done = shard.done;
        for batch in shard.items.chunks(self.config.queue.max_samples_per_send) {
            if stop.is_cancelled() || !self.batch(batch, stop).await {
                return done;
            }
            done = batch.last().map_or(done, |i| i.place + 1);
            self.stats.pending.fetch_sub(batch.len() as u64, Ordering::Relaxed);
        }
        shard.dealt
    }

    /// Whether every item of the batch is taken or refused for good.
    async fn batch(&self, items: &[Item], stop: &CancellationToken) -> bool {
        let mut waiting = VecDeque::from([items.iter().collect::<Vec<&Item>>()]);
        let mut cuts = 0;
        while let Some(mut batch) = waiting.pop_front() {
            match self.settle(&mut batch, stop).await {
                Settled::Taken => {}
                Settled::Stopped => return false,
                // A server that takes all or nothing refuses a batch for one sample that it has already: after a
                // crash those are the older ones, so that the halves are cut by time.
                Settled::Refused { may_hold_good: true, .. } if batch.len() > 1 && cuts < CUTS_MAX => {
                    cuts += 1;
                    batch.sort_by_key(|i| i.at);
                    let newer = batch.split_off(batch.len() / 2);
                    waiting.push_front(newer);
                    waiting.push_front(batch);
                }
                Settled::Refused { why, .. } => self.refused(batch.len() as u64, &why),
            }
        }
        true
    }

    fn refused(&self, items: u64, why: &str) {
        add(&self.stats.samples_failed, items);
        warn!(
            destination = self.config.name,
            items, why, "remote write was refused; they are not sent again"
        );
    }

    /// Tries until there is an answer that counts.
    async fn settle(&self, batch: &mut Vec<&Item>, stop: &CancellationToken) -> Settled {
        let queue = &self.config.queue;
        let mut backoff = queue.min_backoff;
        loop {
            self.drop_old(batch);
            if batch.is_empty() {
                return Settled::Taken;
            }
            let snapshot = self.store.snapshot();
            let body = encode::samples(self.config.protocol, batch, |name| metadata_of(&snapshot, name));
            batch.iter().for_each(|i| self.stats.sent(&i.what));
            let ended = tokio::select! {
                ended = self.post(&body) => ended,
                () = async { stop.cancelled().await; tokio::time::sleep(DRAIN_MAX).await } => return Settled::Stopped,
            };
            match ended {
                Ended::Taken => {
                    self.works();
                    let newest = batch.iter().filter(|i| !i.what.is_exemplar()).map(|i| i.at).max();
                    newest.into_iter().for_each(|at| self.stats.acknowledged(at));
                    return Settled::Taken;
                }
                Ended::TakenPartly { written, why } => {
                    self.works();
                    self.refused((batch.len() as u64).saturating_sub(written), &why);
                    return Settled::Taken;
                }
                Ended::Refused { why, may_hold_good } => {
                    self.works();
                    return Settled::Refused { why, may_hold_good };
                }
                Ended::NotNow { after, why } => {
                    add(&self.stats.samples_retried, batch.len() as u64);
                    if !self.failing.swap(true, Ordering::Relaxed) {
                        warn!(
                            destination = self.config.name,
                            why, "remote write does not get through; trying on"
                        );
                    }
                    let wait = after.unwrap_or_default().min(RETRY_AFTER_MAX).max(backoff);
                    backoff = (backoff * 2).min(queue.max_backoff);
                    tokio::select! {
                        () = stop.cancelled() => return Settled::Stopped,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    fn works(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            info!(destination = self.config.name, "remote write gets through again");
        }
    }

    fn drop_old(&self, batch: &mut Vec<&Item>) {
        let Some(limit) = self.config.queue.sample_age_limit else { return };
        let (oldest, before) = (self.clock.now() - limit, batch.len());
        batch.retain(|i| i.at >= oldest);
        add(&self.stats.samples_dropped_too_old, (before - batch.len()) as u64);
    }

    /// What metrics are, for a server of 1.0. One that fails is not tried again: the next comes in a minute.
    pub(super) async fn send_metadata(&self, of: &[(String, Metadata)]) {
        let count = of.len() as u64;
        add(&self.stats.metadata, count);
        match self.post(&encode::metadata(of)).await {
            Ended::Taken | Ended::TakenPartly { .. } => {}
            Ended::NotNow { why, .. } | Ended::Refused { why, .. } => {
                tracing::debug!(destination = self.config.name, count, why, "metadata was not taken");
            }
        }
    }

    async fn post(&self, body: &[u8]) -> Ended {
        let body = encode::compress(body);
        let sent = body.len() as u64;
        let ended = match tokio::time::timeout(self.config.remote_timeout, self.request(body)).await {
            Ok(ended) => ended,
            Err(_) => {
                let why = format!("no answer within {:?}", self.config.remote_timeout);
                Ended::NotNow { after: None, why }
            }
        };
        add(&self.stats.requests, 1);
        add(&self.stats.bytes, sent);
        add(&self.stats.requests_failed, u64::from(!matches!(ended, Ended::Taken)));
        ended
    }

    async fn request(&self, body: Vec<u8>) -> Ended {
        let not_now = |why: String| Ended::NotNow { after: None, why };
        let protocol = self.config.protocol;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.headers {
            let Ok(name) = HeaderName::try_from(name.as_str()) else { continue };
            match secret_header(value).await {
                Ok(value) => _ = headers.insert(name, value),
                Err(error) => return not_now(error.to_string()),
            }
        }
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(encode::content_type(protocol)));
        let version = HeaderValue::from_static(encode::version(protocol));
        headers.insert("x-prometheus-remote-write-version", version);
        let request = match self.client.post(&self.url).await {
            Ok(request) => request.headers(headers).body(body),
            Err(error) => return not_now(error.to_string()),
        };
        match request.send().await {
            Ok(response) => self.answer(response).await,
            Err(error) => not_now(describe(&error)),
        }
    }

    async fn answer(&self, mut response: reqwest::Response) -> Ended {
        let (status, headers) = (response.status(), response.headers().clone());
        let written = written(&headers);
        if status.is_success() {
            return match (self.config.protocol, written) {
                // A server that knows only 1.0 may take what it cannot read for an empty request.
                (Protocol::V2, None) => Ended::Refused {
                    why: format!(
                        "{status}, but nothing says that 2.0 was understood; try `protobuf_message: prometheus.WriteRequest`"
                    ),
                    may_hold_good: false,
                },
                _ => Ended::Taken,
            };
        }
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await
            && text.len() < WHY_BYTES_MAX
        {
            text.extend_from_slice(&chunk);
        }
        text.truncate(WHY_BYTES_MAX);
        let why = format!("{status}: {}", String::from_utf8_lossy(&text).trim());
        let asked = status == StatusCode::TOO_MANY_REQUESTS && self.config.queue.retry_on_http_429;
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT || asked {
            return Ended::NotNow { after: retry_after(&headers), why };
        }
        match written {
            Some(written) if self.config.protocol == Protocol::V2 => Ended::TakenPartly { written, why },
            _ => {
                let cut = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::CONFLICT];
                Ended::Refused { why, may_hold_good: cut.contains(&status) }
            }
        }
    }
}

/// By the metric's name, or its family's.
fn metadata_of(snapshot: &Snapshot, name: &str) -> Option<Metadata> {
    snapshot.metadata(name).or_else(|| {
        let families = SUFFIXES.iter().filter_map(|s| name.strip_suffix(s));
        families.into_iter().find_map(|family| snapshot.metadata(family))
    })
}

/// Samples, histograms and exemplars that a server of 2.0 says it wrote.
fn written(headers: &HeaderMap) -> Option<u64> {
    let of = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let all = [WRITTEN_SAMPLES, WRITTEN_HISTOGRAMS, WRITTEN_EXEMPLARS].map(of);
    all.iter().any(Option::is_some).then(|| all.into_iter().flatten().sum())
}

/// Seconds; a date is not read, and then the usual backoff does.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
