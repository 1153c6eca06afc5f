//! The inside of a task: operators as stages that push batches into each other.
//!
//! A [`Stage`] owns everything downstream of it, so a chain is one value and a call through it
//! costs one virtual call per batch and operator. A stage that cannot hand on more answers
//! [`Flow::Full`]; it has accepted its input, keeps its own cursor, and goes on when it is resumed.
//! Its caller stops until then, so nothing is buffered without bound.

use std::any::Any;
use std::time::Instant;

use millstream_network::{Batch, Event, Flow};
use millstream_task_checkpoint::Slice;

use crate::Result;

/// One operator with all that follows it in its task.
///
/// `push`, `event` and `on_time` are called only while the last answer was [`Flow::Ready`]; after
/// [`Flow::Full`] only `resume` is, until it answers [`Flow::Ready`]. A stage answers
/// [`Flow::Full`] only if one of the channels behind it does, which will wake the task, or if it
/// has much to do by itself and has woken the task, so that others of its slot have their turns.
/// `resume` of a stage that is ready does nothing: another branch of its output may have been full.
pub trait Stage<I>: Send {
    /// Called before the first record.
    ///
    /// # Errors
    /// The operator cannot start; the task fails.
    fn open(&mut self) -> Result<()>;

    /// Takes a batch.
    ///
    /// # Errors
    /// A function failed on a record, or the results cannot be sent; the task fails.
    fn push(&mut self, batch: Batch<I>) -> Result<Flow>;

    /// Takes an event. End of input comes last, and once it has been answered with [`Flow::Ready`],
    /// or a later resume was, everything has left the stage.
    ///
    /// # Errors
    /// A function failed at the event, or it cannot be sent; the task fails.
    fn event(&mut self, event: Event) -> Result<Flow>;

    /// Goes on after [`Flow::Full`].
    ///
    /// # Errors
    /// As for the call that was answered with [`Flow::Full`].
    fn resume(&mut self) -> Result<Flow>;

    /// Does the work that is due: fires timers, sends records that have waited long enough, or that
    /// nothing is gained by keeping. Called after each step of the task, and when
    /// [`Stage::next_time`] has come.
    ///
    /// # Errors
    /// A function failed at a timer, or the records cannot be sent.
    fn on_time(&mut self, moment: Moment) -> Result<Flow>;

    /// The time when work will be due, as far as the last `on_time` could know.
    fn next_time(&self) -> Option<Instant>;

    /// Writes a part of the snapshot that is being written of this stage's state, and then of the
    /// stages behind it. Called between two steps, also while the stage is full.
    fn slice(&mut self, slice: &mut Slice<'_>) {
        let _ = slice;
    }

    /// Names the kind of stage, so that the tests have a case for each.
    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind;
}

/// The moment between two steps of a task.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now: Instant,
    /// Whether the step found nothing to do, so that no record will soon follow those that wait.
    pub idle: bool,
}

/// The stage of an output without a reader.
pub(crate) struct Discard;

impl<I> Stage<I> for Discard {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, _batch: Batch<I>) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn event(&mut self, _event: Event) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn on_time(&mut self, _moment: Moment) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn next_time(&self) -> Option<Instant> {
        None
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Discard
    }
}

/// The stage of an output that several read.
pub(crate) struct FanOut<I> {
    pub(crate) branches: Vec<Box<dyn Stage<I>>>,
    pub(crate) clone: fn(&Batch<I>) -> Batch<I>,
}

impl<I: Send> Stage<I> for FanOut<I> {
    fn open(&mut self) -> Result<()> {
        self.branches.iter_mut().try_for_each(|branch| branch.open())
    }

    fn push(&mut self, batch: Batch<I>) -> Result<Flow> {
        let mut flow = Flow::Ready;
        if let Some((last, others)) = self.branches.split_last_mut() {
            for branch in others {
                flow = flow.and(branch.push((self.clone)(&batch))?);
            }
            flow = flow.and(last.push(batch)?);
        }
        Ok(flow)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.branches
            .iter_mut()
            .try_fold(Flow::Ready, |flow, branch| Ok(flow.and(branch.event(event)?)))
    }

    fn resume(&mut self) -> Result<Flow> {
        self.branches
            .iter_mut()
            .try_fold(Flow::Ready, |flow, branch| Ok(flow.and(branch.resume()?)))
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.branches
            .iter_mut()
            .try_fold(Flow::Ready, |flow, branch| Ok(flow.and(branch.on_time(moment)?)))
    }

    fn next_time(&self) -> Option<Instant> {
        self.branches.iter().filter_map(|branch| branch.next_time()).min()
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        self.branches.iter_mut().for_each(|branch| branch.slice(slice));
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::FanOut
    }
}

/// A boxed stage of some record type, its type hidden; see [`erase`] and
/// [`Outputs`](crate::Outputs).
pub type ErasedStage = Box<dyn Any + Send>;

/// Hides a stage's record type.
#[must_use]
pub fn erase<I: 'static>(stage: Box<dyn Stage<I>>) -> ErasedStage {
    Box::new(stage)
}

/// Finds a stage's record type again.
///
/// # Errors
/// The stage takes another record type: the graph connects what does not fit.
pub fn reveal<I: 'static>(stage: ErasedStage) -> Result<Box<dyn Stage<I>>> {
    stage.downcast::<Box<dyn Stage<I>>>().map(|stage| *stage).map_err(|_| {
        anyhow::anyhow!(
            "the graph connects a stream of {} to an operator of another type",
            std::any::type_name::<I>()
        )
    })
}
