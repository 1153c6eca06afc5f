//! The way of records from the tasks of a job to the program that has started it, in one process.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_connector::Result;
use millstream_network::{Batch, Event, Flow};

use crate::program::StageMaker;
use crate::stage::{Moment, Stage, erase};

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
}

/// The operator that hands records to the program.
pub fn collect<T: Send + 'static>(queue: &Arc<CollectQueue<T>>) -> StageMaker {
    let queue = Arc::clone(queue);
    Arc::new(move |ctx, _outputs| {
        let (queue, waker) = (Arc::clone(&queue), ctx.task.waker.clone());
        Ok(erase::<T>(Box::new(CollectStage { queue, attempt: ctx.task.attempt, waker })))
    })
}

/// Puts the records of one subtask into the queue.
pub(crate) struct CollectStage<T> {
    pub(crate) queue: Arc<CollectQueue<T>>,
    pub(crate) attempt: u32,
    pub(crate) waker: Waker,
}

impl<T> CollectStage<T> {
    fn flow(&self, state: &mut State<T>) -> Flow {
        if state.batches.len() < BATCHES_MAX {
            return Flow::Ready;
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(&self.waker)) {
            state.waiting.push(self.waker.clone());
        }
        Flow::Full
    }
}

impl<T: Send + 'static> Stage<T> for CollectStage<T> {
    fn open(&mut self) -> Result<()> {
        let mut state = self.queue.state();
        if self.attempt <= state.attempt {
            return Ok(());
        }
        if state.taken {
            state.repeats = true;
            self.queue.changed.notify_all();
            anyhow::bail!("the program has taken records of an earlier attempt already");
        }
        state.attempt = self.attempt;
        state.batches.clear();
        Ok(())
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        let mut state = self.queue.state();
        // A task of an earlier attempt may be on its way out.
        if state.abandoned || self.attempt < state.attempt {
            return Ok(Flow::Ready);
        }
        state.batches.push_back(batch.into_records());
        self.queue.changed.notify_all();
        Ok(self.flow(&mut state))
    }

    fn event(&mut self, _event: Event) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(self.flow(&mut self.queue.state()))
    }

    fn on_time(&mut self, _moment: Moment) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn next_time(&self) -> Option<Instant> {
        None
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Collect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(queue: &Arc<CollectQueue<u8>>, attempt: u32) -> CollectStage<u8> {
        let waker = Waker::noop().clone();
        CollectStage { queue: Arc::clone(queue), attempt, waker }
    }

    fn took(queue: &CollectQueue<u8>) -> Option<Vec<u8>> {
        match queue.take(Duration::ZERO) {
            Taken::Batch(batch) => Some(batch),
            Taken::Nothing => None,
            Taken::Restarted => Some(vec![u8::MAX]),
        }
    }

    #[test]
    fn a_program_that_does_not_take_holds_the_tasks_back() {
        let queue = Arc::<CollectQueue<u8>>::default();
        let (mut first, mut second) = (stage(&queue, 0), stage(&queue, 0));
        for n in 1..BATCHES_MAX {
            let n = u8::try_from(n).unwrap();
            assert_eq!(first.push(Batch::of(vec![n])).unwrap(), Flow::Ready);
        }
        assert_eq!(first.push(Batch::of(vec![16])).unwrap(), Flow::Full);
        assert_eq!(second.push(Batch::of(vec![17])).unwrap(), Flow::Full);
        assert_eq!(took(&queue), Some(vec![1]));
        assert_eq!(first.resume().unwrap(), Flow::Full);
        assert_eq!(took(&queue), Some(vec![2]));
        assert_eq!((first.resume().unwrap(), second.resume().unwrap()), (Flow::Ready, Flow::Ready));
        queue.abandon();
        assert_eq!(first.push(Batch::of(vec![18])).unwrap(), Flow::Ready);
        assert_eq!(took(&queue), None);
    }

    #[test]
    fn no_record_comes_twice_after_a_restart() {
        let queue = Arc::<CollectQueue<u8>>::default();
        let mut old = stage(&queue, 0);
        old.push(Batch::of(vec![1])).unwrap();
        let mut new = stage(&queue, 1);
        new.open().unwrap();
        old.push(Batch::of(vec![2])).unwrap();
        new.push(Batch::of(vec![1])).unwrap();
        assert_eq!((took(&queue), took(&queue)), (Some(vec![1]), None));
        assert!(stage(&queue, 2).open().is_err());
        assert_eq!(took(&queue), Some(vec![u8::MAX]));
    }
}
