//! Wrong coordinators that the world has to find, and the things that it has to see.

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

/// The number of times that things happen in a thousand seeds, at least: a test that sees too
/// little shows nothing.
pub(super) const LEAST: &[(&str, u64)] = &[
    ("aborted", 4_000),
    ("answered", 1_000),
    ("committed", 5_000),
    ("complete", 3_000),
    ("complete while restarting", 30),
    ("declined", 400),
    ("deleted", 4_000),
    ("discarded", 2_000),
    ("failed job", 600),
    ("final", 400),
    ("final failed", 10),
    ("final follows a restore", 7),
    ("final restarted", 80),
    ("finished", 500),
    ("host lost", 1_000),
    ("inventory", 500),
    ("late", 6_000),
    ("not discarded", 900),
    ("old attempt ignored", 3_000),
    ("read back", 1_000),
    ("refused", 3_000),
    ("regions restored", 200),
    ("repeated ignored", 4_000),
    ("restored", 1_000),
    ("restored from a user's", 200),
    ("restored from nothing", 800),
    ("restored in doubt", 50),
    ("run twice", 9),
    ("savepoint", 900),
    ("steps behind a checkpoint", 200_000),
    ("stopped", 20),
    ("store failed", 300),
    ("takeover", 500),
    ("task failed", 500),
    ("task finished", 2_000),
    ("unaligned instead", 100),
    ("unknown", 700),
    ("unknown ignored", 10_000),
    ("virtual seconds", 1_000),
];
