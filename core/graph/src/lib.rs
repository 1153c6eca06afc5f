//! Plans jobs: from the graph that a program builds to the graph that the cluster runs.
//!
//! The program fills a [`StreamGraph`] (one node an operator); [`plan`] checks it, chains operators
//! that can share a task, derives ids from uids and yields the [`JobGraph`] (one vertex a task
//! chain). No I/O, no clock, no randomness: the same program gives the same graph in every process
//! that runs it, and the [`JobGraph::fingerprint`] proves it.

mod difference;
mod error;
mod identity;
mod job_graph;
mod planner;
mod render;
mod resolve;
mod routes;
mod stream_graph;
#[cfg(test)]
mod testing;

pub use difference::fingerprint_difference;
pub use error::{PlanError, PlanErrors};
pub use job_graph::{
    ChainedOperator, EdgeId, Fingerprint, JobEdge, JobGraph, JobSettings, JobVertex,
};
#[doc(no_inline)]
pub use millstream_types::RuntimeMode;
pub use planner::{Carrier, carriers, plan};
pub use render::{PlanInfo, PlanInput, PlanNode, plan_info, plan_text};
pub use routes::{sources, targets};
pub use stream_graph::{
    Boundedness, Chaining, MAX_NAME_BYTES, NodeId, NodeKind, OutputName, Partitioner, StreamEdge,
    StreamEdgeId, StreamGraph, StreamNode,
};
