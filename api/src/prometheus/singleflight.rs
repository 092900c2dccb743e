//! `SingleFlight`: those who wait for their turn and ask the same are answered by one evaluation.
//!
//! Ten people who look at one board ask the same questions within a step, most of all when something burns and the
//! queue is long. Who finds an equal question waiting waits with it. What runs already is not joined: an answer has
//! seen all that was stored before it was asked for.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use davy_query::Cancel;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::ApiError;

/// Cheap to clone; all clones share the questions.
#[derive(Debug)]
pub(super) struct SingleFlight<K, T>(Arc<Mutex<Waiting<K, T>>>);

type Waiting<K, T> = HashMap<K, Flight<T>>;

#[derive(Debug)]
struct Flight<T> {
    listening: Weak<RaiseOnDrop>,
    progress: watch::Receiver<Progress<T>>,
}

#[derive(Debug, Clone)]
enum Progress<T> {
    Waiting,
    /// Since when.
    Running(Instant),
    Ended(Instant, Result<T, ApiError>),
}

/// Who waits for an answer. Once all have gone, the evaluation is told to end.
#[derive(Debug)]
pub(super) struct Listener<T> {
    _listening: Arc<RaiseOnDrop>,
    progress: watch::Receiver<Progress<T>>,
}

/// Who evaluates for all that listen.
#[derive(Debug)]
pub(super) struct Leader<K: Eq + Hash, T> {
    waiting: SingleFlight<K, T>,
    question: K,
    cancel: Cancel,
    progress: watch::Sender<Progress<T>>,
}

/// Lives with those who wait: gone when the answer is there, the time is over, or the client has left.
#[derive(Debug)]
pub(super) struct RaiseOnDrop(pub(super) Cancel);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone, T: Clone> SingleFlight<K, T> {
    /// Waits with those who ask the same, or, with none there, leads.
    pub(super) fn join(&self, question: K) -> (Listener<T>, Option<Leader<K, T>>) {
        let mut waiting = self.lock();
        let there = waiting.get(&question).and_then(|f| Some((f.listening.upgrade()?, f.progress.clone())));
        if let Some((listening, progress)) = there {
            return (Listener { _listening: listening, progress }, None);
        }
        let cancel = Cancel::default();
        let listening = Arc::new(RaiseOnDrop(cancel.clone()));
        let (sender, progress) = watch::channel(Progress::Waiting);
        let flight = Flight { listening: Arc::downgrade(&listening), progress: progress.clone() };
        waiting.insert(question.clone(), flight);
        let leader = Leader { waiting: Self(Arc::clone(&self.0)), question, cancel, progress: sender };
        (Listener { _listening: listening, progress }, Some(leader))
    }
}

impl<K, T> SingleFlight<K, T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<K, T>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl<K: Eq + Hash, T> Leader<K, T> {
    /// From now on nobody joins.
    pub(super) fn begin(&self) -> Cancel {
        self.leave();
        self.progress.send_replace(Progress::Running(Instant::now()));
        self.cancel.clone()
    }

    pub(super) fn end(&self, outcome: Result<T, ApiError>) {
        self.progress.send_modify(|p| {
            if let Progress::Running(since) = *p {
                *p = Progress::Ended(since, outcome);
            }
        });
    }

    /// Another may have taken the place of a question whose listeners have all gone.
    fn leave(&self) {
        let mut waiting = self.waiting.lock();
        if waiting.get(&self.question).is_some_and(|f| f.progress.same_channel(&self.progress.subscribe())) {
            waiting.remove(&self.question);
        }
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T: Clone> Listener<T> {
    /// Until the evaluation runs; since when it does.
    pub(super) async fn begun(&mut self) -> Result<Instant, ApiError> {
        let progress = self.progress.wait_for(|p| !matches!(p, Progress::Waiting)).await;
        match progress.as_deref() {
            Ok(Progress::Running(since) | Progress::Ended(since, _)) => Ok(*since),
            Ok(Progress::Waiting) | Err(_) => Err(shutting_down()),
        }
    }

    pub(super) async fn outcome(&mut self) -> Result<T, ApiError> {
        let progress = self.progress.wait_for(|p| matches!(p, Progress::Ended(..))).await;
        match progress.as_deref() {
            Ok(Progress::Ended(_, outcome)) => outcome.clone(),
            Ok(_) | Err(_) => Err(shutting_down()),
        }
    }
}

pub(super) fn shutting_down() -> ApiError {
    ApiError::Unavailable("davy is shutting down".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn equal_questions_that_wait_are_answered_together() {
        let flights = SingleFlight::<&str, u32>::default();
        let (mut first, leader) = flights.join("a");
        let leader = leader.unwrap();
        let (mut second, none) = flights.join("a");
        assert!(none.is_none());
        let (_, other) = flights.join("b");
        assert!(other.is_some(), "another question has its own");
        leader.begin();
        let (_, late) = flights.join("a");
        assert!(late.is_some(), "what runs is not joined");
        leader.end(Ok(7));
        for listener in [&mut first, &mut second] {
            listener.begun().await.unwrap();
            assert_eq!(listener.outcome().await.unwrap(), 7);
        }
        drop(late);
        drop(other);
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn an_evaluation_goes_on_for_as_long_as_anyone_listens() {
        let flights = SingleFlight::<&str, u32>::default();
        let (first, leader) = flights.join("a");
        let leader = leader.unwrap();
        let (second, _) = flights.join("a");
        drop(first);
        assert!(!leader.cancel.is_raised());
        drop(second);
        assert!(leader.cancel.is_raised());
        // Nobody joins what was given up, and its leader does not take the new one away.
        let (mut third, new) = flights.join("a");
        assert!(new.is_some());
        leader.begin();
        drop(leader);
        let (_, none) = flights.join("a");
        assert!(none.is_none());
        drop(new);
        assert!(third.outcome().await.is_err(), "a leader that is gone answers nobody");
    }
}
