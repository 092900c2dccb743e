//! `Received`: what one request of traces comes to, ready for the thread that writes.

use std::sync::Arc;

use davy_model::Labels;
use davy_store::{SpanBatch, SpanBlock};

use super::calls::Calls;
use super::half::Half;
use super::outcome::Tally;
use super::resource::identity;
use super::spans::Converted;

#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The spans that were taken, as they go to the log.
    pub(crate) block: Option<SpanBlock>,
    /// Identities of the resources that sent them.
    pub(crate) senders: Vec<Labels>,
    pub(crate) calls: Vec<Calls>,
    pub(crate) halves: Vec<Half>,
    pub(crate) tally: Tally,
    /// Attributes, events and links left out, and texts cut short.
    pub(crate) truncated: u64,
}

/// For what does not come in protobuf.
impl From<Converted> for Received {
    fn from(converted: Converted) -> Self {
        let Converted { spans, tally, truncated } = converted;
        let mut batch = SpanBatch::new();
        spans.iter().for_each(|span| batch.push_span(span));
        let by_sender = spans.chunk_by(|a, b| Arc::ptr_eq(&a.resource, &b.resource));
        Self {
            block: (!batch.is_empty()).then(|| batch.seal()),
            senders: by_sender.map(|spans| identity(&spans[0].resource)).collect(),
            calls: Calls::of(&spans),
            halves: Half::of(&spans),
            tally,
            truncated,
        }
    }
}
