//! The ramp as it was played: which share the canary had when, and what Davy said of it. Pure.

use std::time::Duration;

/// The step before the one at which the fault comes has this part of its share.
const SMALL_PART: u8 = 2;

/// Shares in per cent for a story whose fault comes at `weight`: a small one first, and all of the traffic last.
pub(super) fn steps(weight: u8) -> Vec<u8> {
    let mut steps = vec![(weight / SMALL_PART).max(1), weight, 100];
    steps.dedup();
    steps
}

#[derive(Debug, Clone, Default)]
pub(super) struct Ramp {
    /// What Davy's file says.
    pub(super) planned: Vec<u8>,
    /// What the splitter was given, in order.
    pub(super) steps: Vec<Step>,
    /// Why Davy waits for an operator.
    pub(super) paused: Option<String>,
}

/// A share that was in force.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) share: u8,
    pub(super) at: Duration,
    /// `None` while it is in force.
    pub(super) until: Option<Duration>,
    /// What Davy left on the splitter with it.
    pub(super) key: String,
    /// What ended it: a pass led to the next, a fail to the rollback.
    pub(super) decision: Option<Decision>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) verdict: String,
    pub(super) reason: String,
}

impl Ramp {
    pub(super) fn new(planned: Vec<u8>) -> Self {
        Self { planned, ..Self::default() }
    }

    /// The splitter was given another share; `decision` is the newest that Davy has on record.
    pub(super) fn change(&mut self, at: Duration, share: u8, key: String, decision: Option<Decision>) {
        self.end(at, decision);
        self.steps.push(Step { share, at, until: None, key, decision: None });
    }

    /// The share in force ends, by another one or by the rollback.
    pub(super) fn end(&mut self, at: Duration, decision: Option<Decision>) {
        if let Some(step) = self.steps.last_mut().filter(|step| step.until.is_none()) {
            step.until = Some(at);
            step.decision = decision;
        }
    }

    /// The share in force; `None` before the first and after a rollback.
    pub(super) fn in_force(&self) -> Option<&Step> {
        self.steps.last().filter(|step| step.until.is_none())
    }

    /// Whether the canary has all of the traffic.
    pub(super) fn is_complete(&self) -> bool {
        self.in_force().is_some_and(|step| step.share == 100)
    }

    /// What went otherwise than a ramp does, a sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let shares: Vec<u8> = self.steps.iter().map(|step| step.share).collect();
        if shares.is_empty() {
            problems.push("the ramp never began: Davy gave the canary no share".to_owned());
        }
        if !self.planned.starts_with(&shares) {
            problems
                .push(format!("the ramp's shares were {shares:?}, not in the order of {:?}", self.planned));
        }
        for step in self.steps.iter().rev().skip(1) {
            let verdict = step.decision.as_ref().map_or("none", |decision| &decision.verdict);
            if verdict != "pass" {
                let share = step.share;
                problems
                    .push(format!("the step after {share} % was taken on the verdict {verdict}, not pass"));
            }
        }
        if let Some(why) = &self.paused {
            problems.push(format!("the ramp is paused: {why}"));
        }
        problems
    }

    /// `25 % pass → 50 % fail → 0 %`
    pub(super) fn to_text(&self) -> String {
        let step = |step: &Step| {
            let decision = step.decision.as_ref().map_or("", |decision| &decision.verdict);
            format!("{} % from {:.1} s {decision}", step.share, step.at.as_secs_f64()).trim_end().to_owned()
        };
        let mut texts: Vec<String> = self.steps.iter().map(step).collect();
        match self.steps.last().map(|step| step.until) {
            None => texts.push("not begun".to_owned()),
            Some(Some(at)) => texts.push(format!("0 % from {:.1} s", at.as_secs_f64())),
            Some(None) => {}
        }
        texts.join(" → ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(verdict: &str) -> Option<Decision> {
        Some(Decision { verdict: verdict.to_owned(), reason: "as it says".to_owned() })
    }

    fn seconds(at: u64) -> Duration {
        Duration::from_secs(at)
    }

    fn played() -> Ramp {
        let mut ramp = Ramp::new(steps(50));
        ramp.change(seconds(9), 25, "a".to_owned(), None);
        ramp.change(seconds(24), 50, "b".to_owned(), decided("pass"));
        ramp
    }

    #[test]
    fn the_fault_s_share_lies_between_a_small_one_and_all() {
        assert_eq!(steps(50), [25, 50, 100]);
        assert_eq!(steps(99), [49, 99, 100]);
        assert_eq!(steps(3), [1, 3, 100]);
        assert_eq!(steps(1), [1, 100]);
    }

    #[test]
    fn a_ramp_is_told_step_by_step() {
        assert_eq!(Ramp::new(steps(50)).to_text(), "not begun");
        let mut ramp = played();
        assert_eq!(ramp.to_text(), "25 % from 9.0 s pass → 50 % from 24.0 s");
        ramp.end(seconds(31), decided("fail"));
        assert_eq!(ramp.to_text(), "25 % from 9.0 s pass → 50 % from 24.0 s fail → 0 % from 31.0 s");
        assert_eq!((ramp.in_force(), ramp.is_complete(), ramp.problems()), (None, false, vec![]));
    }

    #[test]
    fn a_step_without_a_pass_or_out_of_order_is_a_problem() {
        let check = |ramp: &Ramp, part: &str| {
            let problems = ramp.problems();
            assert!(problems.len() == 1 && problems[0].contains(part), "{problems:?}");
        };
        assert_eq!(played().problems(), Vec::<String>::new());
        check(&Ramp::new(steps(50)), "never began");
        let mut ramp = played();
        ramp.steps[0].decision = decided("insufficient");
        check(&ramp, "after 25 % was taken on the verdict insufficient");
        ramp.steps[0].decision = None;
        check(&ramp, "verdict none");
        let mut ramp = played();
        ramp.steps.remove(0);
        check(&ramp, "[50], not in the order of [25, 50, 100]");
        let mut ramp = played();
        ramp.change(seconds(40), 50, "c".to_owned(), decided("pass"));
        check(&ramp, "[25, 50, 50]");
        let mut ramp = played();
        ramp.paused = Some("the target cannot be used".to_owned());
        check(&ramp, "paused: the target");
    }
}
