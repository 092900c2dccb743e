//! Which series there are: `/api/v1/series`, `/api/v1/labels` and `/api/v1/label/{name}/values`.

use std::collections::BTreeSet;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use davy_model::{Labels, Matcher, Timestamp};
use davy_store::Snapshot;

use super::answer::TRUNCATED;
use super::envelope::{list, with_warnings, written};
use super::label_name;
use super::params::Params;
use super::samples;
use crate::error::ApiError;
use crate::router::ApiState;

/// `GET /api/v1/series?match[]=[&start=&end=&limit=]`.
pub(super) async fn series(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let selectors = params.selectors()?;
    if selectors.is_empty() {
        return Err(ApiError::BadData("no match[] parameter provided".into()));
    }
    let asked = Asked { selectors, range: params.range()?, limit: params.limit()? };
    let work = move |snapshot: &Snapshot| {
        let (from, to) = asked.range;
        let mut found: Vec<Labels> = Vec::new();
        for matchers in &asked.selectors {
            found.extend(snapshot.series(matchers, from, to)?);
        }
        if asked.selectors.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        let warnings = asked.truncate(&mut found);
        Ok(written(|out| list(out, &found, samples::labels), &warnings))
    };
    read(&state, work).await
}

/// `GET /api/v1/labels[?match[]=&start=&end=&limit=]`.
pub(super) async fn names(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let asked = Asked::new(&params)?;
    read(&state, move |snapshot| asked.union(|m, from, to| snapshot.label_names(m, from, to))).await
}

/// `GET /api/v1/label/{name}/values[?match[]=&start=&end=&limit=]`.
pub(super) async fn values(
    State(state): State<ApiState>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|_| ApiError::BadData("invalid label name: not UTF-8".into()))?;
    let name = label_name::unescape(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(ApiError::BadData("invalid label name: \"\"".into()));
    }
    let asked = Asked::new(&params)?;
    read(&state, move |snapshot| asked.union(|m, from, to| snapshot.label_values(&name, m, from, to))).await
}

async fn read(
    state: &ApiState,
    work: impl FnOnce(&Snapshot) -> Result<Response, davy_store::Error> + Send + 'static,
) -> Result<Response, ApiError> {
    let store = state.store.clone();
    let work = move |_: &_| work(&store.snapshot()).map_err(|e| ApiError::Internal(e.to_string()));
    Ok(state.queries.run(None, work).await?.value)
}

struct Asked {
    selectors: Vec<Vec<Matcher>>,
    range: (Timestamp, Timestamp),
    limit: usize,
}

impl Asked {
    /// Without a selector, every series is meant.
    fn new(params: &Params) -> Result<Self, ApiError> {
        let mut selectors = params.selectors()?;
        if selectors.is_empty() {
            selectors.push(Vec::new());
        }
        Ok(Self { selectors, range: params.range()?, limit: params.limit()? })
    }

    fn union(
        &self,
        mut of: impl FnMut(&[Matcher], Timestamp, Timestamp) -> Result<Vec<String>, davy_store::Error>,
    ) -> Result<Response, davy_store::Error> {
        let (from, to) = self.range;
        let mut all = match self.selectors.as_slice() {
            [one] => of(one, from, to)?,
            several => {
                let mut set = BTreeSet::new();
                for matchers in several {
                    set.extend(of(matchers, from, to)?);
                }
                set.into_iter().collect()
            }
        };
        let warnings = self.truncate(&mut all);
        Ok(with_warnings(&all, &warnings))
    }

    fn truncate<T>(&self, all: &mut Vec<T>) -> Vec<String> {
        if self.limit == 0 || all.len() <= self.limit {
            return Vec::new();
        }
        all.truncate(self.limit);
        vec![TRUNCATED.to_owned()]
    }
}
