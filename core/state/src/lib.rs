//! Keyed state: values by key, cut by key group, typed on the heap or as bytes in a store.
//!
//! A [`Table`] has the values of one state. On the heap it is a [`GroupTable`], cut by key group so
//! that a group can be snapshot or moved on its own and so that a growing table stops the task for
//! a group's time only. In a [`ByteStore`] it keeps bytes, and the value at hand decoded. A
//! [`KeyedBackend`] holds an operator's tables and its current key, which a [`KeySelector`] finds
//! in a record; user code reaches them through the handles [`ValueState`], [`ListState`],
//! [`MapState`], [`ReducingState`] and [`AggregatingState`], which are the same for both. Values of
//! a state with a [`Ttl`] expire. Beside its values a key has [`Timers`]. A [`KeyedSnapshot`] has
//! the bytes of all of them, by key group. A [`BroadcastState`] belongs to no key: each subtask has
//! a copy. A [`ListSnapshot`] has the bytes of state without keys.

// The derive names the facade, whose part this crate plays in its own tests.
#[cfg(test)]
extern crate self as millstream;
#[cfg(test)]
pub use millstream_types::{Key, KeyHasher, State, schema};

mod backend;
mod broadcast;
mod changes;
mod cleaning;
mod codec;
mod combined;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod copying;
mod declare;
mod error;
mod evolution;
mod expiry;
mod handles;
mod keyed;
mod lists;
mod maps;
mod pane_snapshot;
mod panes;
mod parts;
mod restoring;
mod selector;
mod slices;
mod snapshot;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod timer_queue;
mod timers;

pub use backend::{KeyedBackend, KeyedContext};
pub use broadcast::{BroadcastBackend, BroadcastMaps, BroadcastState};
pub use combined::{AggregatingState, ReducingState};
pub use copying::SliceBudget;
pub use declare::WithTtl;
pub use error::StateError;
pub use evolution::{Compatibility, Conversion, Incompatible, compare};
pub use expiry::{Expiry, NoTtl, Ttl};
pub use handles::{Elements, ListState, ValueState};
pub use keyed::{Backed, Backing, Group, KeyedValues, Table};
pub use lists::{ListKind, ListSnapshot, RestoredLists, watermark_list};
pub use maps::{Entries, Keys, MapState, Values};
pub use pane_snapshot::{PaneSlices, RestoredPanes};
pub use panes::{ClosedPanes, Cursor, FewKeys, KeyPanes, OpenPanes, PaneEntries, PaneValues};
pub use parts::{GroupSnapshot, PartSink};
pub use selector::{ByRef, ByValue, KeySelector};
pub use slices::InSlices;
pub use snapshot::{KeyedSnapshot, StateKind, StateSnapshot};
pub use store::{ByteStore, Each, MemoryStore, StoreTable};
pub use table::{GroupTable, Place};
pub use timer_queue::{TimeDomain, Timer, Timers};
