//! The inside of an artifact's process: tasks on slot threads, and coordinators.
//!
//! [`TaskHost`] and [`CoordinatorHost`] are driven by messages of the host protocol and answer with
//! them; over a socket in a child process ([`link`]), over channels in a job of one process. A
//! slot is a thread; the tasks of one slot run on it by turns, as synchronous state machines. A
//! [`SteppedJob`] runs the same tasks on the thread of a test.
//!
//! # Invariants
//! - A panic or an error of user code ends its task and no other.
//! - A task's terminal report is its last word and carries its final counters.
//! - What a task sent to its coordinator arrives there before the task's end is known.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests measure by the system's clock")
)]

mod build;
mod checkpoints;
mod coordinator_host;
pub mod failure;
mod handed;
pub mod link;
mod memory;
mod slot;
mod stepped;
mod task_host;
mod tasks;
mod time_spent;
mod turns;

pub use checkpoints::HostCheckpointing;
pub use coordinator_host::{CoordinatorHost, OnFailure};
pub use failure::{guard, install_panic_hook};
pub use link::{Outbox, ToControl, control_queue};
pub use millstream_protocol::NEVER_EXECUTED;
pub use stepped::{Pushed, PushedInput, SteppedJob};
pub use task_host::{TaskHost, TaskHostConfig};
pub use turns::Part;
