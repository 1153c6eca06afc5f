//! Keyed state: one table per state and key group, on the heap, typed and unserialized.
//!
//! A [`GroupTable`] maps keys to values, cut by key group so that a group can be snapshot or moved
//! on its own and so that a growing table stops the task for a group's time only. A
//! [`KeyedBackend`] holds an operator's tables and its current key; user code reaches them through
//! the handles [`ValueState`], [`ListState`] and [`MapState`].

mod backend;
mod handles;
mod table;

pub use backend::{KeyedBackend, KeyedContext, StateError};
pub use handles::{ListState, MapState, ValueState};
pub use table::GroupTable;
