//! The judge against the study's reference implementation, number by number, on recorded runs.
//! Each file says by which command it was made. Our departures from the study (`study.rs`) are turned off.

use crate::calibration::Noise;
use crate::config::{Direction, Margin};
use crate::plan::{Arm, Margins, Metric, Reading};
use crate::verdict::MetricClass;

use super::Frame;
use super::cohort::{Cohort, ask};
use super::counts::{CountParams, DISPERSION_PRIOR_INTERVALS, LUCK_PRIOR_INSTANCES, Tolerance};
use super::epochs::Epochs;
use super::evidence::log_add;
use super::growth::{Growth, GrowthMargins};
use super::level::{Level, Mean, Use};
use super::proportion::Proportion;
use super::study;
use super::survival::{Edges, Survival};
use super::term::{Counts, Question};

/// Student's quantile differs from SciPy's in the seventh digit, and memory is recorded to six decimals.
const TOLERANCE: f64 = 2e-4;

struct Run {
    arms: Vec<Arm>,
    lines: Vec<(&'static str, Vec<f64>)>,
}

fn read(text: &'static str) -> Run {
    let lines: Vec<(&str, Vec<f64>)> = text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| {
            let (key, rest) = l.split_once(' ').unwrap();
            (key, rest.split(' ').map(|v| v.parse().unwrap()).collect())
        })
        .collect();
    let arms = lines[0].1.iter().map(|a| if *a == 0.0 { Arm::Baseline } else { Arm::Canary }).collect();
    Run { arms, lines }
}

/// Runs that the reference judged, to be judged as it does.
fn runs() -> [Run; 2] {
    study::follow();
    [
        read(include_str!("../../testdata/reference_halves.txt")),
        read(include_str!("../../testdata/reference_5_95.txt")),
    ]
}

fn close(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= TOLERANCE * want.abs().max(1.0), "{what}: got {got}, want {want}");
}

fn metric(class: MetricClass, direction: Direction, margins: Margins) -> Metric {
    Metric {
        name: class.as_str().to_owned(),
        class,
        direction,
        margins,
        critical: true,
        source: "".into(),
        reading: Reading::Given,
    }
}

#[test]
fn errors_and_conversions_agree_with_the_reference() {
    let conversion = Margin { relative: 0.02, absolute: 0.0 };
    for run in runs() {
        let mut errors = Proportion::new(
            &metric(MetricClass::Errors, Direction::Increase, Margins::ERRORS),
            &Noise::default(),
        );
        let mut conversions = Proportion::new(
            &metric(
                MetricClass::Proportion,
                Direction::Decrease,
                Margins::custom(MetricClass::Proportion, conversion),
            ),
            &Noise::default(),
        );
        let mut trials = Vec::new();
        let frame = Frame { arms: &run.arms, judged: true };
        let mut checked = 0;
        for (key, v) in &run.lines {
            let counts = || Counts { trials: trials.clone(), events: v.clone() };
            match *key {
                "requests" => trials.clone_from(v),
                "errors" => errors.step(&run.arms, &counts()),
                "conversions" => conversions.step(&run.arms, &counts()),
                "log_e" => {
                    close("errors", errors.row(&frame).worse, v[0]);
                    close("conversions", conversions.row(&frame).worse, v[5]);
                    checked += 1;
                }
                "no_worse" => {
                    close("errors no worse", errors.row(&frame).no_worse, v[0]);
                    close("conversions no worse", conversions.row(&frame).no_worse, v[3]);
                }
                _ => {}
            }
        }
        assert!(checked >= 9);
    }
}

#[test]
fn slow_requests_agree_with_the_reference() {
    for run in runs() {
        let thresholds = run.lines.iter().filter(|(k, _)| *k == "threshold").count();
        let mut processes: Vec<Epochs<Cohort>> = (0..thresholds).map(|_| Epochs::new()).collect();
        let mut questions = vec![Question::default(); thresholds];
        let (mut trials, mut slow) = (Vec::new(), Vec::new());
        let mut next = 0;
        for (key, v) in &run.lines {
            match *key {
                "requests" => {
                    trials.clone_from(v);
                    next = 0;
                }
                "slow" => slow.clone_from(v),
                "tune" => {
                    let params = [CountParams {
                        tolerance: Tolerance::Ratio(v[0]),
                        sign: 1.0,
                        luck_sd: v[1],
                        luck_weight: LUCK_PRIOR_INSTANCES,
                        arm_noise_sd: v[2],
                        cold_sd: 1.0,
                        dispersion: 1.0,
                        dispersion_weight: DISPERSION_PRIOR_INTERVALS,
                    }];
                    let counts = Counts { trials: trials.clone(), events: slow.clone() };
                    let sums = counts.sums(&run.arms);
                    let terms = ask(&mut questions[next..=next], &run.arms, &sums, &params);
                    processes[next].advance(
                        |_| Cohort::new(&params),
                        |p| {
                            p.retune(&params);
                            p.update(&run.arms, &sums, &terms);
                        },
                    );
                    next += 1;
                }
                "log_e" => {
                    let logs = processes.iter().map(|p| p.log_mix(Cohort::log_e, |_| 0.0));
                    close("latency", logs.fold(f64::NEG_INFINITY, log_add) - (thresholds as f64).ln(), v[1]);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn memory_agrees_with_the_reference() {
    for run in runs() {
        let mut levels: Epochs<Level> = Epochs::new();
        let mut growths: Epochs<Growth> = Epochs::new();
        let margins = GrowthMargins { growth: 0.05f64.ln_1p(), slope: 0.06 };
        let mut t = 0.0;
        for (key, v) in &run.lines {
            match *key {
                "memory" => {
                    let at_h = t * 15.0 / 3600.0;
                    t += 1.0;
                    let uses: Vec<_> = v
                        .iter()
                        .map(|y| Some(Use { value: y.exp(), log: *y, seconds: 15.0, requests: None }))
                        .collect();
                    let logs: Vec<_> = v.iter().copied().map(Some).collect();
                    levels.advance(
                        |_| Level::new(Mean::Logs, (0.03 * 0.03, LUCK_PRIOR_INSTANCES)),
                        |l| l.update(&run.arms, &uses),
                    );
                    growths
                        .advance(|_| Growth::new(margins, 0.02, 0.03), |g| g.update(&run.arms, at_h, &logs));
                }
                "log_e" => {
                    let level = levels.log_mix(|l| l.standing().worse(0.10f64.ln_1p()), |_| 0.0);
                    close("memory", level, v[3]);
                    close("leak", growths.log_mix(|g| g.faster(&run.arms), |_| 0.0), v[4]);
                }
                "no_worse" => {
                    let g = growths.first().unwrap();
                    close("growth no worse", g.grown_no_more(0.15f64.ln_1p()), v[2]);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn thresholds_agree_with_the_reference() {
    for run in runs() {
        let of = |key: &str| run.lines.iter().find(|(k, _)| *k == key).unwrap().1.clone();
        let (edges, history) = (of("edges"), of("history"));
        let edges = Edges::new(&edges.into());
        let survival = Survival::new(&edges, &history);
        let wanted: Vec<_> = run.lines.iter().filter(|(k, _)| *k == "threshold").collect();
        for (quantile, (_, want)) in [0.5, 0.9, 0.99].into_iter().zip(wanted) {
            let edge = survival.edge_near(quantile).unwrap();
            assert_eq!(edge as f64, want[0]);
            close("worse ratio", survival.ratio(edge, 0.05), want[1]);
            close("no worse ratio", survival.ratio(edge, 0.15), want[2]);
        }
    }
}
