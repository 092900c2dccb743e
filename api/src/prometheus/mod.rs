//! `/api/v1` and `/federate` as Prometheus 3.5 answers them: what Grafana and every other client of it asks.
//!
//! Read in this order: [`params`] (what a request says), [`gate`] (who may evaluate, and for how long), [`query`],
//! [`answer`] (how it is written). A form in the body is the same as parameters in the URL.

mod answer;
mod envelope;
mod federate;
mod gate;
mod label_name;
mod metadata;
mod metrics;
mod number;
mod params;
mod query;
mod rules;
mod samples;
mod series;
mod singleflight;
mod status;
mod targets;
mod text;
mod tree;

use axum::Router;
use axum::routing::get;

pub use gate::{QueryGate, QueryLimits};
pub(crate) use number::exponent_text;

use crate::router::ApiState;

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/federate", get(federate::federate))
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(metadata::exemplars).post(metadata::exemplars))
        .route("/api/v1/format_query", get(text::format).post(text::format))
        .route("/api/v1/parse_query", get(text::parsed).post(text::parsed))
        .route("/api/v1/series", get(series::series).post(series::series))
        .route("/api/v1/labels", get(series::names).post(series::names))
        .route("/api/v1/label/{name}/values", get(series::values))
        .route("/api/v1/metadata", get(metadata::metadata))
        .route("/api/v1/targets", get(targets::targets))
        .route("/api/v1/targets/metadata", get(targets::metadata))
        .route("/api/v1/scrape_pools", get(targets::scrape_pools))
        .route("/api/v1/rules", get(rules::rules))
        .route("/api/v1/alerts", get(rules::alerts))
        .route("/api/v1/alertmanagers", get(rules::alertmanagers))
        .route("/api/v1/status/buildinfo", get(status::buildinfo))
        .route("/api/v1/status/runtimeinfo", get(status::runtimeinfo))
        .route("/api/v1/status/tsdb", get(status::tsdb))
}
