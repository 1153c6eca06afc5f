//! The statistics of recent checkpoints, in bounded space.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_types::CheckpointId;

use crate::stats::{CheckpointStats, Counts, Outcome, Report, Restored, Summary, quantiles};

/// The number of values of which quantiles are made.
const SAMPLES_MAX: usize = 1_000;

#[derive(Debug, Default)]
struct Samples {
    latest: VecDeque<u64>,
    min: u64,
    max: u64,
    sum: u128,
    count: u64,
}

impl Samples {
    fn add(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.sum += u128::from(value);
        self.count += 1;
        if self.latest.len() == SAMPLES_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(value);
    }

    fn summary(&self) -> Summary {
        let mut sorted: Vec<u64> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        let avg = self.sum.checked_div(u128::from(self.count)).unwrap_or_default();
        let avg = u64::try_from(avg).unwrap_or(u64::MAX);
        Summary { min: self.min, max: self.max, avg, quantiles: quantiles(&sorted) }
    }
}

/// The statistics of the checkpoints that have ended.
#[derive(Debug)]
pub(crate) struct History {
    ended_max: usize,
    /// Newest last.
    ended: VecDeque<Arc<CheckpointStats>>,
    counts: Counts,
    end_to_end_ms: Samples,
    checkpointed_bytes: Samples,
    state_bytes: Samples,
    processed_bytes: Samples,
    persisted_bytes: Samples,
    latest_completed: Option<Arc<CheckpointStats>>,
    latest_savepoint: Option<Arc<CheckpointStats>>,
    latest_failed: Option<Arc<CheckpointStats>>,
    latest_restored: Option<Restored>,
}

impl History {
    pub(crate) fn new(ended_max: usize) -> Self {
        Self {
            ended_max,
            ended: VecDeque::new(),
            counts: Counts::default(),
            end_to_end_ms: Samples::default(),
            checkpointed_bytes: Samples::default(),
            state_bytes: Samples::default(),
            processed_bytes: Samples::default(),
            persisted_bytes: Samples::default(),
            latest_completed: None,
            latest_savepoint: None,
            latest_failed: None,
            latest_restored: None,
        }
    }

    /// Takes in that a checkpoint starts.
    pub(crate) const fn on_start(&mut self) {
        self.counts.total += 1;
    }

    /// Takes in that a checkpoint has ended, as its outcome says.
    pub(crate) fn on_end(&mut self, stats: CheckpointStats) {
        let stats = Arc::new(stats);
        match &stats.outcome {
            Outcome::InProgress => return,
            Outcome::Completed { state_bytes, .. } => {
                self.counts.completed += 1;
                let end_to_end = stats.end_to_end().as_millis();
                self.end_to_end_ms.add(u64::try_from(end_to_end).unwrap_or(u64::MAX));
                self.checkpointed_bytes.add(stats.checkpointed_bytes());
                self.state_bytes.add(*state_bytes);
                self.processed_bytes.add(stats.processed_bytes());
                self.persisted_bytes.add(stats.persisted_bytes());
                let latest = if stats.kind.is_savepoint() {
                    &mut self.latest_savepoint
                } else {
                    &mut self.latest_completed
                };
                *latest = Some(Arc::clone(&stats));
            }
            Outcome::Failed { .. } => {
                self.counts.failed += 1;
                self.latest_failed = Some(Arc::clone(&stats));
            }
        }
        self.ended.push_back(stats);
        if self.ended.len() > self.ended_max {
            self.ended.pop_front();
        }
    }

    /// Takes in that a complete checkpoint is removed.
    pub(crate) fn on_discarded(&mut self, id: CheckpointId) {
        let mark = |stats: &mut Arc<CheckpointStats>| {
            if stats.id == id
                && let Outcome::Completed { discarded, .. } = &mut Arc::make_mut(stats).outcome
            {
                *discarded = true;
            }
        };
        self.ended.iter_mut().for_each(mark);
        self.latest_completed.iter_mut().for_each(mark);
    }

    /// Takes in that the job is restored.
    pub(crate) fn on_restored(&mut self, restored: Restored) {
        self.counts.restored += 1;
        self.latest_restored = Some(restored);
    }

    /// The report of these pending checkpoints and of those that have ended.
    pub(crate) fn report<'a>(
        &self,
        pending: impl DoubleEndedIterator<Item = &'a CheckpointStats>,
    ) -> Report {
        let mut history: Vec<_> = pending.rev().cloned().map(Arc::new).collect();
        let counts = Counts { in_progress: history.len() as u64, ..self.counts };
        history.extend(self.ended.iter().rev().cloned());
        history.sort_by_key(|stats| std::cmp::Reverse(stats.id));
        Report {
            counts,
            end_to_end_ms: self.end_to_end_ms.summary(),
            checkpointed_bytes: self.checkpointed_bytes.summary(),
            state_bytes: self.state_bytes.summary(),
            processed_bytes: self.processed_bytes.summary(),
            persisted_bytes: self.persisted_bytes.summary(),
            latest_completed: self.latest_completed.clone(),
            latest_savepoint: self.latest_savepoint.clone(),
            latest_failed: self.latest_failed.clone(),
            latest_restored: self.latest_restored.clone(),
            history,
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::Timestamp;

    use super::*;
    use crate::metadata::Kind;

    fn ended(id: u64, outcome: Outcome) -> CheckpointStats {
        let at = Timestamp::from_millis(0);
        CheckpointStats {
            outcome,
            ..CheckpointStats::new(CheckpointId::new(id), Kind::Checkpoint, at)
        }
    }

    #[test]
    fn the_latest_are_kept_and_all_are_counted() {
        let mut history = History::new(2);
        let at = Timestamp::from_millis(0);
        for id in 1..=5 {
            history.on_start();
            let completed = Outcome::Completed { at, state_bytes: id * 10, discarded: false };
            history.on_end(ended(id, completed));
        }
        history.on_start();
        history.on_end(ended(6, Outcome::Failed { at, reason: "declined".to_owned() }));
        history.on_discarded(CheckpointId::new(5));
        history.on_start();
        let pending = ended(7, Outcome::InProgress);
        let report = history.report(std::iter::once(&pending));
        let counts = Counts { restored: 0, total: 7, in_progress: 1, completed: 5, failed: 1 };
        assert_eq!(report.counts, counts);
        let ids: Vec<u64> = report.history.iter().map(|stats| stats.id.get()).collect();
        assert_eq!(ids, [7, 6, 5]);
        let discarded = Outcome::Completed { at, state_bytes: 50, discarded: true };
        assert_eq!(report.latest_completed.unwrap().outcome, discarded);
        let sizes = report.state_bytes;
        assert_eq!((sizes.min, sizes.max, sizes.avg), (10, 50, 30));
        assert_eq!(sizes.quantiles, [30, 50, 50, 50, 50]);
    }
}
