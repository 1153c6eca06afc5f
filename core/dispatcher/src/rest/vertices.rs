//! One vertex of a job.

use std::sync::Arc;

use axum::extract::{Path, State};
use millstream_gateway::{JobDetails, VertexDetails};
use millstream_graph::JobVertex;
use millstream_types::{Timestamp, VertexId};
use serde_json::{Value, json};

use super::answer::{Answer, Json, RestError, parse_id};
use super::{Context, Shared, jobs, render};

/// A job and one vertex of it.
pub(super) struct Found {
    pub(super) job: Arc<JobDetails>,
    id: VertexId,
}

impl Found {
    /// The vertex's subtasks and its place in the plan.
    pub(super) fn vertex(&self) -> Result<(&VertexDetails, &JobVertex), RestError> {
        let vertex = self.job.vertices.iter().find(|vertex| vertex.id == self.id);
        vertex
            .zip(self.job.graph.vertex(self.id))
            .ok_or_else(|| RestError::not_found(format!("JobVertex {} not found", self.id)))
    }
}

pub(super) async fn find(context: &Context, job: &str, vertex: &str) -> Result<Found, RestError> {
    let id = parse_id("vertexid", vertex)?;
    let found = Found { job: jobs::find(context, job).await?, id };
    found.vertex()?;
    Ok(found)
}

type Ids = Path<(String, String)>;

pub(super) async fn details(State(context): Shared, Path((job, id)): Ids) -> Answer {
    let found = find(&context, &job, &id).await?;
    let (vertex, planned) = found.vertex()?;
    Ok(render::vertex::details(vertex, planned, Timestamp::now()).into())
}

pub(super) async fn backpressure(State(context): Shared, Path((job, id)): Ids) -> Answer {
    let found = find(&context, &job, &id).await?;
    Ok(render::vertex::backpressure(found.vertex()?.0, Timestamp::now()).into())
}

pub(super) async fn subtask_times(State(context): Shared, Path((job, id)): Ids) -> Answer {
    let found = find(&context, &job, &id).await?;
    let (vertex, planned) = found.vertex()?;
    Ok(render::vertex::subtask_times(vertex, planned, Timestamp::now()).into())
}

pub(super) async fn task_managers(State(context): Shared, Path((job, id)): Ids) -> Answer {
    let found = find(&context, &job, &id).await?;
    let (vertex, planned) = found.vertex()?;
    Ok(render::vertex::task_managers(vertex, planned, Timestamp::now()).into())
}

pub(super) async fn accumulators(State(context): Shared, Path((job, id)): Ids) -> Answer {
    let found = find(&context, &job, &id).await?;
    let (vertex, _) = found.vertex()?;
    let counters = render::accumulators(&vertex.subtasks);
    Ok(json!({ "id": vertex.id, "user-accumulators": counters }).into())
}

/// Subtasks report no watermarks yet.
pub(super) async fn watermarks(State(context): Shared, Path((job, id)): Ids) -> Answer {
    find(&context, &job, &id).await?;
    Ok(Json::from(Value::Array(Vec::new())))
}

pub(super) async fn subtask(
    State(context): Shared,
    Path((job, id, index)): Path<(String, String, String)>,
) -> Answer {
    let found = find(&context, &job, &id).await?;
    let index: usize = parse_id("subtaskindex", &index)?;
    let subtask = found.vertex()?.0.subtasks.get(index);
    let subtask = subtask
        .ok_or_else(|| RestError::not_found(format!("vertex {id} has no subtask {index}")))?;
    Ok(render::vertex::subtask(subtask, Timestamp::now()).into())
}
