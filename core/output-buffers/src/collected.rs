//! Batches on their way from the tasks of a job to the program that has started it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use anyhow::bail;
use millstream_network::Flow;

use crate::Result;

/// The most batches that wait for the program before tasks do; each task may add one more.
const BATCHES_MAX: usize = 16;

/// Batches between tasks and the program.
pub struct CollectQueue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// The attempt of the job that the batches are of.
    attempt: u32,
    /// Some of them were taken.
    taken: bool,
    batches: VecDeque<Vec<T>>,
    /// The tasks that wait for room.
    waiting: Vec<Waker>,
    /// The program takes no more.
    abandoned: bool,
    /// The records of a new attempt would come twice.
    repeats: bool,
}

/// The result of a look into the queue.
pub enum Taken<T> {
    /// The oldest batch.
    Batch(Vec<T>),
    /// No batch has come in time.
    Nothing,
    /// The job was restarted when records had been taken already.
    Restarted,
}

impl<T> Default for CollectQueue<T> {
    fn default() -> Self {
        let (batches, waiting) = (VecDeque::new(), Vec::new());
        let (taken, abandoned, repeats) = (false, false, false);
        let state = State { attempt: 0, taken, batches, waiting, abandoned, repeats };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> CollectQueue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest batch, if one comes within this time.
    pub fn take(&self, patience: Duration) -> Taken<T> {
        let state = self.state();
        let waits = |state: &mut State<T>| state.batches.is_empty() && !state.repeats;
        let waited = self.changed.wait_timeout_while(state, patience, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.repeats {
            return Taken::Restarted;
        }
        let Some(batch) = state.batches.pop_front() else { return Taken::Nothing };
        state.taken = true;
        state.waiting.drain(..).for_each(Waker::wake);
        Taken::Batch(batch)
    }

    /// Takes no more: what comes from now on is dropped.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.abandoned = true;
        state.batches.clear();
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// A task of this attempt begins: batches of earlier ones are dropped.
    ///
    /// # Errors
    /// The program has taken some of these already.
    pub fn begin(&self, attempt: u32) -> Result<()> {
        let mut state = self.state();
        if attempt <= state.attempt {
            return Ok(());
        }
        if state.taken {
            state.repeats = true;
            self.changed.notify_all();
            bail!("the program has taken records of an earlier attempt already");
        }
        state.attempt = attempt;
        state.batches.clear();
        Ok(())
    }

    /// Adds the records of a task, which is woken when there is room after [`Flow::Full`].
    pub fn put(&self, attempt: u32, records: Vec<T>, waker: &Waker) -> Flow {
        let mut state = self.state();
        // A task of an earlier attempt may be on its way out.
        if state.abandoned || attempt < state.attempt {
            return Flow::Ready;
        }
        state.batches.push_back(records);
        self.changed.notify_all();
        state.flow(waker)
    }

    /// Whether there is room; the task is woken when there is.
    pub fn look(&self, waker: &Waker) -> Flow {
        self.state().flow(waker)
    }
}

impl<T> State<T> {
    fn flow(&mut self, waker: &Waker) -> Flow {
        if self.batches.len() < BATCHES_MAX {
            return Flow::Ready;
        }
        if !self.waiting.iter().any(|other| other.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
        Flow::Full
    }
}
