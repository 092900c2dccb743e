//! `Cohort`: processes that began together, must all agree, and share what was seen of the instances.

use crate::calibration::Noise;
use crate::plan::Arm;

use super::counts::{CountParams, CountProcess};
use super::epochs::Started;
use super::instances::Instances;
use super::term::{Question, Sums, Term};

#[derive(Debug, Clone)]
pub(crate) struct Cohort {
    instances: Instances,
    processes: Vec<CountProcess>,
}

impl Cohort {
    pub(super) fn new(params: &[CountParams]) -> Self {
        let processes = params.iter().map(|p| CountProcess::new(*p)).collect();
        Self { instances: Instances::default(), processes }
    }

    /// The same questions, asked anew with what was learned of the noise.
    pub(super) fn anew(&self, params: &[CountParams]) -> Self {
        let processes = self.processes.iter().zip(params).map(|(p, params)| p.anew(*params, &self.instances));
        Self { processes: processes.collect(), instances: Instances::default() }
    }

    pub(super) fn retune(&mut self, params: &[CountParams]) {
        self.processes.iter_mut().zip(params).for_each(|(p, params)| p.retune(*params));
    }

    /// One interval and its terms, one for each process; none without requests in one of the arms, which is no evidence
    /// either way.
    pub(super) fn update(&mut self, arms: &[Arm], sums: &Sums<'_>, terms: &[Term]) {
        self.instances.add(arms, sums.counts);
        for (process, term) in self.processes.iter_mut().zip(terms) {
            process.update(sums, term, &self.instances);
        }
    }

    pub(super) fn instances(&self) -> &Instances {
        &self.instances
    }

    pub(super) fn first(&self) -> Option<&CountProcess> {
        self.processes.first()
    }

    pub(super) fn log_e(&self) -> f64 {
        self.processes.iter().map(CountProcess::log_e).fold(f64::INFINITY, f64::min)
    }

    /// Log evidence from the start, a cold start considered.
    pub(super) fn persistent(s: &Started<'_, Self>) -> f64 {
        let all = s.warm.processes.iter().zip(&s.whole.processes).zip(&s.since.processes);
        all.map(|((w, a), p)| CountProcess::persistent(w, a, p)).fold(f64::INFINITY, f64::min)
    }

    /// What the first process has learned, its priors left out.
    pub(super) fn learned(&self) -> Noise {
        self.processes.first().map_or_else(Noise::default, |p| p.learned(&self.instances))
    }
}

/// The terms of an interval; none without requests in one of the arms.
pub(super) fn ask(
    questions: &mut [Question],
    arms: &[Arm],
    sums: &Sums<'_>,
    params: &[CountParams],
) -> Vec<Term> {
    let asked = questions.iter_mut().zip(params);
    asked.filter_map(|(q, p)| q.ask(arms, sums, p.tolerance, p.sign)).collect()
}
