//! Manages TaskManagers, their slots, and the job that each slot belongs to.
//!
//! JobMasters declare how many slots of which profile they need; the [`slot_manager`] matches them
//! with the slots of registered TaskManagers, oldest job first. Where a driver can obtain workers,
//! the [`worker_fleet`] turns missing slots into requests to a
//! [`ResourceManagerDriver`](millstream_rm_driver::ResourceManagerDriver). Both are pure; the actor
//! behind [`ResourceManagerHandle`] carries their decisions out.

mod actor;
pub mod slot_manager;
pub mod worker_fleet;

pub use actor::{
    ResourceManagerConfig, ResourceManagerError, ResourceManagerHandle, start_resource_manager,
};
