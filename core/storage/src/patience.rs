//! The time that file systems of this process wait for a cluster that cannot serve them.
//!
//! A command line gives up soon, because a person waits for it. A process that is started for a
//! job is killed if it is not ready in time, and then its reason is lost: it gives up before that.
//! A job that runs has time, because a failure would cost all that it has done so far.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The patience of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A caller waits for the process; the default.
    Person,
    /// The process must be ready by a deadline.
    Starting {
        /// The deadline.
        until: Instant,
    },
    /// The process runs tasks, or coordinates them.
    Running,
}

/// A NameNode of a large cluster needs minutes to start.
const RUNNING: Duration = Duration::from_secs(600);

static WAITING: RwLock<Waiting> = RwLock::new(Waiting::Person);

/// Sets the patience of this process from now on.
pub fn set_waiting(waiting: Waiting) {
    *WAITING.write().unwrap_or_else(PoisonError::into_inner) = waiting;
}

/// The patience of this process.
#[must_use]
pub fn waiting() -> Waiting {
    *WAITING.read().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    /// The patience of a call that began at `start`, while the process did this. `usual` is that
    /// for a person; `heard` says whether the cluster was ever heard of: one that was not is most
    /// likely not there.
    #[must_use]
    pub fn patience(self, start: Instant, usual: Duration, heard: bool) -> Duration {
        match self {
            Self::Person => usual,
            Self::Starting { until } => usual.min(until.saturating_duration_since(start)),
            Self::Running if heard => usual.max(RUNNING),
            Self::Running => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_depends_on_who_waits() {
        let (usual, start) = (Duration::from_secs(60), Instant::now());
        assert_eq!(Waiting::Person.patience(start, usual, true), usual);
        assert_eq!(Waiting::Running.patience(start, usual, false), usual);
        assert_eq!(Waiting::Running.patience(start, usual, true), RUNNING);
        let until = start + Duration::from_secs(20);
        let starting = Waiting::Starting { until };
        assert_eq!(starting.patience(start, usual, true), Duration::from_secs(20));
        assert_eq!(starting.patience(until, usual, true), Duration::ZERO);
    }
}
