//! `Slots`: instances by number, in a bounded table.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::interval::InstanceInterval;
use crate::plan::Arm;

/// Instances of an arm that are told apart; further ones share slots with these, which keeps every sum right and
/// makes the differences between instances look smaller than they are by the size of the shared groups.
const SLOTS_PER_ARM_MAX: usize = 128;
/// Names remembered; beyond it a name is hashed to its slot.
const NAMES_MAX: usize = 4_096;

#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    arms: Vec<Arm>,
    of_arm: [Vec<usize>; 2],
    known: BTreeMap<(Arm, Arc<str>), usize>,
    /// Who was at each place of the last interval: most often the same as now.
    last: Vec<(Arm, Arc<str>, usize)>,
}

impl Slots {
    pub(crate) fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// Slots of an interval's instances, in their order.
    pub(crate) fn slots(&mut self, instances: &[InstanceInterval]) -> Vec<usize> {
        self.last.truncate(instances.len());
        let mut slots = Vec::with_capacity(instances.len());
        for (place, i) in instances.iter().enumerate() {
            let slot = match self.last.get(place) {
                Some((arm, name, slot)) if *arm == i.arm && *name == i.instance => *slot,
                _ => self.slot(i.arm, &i.instance),
            };
            let here = (i.arm, Arc::clone(&i.instance), slot);
            match self.last.get_mut(place) {
                Some(before) if before.2 == slot => {}
                Some(before) => *before = here,
                None if place < NAMES_MAX => self.last.push(here),
                None => {}
            }
            slots.push(slot);
        }
        slots
    }

    fn slot(&mut self, arm: Arm, instance: &Arc<str>) -> usize {
        if let Some(slot) = self.known.get(&(arm, Arc::clone(instance))) {
            return *slot;
        }
        let of_arm = &mut self.of_arm[arm as usize];
        let slot = if of_arm.len() < SLOTS_PER_ARM_MAX {
            self.arms.push(arm);
            of_arm.push(self.arms.len() - 1);
            self.arms.len() - 1
        } else {
            of_arm[hash(instance) % SLOTS_PER_ARM_MAX]
        };
        if self.known.len() < NAMES_MAX {
            self.known.insert((arm, Arc::clone(instance)), slot);
        }
        slot
    }
}

/// FNV-1a: the same on every machine and in every run, as replaying needs.
fn hash(name: &str) -> usize {
    let h =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (h >> 16) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_instances_share_a_bounded_table() {
        let mut slots = Slots::default();
        let names: Vec<Arc<str>> = (0..5000).map(|i| format!("i{i}").into()).collect();
        let first: Vec<usize> = names.iter().map(|n| slots.slot(Arm::Canary, n)).collect();
        let b = slots.slot(Arm::Baseline, &names[0]);
        assert_eq!(slots.arms().len(), SLOTS_PER_ARM_MAX + 1);
        assert_eq!(slots.arms()[b], Arm::Baseline);
        let again: Vec<usize> = names.iter().map(|n| slots.slot(Arm::Canary, n)).collect();
        assert_eq!(first, again);
    }
}
