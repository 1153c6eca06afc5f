//! One vertex of a job.

use std::sync::Arc;

use axum::extract::{Path, State};
use millstream_gateway::{JobDetails, SubtaskDetails};
use millstream_rest_types::metrics::Metric;
use millstream_rest_types::vertices::{
    JobVertexAccumulatorsInfo, JobVertexBackPressureInfo, JobVertexDetailsInfo,
    JobVertexTaskManagersInfo, SubtaskExecutionAttemptAccumulatorsInfo,
    SubtaskExecutionAttemptDetailsInfo, SubtasksAllAccumulatorsInfo, SubtasksTimesInfo,
    VertexFlameGraph,
};
use millstream_types::{Timestamp, VertexId};

use super::answer::{Answer, RestError, parse_id};
use super::render::vertex::Vertex;
use super::{Context, Shared, jobs, render};

/// A job and one vertex of it.
pub(super) struct Found {
    job: Arc<JobDetails>,
    id: VertexId,
}

impl Found {
    /// The vertex's subtasks and its place in the plan.
    pub(super) fn vertex(&self) -> Result<Vertex<'_>, RestError> {
        Vertex::of(&self.job, self.id)
            .ok_or_else(|| RestError::not_found(format!("JobVertex {} not found", self.id)))
    }

    /// The vertex and its subtask of this number.
    pub(super) fn subtask(&self, index: &str) -> Result<(Vertex<'_>, &SubtaskDetails), RestError> {
        let (vertex, number) = (self.vertex()?, parse_id::<u32>("subtaskindex", index)?);
        let subtask = vertex.subtasks().iter().find(|subtask| subtask.subtask == number);
        let subtask = subtask.ok_or_else(|| {
            RestError::not_found(format!("vertex {} has no subtask {number}", self.id))
        })?;
        Ok((vertex, subtask))
    }

    /// The same, if its attempt is this one: earlier attempts are not remembered.
    fn attempt(
        &self,
        index: &str,
        attempt: &str,
    ) -> Result<(Vertex<'_>, &SubtaskDetails), RestError> {
        let wanted: u32 = parse_id("attempt", attempt)?;
        let (vertex, subtask) = self.subtask(index)?;
        if subtask.attempt != wanted {
            let (number, present) = (subtask.subtask, subtask.attempt);
            return Err(RestError::not_found(format!(
                "subtask {number} of vertex {} is at attempt {present}; attempt {wanted} is not \
                 remembered",
                self.id
            )));
        }
        Ok((vertex, subtask))
    }
}

pub(super) async fn find(context: &Context, job: &str, vertex: &str) -> Result<Found, RestError> {
    let id = parse_id("vertexid", vertex)?;
    let found = Found { job: jobs::find(context, job).await?, id };
    found.vertex()?;
    Ok(found)
}

type Ids = Path<(String, String)>;
type SubtaskIds = Path<(String, String, String)>;
type AttemptIds = Path<(String, String, String, String)>;

pub(super) async fn details(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<JobVertexDetailsInfo> {
    let found = find(&context, &job, &id).await?;
    Ok(found.vertex()?.details(Timestamp::now()).into())
}

pub(super) async fn backpressure(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<JobVertexBackPressureInfo> {
    let found = find(&context, &job, &id).await?;
    Ok(render::vertex::backpressure(found.vertex()?.subtasks(), Timestamp::now()).into())
}

pub(super) async fn subtask_times(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<SubtasksTimesInfo> {
    let found = find(&context, &job, &id).await?;
    Ok(found.vertex()?.subtask_times(Timestamp::now()).into())
}

pub(super) async fn task_managers(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<JobVertexTaskManagersInfo> {
    let found = find(&context, &job, &id).await?;
    Ok(found.vertex()?.task_managers(Timestamp::now()).into())
}

pub(super) async fn accumulators(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<JobVertexAccumulatorsInfo> {
    let found = find(&context, &job, &id).await?;
    let user_accumulators = render::accumulators(found.vertex()?.subtasks());
    Ok(JobVertexAccumulatorsInfo { id: found.id, user_accumulators }.into())
}

pub(super) async fn subtask_accumulators(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<SubtasksAllAccumulatorsInfo> {
    let found = find(&context, &job, &id).await?;
    Ok(found.vertex()?.subtask_accumulators().into())
}

pub(super) async fn watermarks(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<Vec<Metric>> {
    let found = find(&context, &job, &id).await?;
    Ok(found.vertex()?.watermarks().into())
}

/// Coordinators report no metrics yet.
pub(super) async fn coordinator_metrics(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<Vec<Metric>> {
    find(&context, &job, &id).await?;
    Ok(Vec::new().into())
}

/// Flink's way to say that there are no flame graphs here.
pub(super) async fn flame_graph(
    State(context): Shared,
    Path((job, id)): Ids,
) -> Answer<VertexFlameGraph> {
    const DISABLED: i64 = -3;
    find(&context, &job, &id).await?;
    Ok(VertexFlameGraph { end_timestamp: DISABLED, data: None }.into())
}

pub(super) async fn subtask(
    State(context): Shared,
    Path((job, id, index)): SubtaskIds,
) -> Answer<SubtaskExecutionAttemptDetailsInfo> {
    let found = find(&context, &job, &id).await?;
    let (vertex, subtask) = found.subtask(&index)?;
    Ok(vertex.subtask(subtask, Timestamp::now()).into())
}

pub(super) async fn attempt(
    State(context): Shared,
    Path((job, id, index, attempt)): AttemptIds,
) -> Answer<SubtaskExecutionAttemptDetailsInfo> {
    let found = find(&context, &job, &id).await?;
    let (vertex, subtask) = found.attempt(&index, &attempt)?;
    Ok(vertex.subtask(subtask, Timestamp::now()).into())
}

pub(super) async fn attempt_accumulators(
    State(context): Shared,
    Path((job, id, index, attempt)): AttemptIds,
) -> Answer<SubtaskExecutionAttemptAccumulatorsInfo> {
    let found = find(&context, &job, &id).await?;
    let (_, subtask) = found.attempt(&index, &attempt)?;
    let (number, attempt) = (subtask.subtask, subtask.attempt);
    Ok(SubtaskExecutionAttemptAccumulatorsInfo {
        subtask: number,
        attempt,
        id: format!("{}_{}_{number}_{attempt}", found.job.job, found.id),
        user_accumulators: render::accumulators([subtask]),
    }
    .into())
}
