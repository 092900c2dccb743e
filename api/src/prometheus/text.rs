//! Queries as text and as trees: `/api/v1/format_query` and `/api/v1/parse_query`.

use axum::extract::State;
use axum::response::Response;
use promql_parser::parser::Expr;

use super::envelope::success;
use super::params::{Params, invalid};
use super::tree;
use crate::error::ApiError;
use crate::router::ApiState;

/// `GET /api/v1/format_query?query=`.
pub(super) async fn format(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    Ok(state.queries.run(None, move |_| Ok(success(&parse(&params)?.prettify()))).await?.value)
}

/// `GET /api/v1/parse_query?query=`: the tree in the shape that Prometheus' own page draws.
pub(super) async fn parsed(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    Ok(state.queries.run(None, move |_| Ok(success(&tree::json(&parse(&params)?)))).await?.value)
}

/// Read by the engine first, whose bounds on length and depth protect what is recursive here.
fn parse(params: &Params) -> Result<Expr, ApiError> {
    let bounded = params.expr()?.to_string();
    promql_parser::parser::parse(&bounded).map_err(|e| invalid("query", &format!("1:1: parse error: {e}")))
}
