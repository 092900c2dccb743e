//! `Half`: what one span says of a call between two services, taken where the request is read.

use std::sync::Arc;

use davy_model::{AttributeValue, Span, SpanId, SpanKind, SpanLink, SpanStatus, TraceId};

use super::calls::nanos;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Who stands on the other side and sends no spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    Database(Arc<str>),
    /// Unless it does send some.
    Service(Arc<str>),
    /// Nobody called it that is known of: its span has no parent.
    User,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) trace_id: TraceId,
    /// The caller's span.
    pub(crate) call: SpanId,
    pub(crate) side: Side,
    pub(crate) is_messaging: bool,
    pub(crate) service: Arc<str>,
    pub(crate) nanos: u64,
    pub(crate) failed: bool,
    pub(crate) peer: Option<Peer>,
}

/// Attributes that name the other side, those that count more first. All but the first are a database's.
const PEER_KEYS: [&str; 5] = ["peer.service", "db.namespace", "db.name", "db.system.name", "db.system"];

/// What a span's attributes say of the other side.
#[derive(Debug, Default)]
pub(crate) struct PeerNames<'a>([&'a str; PEER_KEYS.len()]);

/// What of a span a half is made of.
pub(crate) struct Ids {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) parent: SpanId,
}

impl<'a> PeerNames<'a> {
    /// Whether the attribute says anything of it.
    pub(crate) fn place(key: &[u8]) -> Option<usize> {
        // Most keys are neither.
        if !matches!(key.first(), Some(b'p' | b'd')) {
            return None;
        }
        PEER_KEYS.iter().position(|k| k.as_bytes() == key)
    }

    /// Of a repeated key the first counts.
    pub(crate) fn set(&mut self, place: usize, value: &'a str) {
        if self.0[place].is_empty() {
            self.0[place] = value;
        }
    }

    fn peer(&self) -> Option<Peer> {
        let name = self.0.iter().find(|n| !n.is_empty())?;
        let is_database = self.0[1..].iter().any(|n| !n.is_empty());
        Some(if is_database { Peer::Database((*name).into()) } else { Peer::Service((*name).into()) })
    }
}

impl Half {
    /// `None` of a span within one service, or of a service without a name.
    pub(crate) fn new(
        ids: &Ids,
        kind: SpanKind,
        status: SpanStatus,
        service: &Arc<str>,
        [start, end]: [u64; 2],
        names: &PeerNames,
        links: &[SpanLink],
    ) -> Option<Self> {
        if service.is_empty() {
            return None;
        }
        let (side, is_messaging) = match kind {
            SpanKind::Client => (Side::Client, false),
            SpanKind::Producer => (Side::Client, true),
            SpanKind::Server => (Side::Server, false),
            SpanKind::Consumer => (Side::Server, true),
            SpanKind::Internal | SpanKind::Unspecified => return None,
        };
        // A consumer often begins a trace of its own and links to who sent the message.
        let linked = links.first().filter(|_| kind == SpanKind::Consumer);
        let (trace_id, call) = match (side, linked) {
            (Side::Client, _) => (ids.trace, ids.span),
            (Side::Server, Some(link)) => (link.trace_id, link.span_id),
            (Side::Server, None) => (ids.trace, ids.parent),
        };
        let peer = match side {
            Side::Client => names.peer(),
            Side::Server => call.is_zero().then_some(Peer::User),
        };
        Some(Self {
            trace_id,
            call,
            side,
            is_messaging,
            service: service.clone(),
            nanos: nanos(start, end),
            failed: status == SpanStatus::Error,
            peer,
        })
    }

    pub(crate) fn of(spans: &[Span]) -> Vec<Self> {
        let mut service: Option<(&Span, Arc<str>)> = None;
        let mut halves = Vec::new();
        for span in spans {
            let name = match &service {
                Some((last, name)) if Arc::ptr_eq(&last.resource, &span.resource) => name.clone(),
                _ => span.resource.service().into(),
            };
            service = Some((span, name.clone()));
            let mut names = PeerNames::default();
            for (key, value) in &span.attributes {
                if let (Some(place), AttributeValue::String(text)) = (PeerNames::place(key.as_bytes()), value)
                {
                    names.set(place, text);
                }
            }
            let ids = Ids { trace: span.trace_id, span: span.span_id, parent: span.parent_span_id };
            let times = [span.start_nanos, span.end_nanos];
            halves.extend(Self::new(&ids, span.kind, span.status, &name, times, &names, &span.links));
        }
        halves
    }
}
