//! Deliberate faults of the engine. A test that nothing but a correct engine passes must notice
//! each of them.
//!
//! Without the feature `mutants` the question after a fault is a constant `false`, so that a
//! release has none of them. With it, a process has the fault that the environment variable
//! [`VARIABLE`] names.

/// The environment variable that names a process's fault.
pub const VARIABLE: &str = "MILLSTREAM_MUTANT";

/// The variable with this process's fault, for the processes that it starts: none without the
/// feature `mutants`.
#[must_use]
pub fn variable() -> Option<(&'static str, std::ffi::OsString)> {
    if !cfg!(feature = "mutants") {
        return None;
    }
    std::env::var_os(VARIABLE).map(|value| (VARIABLE, value))
}

macro_rules! mutants {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// A deliberate fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name, as in [`VARIABLE`].
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The fault in one sentence.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*).trim_ascii(),)*
                }
            }
        }
    };
}

mutants! {
    /// A keyed function loses a record now and then.
    DropsRecord = "drops-record",
    /// A generator's snapshot is a record behind its barrier, so that a restore replays it.
    ReplaysBatch = "replays-batch",
    /// A task takes its snapshot at the first barrier, without waiting for its other inputs.
    IgnoresAlignment = "ignores-alignment",
    /// Committers publish what a checkpoint carries before it is complete.
    CommitsBeforeCompletion = "commits-before-completion",
    /// A snapshot lacks a timer.
    ForgetsTimer = "forgets-timer",
    /// A restart begins from the checkpoint before the newest one.
    RestoresOlderCheckpoint = "restores-older-checkpoint",
    /// A snapshot of a source lacks a split.
    LosesSplit = "loses-split",
    /// A subtask does not restore the values of its first key groups.
    SkipsKeyGroup = "skips-key-group",
    /// A window takes records that are too late for it.
    KeepsLateData = "keeps-late-data",
    /// A window fires twice for a key now and then.
    FiresTwice = "fires-twice",
    /// A task forgets what it named for a checkpoint that was given up.
    ForgetsCommittables = "forgets-committables",
    /// Committables of a checkpoint are never published if a newer one replaces it first.
    NeverCommitsSubsumed = "never-commits-subsumed",
    /// A committer that recovers discards the files of writers that run.
    RecoverDeletesRunning = "recover-deletes-running",
    /// An event that waits for a checkpoint's trigger is lost.
    LosesParkedEvent = "loses-parked-event",
    /// A split that has been read is handed out again after a restore: enumerators begin anew.
    ReassignsFinishedSplit = "reassigns-finished-split",
    /// The acknowledgement of a task's earlier attempt counts for the present one.
    TakesOldAck = "takes-old-ack",
    /// A number of a checkpoint is used again after a restart.
    ReusesId = "reuses-id",
    /// A channel is not held back behind its barrier while the others are waited for.
    ReadsBehindBarrier = "reads-behind-barrier",
    /// An event of a coordinator overtakes the barrier of the checkpoint that it comes behind.
    OvertakesBarrier = "overtakes-barrier",
    /// Each subtask begins from the splits and lists of the first one.
    RestoresOtherSubtask = "restores-other-subtask",
    /// Records in flight go to another owner of key groups when they are restored.
    RestoresInFlightElsewhere = "restores-in-flight-elsewhere",
    /// An operator forgets its watermark at a restore.
    ForgetsWatermark = "forgets-watermark",
    /// The removal of a checkpoint deletes files that others refer to.
    DeletesSharedFile = "deletes-shared-file",
    /// A checkpoint whose outcome is not known is given up.
    TakesDoubtForFailure = "takes-doubt-for-failure",
}

impl Mutant {
    /// The fault of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }

    /// True if this process has the fault.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn lives(self) -> bool {
        static CHOSEN: std::sync::LazyLock<Option<Mutant>> = std::sync::LazyLock::new(|| {
            std::env::var(VARIABLE).ok().and_then(|name| Mutant::of_name(&name))
        });
        *CHOSEN == Some(self)
    }

    /// True if this process has the fault, and this is one of so many calls: the last one. The
    /// calls are counted over the whole process.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn strikes(self, every: u64) -> bool {
        use std::sync::atomic::{AtomicU64, Ordering};
        static CALLS: AtomicU64 = AtomicU64::new(1);
        self.lives() && CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(every)
    }

    /// As [`Self::lives`], for a fault that shows now and then: never, without the feature.
    #[cfg(not(feature = "mutants"))]
    #[inline(always)]
    #[must_use]
    pub const fn strikes(self, every: u64) -> bool {
        let _ = (self, every);
        false
    }

    /// True if this process has the fault: never, without the feature `mutants`.
    #[cfg(not(feature = "mutants"))]
    #[inline(always)]
    #[must_use]
    pub const fn lives(self) -> bool {
        let _ = self;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_a_name_of_its_own_and_a_sentence() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::of_name(mutant.name()), Some(*mutant));
            assert!(mutant.description().ends_with('.'), "{mutant:?}");
        }
        assert_eq!(Mutant::of_name("no-fault"), None);
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn a_release_has_no_fault() {
        assert!(Mutant::ALL.iter().all(|mutant| !mutant.lives()));
    }
}
