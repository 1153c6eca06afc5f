//! Why state cannot be used.

use std::io;

/// Why a state cannot be used.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let first: ValueState<u64> = states.value("count")?;
/// let second = states.value::<u64>("count").unwrap_err();
/// assert!(matches!(second, StateError::Duplicate(name) if name == "count"));
/// # let _ = first;
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Two states or timers of one operator have one name.
    #[error("{0:?} is declared twice in one operator: give each state and timer a name of its own")]
    Duplicate(String),
    /// One operator declares more states than their numbers can tell apart.
    #[error("an operator has more than 65536 states: keep several in one map")]
    TooMany,
    /// A handle is used in another operator than the one that declared it.
    #[error("state {0:?} belongs to another operator: declare it where it is used")]
    Foreign(&'static str),
    /// The store of the state failed.
    #[error("state {state:?} cannot be read or written: see the host's disk")]
    Io {
        /// The state's name.
        state: &'static str,
        /// The error of the store.
        #[source]
        source: io::Error,
    },
    /// A value or key has no bytes, or bytes are none of its type.
    #[error(
        "a value or key of state {state:?} cannot be turned into bytes and back ({reason}): check \
         that its Deserialize reads what its Serialize writes"
    )]
    Codec {
        /// The state's name.
        state: &'static str,
        /// The message of the codec.
        reason: String,
    },
    /// A state of a snapshot is not the one of this name in the program.
    #[error("state {state:?} cannot be restored: {reason}")]
    Incompatible {
        /// The state's name.
        state: String,
        /// The difference.
        reason: String,
    },
    /// The keys of a snapshot are of another type than the operator's.
    #[error(
        "the states cannot be restored: their keys are {was} in the snapshot and {is} in the \
         program; key the stream as before, or give the operator another uid and its states begin \
         empty"
    )]
    KeyType {
        /// The schema of the snapshot's keys.
        was: String,
        /// That of the operator's.
        is: String,
    },
    /// A snapshot is cut into another number of key groups.
    #[error(
        "the states cannot be restored: they are cut into {was} key groups in the snapshot and \
         into {is} in the program; set the operator's max parallelism to {was}"
    )]
    MaxParallelism {
        /// The number in the snapshot.
        was: u32,
        /// The number in the program.
        is: u32,
    },
}

/// The error of a snapshot that cannot be read and never will be.
pub(crate) fn unreadable(error: StateError) -> StateError {
    match error {
        StateError::Codec { state, reason } => {
            let why = "check that its Deserialize reads what its Serialize writes";
            incompatible(state, format!("a value or key in it cannot be read ({reason}): {why}"))
        }
        other => other,
    }
}

/// A state of the snapshot is not that of the program.
pub(crate) fn incompatible(state: &str, reason: String) -> StateError {
    StateError::Incompatible { state: state.to_owned(), reason }
}
