//! Starts an artifact's process, talks to it, watches it and leaves nothing of it behind.
//!
//! All components that run users' code do it through [`HostProcess`]: the TaskManager (task hosts),
//! the JobManager (coordinator hosts, plans) and the command line (the client role). One thread of
//! the process, the *supervisor*, forks all hosts (a host dies with the thread that forked it),
//! watches their memory and kills their leftover children. [`HostManager`] keeps many hosts by
//! name. A [`ProgramProcess`] is a host that plans: its parent decides the fate of its graphs.
//! [`inspect_artifact`] tells before the start whether a file can be run here.
//!
//! # How a host ends
//! The exit is noticed; its children, daemonised ones too, are killed and reaped; its last messages
//! are delivered; its temporary directory is removed; then comes [`HostProcessEvent::Exited`], the
//! last event, with the cause in one sentence.
//!
//! # What it does not do
//! It does not sandbox: a host has all rights of the user that runs the engine. A process that
//! cleans its environment and detaches within half a second of its start may escape the sweep.

mod artifact;
mod exit;
mod frames;
mod manager;
mod output;
mod proc_fs;
mod process;
mod program;
mod settings;
mod spawn;
mod spec;
mod supervisor;
mod sweep;

pub use artifact::{ArtifactError, ArtifactInfo, GlibcVersion, inspect_artifact};
pub use exit::HostProcessExit;
pub use manager::{DuplicateHost, HostLaunch, HostListener, HostManager};
pub use proc_fs::{ProcessUsage, machine_cores, machine_memory, own_usage};
pub use process::{HostEvents, HostGone, HostProcess, HostProcessEvent};
pub use program::{ProgramEvent, ProgramFailed, ProgramProcess};
pub use settings::{RunRequest, SettingsError};
pub use spawn::SpawnError;
pub use spec::{HostEnvironment, HostOutput, HostSpec};
pub use supervisor::adopt_orphans;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A panicked holder's value is taken as it is: each is valid by itself here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
