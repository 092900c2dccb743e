//! One group in its task: sleeps until its next place in time, has it evaluated on a blocking thread, shows what came
//! of it.

use std::sync::Arc;
use std::time::Duration;

use davy_alerting::rule::{Iteration, RuleGroup, slot};
use davy_model::Timestamp;
use davy_query::Engine;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::ground::{Ground, Watchdog};
use super::{Context, Shared, view};

/// Longest sleep without a look at the clock, which may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(10);
/// How often a running query's time is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long an evaluation may go on once its group is to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Evaluations before the `for` state is restored: by then there is something to restore.
const EVALUATIONS_BEFORE_RESTORE: u32 = 2;
/// Problems of one evaluation that are logged.
const LOGGED_MAX: usize = 5;

pub(super) struct Task {
    pub(super) group: RuleGroup,
    pub(super) context: Arc<Context>,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: CancellationToken,
}

impl Task {
    /// Until it is told to stop; gives the group back with its state.
    pub(super) async fn run(mut self) -> RuleGroup {
        let spec = self.group.spec().clone();
        let key = spec.key();
        self.shared.metrics.begin(&key, &spec);
        self.show();
        let mut at = slot::before(&spec, self.shared.clock.now()) + spec.interval;
        let mut evaluations = 0u32;
        while self.sleep_until(at).await {
            let shared = self.shared.clone();
            let permit = tokio::select! {
                () = self.stop.cancelled() => break,
                permit = shared.permits.acquire() => permit,
            };
            self = self.evaluate(&key, at).await;
            evaluations = evaluations.saturating_add(1);
            if self.group.should_restore() && evaluations >= EVALUATIONS_BEFORE_RESTORE {
                self = self.restore(&key).await;
            }
            drop(permit);
            self.show();
            let now = self.shared.clock.now();
            if now + spec.interval < at {
                // The clock was set back: its places are found anew.
                at = slot::before(&spec, now) + spec.interval;
                continue;
            }
            let (next, missed) = slot::after(at, spec.interval, now);
            self.shared.metrics.missed(&key, missed);
            at = next;
        }
        self.group
    }

    /// False if it was told to stop.
    async fn sleep_until(&self, at: Timestamp) -> bool {
        loop {
            let rest = at.since(self.shared.clock.now());
            if rest.is_zero() {
                return !self.stop.is_cancelled();
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep(rest.min(SLEEP_MAX)) => {}
            }
        }
    }

    async fn evaluate(self, key: &str, at: Timestamp) -> Self {
        let context = self.context.clone();
        let began = Instant::now();
        let (task, iteration) =
            self.blocking(move |group, ground, now| group.evaluate(at, now, &context.outside, ground)).await;
        if let Some(mut iteration) = iteration {
            task.shared.inbox.put(std::mem::take(&mut iteration.updates));
            task.shared.metrics.evaluated(key, &task.group, &iteration, began.elapsed());
            log(key, &iteration);
        }
        task
    }

    async fn restore(self, key: &str) -> Self {
        let began = Instant::now();
        let (task, problems) = self.blocking(|group, ground, now| group.restore(now, ground)).await;
        task.shared.metrics.restored(key, began.elapsed());
        for problem in problems.unwrap_or_default() {
            warn!(group = key, rule = problem.rule, error = problem.error, "restoring a rule failed");
        }
        task
    }

    /// Runs `f` on a blocking thread; a query that takes too long, or that nobody waits for any more, is ended.
    async fn blocking<T: Send + 'static>(
        self,
        f: impl FnOnce(&mut RuleGroup, &mut Ground, Timestamp) -> T + Send + 'static,
    ) -> (Self, Option<T>) {
        let Self { mut group, context, shared, stop } = self;
        let watchdog = Arc::new(Watchdog::default());
        let mut ground = Ground {
            store: shared.store.clone(),
            clock: shared.clock.clone(),
            engine: Engine { subquery_step: context.subquery_step, ..shared.engine.clone() },
            watchdog: watchdog.clone(),
            began: Instant::now(),
        };
        let (spec, now) = (group.spec().clone(), shared.clock.now());
        let mut running = tokio::task::spawn_blocking(move || {
            let out = f(&mut group, &mut ground, now);
            (group, out)
        });
        let done = loop {
            tokio::select! {
                done = &mut running => break done,
                () = stop.cancelled(), if !watchdog.is_stopped() => tokio::select! {
                    done = &mut running => break done,
                    () = tokio::time::sleep(STOP_GRACE) => watchdog.stop(),
                },
                () = tokio::time::sleep(WATCH_INTERVAL) => watchdog.look(),
            }
        };
        match done {
            Ok((group, out)) => (Self { group, context, shared, stop }, Some(out)),
            Err(error) => {
                error!(group = spec.key(), %error, "evaluating a group failed; it starts anew");
                (Self { group: RuleGroup::new(spec, false), context, shared, stop }, None)
            }
        }
    }

    fn show(&self) {
        let spec = self.group.spec();
        let shown = Arc::new(view::group(&self.group));
        self.shared.shown().insert((spec.file.clone(), spec.name.clone()), shown);
    }
}

fn log(key: &str, iteration: &Iteration) {
    for problem in iteration.problems.iter().take(LOGGED_MAX) {
        warn!(group = key, rule = problem.rule, error = problem.error, "a rule is in trouble");
    }
    if iteration.problems.len() > LOGGED_MAX {
        warn!(group = key, more = iteration.problems.len() - LOGGED_MAX, "more rules are in trouble");
    }
}
