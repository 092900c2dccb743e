//! `davy run`: opens the databases, binds the sockets, starts the tasks, and carries out what [`Watch`] decides.
//!
//! One task owns the [`Watch`] and everything it decides on; the others (scrapes, receivers, the outbox, the API)
//! touch only the store, the control database and the published view.

mod deliver;
mod drill;
mod error;
mod forward_metrics;
mod metrics;
mod own;
mod perform;
mod publish;
mod rules;
mod tasks;
mod upkeep;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use error::AppError;
pub use metrics::{About, Metrics};
pub use own::OwnSeries;
pub(crate) use watch::HOLD_FILE;
pub use watch::{Errand, Watch};

use crate::config::Config;

/// What needs a restart to change; everything else is in the file and reloads.
#[derive(Debug, Clone)]
pub struct Options {
    pub config_file: PathBuf,
    pub storage_path: PathBuf,
    pub listen_address: SocketAddr,
    /// Bounds of queries over HTTP.
    pub queries: davy_api::QueryLimits,
    /// Where people reach the API, for links in messages; the listen address unless said.
    pub external_url: Option<String>,
    /// The key that signs the audit's checkpoints, and where those go; in the data folder unless said.
    pub audit_key_file: Option<PathBuf>,
    pub audit_checkpoint_file: Option<PathBuf>,
    /// Show the terminal view; otherwise log lines.
    pub terminal: bool,
}

/// Runs until SIGINT or SIGTERM. Everything that can be wrong with file, ports and data folder is said before
/// anything starts. The caller has checked the listen address.
pub fn run(options: Options) -> Result<(), AppError> {
    let config = Config::load(&options.config_file)?;
    // The one TLS provider; a second call finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(AppError::Runtime)?;
    runtime.block_on(tasks::run(options, config))
}
