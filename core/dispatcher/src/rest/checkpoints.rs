//! The checkpoints of a job.

use std::sync::Arc;

use axum::extract::{Path, State};
use millstream_checkpoint::stats::{CheckpointStats, Overview};
use millstream_gateway::JobDetails;
use millstream_rest_types::checkpoints::{
    CheckpointConfigInfo, CheckpointStatistics, CheckpointingStatistics,
    TaskCheckpointStatisticsWithSubtaskDetails,
};
use millstream_types::{CheckpointId, VertexId};

use super::answer::{Answer, RestError, parse_id};
use super::{Context, Shared, jobs, render};

/// A job and what it has published of its checkpoints.
struct Found {
    job: Arc<JobDetails>,
    overview: Arc<Overview>,
}

impl Found {
    /// The statistics of one checkpoint, while they are remembered.
    fn checkpoint(&self, id: &str) -> Result<&CheckpointStats, RestError> {
        let id: u64 = parse_id("checkpointid", id)?;
        let found = self.overview.report.find(CheckpointId::new(id));
        let unknown = || format!("Could not find checkpointing statistics for checkpoint {id}.");
        found.map(AsRef::as_ref).ok_or_else(|| RestError::not_found(unknown()))
    }
}

async fn find(context: &Context, id: &str) -> Result<Found, RestError> {
    let job = jobs::find(context, id).await?;
    match job.checkpoints.clone() {
        Some(overview) => Ok(Found { job, overview }),
        None => {
            let id = job.job;
            Err(RestError::not_found(format!("Checkpointing is not enabled for job {id}")))
        }
    }
}

pub(super) async fn overview(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<CheckpointingStatistics> {
    let found = find(&context, &id).await?;
    Ok(render::checkpoint::overview(&found.overview).into())
}

pub(super) async fn config(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<CheckpointConfigInfo> {
    let found = find(&context, &id).await?;
    Ok(render::checkpoint::config(&found.overview).into())
}

pub(super) async fn details(
    State(context): Shared,
    Path((id, checkpoint)): Path<(String, String)>,
) -> Answer<CheckpointStatistics> {
    let found = find(&context, &id).await?;
    let stats = found.checkpoint(&checkpoint)?;
    Ok(render::checkpoint::details(&found.overview, &found.job.graph, stats).into())
}

pub(super) async fn subtasks(
    State(context): Shared,
    Path((id, checkpoint, vertex)): Path<(String, String, String)>,
) -> Answer<TaskCheckpointStatisticsWithSubtaskDetails> {
    let found = find(&context, &id).await?;
    let stats = found.checkpoint(&checkpoint)?;
    let vertex: VertexId = parse_id("vertexid", &vertex)?;
    let unknown = || format!("There is no checkpoint statistics for task {vertex}.");
    let planned = found.job.graph.vertex(vertex);
    let planned = planned.ok_or_else(|| RestError::not_found(unknown()))?;
    Ok(render::checkpoint::subtasks(stats, planned).into())
}
