//! Records that a function refuses: the policies, and their use inside a task.

use std::sync::Arc;

use millstream_network::{Flow, TaskCounters};
use millstream_state::StateError;

use crate::Result;
use crate::output::Output;
use crate::side::OutputTag;
use crate::task::OperatorContext;

/// The fate of a record that an operator's function refuses. Given to `Stream::on_error`.
///
/// A refused record that does not fail the task leaves no trace: what `reduce` or a keyed function
/// changed in the key's state before it returned `Err` is taken back, and so are changes of
/// broadcast state and the results that the function emitted for that record. Fields of a function
/// of your own are not known to the engine and stay as the function left them.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// fn numbers(policy: OnError<String>) -> Result<Vec<u32>> {
///     run_on(["1".to_owned(), "one".to_owned(), "2".to_owned()], |words| {
///         words.on_error(policy).map(|word| Ok(word.parse()?))
///     })
/// }
///
/// static BAD: OutputTag<String> = OutputTag::new("bad");
/// assert!(numbers(OnError::fail()).is_err());
/// assert_eq!(numbers(OnError::drop_record())?, [1, 2]);
/// assert_eq!(numbers(OnError::side_output(&BAD))?, [1, 2]); // "one": Stream::side_output(&BAD)
/// # Ok::<(), millstream::Error>(())
/// ```
pub struct OnError<I>(pub(crate) Policy<I>);

pub(crate) enum Policy<I> {
    Fail,
    Drop,
    SideOutput { tag: OutputTag<I>, clone: fn(&I) -> I },
}

impl<I> OnError<I> {
    /// The task fails, and the job with it or after its restarts. The default.
    #[must_use]
    pub const fn fail() -> Self {
        Self(Policy::Fail)
    }

    /// The record is dropped and counted (`numRecordsDropped`). `reduce` then copies a key's value
    /// before each change.
    #[must_use]
    pub const fn drop_record() -> Self {
        Self(Policy::Drop)
    }

    /// The record goes to a side output, with its event time if it has one; if nothing reads that,
    /// it is dropped and counted. Costs one clone per record.
    #[must_use]
    pub const fn side_output(tag: &OutputTag<I>) -> Self
    where
        I: Clone,
    {
        Self(Policy::SideOutput { tag: *tag, clone: I::clone })
    }
}

impl<I> OnError<I> {
    /// Whether the two do the same with a record.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Policy::Fail, Policy::Fail) | (Policy::Drop, Policy::Drop) => true,
            (Policy::SideOutput { tag, .. }, Policy::SideOutput { tag: other, .. }) => {
                tag.name() == other.name()
            }
            (Policy::Fail | Policy::Drop | Policy::SideOutput { .. }, _) => false,
        }
    }
}

impl<I> Clone for OnError<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I> Clone for Policy<I> {
    fn clone(&self) -> Self {
        match self {
            Self::Fail => Self::Fail,
            Self::Drop => Self::Drop,
            Self::SideOutput { tag, clone } => Self::SideOutput { tag: *tag, clone: *clone },
        }
    }
}

/// A policy inside a task.
pub(crate) struct BadRecords<I> {
    pub(crate) policy: Policy<I>,
    pub(crate) operator: String,
    pub(crate) counters: Arc<TaskCounters>,
}

impl<I: Send + 'static> BadRecords<I> {
    pub(crate) fn of(on_error: &OnError<I>, ctx: &OperatorContext<'_>) -> Self {
        Self {
            policy: on_error.0.clone(),
            operator: ctx.name.to_owned(),
            counters: Arc::clone(&ctx.task.counters),
        }
    }

    /// A copy of the record, if it may be needed when the function has consumed it.
    #[inline]
    pub(crate) fn keep(&self, record: &I) -> Option<I> {
        match &self.policy {
            Policy::Fail | Policy::Drop => None,
            Policy::SideOutput { clone, .. } => Some(clone(record)),
        }
    }

    /// Whether the task goes on after a refusal, so that the function's effects before it must be
    /// taken back.
    #[inline]
    pub(crate) const fn goes_on(&self) -> bool {
        !matches!(self.policy, Policy::Fail)
    }

    /// Applies the policy to a record of this event time.
    ///
    /// # Errors
    /// The policy is to fail, or the state failed, which is no fault of the record.
    #[cold]
    pub(crate) fn refuse<O: 'static>(
        &self,
        error: crate::Error,
        kept: Option<I>,
        time: Option<i64>,
        output: &mut Output<O>,
    ) -> Result<()> {
        let policy = if error.is::<StateError>() { &Policy::Fail } else { &self.policy };
        match (policy, kept) {
            (Policy::SideOutput { tag, .. }, Some(record)) if output.has_side(tag.name()) => {
                output.emit_side(tag, record, time)
            }
            (Policy::Drop | Policy::SideOutput { .. }, _) => {
                self.counters.add_records_dropped(1);
                Ok(())
            }
            (Policy::Fail, _) => {
                Err(error.context(format!("operator {:?} failed on a record", self.operator)))
            }
        }
    }
}

/// Calls `advance` until the output is full or nothing is left.
pub(crate) fn continue_while(
    output_ready: Flow,
    mut advance: impl FnMut() -> Result<Option<Flow>>,
) -> Result<Flow> {
    let mut flow = output_ready;
    while flow == Flow::Ready {
        match advance()? {
            Some(next) => flow = next,
            None => return Ok(Flow::Ready),
        }
    }
    Ok(flow)
}
