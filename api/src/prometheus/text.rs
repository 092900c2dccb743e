//! Queries as text and as trees: `/api/v1/format_query` and `/api/v1/parse_query`.

use axum::response::Response;
use promql_parser::parser::Expr;

use super::envelope::success;
use super::params::{Params, invalid};
use crate::error::ApiError;

/// `GET /api/v1/format_query?query=`.
pub(super) async fn format(params: Params) -> Result<Response, ApiError> {
    Ok(success(&parse(&params)?.prettify()))
}

/// `GET /api/v1/parse_query?query=`: the tree in the shape that Prometheus' own page draws.
pub(super) async fn tree(params: Params) -> Result<Response, ApiError> {
    Ok(success(&parse(&params)?))
}

/// Read by the engine first, whose bounds on length and depth protect what is recursive here.
fn parse(params: &Params) -> Result<Expr, ApiError> {
    let bounded = params.expr()?.to_string();
    promql_parser::parser::parse(&bounded).map_err(|e| invalid("query", &format!("1:1: parse error: {e}")))
}
