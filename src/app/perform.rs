//! Asking and calling targets, each in a task of its own; what came of it goes back to the loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use davy_alerting::release::{ActRequest, CallOutcome, Desired, ReadError, ReadRequest, TargetState};
use davy_model::Clock;
use tokio::sync::mpsc;
use tracing::info;

use super::deliver::Messaging;
use super::drill::Drills;
use super::watch::{Errand, hold_file};

/// What came of an errand.
pub(super) enum Report {
    Read { release: i64, ticket: u64, state: Result<TargetState, ReadError> },
    Called { release: i64, desired: Desired, outcome: CallOutcome },
}

pub(super) struct Performer {
    pub(super) folder: PathBuf,
    pub(super) drills: Drills,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) done: mpsc::Sender<Report>,
}

impl Performer {
    pub(super) fn perform(&self, errands: Vec<Errand>, messaging: &Arc<Messaging>) {
        for errand in errands {
            let (done, messaging, folder) = (self.done.clone(), messaging.clone(), self.folder.clone());
            let (drills, clock) = (self.drills.clone(), self.clock.clone());
            tokio::spawn(async move {
                let report = match errand {
                    Errand::Read(request) => match drills.read(&request.subject.service) {
                        Some(state) => Report::Read {
                            release: request.release,
                            ticket: request.ticket,
                            state: Ok(state),
                        },
                        None => read(&request, &messaging).await,
                    },
                    Errand::Call(request) => {
                        // The fleet obeys first, so that a drill with a real actuator sees its own end too.
                        match drills.call(&request, clock.now()) {
                            Some((outcome, false)) => {
                                Report::Called { release: request.release, desired: request.desired, outcome }
                            }
                            Some((_, true)) | None => call(&request, &messaging, &folder).await,
                        }
                    }
                };
                let _ = done.send(report).await;
            });
        }
    }
}

async fn read(request: &ReadRequest, messaging: &Messaging) -> Report {
    let state = match messaging.actuators.get(&request.actuator) {
        Some(actuator) => actuator.read(&request.subject).await,
        None => Err(ReadError::Unusable(format!("no action is called {:?} any more", request.actuator))),
    };
    info!(release = request.release, actuator = request.actuator, ?state, "the target was read");
    Report::Read { release: request.release, ticket: request.ticket, state }
}

async fn call(request: &ActRequest, messaging: &Messaging, folder: &Path) -> Report {
    let name = &request.actuator;
    info!(
        release = request.release_id,
        actuator = name,
        action = request.desired.as_str(),
        "calling the actuator"
    );
    let outcome = match (hold_file(folder), messaging.actuators.get(name)) {
        // Looked for once more, right before the request leaves.
        (Some(by), _) => CallOutcome::NotSent { detail: format!("held by {by}") },
        (None, Some(actuator)) => actuator.call(request).await,
        (None, None) => CallOutcome::NotSent { detail: format!("no action is called {name:?} any more") },
    };
    info!(release = request.release_id, ?outcome, "the actuator was called");
    Report::Called { release: request.release, desired: request.desired, outcome }
}
