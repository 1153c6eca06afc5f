//! The way of records from the tasks of a job to the program that has started it, in one process.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use millstream_connector::Result;
use millstream_network::{Batch, Event, Flow};
use millstream_output_buffers::CollectQueue;

use crate::program::StageMaker;
use crate::stage::{Moment, Stage, erase};

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

impl<T: Send + 'static> Stage<T> for CollectStage<T> {
    fn open(&mut self) -> Result<()> {
        self.queue.begin(self.attempt)
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        Ok(self.queue.put(self.attempt, batch.into_records(), &self.waker))
    }

    fn event(&mut self, _event: Event) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(self.queue.look(&self.waker))
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
    use std::time::Duration;

    use millstream_output_buffers::Taken;

    use super::*;

    /// As many batches as may wait, see `core/output-buffers/src/collected.rs`.
    const BATCHES_MAX: u8 = 16;

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
