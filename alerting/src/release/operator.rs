//! What people order. A human wins at once, unless the order is impossible: then the audit log says why.

use davy_model::Timestamp;

use super::act::ActState;
use super::alerts::Kind;
use super::{Command, OperatorAct, Phase, ReleaseMachine};
use crate::words::Said;

impl ReleaseMachine {
    pub(super) fn ordered(
        &mut self,
        now: Timestamp,
        act: OperatorAct,
        actor: &str,
        reason: &str,
        out: &mut Vec<Command>,
    ) {
        let done = match act {
            OperatorAct::Hold => self.hold(now, actor, reason, out),
            OperatorAct::Resume => self.resume(now, actor, reason, out),
            OperatorAct::Rollback => self.order_rollback(now, actor, reason, out),
            OperatorAct::Promote => self.promote(now, actor, reason, out),
            OperatorAct::Approve => self.approve(now, actor, reason, out),
            OperatorAct::Deny => self.deny(now, actor, reason, out),
        };
        if let Err(why) = done {
            self.audit(now, actor, act.as_str(), reason, &format!("refused: {why}"), out);
        }
    }

    fn hold(
        &mut self,
        now: Timestamp,
        actor: &str,
        reason: &str,
        out: &mut Vec<Command>,
    ) -> Result<(), String> {
        match (self.phase, self.rollback.as_ref().map(|r| r.state)) {
            (Phase::Watching | Phase::Promoting | Phase::Promoted, _) => {}
            (Phase::RollingBack, Some(ActState::Waiting(_) | ActState::Reading)) => self.undelivered(),
            (Phase::RollingBack, _) => {
                self.held_by = Some(actor.to_owned());
                let outcome = "the call is in flight; it will not be repeated";
                self.audit(now, actor, "hold", reason, outcome, out);
                return Ok(());
            }
            (Phase::Holding, _) => return Err("it is on hold already".into()),
            (Phase::Verifying | Phase::NeedsHuman | Phase::RolledBack, _) => {
                return Err("the rollback has been called".into());
            }
            (Phase::Closed, _) => return Err("the release is over".into()),
        }
        self.held_by = Some(actor.to_owned());
        self.enter(now, Phase::Holding, actor, "hold", reason.to_owned(), out);
        Ok(())
    }

    fn resume(
        &mut self,
        now: Timestamp,
        actor: &str,
        reason: &str,
        out: &mut Vec<Command>,
    ) -> Result<(), String> {
        match self.phase {
            Phase::Holding | Phase::Promoting | Phase::NeedsHuman => {
                (self.held_by, self.overridden_by) = (None, None);
                self.enter(now, Phase::Watching, actor, "resume", reason.to_owned(), out);
                self.resolve(
                    Kind::RollbackNeedsHuman,
                    &Said::new("done.resumed_by").with("actor", actor).with("reason", reason),
                    out,
                );
                Ok(())
            }
            Phase::Watching | Phase::Promoted if self.ramp.paused.is_some() => {
                self.overridden_by = None;
                let paused = self.ramp.paused.take().unwrap_or_default();
                self.audit(now, actor, "resume", reason, &format!("the ramp goes on ({paused})"), out);
                self.resolve(
                    Kind::RampPaused,
                    &Said::new("done.resumed_by").with("actor", actor).with("reason", reason),
                    out,
                );
                if self.ramp.started {
                    self.ramp.since = now;
                } else {
                    self.known.clear();
                }
                Ok(())
            }
            Phase::Watching | Phase::Promoted if self.overridden_by.is_some() => {
                self.overridden_by = None;
                self.audit(now, actor, "resume", reason, "rolled back again if it is worse", out);
                Ok(())
            }
            Phase::Watching | Phase::Promoted => Err("it is not on hold".into()),
            Phase::RollingBack | Phase::Verifying | Phase::RolledBack => {
                Err("the rollback has been called".into())
            }
            Phase::Closed => Err("the release is over".into()),
        }
    }

    fn order_rollback(
        &mut self,
        now: Timestamp,
        actor: &str,
        reason: &str,
        out: &mut Vec<Command>,
    ) -> Result<(), String> {
        match self.phase {
            Phase::Watching | Phase::Holding | Phase::Promoting | Phase::Promoted | Phase::NeedsHuman => {}
            Phase::RollingBack | Phase::Verifying | Phase::RolledBack => {
                return Err("the rollback has been called".into());
            }
            Phase::Closed => return Err("the release is over".into()),
        }
        let hand = self.may_be_ordered()?;
        (self.held_by, self.overridden_by) = (None, None);
        self.resolve(
            Kind::RollbackNeedsHuman,
            &Said::new("done.ordered_by").with("actor", actor).with("reason", reason),
            out,
        );
        self.intend(now, hand, reason.to_owned(), Some(actor.to_owned()), out);
        Ok(())
    }

    fn promote(
        &mut self,
        now: Timestamp,
        actor: &str,
        reason: &str,
        out: &mut Vec<Command>,
    ) -> Result<(), String> {
        match (self.phase, self.rollback.as_ref().map(|r| r.state)) {
            (Phase::Watching | Phase::Holding | Phase::Promoted | Phase::NeedsHuman, _) => {}
            (Phase::RollingBack, Some(ActState::Waiting(_) | ActState::Reading)) => self.undelivered(),
            (Phase::RollingBack | Phase::Verifying | Phase::RolledBack, _) => {
                return Err("the rollback has been called".into());
            }
            (Phase::Promoting, _) => return Err("it is promoting already".into()),
            (Phase::Closed, _) => return Err("the release is over".into()),
        }
        if let Some(by) = &self.gates.hold {
            return Err(format!("held by {by}"));
        }
        self.held_by = None;
        self.overridden_by = Some(actor.to_owned());
        self.enter(now, Phase::Promoting, actor, "promote", reason.to_owned(), out);
        self.resolve(
            Kind::RollbackNeedsHuman,
            &Said::new("done.promoted_by").with("actor", actor).with("reason", reason),
            out,
        );
        self.resolve(
            Kind::RampPaused,
            &Said::new("done.promoted_by").with("actor", actor).with("reason", reason),
            out,
        );
        if let Some(last) = self.policy.ramp.as_ref().map(|r| r.steps.len().saturating_sub(1)) {
            self.abandon_step();
            self.ramp.paused = None;
            self.intend_step(now, last, reason.to_owned(), Some(actor.to_owned()), out);
        }
        Ok(())
    }
}
