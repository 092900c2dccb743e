//! What must hold: of every effect on the target, of every message, and when all is at rest.

use davy_alerting::release::{ActRequest, ActState, CallOutcome, Desired, Level, Live, Phase};

use super::{INTERVAL, Judgement, LAST_TICK, World};
use crate::{Variant, Violation};

impl World {
    /// The effect, and whether it was one that may be.
    pub(super) fn arrive(&mut self, from: usize, request: &ActRequest, judged: Judgement) -> CallOutcome {
        let before = self.target.clone();
        let outcome = self.target.call(request);
        if !matches!(outcome, CallOutcome::Accepted { .. }) {
            return outcome;
        }
        self.note(before.generation);
        self.tell(|| format!("the target obeys davy {from}: {} on {before:?}", request.desired.as_str()));
        if !self.replicas[from].disk.intents.contains(&request.key) {
            self.broke(Violation::NoIntent);
        }
        if request.desired != Desired::Baseline {
            self.out.steps += 1;
            // What cannot be asked and checked is promised no more than one call.
            if self.level != Level::C && !judged.ordered && self.applied.contains(&before.instance) {
                self.broke(Violation::Revived);
            }
            // Brought back by an order, or by a call that nobody could take back: it may be rolled back again.
            self.applied.retain(|i| *i != before.instance);
            return outcome;
        }
        self.out.rollbacks += 1;
        self.out.wronged += u32::from(!self.bad && !judged.ordered);
        if !judged.ordered && self.level != Level::C {
            self.must_be_told(from, &request.release_id);
        }
        if self.applied.contains(&before.instance) {
            self.broke(Violation::Double);
        }
        let is_canary = matches!(before.live, Live::Share(_));
        // Judged since this instance of the canary is there, and not brought back by a human after a rollback.
        let failed = is_canary && judged.failed_at.is_some_and(|t| t >= before.instance_since);
        // Who brought it back decided; whoever resumes it here since gives it back to Davy.
        let resumed = judged.resumed_at.is_some_and(|t| t >= before.instance_since);
        let overridden = !resumed && self.rolled_back_at.is_some_and(|t| t < before.instance_since);
        if self.level != Level::C && !judged.ordered && (!failed || overridden) {
            self.broke(Violation::NotJudged);
        }
        self.applied.push(before.instance);
        self.rolled_back_at = Some(self.now);
        outcome
    }

    /// Long after the last fault: nothing is under way, and whoever acted said so.
    pub(super) fn end(&mut self) {
        let mut broken = Vec::new();
        for replica in &self.replicas {
            if let Some(machine) = &replica.machine {
                let open = machine.rollback().is_some_and(|r| {
                    matches!(
                        r.state,
                        ActState::Reading | ActState::Calling | ActState::Waiting(_) | ActState::Unknown
                    )
                });
                if open && machine.phase() == Phase::RollingBack {
                    broken.push(Violation::Stuck);
                }
            }
            if self.variant == Variant::Whole || self.variant.is_of_messages() {
                broken.extend(replica.post.broken(LAST_TICK - INTERVAL));
                if replica.must_tell.iter().any(|r| !replica.post.receiver.regressions.contains(r)) {
                    broken.push(Violation::Silent);
                }
            }
            self.out.messages += replica.post.receiver.messages();
            self.out.duplicates += replica.post.receiver.duplicates;
        }
        for violation in broken {
            self.broke(violation);
        }
    }
}
