//! `Split`: how traffic is shared between versions, and what may change it. Pure: sockets are next door.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Rollback keys that are remembered; far more than one story has.
const KEYS_MAX: usize = 1_000;

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

/// What an arm was given and what came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(in crate::demo) struct ArmCounts {
    pub(in crate::demo) requests: u64,
    /// Answers of 500 and above, and requests without an answer.
    pub(in crate::demo) errors: u64,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) version: String,
    pub(super) instance: String,
}

/// `GET /state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::demo) struct SplitState {
    /// The version that was deployed last.
    pub(in crate::demo) revision: String,
    /// Number of the last deployment; it only grows.
    pub(in crate::demo) generation: u64,
    pub(in crate::demo) weights: BTreeMap<String, u32>,
}

/// The body of Davy's rollback webhook, as far as a splitter needs it.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::demo) struct RollbackBody {
    pub(in crate::demo) action: String,
    pub(in crate::demo) release_id: String,
    pub(in crate::demo) service: String,
    pub(in crate::demo) from_version: String,
    pub(in crate::demo) to_version: String,
    #[serde(default)]
    pub(in crate::demo) expect: Expect,
}

/// What the sender believes to be deployed.
#[derive(Debug, Clone, Default, Deserialize)]
pub(in crate::demo) struct Expect {
    pub(in crate::demo) revision: Option<String>,
    pub(in crate::demo) generation: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::demo) enum RollbackAnswer {
    Applied,
    /// The key was seen before; nothing was done.
    Duplicate,
    /// HTTP status and why.
    Refused(u16, String),
}

#[derive(Debug)]
pub(in crate::demo) struct Split {
    arms: Vec<Arm>,
    generation: u64,
    /// Largest generation, as the sender counts, that was acted on.
    acted_generation: i64,
    keys: Vec<String>,
    rng: ChaCha8Rng,
}

impl Split {
    pub(in crate::demo) fn new(seed: u64) -> Self {
        Self {
            arms: Vec::new(),
            generation: 0,
            acted_generation: i64::MIN,
            keys: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Adds a version, without traffic yet.
    pub(in crate::demo) fn deploy(&mut self, version: &str, instances: Vec<String>) {
        self.generation += 1;
        let version = version.to_owned();
        self.arms.push(Arm { version, weight: 0, instances, next: 0, counts: ArmCounts::default() });
    }

    /// Sets the weights of the versions named; the others keep theirs. Refuses versions it does not know.
    pub(in crate::demo) fn set_weights(&mut self, weights: &BTreeMap<String, u32>) -> Result<(), String> {
        if let Some(unknown) = weights.keys().find(|version| self.arm(version).is_none()) {
            return Err(format!("unknown version {unknown:?}, got weights for it"));
        }
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

    /// Takes the traffic from one version and gives it to another: a desired state, so that doing it twice is
    /// doing it once. `key` is the call's `Idempotency-Key`.
    pub(in crate::demo) fn rollback(&mut self, key: &str, body: &RollbackBody) -> RollbackAnswer {
        if self.keys.iter().any(|known| known == key) {
            return RollbackAnswer::Duplicate;
        }
        if let Err((status, why)) = self.check(body) {
            return RollbackAnswer::Refused(status, why);
        }
        if self.keys.len() == KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push(key.to_owned());
        self.acted_generation = body.expect.generation.unwrap_or(self.acted_generation);
        let freed = self.arm(&body.from_version).map_or(0, |arm| arm.weight);
        for arm in &mut self.arms {
            if arm.version == body.from_version {
                arm.weight = 0;
            } else if arm.version == body.to_version {
                arm.weight += freed;
            }
        }
        RollbackAnswer::Applied
    }

    fn check(&self, body: &RollbackBody) -> Result<(), (u16, String)> {
        if body.action != "rollback" {
            return Err((422, format!("action must be \"rollback\", got {:?}", body.action)));
        }
        for version in [&body.from_version, &body.to_version] {
            if self.arm(version).is_none() {
                return Err((422, format!("unknown version {version:?}")));
            }
        }
        let revision = self.revision();
        match &body.expect.revision {
            Some(expected) if expected != revision => {
                return Err((409, format!("deployed is {revision:?}, the call expects {expected:?}")));
            }
            Some(_) | None => {}
        }
        match body.expect.generation {
            Some(generation) if generation <= self.acted_generation => Err((
                409,
                format!("generation {generation} was acted on already, last was {}", self.acted_generation),
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(in crate::demo) fn state(&self) -> SplitState {
        SplitState {
            revision: self.revision().to_owned(),
            generation: self.generation,
            weights: self.arms.iter().map(|arm| (arm.version.clone(), arm.weight)).collect(),
        }
    }

    /// Zero for a version that was never deployed.
    pub(in crate::demo) fn counts(&self, version: &str) -> ArmCounts {
        self.arm(version).map_or_else(ArmCounts::default, |arm| arm.counts)
    }

    fn revision(&self) -> &str {
        self.arms.last().map_or("", |arm| &arm.version)
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

    fn rollback(generation: i64) -> RollbackBody {
        serde_json::from_value(serde_json::json!({
            "action": "rollback", "release_id": "checkout-v2-1", "service": "checkout",
            "from_version": "v2", "to_version": "v1",
            "expect": {"revision": "v2", "generation": generation}, "reason": "errors",
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
        let mut split = Split::new(1);
        split.deploy("v1", vec!["http://127.0.0.1:1".into()]);
        assert_eq!(split.choose(), None);
    }

    #[test]
    fn a_rollback_moves_the_weight_and_the_canary_gets_nothing_any_more() {
        let mut split = split(1, 40);
        choices(&mut split, 100);
        let before = split.counts("v2");
        assert_eq!(split.rollback("k1", &rollback(1)), RollbackAnswer::Applied);
        assert_eq!(split.state().weights, [("v1".to_owned(), 100), ("v2".to_owned(), 0)].into());
        assert!(choices(&mut split, 1_000).iter().all(|c| c.version == "v1"));
        assert_eq!(split.counts("v2"), before);
    }

    #[test]
    fn the_same_key_does_nothing_twice_even_after_a_human_changed_the_weights() {
        let mut split = split(1, 40);
        assert_eq!(split.rollback("k1", &rollback(1)), RollbackAnswer::Applied);
        split.set_weights(&[("v2".to_owned(), 10)].into()).unwrap();
        assert_eq!(split.rollback("k1", &rollback(1)), RollbackAnswer::Duplicate);
        assert_eq!(split.state().weights["v2"], 10);
    }

    #[test]
    fn a_call_that_expects_something_else_is_refused_and_changes_nothing() {
        let mut split = split(1, 40);
        let refused = |split: &mut Split, body: &RollbackBody| match split.rollback("k", body) {
            RollbackAnswer::Refused(status, _) => status,
            answer => panic!("{answer:?}"),
        };
        assert_eq!(refused(&mut split, &RollbackBody { action: "promote".into(), ..rollback(1) }), 422);
        assert_eq!(refused(&mut split, &RollbackBody { from_version: "v9".into(), ..rollback(1) }), 422);
        let other = Expect { revision: Some("v1".into()), generation: None };
        assert_eq!(refused(&mut split, &RollbackBody { expect: other, ..rollback(1) }), 409);
        assert_eq!(split.state().weights["v2"], 40);

        assert_eq!(split.rollback("k1", &rollback(5)), RollbackAnswer::Applied);
        assert_eq!(refused(&mut split, &rollback(5)), 409);
        assert_eq!(refused(&mut split, &rollback(4)), 409);
    }

    #[test]
    fn weights_of_unknown_versions_are_refused_whole() {
        let mut split = split(1, 40);
        let weights = [("v1".to_owned(), 1), ("v3".to_owned(), 1)].into();
        assert!(split.set_weights(&weights).unwrap_err().contains("v3"));
        assert_eq!(split.state().weights["v1"], 60);
    }
}
