//! Requests: which convention's counter tells the server's faults, and whose histogram how long they took.

use davy_model::Matcher;

use crate::config::Preset;
use crate::plan::{Margins, Metric, Reading, selector};
use crate::verdict::MetricClass;

use super::conventions::{CODES, Convention, Fault, outgoing, requests};
use super::{Inventory, Survey, matching, metric, named};

/// The counter of requests as it was found.
pub(super) struct Counter {
    pub(super) trials: Vec<Matcher>,
    /// `None` where nothing tells the outcome.
    pub(super) errors: Option<Vec<Matcher>>,
    /// What exports it; `None` for a counter of one's own naming.
    convention: Option<Convention>,
}

impl Counter {
    pub(super) fn by(&self) -> &'static str {
        self.convention.as_ref().map_or("a counter of the service's own naming", |c| c.by)
    }
}

pub(super) fn counter(inventory: &Inventory, wanted: impl Fn(Preset) -> bool) -> Option<Counter> {
    let of = |all: &'static [Convention]| all.iter().filter(|c| wanted(c.preset));
    let (served, asked): (Vec<_>, Vec<_>) = (of(requests()).collect(), of(outgoing()).collect());
    let tells = |c: &&Convention| c.outcome_label(inventory).is_some();
    let telling: Vec<&Convention> = served.iter().copied().filter(tells).collect();
    if let Some(found) = best(inventory, &telling) {
        return Some(found.counter(inventory));
    }
    if wanted(Preset::Http)
        && let Some(found) = alike(inventory)
    {
        return Some(found);
    }
    let asked: Vec<&Convention> = asked.into_iter().filter(tells).collect();
    let found = best(inventory, &asked).or_else(|| best(inventory, &served))?;
    Some(found.counter(inventory))
}

/// The most trusted; of those that share a counter, the one whose histogram is there too.
fn best<'a>(inventory: &Inventory, conventions: &[&'a Convention]) -> Option<&'a Convention> {
    let counted: Vec<(&Convention, String)> =
        conventions.iter().filter_map(|c| Some((*c, c.counted(inventory)?))).collect();
    let (first, name) = &counted[inventory.first(&counted, |(_, name)| name)?];
    let timed = |c: &Convention| c.timed(inventory).is_some_and(|t| inventory.both(&t.name));
    let mut same = counted.iter().filter(|(_, n)| n == name).map(|(c, _)| *c);
    let timed = same.clone().find(|c| timed(c));
    Some(timed.or_else(|| same.next_back()).unwrap_or(first))
}

/// A counter of one's own naming: `…_requests_total` with a status label.
fn alike(inventory: &Inventory) -> Option<Counter> {
    let not_served = ["promhttp_", "client", "outgoing", "outbound", "upstream", "davy_"];
    let own = |m: &str| crate::foreign::reporter(m).is_none() && !not_served.iter().any(|n| m.contains(n));
    let mut candidates: Vec<(&str, &str)> = inventory
        .metrics()
        .filter(|m| m.ends_with("requests_total") && own(m))
        .filter_map(|m| Some((m, CODES.iter().copied().find(|l| inventory.has_label(m, l))?)))
        .collect();
    candidates.sort_by_key(|(m, _)| (!m.contains("http"), m.len(), *m));
    let (metric, label) = candidates[inventory.first(&candidates, |(m, _)| m)?];
    let trials = vec![named(metric)];
    let errors = vec![named(metric), matching(label, Fault::Http.regex())];
    Some(Counter { trials, errors: Some(errors), convention: None })
}

/// The histogram of the convention that counts, else the most trusted one.
pub(super) fn latency(
    inventory: &Inventory,
    wanted: impl Fn(Preset) -> bool,
    counter: Option<&Counter>,
    survey: &mut Survey,
) -> Option<Metric> {
    let all = requests().iter().chain(outgoing()).filter(|c| wanted(c.preset));
    let counting = counter.and_then(|c| c.convention.as_ref());
    let found: Vec<(&Convention, Timed)> = counting
        .into_iter()
        .filter(|c| c.timed(inventory).is_some_and(|t| inventory.both(&t.name)))
        .chain(all)
        .filter_map(|c| c.timed(inventory).map(|t| (c, t)))
        .collect();
    let i = inventory.first(&found, |(_, s)| &s.name);
    for (c, s) in &found {
        let chosen = i.is_some_and(|i| s.name == found[i].1.name);
        if !chosen && inventory.both(&s.name) {
            survey.also_seen(&s.name, c.by);
        }
    }
    let Some(i) = i else {
        refuse_summaries(inventory, requests(), survey);
        return None;
    };
    let (convention, timed) = &found[i];
    let series = convention.series(inventory, &timed.name);
    let source = selector(&series);
    let seconds_per_unit = timed.seconds_per_unit;
    let reading = if timed.native {
        Reading::NativeHistogram { series, seconds_per_unit }
    } else {
        Reading::Buckets { series, seconds_per_unit }
    };
    survey.found("latency", convention.by);
    Some(metric("latency", MetricClass::Latency, Margins::LATENCY, source, reading))
}

/// A histogram as it is stored.
#[derive(Debug, Clone)]
struct Timed {
    /// Of its series.
    name: String,
    seconds_per_unit: f64,
    native: bool,
}

/// Quantiles of two processes cannot be added up, and their difference has no known luck.
fn refuse_summaries(inventory: &Inventory, conventions: &[Convention], survey: &mut Survey) {
    for c in conventions {
        let Some((base, _)) = &c.histogram else { continue };
        let quantiles = inventory.has_label(base, "quantile");
        let sums = inventory.both(&format!("{base}_sum")) && inventory.both(&format!("{base}_count"));
        if quantiles || sums {
            survey.refused(format!(
                "latency: {base} is a summary ({}); its quantiles cannot be added up over instances or compared \
                 with known luck: export a histogram instead",
                c.by
            ));
            return;
        }
    }
}

impl Convention {
    /// The series that counts requests: the counter, or the native histogram that it would be a part of.
    fn counted(&self, inventory: &Inventory) -> Option<String> {
        if self.shown(inventory, &self.counter) {
            return Some(self.counter.clone());
        }
        let (base, _) = self.histogram.as_ref()?;
        let within = self.counter.strip_suffix("_count") == Some(base) && inventory.is_native(base);
        (within && self.shown(inventory, base)).then(|| base.clone())
    }

    /// The histogram, classic before native where both arms have it: the edges of both are then the service's own.
    fn timed(&self, inventory: &Inventory) -> Option<Timed> {
        let (base, seconds_per_unit) = self.histogram.clone()?;
        let classic = format!("{base}_bucket");
        let native = inventory.is_native(&base) && self.shown(inventory, &base);
        if inventory.both(&classic) || (self.shown(inventory, &classic) && !native) {
            return Some(Timed { name: classic, seconds_per_unit, native: false });
        }
        native.then_some(Timed { name: base, seconds_per_unit, native: true })
    }

    /// What others report is only believed of both arms: of one alone it may be all the traffic.
    fn shown(&self, inventory: &Inventory, metric: &str) -> bool {
        match crate::foreign::reporter(metric) {
            Some(_) => inventory.both(metric),
            None => inventory.either(metric),
        }
    }

    fn outcome_label(&self, inventory: &Inventory) -> Option<&str> {
        let counted = self.counted(inventory)?;
        let seen = self.outcome.iter().find(|l| inventory.has_label(&counted, l));
        // A label that only failures have is not there before the first one.
        let to_come = || self.outcome.first().filter(|_| self.fault == Fault::Present);
        seen.or_else(to_come).map(String::as_str)
    }

    fn counter(&self, inventory: &Inventory) -> Counter {
        let counted = self.counted(inventory).expect("only what is counted is chosen");
        let trials = self.series(inventory, &counted);
        let errors = self
            .outcome_label(inventory)
            .map(|label| trials.iter().cloned().chain([matching(label, self.fault.regex())]).collect());
        Counter { trials, errors, convention: Some(self.clone()) }
    }

    fn series(&self, inventory: &Inventory, metric: &str) -> Vec<Matcher> {
        let only = self.only.filter(|(l, v)| inventory.values(metric, l).any(|x| x == *v));
        std::iter::once(named(metric)).chain(only.map(|(l, v)| Matcher::equal(l, v))).collect()
    }
}

/// Conventions beside the chosen one that both arms show.
pub(super) fn also_counted(
    inventory: &Inventory,
    wanted: impl Fn(Preset) -> bool,
    chosen: &Counter,
    survey: &mut Survey,
) {
    let histogram = |c: &Convention| c.histogram.as_ref().map(|(name, _)| format!("{name}_count"));
    let own = chosen.convention.as_ref().and_then(histogram);
    for c in requests().iter().filter(|c| wanted(c.preset)) {
        // The count of the histogram beside the counter is no second source.
        if own.as_ref() == Some(&c.counter) {
            continue;
        }
        let name = c.counted(inventory).filter(|name| inventory.both(name));
        if let Some(name) = name.filter(|n| !chosen.trials.contains(&named(n))) {
            survey.also_seen(&name, c.by);
        }
    }
}
