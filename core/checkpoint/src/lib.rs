//! Checkpoints as they are decided: when they start, complete, fail and are removed, and the format
//! of their metadata.
//!
//! [`Coordinator`] is a decider: events and the time in, actions out. It does no I/O and has no
//! clock, thread or randomness; the JobMaster carries its actions out and reports the outcomes.
//!
//! | part | subject |
//! |---|---|
//! | [`coordinator`] | the decider itself: a checkpoint from its start to its end |
//! | [`messages`] | the decider's events and actions |
//! | [`metadata`] | the content of a checkpoint, and its versioned bytes |
//! | [`plan`], [`settings`] | the job as the decider needs to know it, and its options |
//! | [`stats`] | statistics as Flink's REST shows them, and the reasons why one is not complete |
//!
//! The rest is private: `tasks` (attempts), `pending` (checkpoints that are not complete), `policy`
//! (times and failures), `commits` (committables until they are published), `retention` (complete
//! checkpoints and their files), `history` (the recent statistics).

mod assembly;
mod commits;
pub mod coordinator;
mod files;
mod history;
pub mod messages;
pub mod metadata;
mod pending;
pub mod plan;
mod policy;
mod retention;
pub mod settings;
pub mod stats;
mod tasks;

pub use coordinator::Coordinator;
pub use messages::{Action, Event};
pub use metadata::Metadata;
pub use plan::Plan;
pub use settings::Settings;
