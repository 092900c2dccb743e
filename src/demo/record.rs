//! `Record`: everything that was seen of a story, in order. Pure: the stage looks around a few times a second
//! and shows the record what it saw; what is new becomes an event.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_api::wire::{Metric, Release};

use super::Scenario;
use super::inbox::{Channel, Letter};
use super::load::LoadCounts;
use super::ramp::{self, Decision, Ramp};
use super::splitter::{About, Answer, ArmCounts, Change, Order, View, Wanted};

/// Events that are kept; a story has about thirty.
const EVENTS_MAX: usize = 500;
/// The alert that tells of a worse canary, as Davy names it.
const REGRESSION_ALERT: &str = "CanaryRegression";

/// One look around.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// Since the story began.
    pub(super) at: Duration,
    /// `None` before Davy has seen two versions, or when it did not answer.
    pub(super) release: Option<Release>,
    pub(super) stable: ArmCounts,
    pub(super) canary: ArmCounts,
    /// Per cent of the requests, by version, as the splitter has it.
    pub(super) shares: BTreeMap<String, u32>,
    /// Changes of the splitter that came and went between two looks.
    pub(super) unseen: u64,
    pub(super) load: LoadCounts,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) text: String,
    pub(super) tone: Tone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Bad,
    Good,
}

/// The fault went in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Injection {
    pub(super) at: Duration,
    /// The canary's, in per cent.
    pub(super) share: u8,
    /// Requests that the canary had been given by then.
    pub(super) canary_requests: u64,
}

/// Davy's first `fail`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sighting {
    pub(super) at: Duration,
    pub(super) canary_requests: u64,
    pub(super) deciding: Option<Metric>,
    pub(super) reason: String,
}

/// A change of the splitter, with story time.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) at: Duration,
    pub(super) change: Change,
}

/// An alert that arrived, with story time.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) at: Duration,
    pub(super) letter: Letter,
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) scenario: Scenario,
    pub(super) seed: u64,
    /// The canary's share at which the fault comes, in per cent.
    pub(super) weight: u8,
    pub(super) splitter: About,
    pub(super) service: String,
    pub(super) baseline: String,
    pub(super) canary: String,
    pub(super) events: Vec<Event>,
    pub(super) deployed_at: Option<Duration>,
    pub(super) opened_at: Option<Duration>,
    pub(super) injected: Option<Injection>,
    pub(super) seen: Option<Sighting>,
    pub(super) ramp: Ramp,
    /// Everything that Davy asked of the splitter.
    pub(super) calls: Vec<Call>,
    pub(super) rolled_back_at: Option<Duration>,
    pub(super) arrivals: Vec<Arrival>,
    /// Alerts that the inbox turned away.
    pub(super) refused: Vec<String>,
    /// Looks at the release API that got no answer.
    pub(super) blind_looks: u64,
    /// Why the last of them got none.
    pub(super) blind_reason: Option<String>,
    /// The last look in which there was a release, else the last one.
    pub(super) last: Look,
}

impl Record {
    pub(super) fn new(scenario: Scenario, seed: u64, weight: u8, splitter: About) -> Self {
        Self {
            scenario,
            seed,
            weight,
            splitter,
            service: "checkout".to_owned(),
            baseline: "v1".to_owned(),
            canary: "v2".to_owned(),
            events: Vec::new(),
            deployed_at: None,
            opened_at: None,
            injected: None,
            seen: None,
            ramp: Ramp::new(ramp::steps(weight)),
            calls: Vec::new(),
            rolled_back_at: None,
            arrivals: Vec::new(),
            refused: Vec::new(),
            blind_looks: 0,
            blind_reason: None,
            last: Look::default(),
        }
    }

    pub(super) fn say(&mut self, at: Duration, tone: Tone, text: impl Into<String>) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(Event { at, text: text.into(), tone });
        }
    }

    pub(super) fn blind(&mut self, reason: String) {
        self.blind_looks += 1;
        self.blind_reason = Some(reason);
    }

    pub(super) fn deployed(&mut self, at: Duration, instances: u32) {
        self.deployed_at = Some(at);
        let text = format!("{} deployed: {instances} instances, no traffic yet", self.canary);
        self.say(at, Tone::Plain, text);
    }

    pub(super) fn injected(&mut self, injection: Injection, what: &str) {
        self.injected = Some(injection);
        self.say(injection.at, Tone::Bad, format!("fault injected into {}: {what}", self.canary));
    }

    /// Takes what a look saw: Davy and the traffic, and all calls and alerts so far. What is new becomes events,
    /// in order of time. `decision` is Davy's newest, where there are new calls.
    pub(super) fn look(
        &mut self,
        mut look: Look,
        calls: Vec<Call>,
        decision: Option<Decision>,
        arrivals: Vec<Arrival>,
    ) {
        let told = self.events.len();
        match look.release.take() {
            Some(release) => {
                // Looking is slower than Davy: a verdict is no later than the rollback that it led to.
                let rollback = calls.iter().find(|call| call.change.wants_rollback());
                let verdict_at = rollback.map_or(look.at, |call| call.at.min(look.at));
                self.release(look.at, verdict_at, look.canary.requests, &release);
                look.release = Some(release);
            }
            // What was last known stays on the table.
            None => look.release = self.last.release.take(),
        }
        self.last = look;
        self.calls(calls, decision);
        self.arrivals(arrivals);
        self.events[told..].sort_by_key(|event| event.at);
    }

    /// The splitter's last word, once Davy has ended.
    pub(super) fn settle(&mut self, view: &View, calls: Vec<Call>) {
        self.last.see(view, &self.baseline, &self.canary);
        self.calls(calls, None);
    }

    fn release(&mut self, at: Duration, verdict_at: Duration, canary_requests: u64, new: &Release) {
        let old = self.last.release.take();
        if self.opened_at.is_none() {
            self.opened_at = Some(at);
            self.say(
                at,
                Tone::Plain,
                format!("Davy watches {}: {} beside {}", new.id, new.canary, new.baseline),
            );
        }
        if is_failed(new) && self.seen.is_none() {
            let deciding = deciding(new).cloned();
            let metric = deciding.as_ref().map_or("nothing in particular", |metric| &metric.name);
            self.say(verdict_at, Tone::Bad, format!("verdict fail: {metric}"));
            self.seen =
                Some(Sighting { at: verdict_at, canary_requests, deciding, reason: new.reason.clone() });
        }
        let paused = new.ramp.as_ref().and_then(|ramp| ramp.paused.clone());
        if let Some(why) = paused.as_ref().filter(|_| self.ramp.paused.is_none()) {
            self.say(at, Tone::Bad, format!("the ramp is paused: {why}"));
        }
        self.ramp.paused = paused;
        let phase_before = old.as_ref().map_or("watching", |old| old.phase.as_str());
        if phase_before != new.phase {
            let tone = match new.phase.as_str() {
                "rolled_back" => Tone::Good,
                "needs_human" => Tone::Bad,
                _ => Tone::Plain,
            };
            self.say(at, tone, format!("phase {}: {}", new.phase, new.reason));
        }
        if new.phase == "rolled_back" && self.rolled_back_at.is_none() {
            self.rolled_back_at = Some(at);
        }
    }

    fn calls(&mut self, calls: Vec<Call>, mut decision: Option<Decision>) {
        let known = self.calls.len();
        for call in calls.into_iter().skip(known) {
            let Change { key, order, answer, .. } = &call.change;
            match (answer, order) {
                (Answer::Applied, Some(Order { wanted: Wanted::Share(share), canary, .. })) => {
                    let decision = decision.take();
                    let passed = decision.as_ref().filter(|_| self.ramp.in_force().is_some());
                    if let Some(Decision { verdict, reason }) = passed {
                        self.say(call.at, Tone::Plain, format!("verdict {verdict} {reason}"));
                    }
                    let text = format!("splitter: {canary} gets {share} % of the traffic, key {key}");
                    self.say(call.at, Tone::Plain, text);
                    self.ramp.change(call.at, *share, key.clone(), decision);
                }
                (Answer::Applied, Some(Order { wanted: Wanted::Rollback, canary, baseline, .. })) => {
                    let text = format!("splitter: rolled back, {canary} to {baseline}, key {key}");
                    self.say(call.at, Tone::Good, text);
                    self.ramp.end(call.at, decision.take());
                }
                (Answer::Applied, None) => {
                    self.say(
                        call.at,
                        Tone::Bad,
                        format!("splitter: changed, and the key {key} tells not how"),
                    );
                }
                (Answer::Duplicate, _) => {
                    self.say(call.at, Tone::Plain, format!("splitter: called again, key {key}"));
                }
                (Answer::Refused(status, why), _) => {
                    self.say(call.at, Tone::Bad, format!("splitter: a call is refused with {status}: {why}"));
                }
            }
            self.calls.push(call);
        }
    }

    fn arrivals(&mut self, arrivals: Vec<Arrival>) {
        let known = self.arrivals.len();
        for arrival in arrivals.into_iter().skip(known) {
            let text = format!("{}: {}", arrival.letter.channel.as_str(), arrival.letter.title);
            self.say(arrival.at, Tone::Plain, text);
            self.arrivals.push(arrival);
        }
    }

    /// Alerts about the worse canary that came this way once the fault was in.
    pub(super) fn arrived(&self, channel: Channel) -> impl Iterator<Item = &Arrival> {
        let since = self.injected.map_or(Duration::MAX, |injection| injection.at);
        self.arrivals.iter().filter(move |arrival| {
            arrival.letter.channel == channel
                && arrival.at >= since
                && arrival.letter.text.contains(&self.service)
                && arrival.letter.text.contains(REGRESSION_ALERT)
        })
    }

    /// Calls that want the traffic back at the baseline, whatever became of them.
    pub(super) fn rollbacks(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.change.wants_rollback())
    }

    /// Those that shifted the traffic.
    pub(super) fn applied(&self) -> impl Iterator<Item = &Call> {
        self.rollbacks().filter(|call| call.change.answer == Answer::Applied)
    }

    /// Whether a regression's story has nothing more to tell.
    pub(super) fn is_told(&self) -> bool {
        self.rolled_back_at.is_some()
            && Channel::ALL.iter().all(|channel| self.arrived(*channel).next().is_some())
    }

    /// Whether it has gone wrong beyond repair.
    pub(super) fn is_lost(&self) -> bool {
        let early = self.seen.is_some() && self.injected.is_none();
        // Nobody is left to compare with.
        let late = self.ramp.is_complete() && self.injected.is_none() && self.scenario.fault().is_some();
        early
            || late
            || self.ramp.paused.is_some()
            || self.last.release.as_ref().is_some_and(|release| release.phase == "needs_human")
    }
}

impl Look {
    /// The traffic as the splitter has it.
    pub(super) fn see(&mut self, view: &View, baseline: &str, canary: &str) {
        let counts = |version: &str| view.counts.get(version).copied().unwrap_or_default();
        (self.stable, self.canary) = (counts(baseline), counts(canary));
        self.shares.clone_from(&view.shares);
        self.unseen = view.unseen;
    }
}

fn is_failed(release: &Release) -> bool {
    release.verdict == "fail"
}

/// The metric that speaks loudest against the canary, failing ones first.
fn deciding(release: &Release) -> Option<&Metric> {
    let loudness = |metric: &Metric| (metric.verdict == "fail", metric.evidence.unwrap_or(0.0));
    release.metrics.iter().max_by(|a, b| {
        let (a, b) = (loudness(a), loudness(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::samples;

    #[test]
    fn what_is_new_in_a_look_becomes_an_event_once() {
        let mut record = samples::rolled_back();
        let told = record.events.clone();
        let texts: Vec<&str> = told.iter().map(|event| event.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "v1 serves: 3 instances, all of the traffic",
                "v2 deployed: 3 instances, no traffic yet",
                "Davy watches checkout-v2-1: v2 beside v1",
                "splitter: v2 gets 25 % of the traffic, key set_share-25/v2/splitter/2",
                "verdict pass at 25 % of the requests: no worse than the margins",
                "splitter: v2 gets 50 % of the traffic, key set_share-50/v2/splitter/3",
                "fault injected into v2: 5 % of the requests fail",
                "verdict fail: errors",
                "splitter: rolled back, v2 to v1, key rollback/v2/splitter/4",
                "webhook: firing CanaryRegression",
                "slack: firing CanaryRegression",
                "email: firing CanaryRegression",
                "phase rolling_back: errors: 4.9 % against 0.1 % of the baseline",
                "phase rolled_back: errors: 4.9 % against 0.1 % of the baseline",
            ]
        );
        let (last, calls, arrivals) = (record.last.clone(), record.calls.clone(), record.arrivals.clone());
        record.look(last, calls, None, arrivals);
        assert_eq!(record.events, told);
        assert!(record.is_told() && !record.is_lost());
    }

    #[test]
    fn a_look_without_an_answer_keeps_what_was_known() {
        let mut record = samples::healthy();
        let known = record.last.release.clone();
        record.look(Look { at: Duration::from_secs(61), ..Look::default() }, vec![], None, vec![]);
        assert_eq!(record.last.release, known);
        assert_eq!(record.last.at, Duration::from_secs(61));
    }

    #[test]
    fn a_fail_before_the_injection_and_a_call_for_help_are_lost_causes() {
        let mut record = samples::rolled_back();
        record.injected = None;
        assert!(record.is_lost());
        let mut record = samples::healthy();
        let release = Some(samples::release("needs_human", 0.001, 0.0));
        record.look(Look { release, ..record.last.clone() }, vec![], None, vec![]);
        assert!(record.is_lost());
    }

    #[test]
    fn the_loudest_failing_metric_decides() {
        let mut release = samples::release("watching", 0.049, 1.3);
        assert_eq!(deciding(&release).unwrap().name, "errors");
        // What passes does not decide, however loud.
        release.metrics[1].evidence = Some(9.0);
        assert_eq!(deciding(&release).unwrap().name, "errors");
        release.metrics[0].verdict = "insufficient".to_owned();
        assert_eq!(deciding(&release).unwrap().name, "latency_p99");
    }
}
