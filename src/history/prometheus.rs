//! Raw samples out of a server that answers as Prometheus does, by range selectors: `up{job="x"}[1h]`.

use std::path::Path;
use std::time::Duration;

use davy_egress::{Auth, HttpConfig, Secret};
use davy_model::Timestamp;
use davy_store::{Import, Store};
use reqwest::Url;

use crate::sources::{Client, Failed, Fetched, SourceSpec, narrowed};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// What is asked for at once, and the least that it is halved to when the server finds it too much.
const WINDOW_MAX: Duration = Duration::from_secs(3600);
const WINDOW_MIN: Duration = Duration::from_secs(60);

pub(super) struct Server {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

/// Why a copy ended early.
struct Ended(String);

impl From<davy_store::Error> for Ended {
    fn from(error: davy_store::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Failed> for Ended {
    fn from(failed: Failed) -> Self {
        Self(failed.to_string())
    }
}

impl Server {
    pub(super) fn new(url: &Url, token_file: Option<&Path>) -> Result<Self, String> {
        let auth = token_file.map(|file| Auth::Authorization {
            scheme: "Bearer".to_owned(),
            credentials: Secret::File(file.to_owned()),
        });
        let spec = SourceSpec {
            name: "--prometheus.url".to_owned(),
            url: url.to_string(),
            // As a person's own tools do.
            http: HttpConfig { auth, follow_redirects: true, ..HttpConfig::default() },
            headers: [].into(),
            timeout: ANSWER_TIMEOUT,
            interval: WINDOW_MIN,
            delay: Duration::ZERO,
        };
        let client = Client::new(&spec, ANSWER_BYTES_MAX).map_err(|e| format!("--prometheus.url {e}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { client, runtime: runtime.map_err(|e| e.to_string())? })
    }

    /// Copies what the selectors name into the store.
    pub(super) fn copy(
        &self,
        selectors: &[String],
        (from, to): (Timestamp, Timestamp),
        store: &Store,
        now: Timestamp,
    ) -> Result<(), String> {
        let copied = store.import(now, |import| {
            for selector in selectors {
                let names = self.runtime.block_on(self.client.names(selector, from, to))?;
                for name in names {
                    self.copy_metric(&narrowed(selector, &name), (from, to), import)?;
                }
            }
            Ok(())
        });
        copied.map(|_| ()).map_err(|e: Ended| e.0)
    }

    fn copy_metric(
        &self,
        selector: &str,
        (from, to): (Timestamp, Timestamp),
        import: &mut Import<'_>,
    ) -> Result<(), Ended> {
        let mut window = WINDOW_MAX;
        let mut end = from;
        while end < to {
            let next = (end + window).min(to);
            match self.runtime.block_on(self.client.raw(selector, end, next)) {
                Ok(found) => {
                    found.into_iter().try_for_each(|s| append(s, import))?;
                    end = next;
                }
                Err(Failed::TooMuch(_)) if window > WINDOW_MIN => window /= 2,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

fn append(series: Fetched, import: &mut Import<'_>) -> Result<(), Ended> {
    let found = import.series(&series.labels).map_err(|refusal| Ended(refusal.to_string()))?;
    for (at, value) in series.samples {
        import.append(found, at, value)?;
    }
    Ok(())
}
