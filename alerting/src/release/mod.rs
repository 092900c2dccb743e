//! The release state machine: from verdicts and looks at the live versions to at most one rollback.
//!
//! Pure: [`ReleaseMachine::step`] takes `now` and an [`Event`] and gives [`Command`]s. The caller writes
//! [`ReleaseMachine::batch`] (state, actions and audit rows: one transaction) *before* it performs a
//! [`Command::Call`]; if that write fails, the call is not made.
//!
//! ```text
//!              pass, watch over             canary gone, or it serves alone, or another version came
//!  watching ───────────────────► promoted ──────────────────────────────────────────► closed
//!   │  ▲  │ hold (operator, or fail with on_fail: hold)     ▲ from any phase before the call
//!   │  │  └──────────► holding
//!   │  └─── resume ──────┘
//!   │ fail and on_fail: rollback, or an operator's word
//!   ▼                  accepted, unknown                 canary gone or without traffic, twice
//!  rolling_back ──────────────────────────► verifying ─────────────────────────────► rolled_back
//!   │    ▲ │ not sent: again, bounded           │ time-out
//!   │    └─┘                                    ▼
//!   └── rejected, never sent ──────────► needs_human
//! ```
//!
//! An operator's `promote` leads from any phase without an open call to `promoting`, where only alerts follow.

mod alerts;
mod call;
mod event;
mod explain;
mod look;
mod machine;
mod operator;
mod record;
mod target;
mod verdict_json;

pub use event::{Command, Event, Liveness, OperatorAct, Phase, Rollback, RollbackState};
pub use machine::ReleaseMachine;
pub use record::{record_alert, verdict_of};
pub use target::{ActRequest, CallOutcome, Desired, Expect, Level, Live, ReadError, Subject, TargetState};
pub use verdict_json::verdict_json;
