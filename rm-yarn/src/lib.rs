//! Millstream on YARN: containers as workers.
//!
//! From the bottom up: [`credentials`] reads the tokens and secrets of a container, [`ipc`] speaks
//! Hadoop's RPC with them, [`resource_manager`] finds the ResourceManager that answers. On the side
//! of the cluster the application master decides about heartbeats and container starts,
//! `node_manager` starts containers with the launch contexts of [`launch`], `completion` puts their
//! ends into words, and [`driver`] combines them into the driver of a cluster; a master that YARN
//! started again can only [`decline()`]. On the side of the client, [`cluster_deployer`] is YARN as
//! commands know it; below it [`client`] makes the calls of clients, [`staging`] brings files where
//! containers find them, and [`container`] composes each launch context, whose texts
//! [`launch_script`] checks. [`options`] is the table of all options for this. Facts about the
//! protocols are from the message descriptors and the behaviour of Hadoop 3.5.0; 2.10 and
//! everything since speaks the same.

mod application;
mod application_master;
pub mod client;
pub mod cluster_deployer;
mod completion;
pub mod container;
pub mod credentials;
mod decline;
pub mod deployer;
pub mod driver;
pub mod ids;
pub mod ipc;
pub mod launch;
pub mod launch_script;
mod node_manager;
pub mod options;
pub mod resource_manager;
pub mod staging;

pub use application::worker_size;
pub use decline::decline;

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
