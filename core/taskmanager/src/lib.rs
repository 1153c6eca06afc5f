//! The TaskManager: offers slots, runs task hosts in them, and never runs a line of user code
//! itself.
//!
//! [`run`] is the body of a TaskManager process. Everything that a host says goes straight to its
//! JobMaster and back; the TaskManager adds what only it knows: where the executable lies, which
//! directories the host may use, how much memory its slots have, and how it ended.
//!
//! A TaskManager without a master has no hosts: when the connection breaks they are all killed, and
//! the TaskManager registers again until `taskmanager.registration.timeout` is over, then it ends.
//! Kill the TaskManager, and the kernel kills its hosts.
//!
//! [`CoordinatorHosts`] starts the master's own children, the coordinator hosts, through the same
//! gateway trait and the same code.

mod artifact_cache;
mod coordinator;
mod hosts;
mod lifecycle;
mod log_files;
mod task_manager;
mod working_dir;

pub use coordinator::{CoordinatorHosts, CoordinatorHostsConfig};
pub use hosts::HostSettings;
pub use lifecycle::ExitReason;
pub use log_files::LogDirectory;
pub use task_manager::{TaskManagerConfig, TaskManagerError, registration, run};
pub use working_dir::{TempDirs, WorkingDir};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A panicked holder's value is taken as it is: each is valid by itself here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
