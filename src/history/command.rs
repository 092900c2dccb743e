//! `davy judge` on recorded samples: one verdict, a report of it, an exit code.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{HistoryArgs, judge, pick, versions};
use crate::exit;
use crate::report::{Format, Report};

#[derive(Debug, Clone, Args)]
pub struct RecordedArgs {
    #[command(flatten)]
    history: HistoryArgs,
    /// The version that lived before; the one before the canary unless given.
    #[arg(long)]
    baseline: Option<String>,
    /// The new version; the newest unless given.
    #[arg(long)]
    canary: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// How a report is given.
#[derive(Debug, Clone, Args)]
pub(super) struct OutputArgs {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Where the report goes; standard output unless given.
    #[arg(long = "report", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Say in plain words what the numbers mean and what would change the verdict.
    #[arg(long)]
    pub explain: bool,
}

/// 0 pass, 1 fail, 3 insufficient; 2 where the question cannot be answered.
pub fn run(args: &RecordedArgs) -> ExitCode {
    exit::with(look_back(args).and_then(|report| args.output.write(&report)))
}

impl OutputArgs {
    /// Gives the report; its exit code.
    pub(super) fn write(&self, report: &Report) -> Result<u8, String> {
        let text = report.render(self.format, self.explain);
        match &self.file {
            Some(file) => std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))?,
            // Whoever closed the pipe has read enough.
            None => _ = std::io::stdout().write_all(text.as_bytes()),
        }
        Ok(exit::code(&report.verdict.verdict))
    }
}

fn look_back(args: &RecordedArgs) -> Result<Report, String> {
    let history = args.history.open()?;
    let service = match &args.history.service {
        Some(service) => service.clone(),
        None => only_service(&history)?,
    };
    let (spec, _) = history.config.rules(&service);
    let snapshot = history.store.snapshot();
    let found = versions(&snapshot, &service, &spec.version_label, history.from, history.to)?;
    let (arms, since) = pick(&spec, &service, &found, args.baseline.as_deref(), args.canary.as_deref())?;
    let known = history.known(&service);
    let judged = judge(&snapshot, &spec, &arms, since, (history.from, history.to), &known)?;
    judged.report(&spec, &arms, &history.source).ok_or_else(|| {
        format!(
            "between {} and {} there is not one interval of {}",
            judged.from,
            history.to,
            crate::terminal::duration(spec.judge.interval)
        )
    })
}

/// The service, if the samples are of one.
fn only_service(history: &super::History) -> Result<String, String> {
    let snapshot = history.store.snapshot();
    let mut services = Vec::new();
    for label in [davy_model::name::SERVICE, davy_model::name::JOB] {
        services = snapshot.label_values(label, &[], history.from, history.to).map_err(|e| e.to_string())?;
        if !services.is_empty() {
            break;
        }
    }
    match &services[..] {
        [only] => Ok(only.clone()),
        [] => Err("no sample has a `service` or `job` label: nothing tells whose they are".to_owned()),
        several => Err(format!("say which --service: {}", several.join(", "))),
    }
}
