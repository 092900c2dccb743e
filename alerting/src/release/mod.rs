//! The release state machine: from verdicts and looks at the live versions to at most one rollback.
//!
//! Pure: [`ReleaseMachine::step`] takes `now` and an [`Event`] and gives [`Command`]s. The caller writes
//! [`ReleaseMachine::batch`] (state, actions and audit rows: one transaction) *before* it performs a
//! [`Command::Call`]; if that write fails, the call is not made.
//!
//! ```text
//!              pass at the last step, or over its watch        canary gone, alone, or another version came
//!  watching ──────────────────────────────────► promoted ────────────────────────────────────► closed
//!   │  ▲  │ hold (operator, or fail with on_fail: hold)            ▲ from any phase before the call
//!   │  │  └──────────► holding
//!   │  └─── resume ──────┘
//!   │ fail and on_fail: rollback, an approval, or an operator's word
//!   ▼
//!  rolling_back:  intent ─► read ─► call ─► accepted ─► verifying ───────────────────────────► rolled_back
//!                   ▲        │ │      │ conflict: read            read back, and the canary without traffic,
//!                   │        │ │      │ unknown: read             twice, and what was worse recovered
//!                   └ later ─┘ │      └ rejected ─► needs_human ◄─── time-out
//!                              ├ changed since it was judged ─► watching: judged again
//!                              ├ at the baseline ─► verifying: adopted
//!                              └ another version ─► closed
//! ```
//!
//! While it watches, the [`ramp`] takes a step after each pass: intent, read, call, read back, by the same rules. A
//! target that cannot be asked (level C) is not read: it is called at most once, and the live versions tell.
//!
//! An operator's `promote` leads from any phase without an open call to `promoting`, where only alerts follow.

mod act;
mod alerts;
mod approval;
mod call;
mod event;
mod explain;
mod gates;
mod look;
mod machine;
mod operator;
pub mod quorum;
mod ramp;
mod read;
mod record;
mod target;
mod verdict_json;

pub use act::{Act, ActState};
pub use event::{Command, Down, Event, Gates, Liveness, OperatorAct, Phase};
pub use gates::{Guard, Taken};
pub use machine::ReleaseMachine;
pub use record::{record_alert, verdict_of};
pub use target::{
    ActRequest, CallOutcome, Desired, Expect, Level, Live, ReadError, ReadRequest, Subject, TargetState,
};
pub use verdict_json::verdict_json;
