//! Timers of a job: the owner and purpose of each, and the generation that tells whether it still
//! counts.

/// The part of the JobMaster that a timer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The job itself.
    Job,
    /// The job's tasks.
    Tasks,
    /// The restart of some tasks, whose attempt is the generation.
    Failover,
    /// The job's processes.
    Hosts,
    /// The publication of results.
    Settlement,
    /// The checkpoints.
    Checkpoints,
}

/// A timer. Its owner ignores it if it was set in an earlier generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// The part that set the timer.
    pub owner: Owner,
    /// The purpose.
    pub kind: TimerKind,
    /// The owner's generation when it was set; grows with every change of the owner's phase.
    pub generation: u64,
}

/// The purpose of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// Slots did not come.
    SlotRequest,
    /// Hosts did not get ready.
    HostStart,
    /// Nothing explained a broken exchange.
    ExchangeHold,
    /// Hosts had time for a sign of life.
    Heartbeat,
    /// Tasks did not stop.
    Cancel,
    /// The coordinator host did not publish the results.
    Commit,
    /// The coordinator host did not discard the unpublished results.
    Abort,
    /// It is time to restart.
    Restart,
    /// The reason for the loss of a worker was not told in time.
    Explanation,
    /// It is time to show metrics.
    Publish,
    /// A checkpoint is due or late.
    Checkpoint,
}
