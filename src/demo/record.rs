//! `Record`: everything that was seen of a story, in order. Pure: the stage looks around a few times a second
//! and shows the record what it saw; what is new becomes an event.

use std::time::Duration;

use davy_api::wire::{Metric, Release};

use super::Scenario;
use super::inbox::{Channel, Letter};
use super::load::LoadCounts;
use super::splitter::{ArmCounts, RollbackAnswer, RollbackCall};

/// Events that are kept; a story has about twenty.
const EVENTS_MAX: usize = 500;

/// One look around.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// Since the story began.
    pub(super) at: Duration,
    /// `None` before Davy has seen two versions, or when it did not answer.
    pub(super) release: Option<Release>,
    pub(super) stable: ArmCounts,
    pub(super) canary: ArmCounts,
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

/// A call of the splitter's rollback, with story time.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) at: Duration,
    pub(super) call: RollbackCall,
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
    pub(super) weight: u32,
    pub(super) service: String,
    pub(super) baseline: String,
    pub(super) canary: String,
    pub(super) events: Vec<Event>,
    pub(super) deployed_at: Option<Duration>,
    pub(super) opened_at: Option<Duration>,
    pub(super) injected: Option<Injection>,
    pub(super) seen: Option<Sighting>,
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
    pub(super) fn new(scenario: Scenario, seed: u64, weight: u32) -> Self {
        Self {
            scenario,
            seed,
            weight,
            service: "checkout".to_owned(),
            baseline: "v1".to_owned(),
            canary: "v2".to_owned(),
            events: Vec::new(),
            deployed_at: None,
            opened_at: None,
            injected: None,
            seen: None,
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
        let text =
            format!("{} deployed: {instances} instances, {} % of the traffic", self.canary, self.weight);
        self.say(at, Tone::Plain, text);
    }

    pub(super) fn injected(&mut self, injection: Injection, what: &str) {
        self.injected = Some(injection);
        self.say(injection.at, Tone::Bad, format!("fault injected into {}: {what}", self.canary));
    }

    /// Takes what a look saw: Davy and the traffic, and all calls and alerts so far. What is new becomes events,
    /// in order of time.
    pub(super) fn look(&mut self, mut look: Look, calls: Vec<Call>, arrivals: Vec<Arrival>) {
        let told = self.events.len();
        match look.release.take() {
            Some(release) => {
                // Looking is slower than Davy: a verdict is no later than the call that it led to.
                let first_call = calls.first().map_or(look.at, |call| call.at.min(look.at));
                self.release(look.at, first_call, look.canary.requests, &release);
                look.release = Some(release);
            }
            // What was last known stays on the table.
            None => look.release = self.last.release.take(),
        }
        self.last = look;
        self.calls(calls);
        self.arrivals(arrivals);
        self.events[told..].sort_by_key(|event| event.at);
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
        } else if old.as_ref().is_some_and(|old| old.verdict != new.verdict) && !is_failed(new) {
            self.say(at, Tone::Plain, format!("verdict {}", new.verdict));
        }
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

    fn calls(&mut self, calls: Vec<Call>) {
        let known = self.calls.len();
        for call in calls.into_iter().skip(known) {
            let (tone, text) = match (&call.call.answer, &call.call.body) {
                (RollbackAnswer::Applied, Some(body)) => (
                    Tone::Good,
                    format!(
                        "splitter: rollback called, {} to {}, key {}",
                        body.from_version, body.to_version, call.call.key
                    ),
                ),
                (RollbackAnswer::Applied, None) => (Tone::Good, "splitter: rollback called".to_owned()),
                (RollbackAnswer::Duplicate, _) => {
                    (Tone::Plain, format!("splitter: rollback called again, key {}", call.call.key))
                }
                (RollbackAnswer::Refused(status, why), _) => {
                    (Tone::Bad, format!("splitter: rollback refused with {status}: {why}"))
                }
            };
            self.say(call.at, tone, text);
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

    /// Alerts about the service that came this way once the fault was in.
    pub(super) fn arrived(&self, channel: Channel) -> impl Iterator<Item = &Arrival> {
        let since = self.injected.map_or(Duration::MAX, |injection| injection.at);
        self.arrivals.iter().filter(move |arrival| {
            arrival.letter.channel == channel
                && arrival.at >= since
                && arrival.letter.text.contains(&self.service)
        })
    }

    /// The calls that shifted the traffic.
    pub(super) fn applied(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.call.answer == RollbackAnswer::Applied)
    }

    /// Whether a regression's story has nothing more to tell.
    pub(super) fn is_told(&self) -> bool {
        self.rolled_back_at.is_some()
            && Channel::ALL.iter().all(|channel| self.arrived(*channel).next().is_some())
    }

    /// Whether it has gone wrong beyond repair.
    pub(super) fn is_lost(&self) -> bool {
        let early = self.seen.is_some() && self.injected.is_none();
        early || self.last.release.as_ref().is_some_and(|release| release.phase == "needs_human")
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
                "v2 deployed: 3 instances, 50 % of the traffic",
                "Davy watches checkout-v2-1: v2 beside v1",
                "fault injected into v2: 5 % of the requests fail",
                "verdict fail: errors",
                "splitter: rollback called, v2 to v1, key checkout-v2-1-rollback",
                "webhook: firing CanaryRegression",
                "slack: firing CanaryRegression",
                "email: firing CanaryRegression",
                "phase rolling_back: errors: 4.9 % against 0.1 % of the baseline",
                "phase rolled_back: errors: 4.9 % against 0.1 % of the baseline",
            ]
        );
        let (last, calls, arrivals) = (record.last.clone(), record.calls.clone(), record.arrivals.clone());
        record.look(last, calls, arrivals);
        assert_eq!(record.events, told);
        assert!(record.is_told() && !record.is_lost());
    }

    #[test]
    fn a_look_without_an_answer_keeps_what_was_known() {
        let mut record = samples::healthy();
        let known = record.last.release.clone();
        record.look(Look { at: Duration::from_secs(61), ..Look::default() }, vec![], vec![]);
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
        record.look(Look { release, ..record.last.clone() }, vec![], vec![]);
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
