//! The epoch of a master: the number by which TaskManagers tell it from its predecessors.
//!
//! Every message of a cluster carries the epoch of the master that leads it, and a TaskManager
//! refuses a master whose epoch is lower than one that it has followed. So epochs must rise from
//! one master to the next. A clock does not promise that: it can be set back, and two starts can
//! fall into one of its ticks. The driver has something better: the number of the attempt where the
//! external manager counts them, a counter on disk where it does not. An election that has numbers
//! of its own (a node's transaction id) is one more source.
//!
//! # Contract (checked by `conformance::epochs`, feature `test-util`)
//! - a source gives one epoch, for one process that begins to lead, and never 0;
//! - no two sources of one cluster give the same epoch, even if they are asked at once;
//! - a source that is made after another one of the same cluster has given its epoch gives a higher
//!   one, even if a crash came between them;
//! - the epoch is durable before it is given: a source that cannot make it so gives an error.

use std::error::Error;
use std::fmt;

use futures::future::BoxFuture;
use millstream_types::LeaderEpoch;

/// Why there is no epoch. The process must not lead without one.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct EpochError {
    what: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl EpochError {
    /// An error of this sentence, which says what to do.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// The same with what caused it.
    #[must_use]
    pub fn caused(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }
}

/// Gives a master its epoch.
pub trait EpochSource: Send + Sync + fmt::Debug {
    /// Issues the epoch of this process, once it is durable. Called when the process is about to
    /// lead, after every other step of its start that could fail and need a person.
    ///
    /// # Errors
    /// The counter of epochs cannot be read or written, or is damaged.
    fn issue(self: Box<Self>) -> BoxFuture<'static, Result<LeaderEpoch, EpochError>>;
}

/// An epoch that is known already: the number of an attempt that the external manager counts.
#[derive(Debug, Clone, Copy)]
pub struct KnownEpoch(pub LeaderEpoch);

impl EpochSource for KnownEpoch {
    fn issue(self: Box<Self>) -> BoxFuture<'static, Result<LeaderEpoch, EpochError>> {
        Box::pin(std::future::ready(match self.0.get() {
            0 => Err(EpochError::new("epochs begin at 1, but the master was given 0")),
            _ => Ok(self.0),
        }))
    }
}
