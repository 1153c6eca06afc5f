//! Millstream on YARN: containers as workers.
//!
//! From the bottom up: [`credentials`] reads what a container is given, [`ipc`] speaks Hadoop's RPC
//! with it, [`resource_manager`] finds the ResourceManager that answers, [`client`] asks it what
//! clients ask, [`container`] composes what a container gets and runs. Facts about the protocols
//! are from the message descriptors and the behaviour of Hadoop 3.5.0; 2.10 and everything since
//! speaks the same.

pub mod client;
pub mod container;
pub mod credentials;
pub mod ids;
pub mod ipc;
pub mod launch;
pub mod resource_manager;

/// The messages of Hadoop, named as there.
#[allow(missing_docs, clippy::all, reason = "generated from proto/")]
pub mod proto {
    /// Of IPC and credentials.
    pub mod common {
        include!(concat!(env!("OUT_DIR"), "/hadoop.common.rs"));
    }
    /// Of YARN.
    pub mod yarn {
        include!(concat!(env!("OUT_DIR"), "/hadoop.yarn.rs"));
    }
    /// Of our own containers.
    pub mod container {
        include!(concat!(env!("OUT_DIR"), "/millstream.yarn.v1.rs"));
    }
}
