//! `QueryGate`: how many queries may be evaluated at once, how many may wait, and for how long each may take.
//!
//! An evaluation runs on a blocking thread and is told to end when its time is over or whoever asked has gone. Equal
//! queries that wait are evaluated once.

use std::sync::Arc;
use std::time::Duration;

use davy_model::Timestamp;
use davy_query::{Answer, Cancel, Engine, Steps};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout_at};

use super::metrics::QueryMetrics;
use super::singleflight::{Leader, RaiseOnDrop, SingleFlight, shutting_down};
use crate::error::ApiError;

/// Queries that may wait for their turn; more are refused at once.
/// Ten people who open a board of fifty panels at once are not refused.
const WAITING_MAX: i64 = 1_024;
/// Points of all answers that are being sent: clients may be slow, and an answer is held until it is gone.
const SENDING_POINTS_MAX: usize = 32 << 20;
const POINTS_PER_PERMIT: usize = 1 << 10;

/// Bounds of queries that come over HTTP; as Prometheus' flags `--query.*`.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Evaluated at the same time.
    pub concurrency_max: usize,
    /// From the request to its answer, waiting included; `timeout=` may only shorten it.
    pub timeout: Duration,
    /// Look-back, and what one query may touch.
    pub engine: Engine,
}

impl Default for QueryLimits {
    fn default() -> Self {
        let concurrency_max = Self::usual_concurrency();
        Self { concurrency_max, timeout: Duration::from_secs(120), engine: Engine::default() }
    }
}

impl QueryLimits {
    /// Two for each core, from four to Prometheus' twenty: more would answer no sooner, and would be in the way of
    /// scrapes and decisions.
    pub fn usual_concurrency() -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (2 * cores).clamp(4, 20)
    }
}

/// Cheap to clone; all clones share the places.
#[derive(Debug, Clone)]
pub struct QueryGate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: QueryLimits,
    places: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    metrics: Arc<QueryMetrics>,
    waiting: SingleFlight<Question, Evaluated>,
}

/// All that the answer to a query depends on, but for what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) query: String,
    pub(super) when: When,
    pub(super) lookback: Duration,
    pub(super) limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum When {
    Instant(Timestamp),
    Range(Steps),
}

/// An answer and leave to hold it.
#[derive(Debug, Clone)]
pub(super) struct Evaluated {
    pub(super) answer: Arc<Answer>,
    pub(super) sending: Arc<Sending>,
    pub(super) preparation: Duration,
    pub(super) evaluation: Duration,
}

/// What was done, and how long it had to wait for its turn.
#[derive(Debug)]
pub(crate) struct Done<T> {
    pub(crate) value: T,
    pub(crate) queued: Duration,
}

impl QueryGate {
    pub fn new(limits: QueryLimits) -> Self {
        let places = Arc::new(Semaphore::new(limits.concurrency_max.max(1)));
        let sending = Arc::new(Semaphore::new(SENDING_POINTS_MAX / POINTS_PER_PERMIT));
        let (metrics, waiting) = (Arc::default(), SingleFlight::default());
        Self(Arc::new(Inner { limits, places, sending, metrics, waiting }))
    }

    /// Adds the metrics of queries to Davy's own.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// The engine with another look-back, if one is asked for.
    pub(crate) fn engine(&self, lookback: Option<Duration>) -> Engine {
        let mut engine = self.0.limits.engine.clone();
        engine.lookback = lookback.filter(|d| !d.is_zero()).unwrap_or(engine.lookback);
        engine
    }

    /// Leave to hold an answer of so many points until it is sent.
    pub(crate) fn sending(&self, points: usize) -> Result<Sending, ApiError> {
        let permits = u32::try_from(points / POINTS_PER_PERMIT + 1).unwrap_or(u32::MAX);
        self.0.sending.clone().try_acquire_many_owned(permits).map(Sending).map_err(|_| {
            let max = SENDING_POINTS_MAX;
            ApiError::Unavailable(format!(
                "answers that are being sent would hold more than {max} points together"
            ))
        })
    }

    /// Runs `work` once there is a place. The place is free again when `work` has returned, which may be later than
    /// the answer "timed out".
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        timeout: Option<Duration>,
        work: impl FnOnce(&Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Done<T>, ApiError> {
        let timed = self.0.metrics.began();
        let done = self.evaluate(timeout, work).await;
        timed.ended(&done);
        done
    }

    /// The same of a query; equal ones that wait for a place at the same time are answered together.
    pub(super) async fn answer(
        &self,
        question: Question,
        timeout: Option<Duration>,
        work: impl FnOnce(&Cancel) -> Result<Evaluated, ApiError> + Send + 'static,
    ) -> Result<Done<Evaluated>, ApiError> {
        let timed = self.0.metrics.began();
        let done = self.evaluate_once(question, timeout, work).await;
        timed.ended(&done);
        done
    }

    async fn evaluate<T: Send + 'static>(
        &self,
        timeout: Option<Duration>,
        work: impl FnOnce(&Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Done<T>, ApiError> {
        let began = Instant::now();
        let until = self.until(began, timeout);
        let place = match self.free_place() {
            Some(place) => place,
            None => {
                let _waiting = self.wait()?;
                let place = timeout_at(until, self.0.places.clone().acquire_owned()).await;
                place.map_err(|_| late_in_queue())?.map_err(|_| shutting_down())?
            }
        };
        self.evaluate_in(place, began, until, work).await
    }

    async fn evaluate_once(
        &self,
        question: Question,
        timeout: Option<Duration>,
        work: impl FnOnce(&Cancel) -> Result<Evaluated, ApiError> + Send + 'static,
    ) -> Result<Done<Evaluated>, ApiError> {
        let began = Instant::now();
        let until = self.until(began, timeout);
        if let Some(place) = self.free_place() {
            return self.evaluate_in(place, began, until, work).await;
        }
        let waiting = self.wait()?;
        let (mut listener, leader) = self.0.waiting.join(question);
        if let Some(leader) = leader {
            tokio::spawn(self.clone().lead(leader, work));
        } else {
            self.0.metrics.joined.inc();
        }
        let running = timeout_at(until, listener.begun()).await.map_err(|_| late_in_queue())??;
        drop(waiting);
        let value = timeout_at(until, listener.outcome()).await.map_err(|_| late_in_evaluation())??;
        Ok(Done { value, queued: running - began })
    }

    /// Evaluates for all who listen, in a task of its own: whoever asked first may leave first.
    async fn lead(
        self,
        leader: Leader<Question, Evaluated>,
        work: impl FnOnce(&Cancel) -> Result<Evaluated, ApiError> + Send + 'static,
    ) {
        let Ok(place) = self.0.places.clone().acquire_owned().await else { return };
        let cancel = leader.begin();
        if !cancel.is_raised() {
            let outcome = self.start(place, cancel, work).await;
            leader.end(outcome.unwrap_or_else(|panicked| Err(ended_early(&panicked))));
        }
    }

    /// The place is free again when the work has returned.
    async fn evaluate_in<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        began: Instant,
        until: Instant,
        work: impl FnOnce(&Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Done<T>, ApiError> {
        if until <= Instant::now() {
            return Err(late_in_queue());
        }
        let queued = began.elapsed();
        let raised = RaiseOnDrop(Cancel::default());
        match timeout_at(until, self.start(place, raised.0.clone(), work)).await {
            Ok(Ok(done)) => done.map(|value| Done { value, queued }),
            Ok(Err(panicked)) => Err(ended_early(&panicked)),
            Err(_) => Err(late_in_evaluation()),
        }
    }

    fn start<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        cancel: Cancel,
        work: impl FnOnce(&Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> JoinHandle<Result<T, ApiError>> {
        let running = Counted::new(&self.0.metrics.running);
        tokio::task::spawn_blocking(move || {
            let _running = running;
            let done = work(&cancel);
            drop(place);
            done
        })
    }

    fn until(&self, began: Instant, timeout: Option<Duration>) -> Instant {
        began + timeout.map_or(self.0.limits.timeout, |t| t.min(self.0.limits.timeout))
    }

    fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        self.0.places.clone().try_acquire_owned().ok()
    }

    fn wait(&self) -> Result<Counted, ApiError> {
        let waiting = Counted::new(&self.0.metrics.waiting);
        if self.0.metrics.waiting.get() > WAITING_MAX {
            return Err(ApiError::Unavailable(format!("{WAITING_MAX} queries are waiting already")));
        }
        Ok(waiting)
    }
}

fn late_in_queue() -> ApiError {
    ApiError::Timeout("query timed out in query queue".into())
}

fn late_in_evaluation() -> ApiError {
    ApiError::Timeout("query timed out in expression evaluation".into())
}

fn ended_early(panicked: &JoinError) -> ApiError {
    ApiError::Internal(format!("the evaluation ended early: {panicked}"))
}

/// Given back when the answer has been sent.
#[derive(Debug)]
pub(crate) struct Sending(#[expect(dead_code, reason = "held, never read")] OwnedSemaphorePermit);

/// Counts itself in and out again, also when the request is dropped or the evaluation panics.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use davy_query::{Data, QueryStats};

    use super::*;

    fn gate(concurrency_max: usize, timeout: Duration) -> QueryGate {
        QueryGate::new(QueryLimits { concurrency_max, timeout, ..QueryLimits::default() })
    }

    /// Work that ends when it is canceled, and says so.
    fn until_canceled(ended: mpsc::Sender<()>) -> impl FnOnce(&Cancel) -> Result<(), ApiError> + Send {
        move |cancel| {
            while !cancel.is_raised() {
                std::thread::yield_now();
            }
            let _ = ended.send(());
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    /// A request whose evaluation has begun.
    fn busy(gate: &QueryGate, ended: mpsc::Sender<()>) -> (JoinHandle<()>, QueryGate) {
        let (started, start) = mpsc::channel();
        let (inner, work) = (gate.clone(), until_canceled(ended));
        let request = tokio::spawn(async move {
            let work = move |cancel: &Cancel| {
                let _ = started.send(());
                work(cancel)
            };
            drop(inner.run(None, work).await);
        });
        tokio::task::block_in_place(|| start.recv_timeout(LONG)).unwrap();
        (request, gate.clone())
    }

    #[tokio::test]
    async fn an_evaluation_whose_time_is_over_is_canceled() {
        let (ended, end) = mpsc::channel();
        let gate = gate(1, Duration::from_millis(20));
        let over = gate.run(Some(LONG), until_canceled(ended)).await;
        assert!(matches!(over, Err(ApiError::Timeout(why)) if why.contains("expression evaluation")));
        end.recv_timeout(LONG).unwrap();
        // Its place is free again.
        assert_eq!(gate.run(Some(LONG), |_| Ok(7)).await.unwrap().value, 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_evaluation_whose_client_has_gone_is_canceled() {
        let (ended, end) = mpsc::channel();
        let (request, gate) = busy(&gate(1, LONG), ended);
        request.abort();
        end.recv_timeout(LONG).unwrap();
        assert!(gate.run(Some(LONG), |_| Ok(())).await.is_ok());
    }

    #[tokio::test]
    async fn a_timeout_may_only_shorten() {
        let (ended, _end) = mpsc::channel();
        let over = gate(1, LONG).run(Some(Duration::from_millis(5)), until_canceled(ended)).await;
        assert!(matches!(over, Err(ApiError::Timeout(_))));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn queries_wait_for_a_place_and_few_may_wait() {
        let (ended, _end) = mpsc::channel();
        let (busy, gate) = busy(&gate(1, LONG), ended);
        let queued = gate.run(Some(Duration::from_millis(5)), |_| Ok(())).await;
        assert!(matches!(queued, Err(ApiError::Timeout(why)) if why.contains("queue")));
        gate.0.metrics.waiting.set(WAITING_MAX);
        let refused = gate.run(None, |_| Ok(())).await;
        assert!(matches!(refused, Err(ApiError::Unavailable(why)) if why.contains("waiting already")));
        assert_eq!(gate.0.metrics.waiting.get(), WAITING_MAX, "the refused one is counted out again");
        busy.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn equal_queries_that_wait_are_evaluated_once() {
        let (ended, _end) = mpsc::channel();
        let (busy, gate) = busy(&gate(1, LONG), ended);
        let evaluated = Arc::new(AtomicUsize::new(0));
        let ask = |query: &str, timeout| {
            let (gate, again, evaluated) = (gate.clone(), gate.clone(), evaluated.clone());
            let when = When::Instant(Timestamp::MIN);
            let question = Question { query: query.to_owned(), when, lookback: LONG, limit: 0 };
            let work = move |_: &Cancel| {
                evaluated.fetch_add(1, Ordering::Relaxed);
                Ok(Evaluated {
                    answer: Arc::new(Answer {
                        data: Data::Scalar(Timestamp::MIN, 1.0),
                        warnings: vec![],
                        infos: vec![],
                        stats: QueryStats::default(),
                    }),
                    sending: Arc::new(again.sending(1)?),
                    preparation: Duration::ZERO,
                    evaluation: Duration::ZERO,
                })
            };
            tokio::spawn(async move { gate.answer(question, timeout, work).await })
        };
        // The first to ask has little time, and the others are answered all the same.
        let impatient = ask("a", Some(Duration::from_millis(1)));
        assert!(matches!(impatient.await.unwrap(), Err(ApiError::Timeout(_))));
        let impatient = ask("a", Some(Duration::from_millis(50)));
        let waiting: Vec<_> = ["a", "a", "b", "a"].map(|q| ask(q, None)).into();
        assert!(matches!(impatient.await.unwrap(), Err(ApiError::Timeout(_))));
        while gate.0.metrics.waiting.get() < 4 {
            tokio::task::yield_now().await;
        }
        busy.abort();
        for request in waiting {
            assert!(request.await.unwrap().is_ok());
        }
        assert_eq!(evaluated.load(Ordering::Relaxed), 2, "one for each question");
    }

    #[test]
    fn answers_on_their_way_are_bounded_together() {
        let gate = gate(1, LONG);
        let most = gate.sending(SENDING_POINTS_MAX - POINTS_PER_PERMIT).unwrap();
        assert!(matches!(gate.sending(1), Err(ApiError::Unavailable(why)) if why.contains("being sent")));
        drop(most);
        assert!(gate.sending(1).is_ok());
        assert!(gate.sending(usize::MAX).is_err());
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        let gate = gate(1, LONG);
        let work = |_: &Cancel| -> Result<(), ApiError> { panic!("on purpose") };
        assert!(matches!(gate.run(None, work).await, Err(ApiError::Internal(_))));
        assert!(gate.run(None, |_| Ok(())).await.is_ok(), "the place of the one that panicked is free");
    }
}
