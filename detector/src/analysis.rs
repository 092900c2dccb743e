//! `AnalysisRun`: one release under judgement. Hop 5: an interval in, a verdict out.
//!
//! Deterministic: the same plan and the same intervals give the same verdict, byte for byte, so a restart replays
//! the release from the store instead of saving state. A verdict is "fail" once the weighted sum of the metrics'
//! evidence has reached `1/alpha` (one Ville bound for the whole release), "pass" when every critical metric is
//! shown no worse than its margin, and "insufficient" otherwise; whatever cannot be seen holds it at insufficient.

use std::collections::BTreeSet;
use std::sync::Arc;

use davy_model::Timestamp;

use crate::calibration::{Calibration, Noise};
use crate::config::JudgeSpec;
use crate::contract::Watch;
use crate::interval::{InstanceInterval, Interval};
use crate::judge::{Forecast, Frame, Judged, PASS_BOUNDARY, Row, Slots, View, log_add, words};
use crate::load::Load;
use crate::plan::{Arm, Metric, Plan};
use crate::verdict::{Contract, MetricClass, MetricVerdict, Needed, Outcome, Verdict};
use crate::vitals::Broken;

/// Evidence at which a pass is taken back, as a share of what a rollback needs.
const PASS_REVOKED_AT: f64 = 0.1;
/// Evidence is shown up to this many times what a rollback needs.
const EVIDENCE_MAX: f64 = 1e6;

#[derive(Debug, Clone)]
pub struct AnalysisRun {
    spec: JudgeSpec,
    judge_from: Timestamp,
    metrics: Vec<JudgedMetric>,
    slots: Slots,
    watch: Watch,
    began: Option<Timestamp>,
    intervals: u64,
    judged_seconds: f64,
    /// The sentence with which the boundary was crossed.
    failed: Option<String>,
    /// Rows whose own evidence has crossed it.
    failed_rows: BTreeSet<String>,
    /// Rows that were shown no worse: evidence that has crossed its boundary once has shown it.
    shown_rows: BTreeSet<String>,
    passed: bool,
    last: Option<Verdict>,
}

#[derive(Debug, Clone)]
struct JudgedMetric {
    metric: Metric,
    /// Of critical metrics it sums to one, and so it does of soft ones.
    weight: f64,
    judged: Judged,
    /// Of latency alone.
    load: Load,
}

impl AnalysisRun {
    /// `canary_since` is when the canary began to live: its warm-up counts from there.
    pub fn new(spec: &JudgeSpec, plan: &Plan, canary_since: Timestamp) -> Self {
        Self::with_calibration(spec, plan, canary_since, &Calibration::default())
    }

    /// The same, with what earlier releases of the service taught of its noise.
    pub fn with_calibration(
        spec: &JudgeSpec,
        plan: &Plan,
        canary_since: Timestamp,
        calibration: &Calibration,
    ) -> Self {
        let unknown = Noise::default();
        let weights = weights(&plan.metrics);
        let metrics = plan.metrics.iter().zip(weights).map(|(metric, weight)| JudgedMetric {
            metric: metric.clone(),
            weight,
            judged: Judged::new(metric, calibration.metrics.get(&metric.name).unwrap_or(&unknown)),
            load: Load::new(metric),
        });
        Self {
            spec: *spec,
            judge_from: canary_since + spec.warm_up,
            metrics: metrics.collect(),
            slots: Slots::default(),
            watch: Watch::default(),
            began: None,
            intervals: 0,
            judged_seconds: 0.0,
            failed: None,
            failed_rows: BTreeSet::new(),
            shown_rows: BTreeSet::new(),
            passed: false,
            last: None,
        }
    }

    /// What this release taught of its service's noise, to be merged with what others did. Of a release that
    /// failed, nothing should be kept: its canary was not like its baseline.
    pub fn learned(&self) -> Calibration {
        let metrics = self.metrics.iter().map(|m| (m.metric.name.clone(), m.judged.learned())).collect();
        Calibration { releases: 1, metrics, ..Calibration::default() }
    }

    /// Holds the verdict where the canary's share of the requests is not this one.
    #[must_use]
    pub fn expecting_share(mut self, share: Option<f64>) -> Self {
        if let Some(share) = share.filter(|s| *s > 0.0 && *s < 1.0) {
            self.watch.declare(share);
        }
        self
    }

    /// Takes the next interval. One that is not later than the last changes nothing.
    pub fn step(&mut self, interval: &Interval) -> Verdict {
        self.step_under(interval, None)
    }

    /// The same of an interval whose data [`crate::Observer::broken`] does not believe: it is shown, and no evidence.
    pub fn step_under(&mut self, interval: &Interval, broken: Option<&Broken>) -> Verdict {
        if let Some(last) = &self.last
            && interval.end <= last.at
        {
            return last.clone();
        }
        let began = *self.began.get_or_insert(interval.start);
        let slots = self.slots.slots(&interval.instances);
        let arms = self.slots.arms();
        let view = |metric| View {
            interval,
            metric,
            arms,
            slots: &slots,
            at_h: interval.end.since(began).as_secs_f64() / 3600.0,
        };
        let counted = self.metrics.iter().position(|m| matches!(m.judged, Judged::Proportion(_)));
        let traffic = counted.map(|i| view(i).trials());
        let due = interval.start >= self.judge_from;
        let seen = |arm| {
            let counts = |i: &InstanceInterval| {
                counted.is_some_and(|m| matches!(i.measurements.get(m), Some(Some(_))))
            };
            interval.instances.iter().any(|i| i.arm == arm && counts(i))
        };
        let both = due && seen(Arm::Baseline) && seen(Arm::Canary);
        let believed = self.watch.believes(broken, traffic.filter(|_| both));
        let judged = believed && due;
        if judged && self.intervals == 0 {
            self.metrics.iter_mut().for_each(|m| m.judged.begin());
            self.watch.begin();
        }
        self.watch.see(interval, traffic);
        // What is not believed teaches nothing either, in the warm-up or after it.
        for (i, m) in self.metrics.iter_mut().enumerate().filter(|_| believed) {
            m.judged.take(&view(i), judged);
            if judged {
                m.load.see(interval, i);
            }
        }
        if judged {
            self.intervals += 1;
            self.judged_seconds += interval.end.since(interval.start).as_secs_f64();
        }
        let verdict = self.decide(interval, due);
        self.last = Some(verdict.clone());
        verdict
    }

    fn decide(&mut self, interval: &Interval, judged: bool) -> Verdict {
        let frame = Frame { arms: self.slots.arms(), judged: self.intervals > 0 };
        let mut rows: Vec<(usize, Vec<Row<'_>>)> =
            self.metrics.iter().enumerate().map(|(i, m)| (i, m.judged.rows(&frame))).collect();
        rows.iter_mut().for_each(|(i, rows)| rows.iter_mut().for_each(|r| self.metrics[*i].load.temper(r)));
        let boundary = -self.spec.alpha.ln();
        // In the warm-up only these can speak, and share the whole weight.
        let gross = |m: &JudgedMetric| {
            matches!(m.metric.class, MetricClass::Errors | MetricClass::Latency) && m.metric.critical
        };
        let speaking: f64 = if judged {
            1.0
        } else {
            self.metrics.iter().filter(|m| gross(m)).map(|m| m.weight).sum::<f64>().max(f64::MIN_POSITIVE)
        };
        let own = |i: usize, row: &Row<'_>| {
            let m = &self.metrics[i];
            let whole = if judged || gross(m) { speaking } else { 1.0 };
            let weight: f64 = m.weight / whole * row.share;
            weight.ln() + row.worse - boundary
        };
        let critical = || rows.iter().filter(|(i, _)| self.metrics[*i].metric.critical);
        let total = critical()
            .flat_map(|(i, rows)| rows.iter().map(move |r| (*i, r)))
            .map(|(i, r)| own(i, r))
            .fold(f64::NEG_INFINITY, log_add);
        // A gross regression does not wait for the end of the warm-up.
        let worse = total >= 0.0 || self.failed.is_some();
        let contract = self.watch.contract(self.metrics.is_empty(), judged || worse);

        let crossed: Vec<String> = rows
            .iter()
            .flat_map(|(i, rows)| rows.iter().map(move |r| (*i, r)))
            .filter(|(i, r)| own(*i, r) >= 0.0)
            .map(|(_, r)| r.name.to_owned())
            .collect();
        for row in rows.iter().flat_map(|(_, r)| r).filter(|r| r.anew) {
            self.shown_rows.remove(row.name);
        }
        let shown = rows.iter().flat_map(|(_, r)| r).filter(|r| r.no_worse >= PASS_BOUNDARY);
        for row in shown {
            if !self.shown_rows.contains(row.name) {
                self.shown_rows.insert(row.name.to_owned());
            }
        }
        let is_shown = |r: &Row<'_>| r.set_aside.is_some() || is_no_worse(&self.shown_rows, r);
        let all_shown = critical().all(|(_, rows)| !rows.is_empty() && rows.iter().all(is_shown))
            && critical().flat_map(|(_, rows)| rows).any(|r| r.set_aside.is_none());
        self.failed_rows.extend(crossed);
        self.passed = contract == Contract::Ok && (all_shown || self.passed) && total.exp() < PASS_REVOKED_AT;

        let metrics: Arc<[MetricVerdict]> = rows
            .iter()
            .flat_map(|(i, rows)| rows.iter().map(move |r| (*i, r)))
            .map(|(i, r)| self.metric_verdict(i, r, own(i, r), contract))
            .collect();
        if total >= 0.0 && self.failed.is_none() {
            self.failed = Some(strongest(&metrics));
        }
        let outcome = match contract {
            Contract::Ok if self.failed.is_some() => Outcome::Fail,
            Contract::Ok if self.passed => Outcome::Pass,
            _ => Outcome::Insufficient,
        };
        let held = |r: &&Row<'_>| r.set_aside.is_some();
        let set_aside = rows.iter().flat_map(|(_, r)| r).filter(held).map(|r| r.name).collect();
        let reason = self.reason(outcome, contract, &metrics, &set_aside, interval);
        Verdict {
            outcome,
            contract,
            at: interval.end,
            intervals: self.intervals,
            evidence: shown_evidence(total),
            traffic_share: self.watch.traffic_share(),
            metrics,
            reason,
        }
    }

    fn metric_verdict(&self, i: usize, row: &Row<'_>, own: f64, contract: Contract) -> MetricVerdict {
        let m = &self.metrics[i].metric;
        let outcome = match contract {
            Contract::Ok if self.failed_rows.contains(row.name) => Outcome::Fail,
            Contract::Ok if is_no_worse(&self.shown_rows, row) => Outcome::Pass,
            _ => Outcome::Insufficient,
        };
        let needed = if outcome == Outcome::Insufficient { self.needed(row.forecast) } else { None };
        let nothing = row.levels.baseline.is_nan() && row.levels.canary.is_nan();
        let mut reason = String::with_capacity(row.text.len() + 80);
        if nothing {
            words::put_name(&mut reason, row.name);
            reason.push_str(": nothing to compare yet");
        } else {
            reason.push_str(&row.text);
            reason.push_str(": ");
            match outcome {
                Outcome::Fail => match row.worse_in {
                    Some(how) => reason.push_str(how),
                    None => {
                        reason.push_str("worse beyond the margin of ");
                        words::put_percent(&mut reason, m.margins.worse.relative);
                    }
                },
                Outcome::Pass => {
                    reason.push_str("no worse than ");
                    words::put_percent(&mut reason, m.margins.no_worse.relative);
                }
                Outcome::Insufficient => {
                    reason.push_str(&undecided(row, m.class, needed.as_ref(), contract));
                }
            }
        }
        MetricVerdict {
            name: row.name.to_owned(),
            class: m.class,
            outcome,
            baseline: row.levels.baseline,
            canary: row.levels.canary,
            estimate: row.levels.estimate,
            lower: row.levels.lower,
            upper: row.levels.upper,
            margin: m.margins.worse.relative,
            evidence: shown_evidence(own),
            baseline_n: row.levels.baseline_n,
            canary_n: row.levels.canary_n,
            needed,
            source: m.source.clone(),
            reason,
        }
    }

    fn needed(&self, forecast: Forecast) -> Option<Needed> {
        let whole = |v: f64| v.ceil().clamp(0.0, 1e15) as u64;
        match forecast {
            Forecast::Factor(f) if f > 1.0 => Some(Needed {
                requests: whole((f - 1.0) * self.watch.canary_requests()),
                seconds: Some(whole((f - 1.0) * self.judged_seconds)),
            }),
            Forecast::Factor(_) | Forecast::Unknown => None,
            Forecast::Never => Some(Needed { requests: 0, seconds: None }),
        }
    }

    fn reason(
        &self,
        outcome: Outcome,
        contract: Contract,
        metrics: &[MetricVerdict],
        set_aside: &BTreeSet<&str>,
        interval: &Interval,
    ) -> String {
        match (contract, outcome) {
            (Contract::Ok, Outcome::Fail) => self.failed.clone().expect("a release fails with a sentence"),
            (Contract::Ok, Outcome::Pass) => {
                let named = |passed: bool| {
                    let of = metrics.iter().filter(|m| (m.outcome == Outcome::Pass) == passed);
                    of.map(|m| m.name.replace('_', " ")).collect::<Vec<_>>().join(", ")
                };
                let open = named(false);
                let open = if open.is_empty() { open } else { format!("; not shown for {open}") };
                format!("no worse than the margins in {}{open}", named(true))
            }
            (Contract::Ok, Outcome::Insufficient) => longest_wait(metrics, set_aside),
            (Contract::WarmingUp, _) => {
                let left = self.judge_from.since(interval.start).as_secs_f64();
                format!("the canary is warming up: judged in {}", words::duration(left))
            }
            _ => self.watch.sentence(contract, interval),
        }
    }
}

/// Shown once, and what came since does not speak against it.
fn is_no_worse(shown: &BTreeSet<String>, row: &Row<'_>) -> bool {
    shown.contains(row.name) && row.no_worse > 0.0
}

fn shown_evidence(log_share: f64) -> f64 {
    log_share.exp().min(EVIDENCE_MAX)
}

fn undecided(row: &Row<'_>, class: MetricClass, needed: Option<&Needed>, contract: Contract) -> String {
    match (contract, &row.set_aside, row.forecast, needed) {
        (Contract::WarmingUp, ..) => "warming up, shown but not judged".to_owned(),
        (_, Some(why), ..) => why.clone(),
        (.., Forecast::Never, _) => {
            "at this number of instances luck alone could hide a difference of the margin's size".to_owned()
        }
        (.., Some(Needed { requests, seconds: Some(s) })) => {
            let time = words::duration(*s as f64);
            let more = match class {
                MetricClass::Cpu | MetricClass::Memory | MetricClass::Gauge => format!("{time} more"),
                MetricClass::Errors | MetricClass::Latency | MetricClass::Proportion => {
                    format!("{} to the canary ({time})", words::counted(*requests as f64, "more request"))
                }
            };
            format!("not decided; {more} if the versions are equal")
        }
        (.., Forecast::Unknown, _) => "nothing to compare yet".to_owned(),
        _ => "not decided; the difference may be chance".to_owned(),
    }
}

/// The sentence of the metric with the most evidence; of all that weigh in where none alone suffices.
fn strongest(metrics: &[MetricVerdict]) -> String {
    let mut by_evidence: Vec<&MetricVerdict> = metrics.iter().collect();
    by_evidence.sort_by(|a, b| b.evidence.total_cmp(&a.evidence));
    match by_evidence.first() {
        Some(m) if m.outcome == Outcome::Fail => m.reason.clone(),
        _ => {
            let named: Vec<&str> = by_evidence.iter().take(3).map(|m| &*m.name).collect();
            format!(
                "{} are worse together, though none alone is beyond doubt",
                named.join(", ").replace('_', " ")
            )
        }
    }
}

/// The sentence of the metric that will take longest, of those that hold the release; never is longest of all.
fn longest_wait(metrics: &[MetricVerdict], set_aside: &BTreeSet<&str>) -> String {
    let wait = |m: &MetricVerdict| m.needed.map_or(0, |n| n.seconds.unwrap_or(u64::MAX));
    let open = metrics.iter().filter(|m| m.outcome == Outcome::Insufficient);
    let holding = open.max_by_key(|m| (!set_aside.contains(&*m.name), wait(m)));
    holding.map_or_else(|| "nothing to compare yet".to_owned(), |m| m.reason.clone())
}

/// Weights of the study, shared within a class and scaled to one over the classes that are there.
fn weights(metrics: &[Metric]) -> Vec<f64> {
    let class_weight = |class: MetricClass| match class {
        MetricClass::Errors | MetricClass::Latency => 0.25,
        MetricClass::Memory => 0.20,
        MetricClass::Cpu | MetricClass::Proportion | MetricClass::Gauge => 0.15,
    };
    let alike =
        |m: &Metric| metrics.iter().filter(|o| o.class == m.class && o.critical == m.critical).count();
    let raw = |m: &Metric| class_weight(m.class) / alike(m) as f64;
    let sum = |critical: bool| metrics.iter().filter(|m| m.critical == critical).map(raw).sum::<f64>();
    let sums = [sum(false), sum(true)];
    metrics.iter().map(|m| raw(m) / sums[usize::from(m.critical)]).collect()
}
