//! Gauges whose label sets come and go with what they speak of, and counters that others keep.
//!
//! Values are replaced one by one, never cleared first: whoever encodes meanwhile, a scrape or the tick that stores
//! them, sees no series missing, and so no series of a running release ever looks as if it had ended.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub(super) type Float = Gauge<f64, AtomicU64>;
/// Names are Davy's own and few; values come from what is watched.
pub(super) type Pairs = Vec<(&'static str, String)>;

/// One value of one series: the metric's name without its prefix, labels, value.
pub(super) type Point = (&'static str, Pairs, f64);

#[derive(Default)]
struct Shown {
    family: Family<Pairs, Float>,
    labels: HashSet<Pairs>,
}

/// Families that are replaced together.
pub(super) struct Families(Mutex<BTreeMap<&'static str, Shown>>);

impl Families {
    /// `table` has name and help of each.
    pub(super) fn new(table: &[(&'static str, &'static str)]) -> Self {
        Self(Mutex::new(table.iter().map(|(name, _)| (*name, Shown::default())).collect()))
    }

    pub(super) fn register(&self, table: &[(&'static str, &'static str)], registry: &mut Registry) {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help) in table {
            registry.register(*name, *help, families[name].family.clone());
        }
    }

    /// These are the values now; series that are not among them disappear.
    pub(super) fn replace(&self, points: Vec<Point>) {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now: BTreeMap<&'static str, HashSet<Pairs>> = BTreeMap::new();
        for (name, labels, value) in points {
            let Some(shown) = families.get(name) else {
                debug_assert!(false, "{name} is in no table");
                continue;
            };
            shown.family.get_or_create(&labels).set(value);
            now.entry(name).or_default().insert(labels);
        }
        for (name, shown) in families.iter_mut() {
            let labels = now.remove(name).unwrap_or_default();
            for gone in shown.labels.difference(&labels) {
                shown.family.remove(gone);
            }
            shown.labels = labels;
        }
    }
}

/// A counter by one label, kept by someone else and copied here.
#[derive(Default)]
pub(super) struct Copied(Family<Pairs, Counter>);

impl Copied {
    pub(super) fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.0.clone());
    }

    pub(super) fn set(&self, label: &'static str, value: &str, count: u64) {
        let labels = vec![(label, value.to_owned())];
        self.0.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
    }

    /// By outcome, from where it is counted.
    pub(super) fn outcome(&self, outcome: &str, counter: &AtomicU64) {
        self.set("outcome", outcome, counter.load(Ordering::Relaxed));
    }
}

/// A counter without labels that someone else keeps.
pub(super) fn copy(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_is_gone_disappears_and_what_stays_is_never_missing() {
        const TABLE: [(&str, &str); 2] = [("a", "A"), ("b", "B")];
        let families = Families::new(&TABLE);
        let mut registry = Registry::default();
        families.register(&TABLE, &mut registry);
        let shown = |registry: &Registry| {
            let mut text = String::new();
            encode(&mut text, registry).unwrap();
            let mut lines: Vec<String> =
                text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect();
            lines.sort();
            lines.join(" ")
        };
        let of = |s: &str| vec![("s", s.to_owned())];
        families.replace(vec![("a", of("x"), 1.0), ("a", of("y"), 2.0), ("b", of("x"), 3.0)]);
        assert_eq!(shown(&registry), r#"a{s="x"} 1.0 a{s="y"} 2.0 b{s="x"} 3.0"#);
        families.replace(vec![("a", of("y"), 4.0)]);
        assert_eq!(shown(&registry), r#"a{s="y"} 4.0"#);
    }
}
