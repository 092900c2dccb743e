//! `Split`: how traffic is shared between versions, and what may change it. Pure: sockets are next door.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Answer, ArmCounts, CallBody, Order, Wanted};

/// Keys of calls that are remembered; far more than one story has.
const KEYS_MAX: usize = 1_000;
/// What is changed, over its whole life.
const UID: &str = "splitter";

/// One version behind the splitter.
#[derive(Debug)]
struct Arm {
    version: String,
    weight: u32,
    /// Base URLs of its instances.
    instances: Vec<String>,
    next: usize,
    counts: ArmCounts,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) version: String,
    pub(super) instance: String,
}

/// `GET /state`: what the Davy protocol asks for, and the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SplitState {
    uid: &'static str,
    /// Moves with every change, whoever makes it.
    generation: u64,
    /// The canary's, in per cent.
    share: u32,
    baseline: String,
    canary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: Option<String>,
    weights: BTreeMap<String, u32>,
}

/// The body of a call by the Davy protocol, as far as a splitter needs it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Body {
    action: String,
    release_id: String,
    service: String,
    from_version: String,
    to_version: String,
    share: u8,
    marker: String,
    expect: Expect,
}

/// What the sender read before.
#[derive(Debug, Clone, Deserialize)]
struct Expect {
    revision: Option<String>,
    uid: String,
    generation: String,
}

#[derive(Debug)]
pub(in crate::demo) struct Split {
    arms: Vec<Arm>,
    generation: u64,
    marker: Option<String>,
    keys: Vec<String>,
    rng: ChaCha8Rng,
}

impl Body {
    /// For the story.
    pub(super) fn order(&self) -> Order {
        let wanted = if self.share == 0 { Wanted::Rollback } else { Wanted::Share(self.share) };
        let call = CallBody {
            service: self.service.clone(),
            release_id: self.release_id.clone(),
            expected_revision: self.expect.revision.clone(),
            expected_generation: self.expect.generation.parse().ok(),
        };
        let (canary, baseline) = (self.from_version.clone(), self.to_version.clone());
        Order { wanted, canary, baseline, call: Some(call) }
    }
}

impl Split {
    pub(in crate::demo) fn new(seed: u64) -> Self {
        Self {
            arms: Vec::new(),
            generation: 0,
            marker: None,
            keys: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Adds a version: the first gets all of the traffic, a later one none yet.
    pub(in crate::demo) fn deploy(&mut self, version: &str, instances: Vec<String>) {
        self.generation += 1;
        let (version, weight) = (version.to_owned(), if self.arms.is_empty() { 100 } else { 0 });
        self.arms.push(Arm { version, weight, instances, next: 0, counts: ArmCounts::default() });
    }

    /// Sets the weights of the versions named; the others keep theirs. Refuses versions it does not know.
    pub(super) fn set_weights(&mut self, weights: &BTreeMap<String, u32>) -> Result<(), String> {
        if let Some(unknown) = weights.keys().find(|version| self.arm(version).is_none()) {
            return Err(format!("unknown version {unknown:?}, got weights for it"));
        }
        self.generation += 1;
        for arm in &mut self.arms {
            arm.weight = weights.get(&arm.version).copied().unwrap_or(arm.weight);
        }
        Ok(())
    }

    /// Picks a version by weight and one of its instances in turn. `None` while nothing has weight.
    pub(super) fn choose(&mut self) -> Option<Choice> {
        let total: u32 = self.arms.iter().map(|arm| arm.weight).sum();
        if total == 0 {
            return None;
        }
        let mut ticket = self.rng.random_range(0..total);
        let arm = self.arms.iter_mut().find(|arm| {
            let won = ticket < arm.weight;
            ticket = ticket.saturating_sub(arm.weight);
            won
        })?;
        let instance = arm.instances.get(arm.next % arm.instances.len().max(1))?.clone();
        arm.next = arm.next.wrapping_add(1);
        arm.counts.requests += 1;
        Some(Choice { version: arm.version.clone(), instance })
    }

    pub(super) fn count_error(&mut self, version: &str) {
        if let Some(arm) = self.arms.iter_mut().find(|arm| arm.version == version) {
            arm.counts.errors += 1;
        }
    }

    /// Gives the canary the share that is wanted, and the baseline the rest, if nothing has changed since the sender
    /// looked: check and change are one step. `key` is the call's `Idempotency-Key`.
    pub(super) fn change(&mut self, key: &str, body: &Body) -> Answer {
        if self.keys.iter().any(|known| known == key) {
            return Answer::Duplicate;
        }
        if let Err((status, why)) = self.check(body) {
            return Answer::Refused(status, why);
        }
        if self.keys.len() == KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push(key.to_owned());
        self.generation += 1;
        self.marker = Some(body.marker.clone());
        let share = u32::from(body.share);
        for arm in &mut self.arms {
            if arm.version == body.from_version {
                arm.weight = share;
            } else {
                arm.weight = if arm.version == body.to_version { 100 - share } else { 0 };
            }
        }
        Answer::Applied
    }

    fn check(&self, body: &Body) -> Result<(), (u16, String)> {
        let as_named = match body.action.as_str() {
            "rollback" => body.share == 0,
            "set_share" => (1..100).contains(&body.share),
            "promote" => body.share == 100,
            other => {
                let why = format!("action must be rollback, set_share or promote, got {other:?}");
                return Err((422, why));
            }
        };
        if !as_named {
            return Err((422, format!("a share of {} is no {}", body.share, body.action)));
        }
        for version in [&body.from_version, &body.to_version] {
            if self.arm(version).is_none() {
                return Err((422, format!("unknown version {version:?}")));
            }
        }
        let Expect { uid, generation, .. } = &body.expect;
        if uid != UID || *generation != self.generation.to_string() {
            let now = self.generation;
            return Err((409, format!("it is {UID} at {now}, the call expects {uid} at {generation}")));
        }
        Ok(())
    }

    pub(super) fn state(&self) -> SplitState {
        let version = |arm: Option<&Arm>| arm.map_or(String::new(), |arm| arm.version.clone());
        let canary = self.arms.get(1..).and_then(<[Arm]>::last);
        let total: u32 = self.arms.iter().map(|arm| arm.weight).sum();
        SplitState {
            uid: UID,
            generation: self.generation,
            share: canary.map_or(0, |arm| 100 * arm.weight / total.max(1)),
            baseline: version(self.arms.first()),
            canary: version(canary),
            marker: self.marker.clone(),
            weights: self.arms.iter().map(|arm| (arm.version.clone(), arm.weight)).collect(),
        }
    }

    #[cfg(test)]
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Per cent of the requests, by version.
    pub(super) fn shares(&self) -> BTreeMap<String, u32> {
        let total: u32 = self.arms.iter().map(|arm| arm.weight).sum();
        self.arms.iter().map(|arm| (arm.version.clone(), 100 * arm.weight / total.max(1))).collect()
    }

    pub(super) fn all_counts(&self) -> BTreeMap<String, ArmCounts> {
        self.arms.iter().map(|arm| (arm.version.clone(), arm.counts)).collect()
    }

    /// Zero for a version that was never deployed.
    pub(super) fn counts(&self, version: &str) -> ArmCounts {
        self.arm(version).map_or_else(ArmCounts::default, |arm| arm.counts)
    }

    fn arm(&self, version: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.version == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(seed: u64, canary_weight: u32) -> Split {
        let mut split = Split::new(seed);
        let urls = |from: u16| (from..from + 3).map(|port| format!("http://127.0.0.1:{port}")).collect();
        split.deploy("v1", urls(1));
        split.deploy("v2", urls(11));
        let weights = [("v1".to_owned(), 100 - canary_weight), ("v2".to_owned(), canary_weight)];
        split.set_weights(&weights.into()).unwrap();
        split
    }

    /// A call that expects what is there.
    fn call(split: &Split, action: &str, share: u8) -> Body {
        serde_json::from_value(serde_json::json!({
            "action": action, "release_id": "checkout-v2-1", "service": "checkout",
            "from_version": "v2", "to_version": "v1", "share": share, "marker": format!("{action}/v2"),
            "expect": {"revision": "v2", "uid": UID, "generation": split.state().generation.to_string()},
            "reason": "errors",
        }))
        .unwrap()
    }

    fn choices(split: &mut Split, n: usize) -> Vec<Choice> {
        (0..n).filter_map(|_| split.choose()).collect()
    }

    #[test]
    fn versions_are_chosen_by_weight_and_instances_in_turn() {
        let mut split = split(1, 25);
        let chosen = choices(&mut split, 10_000);
        let canary: Vec<_> = chosen.iter().filter(|c| c.version == "v2").collect();
        assert!((2_350..2_650).contains(&canary.len()), "{}", canary.len());
        for (i, choice) in canary.iter().enumerate() {
            assert_eq!(choice.instance, format!("http://127.0.0.1:{}", 11 + i % 3));
        }
        assert_eq!(split.counts("v2").requests, canary.len() as u64);
        assert_eq!(split.counts("v1").requests, 10_000 - canary.len() as u64);
    }

    #[test]
    fn the_same_seed_chooses_the_same_versions() {
        assert_eq!(choices(&mut split(9, 50), 500), choices(&mut split(9, 50), 500));
        assert_ne!(choices(&mut split(9, 50), 500), choices(&mut split(8, 50), 500));
    }

    #[test]
    fn without_weight_there_is_no_choice() {
        let mut split = split(1, 0);
        split.set_weights(&[("v1".to_owned(), 0)].into()).unwrap();
        assert_eq!(split.choose(), None);
    }

    #[test]
    fn a_deployed_version_waits_for_its_share() {
        let mut split = Split::new(1);
        split.deploy("v1", vec!["http://127.0.0.1:1".into()]);
        split.deploy("v2", vec!["http://127.0.0.1:2".into()]);
        assert!(choices(&mut split, 100).iter().all(|c| c.version == "v1"));
        let state = split.state();
        assert_eq!((state.baseline.as_str(), state.canary.as_str(), state.share), ("v1", "v2", 0));
    }

    #[test]
    fn shares_are_set_absolutely_and_each_change_moves_the_generation() {
        let mut split = split(1, 0);
        for (action, share) in [("set_share", 10), ("set_share", 50), ("promote", 100), ("rollback", 0)] {
            let before = split.state().generation;
            let body = call(&split, action, share);
            assert_eq!(split.change(&format!("{action}-{share}"), &body), Answer::Applied);
            let state = split.state();
            assert_eq!((state.share, state.marker), (u32::from(share), Some(format!("{action}/v2"))));
            assert_eq!(state.generation, before + 1);
        }
    }

    #[test]
    fn a_rollback_moves_the_weight_and_the_canary_gets_nothing_any_more() {
        let mut split = split(1, 40);
        choices(&mut split, 100);
        let before = split.counts("v2");
        let body = call(&split, "rollback", 0);
        assert_eq!(split.change("k1", &body), Answer::Applied);
        assert_eq!(split.state().weights, [("v1".to_owned(), 100), ("v2".to_owned(), 0)].into());
        assert!(choices(&mut split, 1_000).iter().all(|c| c.version == "v1"));
        assert_eq!(split.counts("v2"), before);
    }

    #[test]
    fn the_same_key_does_nothing_twice_even_after_a_human_changed_the_weights() {
        let mut split = split(1, 40);
        let body = call(&split, "rollback", 0);
        assert_eq!(split.change("k1", &body), Answer::Applied);
        split.set_weights(&[("v2".to_owned(), 10)].into()).unwrap();
        assert_eq!(split.change("k1", &body), Answer::Duplicate);
        assert_eq!(split.state().weights["v2"], 10);
    }

    #[test]
    fn a_call_that_expects_something_else_is_refused_and_changes_nothing() {
        let mut split = split(1, 40);
        let good = call(&split, "rollback", 0);
        let refused = |split: &mut Split, body: &Body| match split.change("k", body) {
            Answer::Refused(status, _) => status,
            answer => panic!("{answer:?}"),
        };
        assert_eq!(refused(&mut split, &Body { action: "restart".into(), ..good.clone() }), 422);
        assert_eq!(refused(&mut split, &Body { from_version: "v9".into(), ..good.clone() }), 422);
        for (action, share) in [("rollback", 1), ("set_share", 0), ("set_share", 100), ("promote", 99)] {
            let wrong = call(&split, action, share);
            assert_eq!(refused(&mut split, &wrong), 422, "{action} {share}");
        }
        // Someone was quicker.
        split.set_weights(&[("v2".to_owned(), 30)].into()).unwrap();
        assert_eq!(refused(&mut split, &good), 409);
        assert_eq!(split.state().weights["v2"], 30);
        let mut other = call(&split, "rollback", 0);
        other.expect.uid = "another".into();
        assert_eq!(refused(&mut split, &other), 409);
    }

    #[test]
    fn weights_of_unknown_versions_are_refused_whole() {
        let mut split = split(1, 40);
        let weights = [("v1".to_owned(), 1), ("v3".to_owned(), 1)].into();
        assert!(split.set_weights(&weights).unwrap_err().contains("v3"));
        assert_eq!(split.state().weights["v1"], 60);
    }
}
