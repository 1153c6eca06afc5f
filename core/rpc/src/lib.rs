//! The way between JobManager and TaskManagers: gRPC, one stream per TaskManager.
//!
//! [`ClusterServer`] runs in the JobManager: each TaskManager that registers becomes a
//! [`TaskManagerGateway`](millstream_gateway::TaskManagerGateway), whose commands are queued on its
//! stream. Messages of its hosts go to the JobMaster that had them started. [`GrpcJobManager`] runs
//! in the TaskManager.
//!
//! # Loss
//! A broken stream is noticed at once, a silent one after the heartbeat timeout, and a TaskManager
//! that does not take its messages when its queue is full. In each case the ResourceManager is told
//! ([`lost`](millstream_gateway::ResourceManagerGateway::lost)), once; it tells every JobMaster
//! that has slots there. The TaskManager, for its part, kills its hosts.
//!
//! # Fencing
//! Every message carries the leader's epoch. One of another epoch is counted, not looked at, and
//! ends its stream.

mod client;
mod convert;
mod courier;
mod incoming;
mod remote;
mod server;
mod session;

pub use client::GrpcJobManager;
pub use server::{ClusterServer, ServeError};
pub use session::{ClusterServerConfig, RpcStatistics};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The longest message, in bytes: a host's longest one and its envelope.
const MESSAGE_BYTES_MAX: usize = millstream_protocol::frame::FRAME_BYTES_MAX + (1 << 20);
/// Limits on unread bytes of one stream, and of all streams of a connection: one stream that is not
/// read must not stop the others.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Locks. A panicked holder's value is taken as it is: each is valid by itself here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
