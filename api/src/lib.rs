//! HTTP: the release API, targets, alerts, health, remote write, storage, traces, and Davy's own metrics.
//!
//! The app publishes what it knows as a [`View`] after every tick; handlers answer from that view, or from a
//! store snapshot, and never from the app's insides. What a person asks for goes the other way as an
//! [`Operation`] through a bounded channel.

mod alertmanager;
mod blocking;
mod drill;
mod error;
mod jaeger;
mod outbox;
mod prometheus;
mod release;
mod router;
mod storage;
mod tempo;
mod view;
pub mod wire;

pub use alertmanager::{SilenceChange, SilenceRequest};
pub use drill::DrillRequest;
pub use prometheus::{QueryGate, QueryLimits};
pub use release::{Operation, OperationError, OperationKind};
pub use router::{ApiState, Reload, RenderReport, ReportFormat, router};
pub use storage::Storage;
pub use view::{Event, View, ViewHandle};
