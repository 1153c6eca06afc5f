//! Snapshots of keyed states and timers: their bytes by key group, which are the same wherever the
//! values are kept.
//!
//! A group's bytes are its entries one behind the other, each as postcard writes it: of a state the
//! key and what is kept for it, of timers the time and the key. So a group can be given to another
//! subtask without being read, and states can move between the heap and a store.
//!
//! A snapshot is restored in two steps:
//! [`KeyedBackend::restore`](crate::KeyedBackend::restore) is told of it, and each state takes its
//! part when it is declared, because only then its type is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_types::Schema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{take, take_converted};
use crate::error::{StateError, incompatible, unreadable};
use crate::evolution::{Compatibility, Conversion, compare};
use crate::parts::GroupSnapshot;
use crate::timer_queue::TimeDomain;

/// The keyed states and timers of one operator's subtask at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedSnapshot {
    /// The schema of the keys.
    pub key: Schema,
    /// The number of key groups of the operator.
    pub max_parallelism: u32,
    /// The states and timers, in the order in which they were declared.
    pub states: Vec<StateSnapshot>,
}

/// One state, or the timers of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSnapshot {
    /// Its name.
    pub name: String,
    /// The kind of its entries.
    pub kind: StateKind,
    /// The key groups that have entries, in order. A large one is in several parts, one behind the
    /// other.
    pub groups: Vec<GroupSnapshot>,
}

/// The entries of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateKind {
    /// Values by key.
    Values {
        /// The schema of what is kept for a key.
        schema: Schema,
        /// Whether values expire: they are kept with a time then.
        expires: bool,
    },
    /// Timers of this kind.
    Timers(TimeDomain),
}

impl StateKind {
    /// The conversion with which this is restored as `is`, if it needs one, or why it cannot be.
    fn restored_as(&self, is: &Self) -> Result<Option<Arc<Conversion>>, String> {
        match (self, is) {
            (Self::Values { expires: was, .. }, Self::Values { expires: is, .. }) if was != is => {
                let (was, is) = if *was { ("expire", "do not") } else { ("do not expire", "do") };
                Err(format!("its values {was} in the snapshot and {is} in the program"))
            }
            (Self::Values { schema: was, .. }, Self::Values { schema: is, .. }) => {
                match compare(was, is).map_err(|incompatible| incompatible.to_string())? {
                    Compatibility::Same => Ok(None),
                    Compatibility::Converts(conversion) => Ok(Some(Arc::new(conversion))),
                }
            }
            (Self::Timers(was), Self::Timers(is)) if was != is => Err(format!(
                "its timers are of {} time in the snapshot and of {} time in the program",
                was.name(),
                is.name()
            )),
            (Self::Values { .. }, Self::Timers(_)) => {
                Err("the snapshot has a state of this name and the program has timers".to_owned())
            }
            (Self::Timers(_), Self::Values { .. }) => {
                Err("the snapshot has timers of this name and the program has a state".to_owned())
            }
            (Self::Timers(_), Self::Timers(_)) => Ok(None),
        }
    }
}

/// The entries of one key group, and the conversion with which their values are read, if the
/// program's type is not the one that was written.
#[derive(Debug)]
pub(crate) struct RestoredGroup {
    pub(crate) group: GroupSnapshot,
    conversion: Option<Arc<Conversion>>,
}

/// Snapshots of which states take their parts.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    snapshots: Vec<KeyedSnapshot>,
}

impl Restored {
    pub(crate) const fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }

    pub(crate) fn add(&mut self, snapshots: Vec<KeyedSnapshot>) {
        self.snapshots.extend(snapshots);
    }

    /// The names of states and timers that took nothing.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let states = self.snapshots.iter().flat_map(|snapshot| &snapshot.states);
        states.map(|state| &*state.name).collect()
    }

    /// Takes the groups of a state out of all snapshots.
    pub(crate) fn take(
        &mut self,
        name: &str,
        is: &StateKind,
    ) -> Result<Vec<RestoredGroup>, StateError> {
        let mut groups = Vec::new();
        for snapshot in &mut self.snapshots {
            let Some(at) = snapshot.states.iter().position(|state| state.name == name) else {
                continue;
            };
            let state = snapshot.states.remove(at);
            let conversion = state.kind.restored_as(is);
            let conversion = conversion.map_err(|reason| incompatible(name, reason))?;
            groups.extend(state.groups.into_iter().map(|group| {
                let conversion = conversion.clone();
                RestoredGroup { group, conversion }
            }));
        }
        Ok(groups)
    }
}

/// Hands the entries of a group to `put`, one by one.
pub(crate) fn read_entries<A: DeserializeOwned, B: DeserializeOwned>(
    state: &'static str,
    group: &RestoredGroup,
    mut put: impl FnMut(A, B) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let RestoredGroup { group, conversion } = group;
    let mut rest = &group.bytes[..];
    for _ in 0..group.entries {
        let first = take(state, &mut rest).map_err(unreadable)?;
        let second = match conversion {
            None => take(state, &mut rest).map_err(unreadable)?,
            Some(conversion) => take_converted(state, conversion, &mut rest)?,
        };
        put(first, second)?;
    }
    if rest.is_empty() {
        return Ok(());
    }
    let left = format!("{} bytes behind {} entries are left over", rest.len(), group.entries);
    Err(incompatible(state, left))
}
