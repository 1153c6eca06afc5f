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
}
