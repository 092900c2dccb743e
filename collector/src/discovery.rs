//! Discovery: where targets come from. Each entry of a job yields [`TargetGroup`]s; relabelling makes targets of them.
//!
//! A source that fails keeps its last answer: targets that are not named any more are a decision, targets that cannot
//! be named for a moment are an accident.

use std::time::Duration;

use davy_egress::{ClientError, HttpClient};
use reqwest::Url;
use tokio::time::sleep;

use crate::config::Discovery;
use crate::target::TargetGroup;

mod file;
mod http;
mod wire;

use file::FileDiscovery;
use http::HttpDiscovery;

/// How often files are looked at for a change.
const FILE_POLL: Duration = Duration::from_secs(5);

/// One entry, ready to run.
pub(crate) enum Source {
    /// Known at once, and for good.
    Static(TargetGroup),
    File(FileDiscovery),
    Http(HttpDiscovery),
}

impl Source {
    pub(crate) fn new(discovery: &Discovery) -> Result<Self, ClientError> {
        Ok(match discovery {
            Discovery::Static { targets, labels } => {
                Self::Static(TargetGroup { targets: targets.clone(), labels: labels.clone() })
            }
            Discovery::File { files, refresh_interval } => {
                Self::File(FileDiscovery::new(files.clone(), *refresh_interval))
            }
            Discovery::Http { url, refresh_interval, http } => {
                let url = Url::parse(url).map_err(|_| ClientError::Url { got: url.clone() })?;
                let client = HttpClient::for_url(&HttpClient::new(http)?, http, &url)?;
                Self::Http(HttpDiscovery::new(url, *refresh_interval, client))
            }
        })
    }

    /// Calls `found` with the whole list whenever it is another one. Ends only for a static source.
    pub(crate) async fn run(self, mut found: impl FnMut(Vec<TargetGroup>)) {
        match self {
            Self::Static(group) => found(vec![group]),
            Self::File(files) => run_files(files, found).await,
            Self::Http(http) => run_http(http, &mut found).await,
        }
    }
}

async fn run_files(mut files: FileDiscovery, mut found: impl FnMut(Vec<TargetGroup>)) {
    let mut since_read = Duration::MAX;
    loop {
        let force = since_read >= files.refresh_interval;
        let looked = tokio::task::spawn_blocking(move || {
            let groups = files.look(force);
            (files, groups)
        });
        let groups;
        (files, groups) = match looked.await {
            Ok(looked) => looked,
            Err(error) => return tracing::error!(%error, "file discovery ended"),
        };
        since_read = if force { Duration::ZERO } else { since_read };
        if let Some(groups) = groups {
            found(groups);
        }
        let pause = FILE_POLL.min(files.refresh_interval);
        sleep(pause).await;
        since_read = since_read.saturating_add(pause);
    }
}

async fn run_http(mut http: HttpDiscovery, found: &mut impl FnMut(Vec<TargetGroup>)) {
    loop {
        if let Some(groups) = http.ask().await {
            found(groups);
        }
        sleep(http.refresh_interval).await;
    }
}
