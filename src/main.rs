//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use davy_api::QueryLimits;
use davy_query::Engine;
use tracing_subscriber::EnvFilter;

/// Samples are many small blocks that live for hours among short-lived ones: glibc's allocator keeps a fifth more memory
/// for them, and queries that allocate beside scrapes cost a fifth more.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The safety lamp for releases: watches a new version beside the old one, tells early and honestly when it is
/// worse, and rolls it back.
#[derive(Parser)]
#[command(name = "davy", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Scrape, receive, judge, alert, roll back; serve the API.
    Run(RunArgs),
    /// The whole story on this machine in about a minute: a canary goes bad, is caught and rolled back.
    Demo(davy::demo::DemoArgs),
    /// One instance of the demo's service; started by `davy demo`.
    #[command(hide = true)]
    DemoService(davy::demo::service::ServiceArgs),
    /// One verdict on two versions, from what was recorded: for CI, or after the fact.
    Judge(JudgeCommand),
    /// Wait until a running davy has decided on a release.
    Gate(davy::gate::GateArgs),
    /// Ask PromQL of a running davy, or of any server that answers as Prometheus does.
    Query(davy::query::QueryArgs),
    /// What davy would have judged and alerted over recorded samples.
    Replay(davy::replay::ReplayArgs),
    /// Tell a running davy something of a release: hold, resume, rollback, promote, approve, deny.
    Release(davy::operate::ReleaseArgs),
    /// Send a marked, synthetic regression the real way through a running davy, and time each hop.
    Drill(davy::drill::DrillArgs),
    /// Call nothing any more until the hold ends; works while davy does not answer.
    Hold(davy::operate::HoldArgs),
    /// Messages of alerts: list them, send again what was given up.
    Outbox {
        #[command(subcommand)]
        what: davy::outbox::OutboxCommand,
    },
    /// Who did what: list it, hold it against its signed checkpoints, export it.
    Audit {
        #[command(subcommand)]
        what: davy::audit::AuditCommand,
    },
    /// A backup of the running davy, in a folder that `davy run --storage.path` starts on.
    Snapshot(davy::snapshot::SnapshotArgs),
    /// Samples of other systems into a data folder, of any age.
    Import {
        #[command(subcommand)]
        from: Import,
    },
    /// Samples out of a data folder or snapshot.
    Export {
        #[command(subcommand)]
        to: Export,
    },
    /// Boards and provisioning for Grafana.
    Grafana {
        #[command(subcommand)]
        what: Grafana,
    },
    /// Validate files without starting anything.
    Check {
        #[command(subcommand)]
        what: Check,
    },
}

#[derive(Args)]
struct RunArgs {
    /// What reloads: scrapes, releases, thresholds, routes, receivers, actions.
    #[arg(long = "config.file", default_value = "davy.yaml")]
    config_file: PathBuf,
    /// Where samples, spans and decisions are kept.
    #[arg(long = "storage.path", default_value = "davy-data")]
    storage_path: PathBuf,
    /// Address of the API. Only loopback, until there is authentication.
    #[arg(long = "web.listen-address", default_value = "127.0.0.1:9600", value_parser = davy::config::check_listen)]
    listen_address: SocketAddr,
    /// Where people reach the API, for links in messages; the listen address unless said.
    #[arg(long = "web.external-url")]
    external_url: Option<String>,
    /// The key that signs the audit's checkpoints; made in the data folder if it is nowhere.
    #[arg(long = "audit.key-file")]
    audit_key_file: Option<PathBuf>,
    /// Where the audit's checkpoints are appended to; best on another disk, or shipped from there.
    #[arg(long = "audit.checkpoint-file")]
    audit_checkpoint_file: Option<PathBuf>,
    #[command(flatten)]
    queries: QueryArgs,
    /// Log lines instead of the terminal view.
    #[arg(long)]
    headless: bool,
}

/// Bounds of queries over HTTP, named as Prometheus names them.
#[derive(Args)]
struct QueryArgs {
    /// Queries that are evaluated at the same time; others wait.
    #[arg(long = "query.max-concurrency", default_value_t = usual_concurrency(), value_parser = clap::value_parser!(u16).range(1..))]
    concurrency_max: u16,
    /// How long a query may take, waiting included.
    #[arg(long = "query.timeout", default_value = "2m", value_parser = davy::config::parse_duration)]
    timeout: Duration,
    /// Points that a query may hold in memory at the same time.
    #[arg(long = "query.max-samples", default_value_t = Engine::default().points_max)]
    points_max: usize,
    /// How old the newest sample of a series may be.
    #[arg(long = "query.lookback-delta", default_value = "5m", value_parser = davy::config::parse_duration)]
    lookback: Duration,
}

fn usual_concurrency() -> u16 {
    u16::try_from(QueryLimits::usual_concurrency()).expect("it is small")
}

#[derive(Args)]
#[group(skip)]
struct JudgeCommand {
    #[command(flatten)]
    intervals: davy::judge::JudgeArgs,
    #[command(flatten)]
    recorded: davy::history::RecordedArgs,
}

#[derive(Subcommand)]
enum Import {
    /// OpenMetrics text, as `davy export` and `promtool tsdb dump-openmetrics` write it.
    Openmetrics(davy::openmetrics::ImportArgs),
}

#[derive(Subcommand)]
enum Export {
    /// OpenMetrics 1.0 text with timestamps, which promtool and davy read.
    Openmetrics(davy::openmetrics::ExportArgs),
}

#[derive(Subcommand)]
enum Grafana {
    /// Write the boards and the provisioning of data sources to a folder.
    Export(davy::grafana::ExportArgs),
}

#[derive(Subcommand)]
enum Check {
    /// The configuration file.
    Config { file: PathBuf },
    /// Rule files, and unit tests of rules.
    Rules(davy::rules::CheckArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Demo(args) => davy::demo::run(args),
        Command::DemoService(args) => davy::demo::service::run(args),
        Command::Judge(args) => match args.intervals.intervals() {
            Some(intervals) => davy::judge::run(&args.intervals, intervals),
            None => davy::history::run(&args.recorded),
        },
        Command::Gate(args) => davy::gate::run(&args),
        Command::Query(args) => davy::query::run(&args),
        Command::Release(args) => davy::operate::run(&args),
        Command::Drill(args) => davy::drill::run(&args),
        Command::Hold(args) => davy::operate::hold(&args),
        Command::Outbox { what } => davy::outbox::run(&what),
        Command::Audit { what } => davy::audit::run(&what),
        Command::Replay(args) => davy::replay::run(&args),
        Command::Snapshot(args) => davy::snapshot::run(&args),
        Command::Import { from: Import::Openmetrics(args) } => davy::openmetrics::import(&args),
        Command::Export { to: Export::Openmetrics(args) } => davy::openmetrics::export(&args),
        Command::Check { what: Check::Rules(args) } => davy::rules::run(&args),
        Command::Grafana { what: Grafana::Export(args) } => davy::grafana::export(&args),
        Command::Check { what: Check::Config { file } } => {
            let (report, ok) = davy::config::check(&file);
            print!("{report}");
            if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn run(args: RunArgs) -> ExitCode {
    let terminal = !args.headless && console::Term::stdout().is_term();
    if !terminal {
        let filter = EnvFilter::try_from_env("DAVY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let queries = QueryLimits {
        concurrency_max: args.queries.concurrency_max.into(),
        timeout: args.queries.timeout,
        engine: Engine {
            lookback: args.queries.lookback,
            points_max: args.queries.points_max,
            ..Engine::default()
        },
    };
    let options = davy::app::Options {
        config_file: args.config_file,
        storage_path: args.storage_path,
        listen_address: args.listen_address,
        queries,
        audit_key_file: args.audit_key_file,
        audit_checkpoint_file: args.audit_checkpoint_file,
        external_url: args.external_url,
        terminal,
    };
    match davy::app::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("davy: {error}");
            ExitCode::FAILURE
        }
    }
}
