//! The options of a job's checkpoints, named as Flink's `execution.checkpointing.*`.

use std::num::NonZeroU32;
use std::time::Duration;

/// The options of a job's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Time between the starts of two periodic checkpoints; without it there are none.
    pub interval: Option<Duration>,
    /// A checkpoint that is not acknowledged by all tasks after this time is aborted.
    pub timeout: Duration,
    /// Least time between the end of a checkpoint and the start of the next periodic one.
    pub min_pause: Duration,
    /// Most checkpoints that may be pending at once. Savepoints do not count.
    pub concurrent_max: NonZeroU32,
    /// Most checkpoints in a row that may fail; one more fails the job.
    pub tolerable_failures: u32,
    /// The number of complete checkpoints that are kept.
    pub retained: NonZeroU32,
    /// Whether periodic checkpoints go on after some tasks have finished. Final checkpoints do in
    /// any case.
    pub after_tasks_finished: bool,
    /// Whether barriers may overtake records. No such checkpoint starts beside a savepoint.
    pub unaligned: bool,
    /// The time after which a checkpoint whose barriers wait for records is given up, and one whose
    /// barriers overtake takes its place; zero: they overtake from the start.
    pub aligned_timeout: Duration,
    /// While more committables than this wait for their commit, no checkpoint starts.
    pub uncommitted_max: u64,
    /// The number of ended checkpoints whose statistics are kept.
    pub history: usize,
}

impl Default for Settings {
    /// Flink's defaults. Flink has no limit for committables.
    fn default() -> Self {
        Self {
            interval: None,
            timeout: Duration::from_secs(600),
            min_pause: Duration::ZERO,
            concurrent_max: NonZeroU32::MIN,
            tolerable_failures: 0,
            retained: NonZeroU32::MIN,
            after_tasks_finished: true,
            unaligned: false,
            aligned_timeout: Duration::ZERO,
            uncommitted_max: 1_000_000,
            history: 10,
        }
    }
}
