//! The part of a task in checkpoints.
//!
//! [`TaskCheckpoints`] is shared by the operators of a task and its host. When the barrier of a
//! checkpoint passes an operator, the operator adds its part; when the barrier has left the task,
//! the parts together are the task's snapshot, which goes to the host. [`Passage`] is the body's
//! side of it. Small keyed states are written while the barrier passes. Large ones only begin then:
//! they are written in slices, each a [`Slice`], between the task's steps. A host can give
//! [`PartSinks`], which take parts of them before the snapshot is whole. Operators take the state
//! that they begin from when they are built.
//!
//! Committables are kept here until a checkpoint that carries them is complete.

mod passage;
mod task;

pub use passage::{Passage, StreamItems};
pub use task::{
    InFlightSummary, OperatorPart, PartSinks, PreCommitted, RestoredInFlight, RestoredOperator,
    SLICE_BYTES, Slice, SnapshotSender, TaskCheckpoints, TaskSnapshot,
};
