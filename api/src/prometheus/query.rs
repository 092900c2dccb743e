//! `GET` and `POST /api/v1/query` and `/api/v1/query_range`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use davy_model::Timestamp;
use davy_query::{Answer, Cancel, Engine, EvalError, Expr, Steps, ValueType};
use tokio::time::Instant;

use super::answer::{self, Samples, Stats, Timings, respond};
use super::gate::{Done, Evaluated, Question, When};
use super::params::{Params, invalid};
use crate::error::ApiError;
use crate::router::ApiState;

/// Points of a series at most, as Prometheus: a week at 60 s, a year at an hour.
const POINTS_MAX: i64 = 11_000;

/// `GET /api/v1/query?query=[&time=&timeout=&limit=&lookback_delta=&stats=]`.
pub(super) async fn instant(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let at = params.time("time")?.unwrap_or_else(|| state.clock.now());
    let evaluate = move |expr: &Expr, engine: &Engine, source: &_, cancel: &Cancel| {
        engine.query(expr, source, at, cancel).map_err(|e| error(&e))
    };
    run(&state, params, When::Instant(at), limit, evaluate).await
}

/// `GET /api/v1/query_range?query=&start=&end=&step=[&timeout=&limit=&lookback_delta=&stats=]`.
pub(super) async fn range(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let steps = steps(&params)?;
    let evaluate = move |expr: &Expr, engine: &Engine, source: &_, cancel: &Cancel| {
        has_values(expr)?;
        engine.query_range(expr, source, steps, cancel).map_err(|e| error(&e))
    };
    run(&state, params, When::Range(steps), limit, evaluate).await
}

/// A range of times asks for a value at each of them.
fn has_values(expr: &Expr) -> Result<(), ApiError> {
    let kind = match expr.value_type() {
        ValueType::Scalar | ValueType::Vector => return Ok(()),
        ValueType::Matrix => "range vector",
        ValueType::String => "string",
    };
    let expected = "must be Scalar or instant Vector";
    Err(invalid("query", &format!("invalid expression type {kind:?} for range query, {expected}")))
}

fn steps(params: &Params) -> Result<Steps, ApiError> {
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(invalid("end", "end timestamp must not be before start time"));
    }
    let nanos = params.duration("step")?.ok_or_else(|| {
        invalid("step", "cannot parse \"\" to a valid duration, expected seconds or a duration such as 1m30s")
    })?;
    // Time is in milliseconds here, in Prometheus' engine too.
    let step = u64::try_from(nanos / 1_000_000).unwrap_or(0);
    if step == 0 {
        let detail = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(invalid("step", detail));
    }
    if points(start, end, nanos) > i128::from(POINTS_MAX) {
        return Err(ApiError::BadData(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
             (?step=XX)"
                .into(),
        ));
    }
    Ok(Steps { start, end, step: Duration::from_millis(step) })
}

fn points(start: Timestamp, end: Timestamp, step_nanos: i64) -> i128 {
    let millis = i128::from(end.as_millis()) - i128::from(start.as_millis());
    millis * 1_000_000 / i128::from(step_nanos)
}

async fn run(
    state: &ApiState,
    params: Params,
    when: When,
    limit: usize,
    evaluate: impl FnOnce(&Expr, &Engine, &davy_store::Snapshot, &Cancel) -> Result<Answer, ApiError>
    + Send
    + 'static,
) -> Result<Response, ApiError> {
    let timeout = params.positive_duration("timeout")?;
    let engine = state.queries.engine(params.positive_duration("lookback_delta")?);
    let with_stats = params.get("stats").is_some();
    let query = params.get("query").unwrap_or("").to_owned();
    let question = Question { query, when, lookback: engine.lookback, limit };
    let (store, gate) = (state.store.clone(), state.queries.clone());
    // Long texts take the parser a while as well.
    let work = move |cancel: &Cancel| {
        let began = Instant::now();
        let expr = params.expr()?;
        let preparation = began.elapsed();
        let mut answer = evaluate(&expr, &engine, &store.snapshot(), cancel)?;
        answer::truncate(&mut answer, limit);
        // Before its place is free for the next evaluation.
        let sending = gate.sending(answer::points(&answer))?;
        let (answer, sending) = (Arc::new(answer), Arc::new(sending));
        Ok(Evaluated { answer, sending, preparation, evaluation: began.elapsed() - preparation })
    };
    let done = state.queries.answer(question, timeout, work).await?;
    let stats = with_stats.then(|| stats(&done));
    Ok(respond(done.value, stats.as_ref()))
}

fn stats(Done { value, queued }: &Done<Evaluated>) -> Stats {
    let Evaluated { answer, preparation, evaluation, .. } = value;
    let evaluation = evaluation.as_secs_f64();
    Stats {
        timings: Timings {
            eval_total_time: evaluation,
            // Part of the evaluation here.
            result_sort_time: 0.0,
            query_preparation_time: preparation.as_secs_f64(),
            inner_eval_time: evaluation,
            exec_queue_time: queued.as_secs_f64(),
            exec_total_time: queued.as_secs_f64() + evaluation,
        },
        samples: Samples {
            total_queryable_samples: answer.stats.samples_read,
            peak_samples: answer.stats.points_peak,
        },
    }
}

/// What Prometheus calls the ways in which an evaluation fails.
fn error(error: &EvalError) -> ApiError {
    match error {
        EvalError::Store(_) => ApiError::Internal(error.to_string()),
        // Whoever asked has gone, or has been told that the time is over.
        EvalError::Canceled => ApiError::Canceled("query was canceled in query execution".into()),
        EvalError::Busy { .. } => ApiError::Unavailable(error.to_string()),
        other => ApiError::Execution(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_counted_without_overflow() {
        let at = Timestamp::from_millis;
        assert_eq!(points(at(0), at(11_000_999), 1_000_000_000), 11_000);
        assert_eq!(points(at(0), at(11_001_000), 1_000_000_000), 11_001);
        assert_eq!(points(Timestamp::MIN, Timestamp::MAX, 1_000_000), i128::from(u64::MAX));
    }
}
