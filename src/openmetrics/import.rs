//! `davy import openmetrics FILE...`: text with timestamps into the partitions of its time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use davy_collector::expfmt::{Event, StreamError, parse_openmetrics};
use davy_model::{Clock as _, Labels, Metadata, MetricType, Timestamp};
use davy_store::{Import, Imported, Refusal, SeriesRef, Store};

use super::FolderArgs;
use crate::clock::SystemClock;

/// Families whose metadata is gathered.
const FAMILIES_MAX: usize = 100_000;

#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// OpenMetrics text with a timestamp on every sample, closed by `# EOF`; `-` is standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error("{file}: {why}")]
    File { file: String, why: String },
    #[error("{0}")]
    Store(#[from] davy_store::Error),
}

pub(super) fn run(args: &ImportArgs) -> Result<String, String> {
    let (store, options) = args.folder.open(false)?;
    let now = SystemClock.now();
    let (imported, counts) = import_files(&store, &args.files, now)?;
    store.flush().map_err(|e| e.to_string())?;
    let mut report = format!("{} samples imported into {} partitions", imported.samples, imported.partitions);
    let expired = format!("older than the retention of {:?}: raise it before davy runs", options.retention);
    for (n, what) in [
        (imported.known, "were stored already"),
        (imported.conflicts, "refused: another value is stored at their time"),
        (imported.out_of_bounds, "refused: before 1970, or still to come"),
        (counts.refused, counts.refusal.as_deref().unwrap_or_default()),
        (counts.exemplars, "exemplars left out: those of live series only are kept"),
        (imported.expired, expired.as_str()),
    ] {
        if n > 0 {
            report.push_str(&format!("; {n} {what}"));
        }
    }
    Ok(report)
}

/// Everything that the files hold, or nothing.
pub(super) fn import_files(
    store: &Store,
    files: &[PathBuf],
    now: Timestamp,
) -> Result<(Imported, Counts), String> {
    let mut counts = Counts::default();
    let imported = store.import(now, |import| {
        files.iter().try_for_each(|file| {
            let failed = |why: String| ImportError::File { file: file.display().to_string(), why };
            let input = open(file).map_err(|e| failed(e.to_string()))?;
            read(input, import, &mut counts).map_err(failed)
        })
    });
    let imported = imported.map_err(|e: ImportError| format!("{e}; nothing was imported"))?;
    Ok((imported, counts))
}

#[derive(Default)]
pub(super) struct Counts {
    exemplars: u64,
    /// Samples of series that a limit refused, and what the first refusal said.
    refused: u64,
    refusal: Option<String>,
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    if file == Path::new("-") { Ok(Box::new(io::stdin())) } else { Ok(Box::new(File::open(file)?)) }
}

fn read(input: impl Read, import: &mut Import<'_>, counts: &mut Counts) -> Result<(), String> {
    let mut families: HashMap<String, Metadata> = HashMap::new();
    let mut last = Last::default();
    let read = parse_openmetrics(input, |line, event| -> Result<(), String> {
        match event {
            Event::Help { family, help } => family_of(&mut families, &family).help = help.into_owned(),
            Event::Type { family, metric_type } => {
                family_of(&mut families, &family).metric_type = metric_type;
            }
            Event::Unit { family, unit } => unit.clone_into(&mut family_of(&mut families, &family).unit),
            Event::Sample { labels, point } => {
                let Some(at) = point.timestamp else {
                    return Err(format!(
                        "a sample without a timestamp in or after line {line}: {}",
                        Labels::from_pairs(labels.iter().map(|(n, v)| (n, v)))
                    ));
                };
                counts.exemplars += u64::from(point.exemplar.is_some());
                match last.series(labels, import) {
                    Ok(series) => import.append(series, at, point.value).map_err(|e| e.to_string())?,
                    Err(refusal) => {
                        counts.refused += 1;
                        counts.refusal.get_or_insert_with(|| format!("refused: {refusal}"));
                    }
                }
            }
        }
        Ok(())
    });
    read.map_err(|e: StreamError<String>| e.to_string())?;
    for (family, metadata) in families {
        import.metadata(&series_name(family, metadata.metric_type), &metadata);
    }
    Ok(())
}

fn family_of<'a>(families: &'a mut HashMap<String, Metadata>, family: &str) -> &'a mut Metadata {
    // Beyond the bound all share one entry, which names no series.
    let key = if families.len() < FAMILIES_MAX || families.contains_key(family) { family } else { "" };
    families.entry(key.to_owned()).or_default()
}

/// Davy knows metadata by the name that series have: OpenMetrics leaves its suffix out.
fn series_name(family: String, metric_type: MetricType) -> String {
    match metric_type {
        MetricType::Counter => family + "_total",
        MetricType::Info => family + "_info",
        MetricType::Gauge
        | MetricType::Histogram
        | MetricType::GaugeHistogram
        | MetricType::Summary
        | MetricType::StateSet
        | MetricType::Unknown => family,
    }
}

/// The series of the line before: most dumps go series by series.
#[derive(Default)]
struct Last {
    labels: Vec<(String, String)>,
    series: Option<Result<SeriesRef, Refusal>>,
}

impl Last {
    fn series(
        &mut self,
        labels: &[(Cow<'_, str>, Cow<'_, str>)],
        import: &mut Import<'_>,
    ) -> Result<SeriesRef, Refusal> {
        let same = self.labels.len() == labels.len()
            && self.labels.iter().zip(labels).all(|(a, b)| a.0 == b.0 && a.1 == b.1);
        match &self.series {
            Some(known) if same => known.clone(),
            _ => {
                let found = import.series(&Labels::from_pairs(labels.iter().map(|(n, v)| (n, v))));
                self.labels = labels.iter().map(|(n, v)| ((**n).to_owned(), (**v).to_owned())).collect();
                self.series.insert(found).clone()
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: ImportArgs,
    }

    pub(in super::super) fn import(folder: &Path, file: &Path) -> Result<String, String> {
        let folder = folder.to_string_lossy().into_owned();
        let file = file.to_string_lossy().into_owned();
        let all = ["import", "--storage.path", &folder, &file];
        run(&<Cli as clap::Parser>::try_parse_from(all).expect("valid arguments").args)
    }

    fn check(text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("in.om");
        std::fs::write(&file, text).unwrap();
        import(&dir.path().join("data"), &file).map_err(|e| e.replace(&*file.to_string_lossy(), "in.om"))
    }

    #[test]
    fn the_report_says_what_became_of_every_sample() {
        // Blanks after commas, and empty braces, as `promtool tsdb dump-openmetrics` writes them.
        let text = "a_total{x=\"1\", y=\"2\"} 1 1767225600.000\na_total{x=\"1\", y=\"2\"} 2 1767225615.000\n\
                    b{} NaN 1767225600.000\nb{} 7 1767225600.000 # {id=\"7\"} 1\nc 1 99999999999\n# EOF\n";
        let report = check(text).unwrap();
        assert!(
            report.starts_with("3 samples imported into 1 partitions; 1 refused: another value"),
            "{report}"
        );
        assert!(
            report.contains("1 refused: before 1970, or still to come; 1 exemplars left out"),
            "{report}"
        );
    }

    #[test]
    fn a_wrong_file_imports_nothing_and_is_named() {
        for (text, want) in [
            (
                "a 1\n# EOF\n",
                "in.om: a sample without a timestamp in or after line 1: a; nothing was imported",
            ),
            ("a 1 1767225600\n", "in.om: line 2, column 1: expected `# EOF`"),
            ("a 1 1767225600\nb x 1\n# EOF\n", "in.om: line 2, column 3: expected a number"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
