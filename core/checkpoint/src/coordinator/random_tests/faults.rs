//! Wrong coordinators that the world has to find, and the number of things that it saw.

use std::collections::BTreeMap;

/// A wrong coordinator, as the world sees it: its events or actions are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Takes an acknowledgement of an old attempt.
    TakesOldAttempt,
    /// Completes without the tasks that are slow.
    CompletesEarly,
    /// Takes an outcome that is not known for a failure.
    TakesDoubtForFailure,
    /// Forgets the committables of aborted checkpoints.
    ForgetsAborted,
    /// Takes an order for its confirmation.
    ConfirmsBeforeCommit,
    /// Never confirms, so that published results are committed again and again.
    ForgetsConfirmation,
    /// Deletes a file of the newest checkpoint.
    DeletesLive,
    /// Deletes files although the pointer may be there.
    DeletesBeforePointer,
    /// Deletes nothing.
    ForgetsFiles,
    /// Restores an older checkpoint.
    RestoresOlder,
    /// A new master begins from the ids of complete checkpoints.
    ReusesIds,
    /// Commits what only a savepoint carries.
    CommitsSavepoint,
    /// Does not wait for tasks that start.
    StartsEarly,
    /// Takes the end of one task for the end of all.
    EndsEarly,
    /// Asks for no more than one final checkpoint.
    GivesUpFinal,
    /// Starts no checkpoint any more.
    Stalls,
}

impl Fault {
    pub(super) const ALL: [Self; 16] = [
        Self::TakesOldAttempt,
        Self::CompletesEarly,
        Self::TakesDoubtForFailure,
        Self::ForgetsAborted,
        Self::ConfirmsBeforeCommit,
        Self::ForgetsConfirmation,
        Self::DeletesLive,
        Self::DeletesBeforePointer,
        Self::ForgetsFiles,
        Self::RestoresOlder,
        Self::ReusesIds,
        Self::CommitsSavepoint,
        Self::StartsEarly,
        Self::EndsEarly,
        Self::GivesUpFinal,
        Self::Stalls,
    ];
}

/// The number of times that things happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    counts: BTreeMap<&'static str, u64>,
}

impl Seen {
    pub(super) fn one(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// A test that sees too little shows nothing.
    pub(super) fn assert_enough(&self) {
        for name in [
            "complete",
            "aborted",
            "restored",
            "restored from nothing",
            "takeover",
            "unknown",
            "read back",
            "declined",
            "task failed",
            "task finished",
            "old attempt ignored",
            "repeated ignored",
            "unknown ignored",
            "late",
            "host lost",
            "discarded",
            "not discarded",
            "deleted",
            "savepoint",
            "stopped",
            "final",
            "final failed",
            "final restarted",
            "final follows a restore",
            "store failed",
            "finished",
            "failed job",
            "answered",
            "refused",
            "restored in doubt",
            "regions restored",
            "committed",
            "complete while restarting",
            "inventory",
            "restored from a user's",
        ] {
            let count = self.counts.get(name).copied().unwrap_or_default();
            assert!(count >= 50, "{name} happened {count} times only");
        }
    }
}
