//! Our own submission: an artifact by its hash, then a JobGraph that names it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use millstream_gateway::{DispatcherGateway as _, JobSubmission, SubmitJobError};
use millstream_graph::JobGraph;
use millstream_launcher::inspect_artifact;
use millstream_rest_types::submission::{ArtifactInfo, JobSubmitResponseBody, SubmitQuery};
use millstream_types::{ArtifactHash, JobId};
use prost::Message as _;

use super::answer::{
    Answer, Json, Place, RestError, next_chunk, parse_from, parse_id, read_body, within_deadline,
};
use super::{Context, Shared};
use crate::random;

/// The largest JobGraph message, in bytes.
const GRAPH_BYTES_MAX: usize = 32 << 20;

/// Answers 200 if the store has the artifact, else 404.
pub(super) async fn has_artifact(State(context): Shared, Path(hash): Path<String>) -> Response {
    match parse_id::<ArtifactHash>("sha256", &hash) {
        Ok(hash) if context.services.artifacts.contains(hash) => StatusCode::OK.into_response(),
        Ok(_) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => error.into_response(),
    }
}

/// Stores an artifact: 200 if the store had it, 201 if it is new.
pub(super) async fn put_artifact(
    State(context): Shared,
    Path(hash): Path<String>,
    body: Body,
) -> Answer<ArtifactInfo> {
    within_deadline(store(&context, &hash, body)).await
}

async fn store(context: &Context, hash: &str, mut body: Body) -> Answer<ArtifactInfo> {
    let expected: ArtifactHash = parse_id("sha256", hash)?;
    let store = &context.services.artifacts;
    let answer = |status| Json(status, ArtifactInfo { sha256: expected });
    if store.contains(expected) {
        return Ok(answer(StatusCode::OK));
    }
    let _permit = context.uploads.acquire().await;
    let mut upload = store.upload().await?;
    while let Some(bytes) = next_chunk(&mut body).await? {
        upload.write(&bytes).await?;
    }
    upload.finish(Some(expected)).await?;
    Ok(answer(StatusCode::CREATED))
}

/// Starts a job from its graph (`millstream.job.v1.JobGraph`).
pub(super) async fn submit(
    State(context): Shared,
    Query(query): Query<SubmitQuery>,
    body: Body,
) -> Answer<JobSubmitResponseBody> {
    let artifact = query.artifact.as_deref().ok_or_else(|| {
        RestError::bad("the query must name the artifact: ?artifact=<its SHA-256>")
    })?;
    let artifact: ArtifactHash = parse_from(Place::Query, "artifact", artifact)?;
    let job = match query.job_id.as_deref() {
        Some(text) => parse_from(Place::Query, "job-id", text)?,
        None => JobId::from_bytes(random::bytes()),
    };
    let bytes = read_body(body, GRAPH_BYTES_MAX).await?;
    let message = millstream_protocol::job::JobGraph::decode(bytes).map_err(|_| {
        RestError::bad("the body is not a job graph (protobuf millstream.job.v1.JobGraph)")
    })?;
    let graph = JobGraph::try_from(message).map_err(|error| RestError::bad(error.to_string()))?;

    let path = context.services.artifacts.path(artifact);
    let path = path.ok_or(SubmitJobError::UnknownArtifact { artifact })?;
    let inspected = tokio::task::spawn_blocking(move || inspect_artifact(&path)).await;
    if let Ok(Err(error)) = inspected {
        return Err(RestError::bad(error.to_string()));
    }
    let submission = JobSubmission { job, graph: Arc::new(graph), artifact, artifact_size: 0 };
    let job = context.services.dispatcher.submit(submission).await?;
    Ok(JobSubmitResponseBody { jobid: job }.into())
}

/// Refuses a Java program; its client prints the reason.
pub(super) async fn java() -> RestError {
    RestError::bad(
        "this cluster runs Rust programs and cannot execute a Java job graph: upload an artifact \
         with POST /jars/upload and start it with POST /jars/:jarid/run, or use millstream run",
    )
}
