//! What a canary that is not seen means, for one release: its targets' answers and what its callers' spans say, put
//! before the [`Quorum`].

use std::sync::Arc;
use std::time::Duration;

use davy_alerting::release::quorum::{Answers, Others, Quorum, Sight};
use davy_collector::scrape::{Health, Reason};
use davy_detector::{Arm, Interval};
use davy_model::{SpanKind, SpanStatus, Timestamp};
use davy_store::{Snapshot, SpanQuery};
use tracing::warn;

use super::targets::Targets;

/// Spans of callers are looked at this far back, and this many of each instance.
const SPANS_AGE_MAX: Duration = Duration::from_secs(60);
const SPANS_MAX: usize = 500;
/// Calls to an instance that is down, and the share of them that fails, before they say anything.
const CALLS_MIN: usize = 5;
const FAILED_SHARE: f64 = 0.5;

#[derive(Default)]
pub(super) struct Eyes {
    quorum: Quorum,
    pub(super) sight: Option<Sight>,
}

impl Eyes {
    pub(super) fn see(
        &mut self,
        now: Timestamp,
        interval: &Interval,
        targets: &Targets<'_>,
        snapshot: &Snapshot,
        blind: bool,
    ) -> Sight {
        let canary = answers(interval, Arm::Canary, targets);
        let baseline = answers(interval, Arm::Baseline, targets);
        let missing = canary.seen == 0 && !blind;
        let others = if missing { callers(interval, snapshot, now) } else { Others::Nobody };
        let sight = self.quorum.see(now, canary, baseline, blind, others);
        self.sight = Some(sight);
        sight
    }
}

fn answers(interval: &Interval, arm: Arm, targets: &Targets<'_>) -> Answers {
    let seen = count(interval.instances.iter().filter(|i| i.arm == arm).count());
    let mut all = Answers { seen, ..Answers::default() };
    for (_, instance) in interval.down.iter().filter(|(a, _)| *a == arm) {
        let reason = targets.get(instance).filter(|t| t.health == Health::Down).and_then(|t| t.reason);
        match reason {
            Some(Reason::Refused) => all.refused += 1,
            Some(Reason::Limit | Reason::Parse | Reason::Auth | Reason::HttpStatus | Reason::Config) => {
                all.unusable += 1;
            }
            Some(Reason::Timeout | Reason::Dns | Reason::Tls | Reason::Connection) | None => all.silent += 1,
        }
    }
    all
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Client spans of anyone to the instances that are down.
fn callers(interval: &Interval, snapshot: &Snapshot, now: Timestamp) -> Others {
    let (mut calls, mut failed) = (0, 0);
    for (_, instance) in interval.down.iter().filter(|(arm, _)| *arm == Arm::Canary) {
        for span in spans_to(instance, snapshot, now) {
            calls += 1;
            failed += usize::from(span);
        }
    }
    if calls < CALLS_MIN {
        Others::Nobody
    } else if failed as f64 >= calls as f64 * FAILED_SHARE {
        Others::Fails
    } else {
        Others::Fine
    }
}

/// Whether each call failed. The names are OpenTelemetry's, and those before its 1.21.
fn spans_to(instance: &Arc<str>, snapshot: &Snapshot, now: Timestamp) -> Vec<bool> {
    let Some((host, port)) = instance.rsplit_once(':') else { return Vec::new() };
    let names = [("server.address", "server.port"), ("net.peer.name", "net.peer.port")];
    let mut found = Vec::new();
    for (address, number) in names {
        let attributes = vec![(address.to_owned(), host.to_owned()), (number.to_owned(), port.to_owned())];
        let query = SpanQuery { attributes, limit: SPANS_MAX, ..SpanQuery::default() };
        match snapshot.spans(&query, now - SPANS_AGE_MAX, now) {
            Ok(spans) => found.extend(
                spans.iter().filter(|s| s.kind == SpanKind::Client).map(|s| s.status == SpanStatus::Error),
            ),
            Err(error) => warn!(%error, "spans of a canary's callers cannot be read"),
        }
    }
    found
}
