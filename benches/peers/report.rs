//! The table: a column a system, medians, and how many times Davy's figure each peer's is. Printed as Markdown.

use crate::process::machine_load;
use crate::system::Kind;

pub(crate) struct Report {
    title: String,
    systems: Vec<Kind>,
    rows: Vec<Row>,
    notes: Vec<String>,
    load: Vec<f64>,
}

struct Row {
    name: String,
    decimals: usize,
    /// Whether a peer's figure is also told as a multiple of Davy's.
    compared: bool,
    /// Of each system, one a run.
    figures: Vec<Vec<f64>>,
}

impl Report {
    pub(crate) fn new(title: String, systems: &[Kind]) -> Self {
        eprintln!("{title}");
        Self { title, systems: systems.to_vec(), rows: vec![], notes: vec![], load: vec![] }
    }

    /// A figure that is better when smaller, and compared.
    pub(crate) fn cost(&mut self, system: Kind, name: &str, decimals: usize, figure: f64) {
        self.add(system, name, decimals, true, figure);
    }

    pub(crate) fn fact(&mut self, system: Kind, name: &str, decimals: usize, figure: f64) {
        self.add(system, name, decimals, false, figure);
    }

    pub(crate) fn note(&mut self, note: String) {
        eprintln!("  {note}");
        self.notes.push(note);
    }

    fn add(&mut self, system: Kind, name: &str, decimals: usize, compared: bool, figure: f64) {
        eprintln!("  {:<17} {name:<48} {figure:>14.decimals$}", system.name());
        self.load.push(machine_load());
        let column =
            self.systems.iter().position(|s| *s == system).expect("only chosen systems are measured");
        let row = self.rows.iter().position(|r| r.name == name).unwrap_or_else(|| {
            let figures = vec![vec![]; self.systems.len()];
            self.rows.push(Row { name: name.to_owned(), decimals, compared, figures });
            self.rows.len() - 1
        });
        self.rows[row].figures[column].push(figure);
    }

    /// In the small form nothing may be missing.
    pub(crate) fn assert_complete(&self) {
        assert!(!self.rows.is_empty(), "{}: nothing was measured: {:?}", self.title, self.notes);
        for row in &self.rows {
            for (system, figures) in self.systems.iter().zip(&row.figures) {
                assert!(
                    figures.iter().all(|f| f.is_finite()) && !figures.is_empty(),
                    "{}: {} has no {}: {:?}",
                    self.title,
                    system.name(),
                    row.name,
                    self.notes
                );
            }
        }
    }

    pub(crate) fn print(&self) {
        let load = self.load.iter().fold((f64::INFINITY, 0f64), |(lo, hi), l| (lo.min(*l), hi.max(*l)));
        println!("\n{} (load average {:.1} to {:.1})\n", self.title, load.0, load.1);
        let names: Vec<&str> = self.systems.iter().map(|s| s.name()).collect();
        println!("| | {} |", names.join(" | "));
        println!("|---|{}", "---|".repeat(names.len()));
        let davy = self.systems.iter().position(|s| *s == Kind::Davy);
        for row in &self.rows {
            let medians: Vec<Option<f64>> = row.figures.iter().map(|f| median(f)).collect();
            let base = davy.and_then(|d| medians[d]).filter(|_| row.compared);
            let cells = medians.iter().enumerate().map(|(column, figure)| {
                let Some(figure) = figure else { return "-".to_owned() };
                let text = format!("{figure:.*}", row.decimals);
                match base {
                    Some(base) if Some(column) != davy && base > 0.0 => {
                        format!("{text} ({:.2} x)", figure / base)
                    }
                    _ => text,
                }
            });
            println!("| {} | {} |", row.name, cells.collect::<Vec<_>>().join(" | "));
        }
        for note in &self.notes {
            println!("\n{note}");
        }
    }
}

pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    (n > 0).then(|| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0)
}
