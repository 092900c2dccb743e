//! Why Davy did not start, or had to end: what, where, and what to do.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::ConfigErrors;

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("the configuration is refused:\n{0}")]
    Config(#[from] ConfigErrors),
    #[error(
        "cannot listen on {address} for {what}: {source}; is another davy running? change it with {remedy}"
    )]
    Bind { what: &'static str, address: SocketAddr, remedy: &'static str, source: std::io::Error },
    #[error("cannot open the data folder {path}: {source}")]
    Store { path: PathBuf, source: davy_store::Error },
    #[error("cannot prepare the scrapes: {0}")]
    Scrapes(String),
    #[error("cannot prepare remote write: {0}")]
    Forward(String),
    #[error("cannot prepare the sources: {0}")]
    Sources(String),
    #[error("cannot prepare the receivers: {0}")]
    Receivers(String),
    #[error("cannot sign the audit: {0}")]
    Audit(String),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error("a part of davy ended before it should: {0}")]
    Ended(String),
}
