//! What shares the traffic between the versions: a real HAProxy where one is installed, else the demo's own. Davy
//! sets its weights, for the ramp and for the rollback; the story only looks at it, by its own admin API.

mod builtin;
mod choice;
mod haproxy;
mod runtime;
mod split;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;
use tokio::time::Instant;

pub(super) use builtin::Builtin;
pub use choice::Asked;
pub(super) use choice::{About, Found, choose};
pub(super) use haproxy::{Haproxy, Socket, servers};
pub(super) use split::Split;

use super::DemoError;
use super::fleet::Fleet;

/// A splitter that runs; dropping it ends it.
pub(super) enum Splitter {
    Builtin(Builtin),
    Haproxy(Box<Haproxy>),
}

/// What the splitter says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Per cent of the requests, by version.
    pub(super) shares: BTreeMap<String, u32>,
    pub(super) counts: BTreeMap<String, ArmCounts>,
    /// Every change that Davy asked for so far.
    pub(super) changes: Vec<Change>,
    /// Changes that came and went between two looks.
    pub(super) unseen: u64,
}

/// What a version was given and what came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct ArmCounts {
    pub(super) requests: u64,
    /// Answers of 500 and above, and requests without an answer.
    pub(super) errors: u64,
}

/// A change of the split that Davy asked for, whatever became of it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) at: Instant,
    /// The call's `Idempotency-Key`, which is also the mark that Davy leaves on the target.
    pub(super) key: String,
    /// `None` where the signature or the body was not accepted.
    pub(super) order: Option<Order>,
    pub(super) answer: Answer,
    /// What both versions had been given by then.
    pub(super) baseline: ArmCounts,
    pub(super) canary: ArmCounts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) wanted: Wanted,
    pub(super) canary: String,
    pub(super) baseline: String,
    /// What the call itself says, where there is one to read: HAProxy's runtime API is given weights and a mark.
    pub(super) call: Option<CallBody>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CallBody {
    pub(super) service: String,
    pub(super) release_id: String,
    pub(super) expected_revision: Option<String>,
    pub(super) expected_generation: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of the traffic back to the baseline.
    Rollback,
    /// The canary's share in per cent; all of it, for a promotion.
    Share(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Applied,
    /// The key was seen before; nothing was done.
    Duplicate,
    /// HTTP status and why.
    Refused(u16, String),
}

impl Change {
    /// So do calls that could not be read: they must not go unnoticed.
    pub(super) fn wants_rollback(&self) -> bool {
        self.order.as_ref().is_none_or(|order| order.wanted == Wanted::Rollback)
    }
}

impl Splitter {
    /// Where the load goes.
    pub(super) fn traffic(&self) -> SocketAddr {
        match self {
            Self::Builtin(b) => b.traffic,
            Self::Haproxy(h) => h.traffic,
        }
    }

    /// Adds the canary's instances, without traffic yet.
    pub(super) async fn deploy(&mut self, version: &str, fleet: &Fleet) -> Result<(), DemoError> {
        match self {
            Self::Builtin(b) => {
                b.with(|split| split.deploy(version, fleet.base_urls()));
                Ok(())
            }
            Self::Haproxy(h) => h.deploy(version, &fleet.addresses()).await,
        }
    }

    pub(super) async fn look(&mut self) -> Result<View, DemoError> {
        match self {
            Self::Builtin(b) => Ok(b.view()),
            Self::Haproxy(h) => h.look().await,
        }
    }

    pub(super) async fn stop(self) {
        if let Self::Haproxy(haproxy) = self {
            haproxy.stop().await;
        }
    }
}
