//! The versioned messages that cross a process boundary.
//!
//! Three packages of protobuf messages: the JobGraph, the task-host protocol (what an artifact's
//! process and its parent say) and the control plane between JobManager and TaskManager. The
//! `.proto` files are the specification; [`convert`] turns the JobGraph into the planner's type and
//! refuses what cannot be one, and [`frame`] cuts a socket's bytes into messages. Nothing here
//! panics on bytes from outside.

pub mod convert;
pub mod frame;
mod secrets;

/// The JobGraph's messages (`job_graph.proto`).
pub use generated::job::v1 as job;

/// The task-host protocol's messages (`host.proto`).
pub use generated::host::v1 as host;

/// The control plane's messages and, with the feature `grpc`, its service (`cluster.proto`).
pub use generated::cluster::v1 as cluster;

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    pub mod job {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/millstream.job.v1.rs"));
        }
    }
    pub mod host {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/millstream.host.v1.rs"));
        }
    }
    pub mod cluster {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/millstream.cluster.v1.rs"));
        }
    }
}

/// The version of the host protocol and the JobGraph; majors must match.
pub const HOST_PROTOCOL: Version = Version { major: 2, minor: 1 };

/// The version of the control plane; majors must match.
pub const CLUSTER_PROTOCOL: Version = Version { major: 1, minor: 0 };

/// Why there is nothing to run: the same sentence in every mode.
pub const NEVER_EXECUTED: &str =
    "it ended without calling execute: end its build function with env.execute(..)";

/// A protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Incompatible when it differs.
    pub major: u32,
    /// Additions only.
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The environment variable that names the inherited socket's descriptor; its presence says that
/// the process is a child of the engine and must not take its own role.
pub const HOST_SOCKET_VARIABLE: &str = "MILLSTREAM_HOST_SOCKET";

/// The environment variable that says how many milliseconds a host may take until it is ready.
pub const HOST_START_VARIABLE: &str = "MILLSTREAM_HOST_START_MS";

/// The code that a host exits with when its own end of the socket is gone, so that it cannot say
/// so: user code has closed the descriptors of its process.
pub const HOST_SOCKET_LOST: i32 = 113;
