//! The splits that a source's subtasks were given, as long as a restart may take them back.

use millstream_types::CheckpointId;

struct Handed<S> {
    /// The newest snapshot before it; 0: none.
    after: u64,
    subtask: u32,
    split: S,
}

/// The splits that readers got behind the checkpoint that a restart of theirs begins from.
pub struct HandedSplits<S> {
    splits: Vec<Handed<S>>,
    /// The first snapshot, if there was one.
    first: Option<u64>,
    /// The newest one; 0: none.
    newest: u64,
}

impl<S> HandedSplits<S> {
    /// None was given to anyone.
    #[must_use]
    pub const fn new() -> Self {
        Self { splits: Vec::new(), first: None, newest: 0 }
    }

    /// Those of an enumerator that begins from the checkpoint `first` (0: from nothing) in place of
    /// another one, of whose snapshots `newest` was the last one that readers were told of.
    #[must_use]
    pub const fn taken_over(first: u64, newest: u64) -> Self {
        Self { splits: Vec::new(), first: Some(first), newest }
    }

    /// Takes in that a subtask was given a split by the enumerator before, behind this snapshot.
    pub fn add_behind(&mut self, after: u64, subtask: u32, split: S) {
        self.splits.push(Handed { after, subtask, split });
    }

    /// Takes in that a subtask was given a split.
    pub fn add(&mut self, subtask: u32, split: S) {
        self.splits.push(Handed { after: self.newest, subtask, split });
    }

    /// Takes in that the enumerator has a snapshot for a checkpoint: splits given before it are in
    /// the readers' snapshots.
    pub const fn on_snapshot(&mut self, id: CheckpointId) {
        self.newest = id.get();
        if self.first.is_none() {
            self.first = Some(id.get());
        }
    }

    /// Takes in that a checkpoint is complete: no restart begins from an earlier one.
    pub fn on_complete(&mut self, id: CheckpointId) {
        self.splits.retain(|one| one.after >= id.get());
    }

    /// Takes out the splits of a subtask that begins again from a checkpoint, or from nothing:
    /// those that are not in it, in the order in which they were given.
    pub fn take_back(&mut self, subtask: u32, restored: Option<CheckpointId>) -> Vec<S> {
        // A checkpoint before the first snapshot is the one that the enumerator began from.
        let restored = restored.map(CheckpointId::get);
        let restored = restored.filter(|it| self.first.is_some_and(|first| *it >= first));
        let restored = restored.unwrap_or(0);
        let of_subtask = self.splits.extract_if(.., |one| one.subtask == subtask);
        of_subtask.filter(|one| one.after >= restored).map(|one| one.split).collect()
    }

    /// Whether no restart takes any back.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.splits.is_empty()
    }
}

impl<S> Default for HandedSplits<S> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: CheckpointId = CheckpointId::new(7);

    /// Splits 1 and 2 before checkpoint 7, 3 and 4 behind it; the even ones of subtask 1.
    fn handed() -> HandedSplits<u32> {
        let mut handed = HandedSplits::new();
        (1..5).for_each(|split| {
            if split == 3 {
                handed.on_snapshot(SEVEN);
            }
            handed.add((split + 1) % 2, split);
        });
        handed
    }

    #[test]
    fn a_restart_takes_back_what_was_given_behind_its_checkpoint() {
        let mut handed = handed();
        assert_eq!(handed.take_back(0, Some(SEVEN)), [3]);
        assert_eq!(handed.take_back(0, Some(SEVEN)), [0; 0], "it was given back");
        handed.add(0, 3);
        assert_eq!(handed.take_back(0, Some(SEVEN)), [3], "and given once more");
        assert_eq!(handed.take_back(1, Some(SEVEN)), [4]);
    }

    #[test]
    fn a_restart_from_nothing_and_from_the_beginning_takes_everything_back() {
        for restored in [None, Some(CheckpointId::new(6))] {
            assert_eq!(handed().take_back(1, restored), [2, 4]);
        }
    }

    #[test]
    fn a_restart_before_the_first_snapshot_takes_everything_back() {
        let mut handed = HandedSplits::new();
        handed.add(0, 1);
        assert_eq!(handed.take_back(0, Some(SEVEN)), [1], "the enumerator began from it");
    }

    #[test]
    fn what_was_taken_over_counts_from_where_it_was_given() {
        let handed = || {
            // The enumerator begins from 5; 7 was being stored when the one before was lost.
            let mut handed = HandedSplits::taken_over(5, 7);
            handed.add_behind(5, 0, 1);
            handed.add_behind(7, 0, 2);
            handed.add(0, 3);
            handed
        };
        assert_eq!(handed().take_back(0, Some(CheckpointId::new(5))), [1, 2, 3]);
        assert_eq!(handed().take_back(0, Some(SEVEN)), [2, 3]);
        let mut handed = handed();
        handed.on_complete(SEVEN);
        assert_eq!(handed.take_back(0, Some(SEVEN)), [2, 3], "it is complete without them");
    }

    #[test]
    fn what_a_complete_checkpoint_has_is_forgotten() {
        let mut handed = handed();
        handed.on_complete(SEVEN);
        assert_eq!(handed.splits.len(), 2);
        handed.on_complete(CheckpointId::new(8));
        assert!(handed.is_empty());
    }
}
