//! The tables: false alarms, delays, promotions, and Davy's false alarms one by one.

use davy_fixtures::peers::reports::REPORTS;
use davy_fixtures::peers::{Decision, Points};
use davy_fixtures::scenario::Kind;

use crate::args::Args;
use crate::common::judge_report;
use crate::davy::Judge;
use crate::measure::Measured;

/// Davy's false alarms that are listed of each scenario.
const LISTED_MAX: usize = 5;
const REPORT_MINUTES: usize = 480;

pub(crate) fn print(args: &Args, judges: &[Judge], measured: &[Measured]) {
    println!("{} runs a row, seeds {} to {}.", args.seeds, args.from, args.from + args.seeds - 1);
    let of = |kind| measured.iter().filter(move |m| m.named.kind == kind).collect::<Vec<_>>();
    let alarms = "share rolled back in %, in brackets within the first hour";
    print_table(&format!("Identical versions: {alarms}"), judges, &of(Kind::Identical), rolled_back, true);
    print_table(&format!("Unfair twins: {alarms}"), judges, &of(Kind::Unfair), rolled_back, false);
    let delays = "share found in % / median (90 % quantile) of intervals since it began";
    print_table(&format!("Regressions: {delays}"), judges, &of(Kind::Regression), found, false);
    print_table(
        "Equal canaries: share promoted within the hour in % / median in intervals",
        judges,
        &of(Kind::Identical),
        promoted_when,
        true,
    );
    print_table(
        "Worse than the margin of non-inferiority: share promoted within the hour in %",
        judges,
        &of(Kind::Worse),
        promoted,
        true,
    );
    list_false_alarms(args, judges, measured);
}

type Cell = fn(&Measured, usize) -> String;

fn print_table(title: &str, judges: &[Judge], rows: &[&Measured], cell: Cell, total: bool) {
    if rows.is_empty() {
        return;
    }
    println!("\n### {title}\n\n| scenario | {} |", join(judges.iter().map(|j| j.title().to_owned())));
    println!("|---|{}", "---|".repeat(judges.len()));
    for row in rows {
        println!("| {} | {} |", row.named.name, join((0..judges.len()).map(|j| cell(row, j))));
    }
    if total && rows.len() > 1 {
        let runs: Vec<_> = rows.iter().flat_map(|r| r.runs.clone()).collect();
        let all = Measured { named: rows[0].named.clone(), runs };
        println!("| all of these | {} |", join((0..judges.len()).map(|j| cell(&all, j))));
    }
}

fn join(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(" | ")
}

fn decisions(m: &Measured, judge: usize) -> impl Iterator<Item = Decision> {
    m.runs.iter().map(move |r| r[judge].decision)
}

fn hour(m: &Measured) -> usize {
    m.named.scenario.intervals_in(3600.0)
}

fn percent(part: usize, whole: usize) -> String {
    let share = 100.0 * part as f64 / whole as f64;
    if part == 0 || share >= 9.95 { format!("{share:.0}") } else { format!("{share:.1}") }
}

fn rolled_back(m: &Measured, judge: usize) -> String {
    let at: Vec<usize> = decisions(m, judge).filter_map(|d| d.rolled_back).collect();
    let within = at.iter().filter(|t| **t <= hour(m)).count();
    let all = percent(at.len(), m.runs.len());
    if within == at.len() { all } else { format!("{all} ({})", percent(within, m.runs.len())) }
}

/// A rollback before the regression began found nothing.
fn found(m: &Measured, judge: usize) -> String {
    let onset = m.named.scenario.onset;
    let delays = decisions(m, judge).filter_map(|d| d.rolled_back?.checked_sub(onset)).filter(|d| *d > 0);
    let delays: Vec<usize> = delays.collect();
    let share = percent(delays.len(), m.runs.len());
    if delays.is_empty() {
        return share;
    }
    format!("{share} / {} ({})", quantile(m, &delays, 0.5), quantile(m, &delays, 0.9))
}

/// Of all runs: those without a value come last.
fn quantile(m: &Measured, values: &[usize], share: f64) -> String {
    let mut values = values.to_vec();
    values.sort_unstable();
    let i = ((m.runs.len() - 1) as f64 * share).round() as usize;
    values.get(i).map_or("–".to_owned(), ToString::to_string)
}

fn promoted(m: &Measured, judge: usize) -> String {
    percent(promotions(m, judge).len(), m.runs.len())
}

/// Minutes until what Kayenta's users reported is rolled back, while it goes on for eight hours.
pub(crate) fn print_reports(judges: &[Judge]) {
    println!("\n### What Kayenta's users reported: minutes until rolled back\n");
    println!("| report | {} |", join(judges.iter().map(|j| j.title().to_owned())));
    println!("|---|{}", "---|".repeat(judges.len()));
    for report in &REPORTS {
        let run = report.run(REPORT_MINUTES);
        let points = Points::new(&run);
        let minutes = judges.iter().map(|judge| match judge {
            Judge::Davy { spec, .. } => judge_report(report, spec, REPORT_MINUTES).map(|(m, _)| m),
            Judge::Peer(rule) => (rule.decide)(&run, &points).rolled_back,
        });
        let cells = minutes.map(|m| m.map_or("never".to_owned(), |m| m.to_string()));
        let number = report.source.rsplit('/').next().expect("a source is an address");
        println!("| #{number}: {} | {} |", report.what, join(cells));
    }
}

fn promoted_when(m: &Measured, judge: usize) -> String {
    let early = promotions(m, judge);
    format!("{} / {}", percent(early.len(), m.runs.len()), quantile(m, &early, 0.5))
}

fn promotions(m: &Measured, judge: usize) -> Vec<usize> {
    decisions(m, judge).filter_map(|d| d.promoted).filter(|t| *t <= hour(m)).collect()
}

fn list_false_alarms(args: &Args, judges: &[Judge], measured: &[Measured]) {
    for (j, judge) in judges.iter().enumerate() {
        if !matches!(judge, Judge::Davy { .. }) {
            continue;
        }
        let equal = |m: &&Measured| matches!(m.named.kind, Kind::Identical | Kind::Unfair);
        let alarms = measured.iter().filter(equal).flat_map(|m| {
            let seeds = args.seeds().zip(&m.runs);
            let of = seeds.filter_map(move |(seed, run)| {
                let (t, reason) = (run[j].decision.rolled_back?, run[j].reason.as_deref()?);
                Some(format!("- {} seed {seed} at {t}: {reason}", m.named.name))
            });
            of.take(LISTED_MAX)
        });
        let alarms: Vec<String> = alarms.collect();
        if !alarms.is_empty() {
            println!("\n### False alarms of {}, at most {LISTED_MAX} a scenario\n", judge.title());
            alarms.iter().for_each(|line| println!("{line}"));
        }
    }
}
