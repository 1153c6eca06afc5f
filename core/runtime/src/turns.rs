//! The parts of a host that run beside its control thread: slots, the writer of snapshots,
//! coordinators. Each has a thread of its own, or a simulation gives it turns.
//!
//! A turn does what a pass through the thread's loop does, with the same code, and never waits. So
//! whatever order a simulation chooses is one in which threads could have run.

use std::io;
use std::sync::mpsc::SyncSender;
use std::thread::{Builder, Thread};
use std::time::Instant;

/// A part of a host that has no thread.
pub trait Part: Send {
    /// Does the next thing that is to be done, if there is any; `choice` says which one where the
    /// order is open. Returns whether there was any.
    fn turn(&mut self, choice: usize) -> bool;

    /// The next time at which something will be due.
    fn next_time(&self) -> Option<Instant> {
        None
    }

    /// Whether this is the writer of snapshots.
    fn writes_snapshots(&self) -> bool {
        false
    }
}

/// A part with its thread's loop.
pub(crate) trait Run: Part + Sized + 'static {
    /// Takes turns until the part is no longer needed.
    fn run(self);
}

/// The way in which the parts of a host run.
#[derive(Debug, Clone)]
pub(crate) enum Threads {
    /// Each on a thread of its own.
    Own,
    /// The other end of the queue takes them, and gives each its turns.
    None(SyncSender<Box<dyn Part>>),
}

impl Threads {
    /// Starts a part; its thread, if it has one.
    pub(crate) fn start(&self, name: String, part: impl Run) -> io::Result<Option<Thread>> {
        match self {
            Self::Own => {
                let thread = Builder::new().name(name).spawn(move || part.run())?;
                Ok(Some(thread.thread().clone()))
            }
            Self::None(parts) => {
                let full = |_| io::Error::other("nothing takes the parts of this host");
                parts.try_send(Box::new(part)).map_err(full)?;
                Ok(None)
            }
        }
    }
}
