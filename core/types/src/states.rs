//! The states of jobs and execution attempts, named as Flink names them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every state, in life-cycle order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire and in REST answers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The state of this name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.as_str() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

states!(
    /// The state of a job.
    JobStatus {
        /// Accepted, its JobMaster is not up yet.
        Initializing = "INITIALIZING",
        /// The JobMaster is up, nothing is scheduled.
        Created = "CREATED",
        /// Scheduled; some attempts may still wait for slots.
        Running = "RUNNING",
        /// A failure is being handled: attempts are being cancelled, no restart will follow.
        Failing = "FAILING",
        /// Ended with a failure.
        Failed = "FAILED",
        /// A user cancelled it; attempts are being cancelled.
        Cancelling = "CANCELLING",
        /// Ended by a user.
        Canceled = "CANCELED",
        /// Ended by itself, with its output published.
        Finished = "FINISHED",
        /// A failure is being handled: a restart follows once all attempts have ended.
        Restarting = "RESTARTING",
        /// Given up by this leader; another one may go on with it.
        Suspended = "SUSPENDED",
        /// A new leader is finding out what still runs.
        Reconciling = "RECONCILING",
    }
);

states!(
    /// The state of one execution attempt.
    ExecutionState {
        /// Not scheduled.
        Created = "CREATED",
        /// Waits for a slot.
        Scheduled = "SCHEDULED",
        /// Its slot's host is starting or has been told to run it.
        Deploying = "DEPLOYING",
        /// Its operators open and restore their state.
        Initializing = "INITIALIZING",
        /// Processes records.
        Running = "RUNNING",
        /// Processed all its input.
        Finished = "FINISHED",
        /// Was told to stop.
        Canceling = "CANCELING",
        /// Stopped because it was told to.
        Canceled = "CANCELED",
        /// Stopped with a cause.
        Failed = "FAILED",
        /// A new leader is finding out whether it still runs.
        Reconciling = "RECONCILING",
    }
);

impl JobStatus {
    /// Whether no leader will ever change it again.
    #[must_use]
    pub const fn is_globally_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }
}

impl ExecutionState {
    /// Whether the attempt has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Canceled | Self::Failed)
    }
}
