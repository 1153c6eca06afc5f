//! Runs a job under kills and judges what it publishes: `scripts/oracle.sh` is made of this.
//!
//! A [`Plan`] is drawn from a seed: the job's input, the cluster, and the faults with their times.
//! [`run`] carries a plan out on a cluster of its own, reads the published files while the job
//! runs, and returns a [`Report`]. The judgement of the output is `millstream_oracle::committed`,
//! which shares no code with the engine or with the job. A [`Campaign`] is several runs.
//!
//! An exact output alone proves little: it may be empty, or the kills may have come too early or
//! too late. So a run counts only with the [`Evidence`] that checkpoints were complete, that each
//! fault hit a running job, and that the job went on from a checkpoint.

mod campaign;
mod checkpoint_files;
mod checkpoints;
mod evidence;
mod faults;
mod place;
mod plan;
mod run;
mod status;

pub use campaign::Campaign;
pub use checkpoints::Checkpoints;
pub use evidence::Evidence;
pub use millstream_oracle::committed::Workload;
pub use place::Surroundings;
pub use plan::{CheckpointPlan, Fault, Harm, Moment, Plan, Process, Rescale, Second, Storage};
pub use run::{Report, run};
