//! Checkpoints and savepoints on request.
//!
//! A request is answered once the job's details show it, so that its id is known to every later
//! `GET`. The JobMaster ignores a request whose id it knows: repeating one is harmless. Savepoints
//! and stops are asked for under one path, checkpoints under another; an id is of one of both.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_gateway::{
    CheckpointRequest, DispatcherGateway as _, JobDetails, RequestDetails, UnknownJob,
};
use millstream_rest_types::operations::{
    AsynchronousOperationResult, CheckpointInfo, CheckpointTriggerRequestBody, SavepointInfo,
    SavepointTriggerRequestBody, StopWithSavepointRequestBody, TriggerResponse,
};
use millstream_types::{JobId, TriggerId};

use super::answer::{Answer, Json, Place, RestError, parse_from, parse_id, read_json};
use super::{Context, Shared, jobs, render};
use crate::random;

/// Time that a job has to take a request.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);
/// The longest path of a savepoint, in bytes; the job keeps it.
const PATH_BYTES_MAX: usize = 4096;

/// The id that a client chose, or a random one.
pub(super) fn trigger_of(given: Option<String>) -> Result<TriggerId, RestError> {
    match given {
        Some(text) => parse_from(Place::Body, "triggerId", &text),
        None => Ok(TriggerId::from_bytes(random::bytes())),
    }
}

/// A path of the body; an empty one is none.
pub(super) fn checked_path(name: &str, path: Option<String>) -> Result<Option<String>, RestError> {
    let path = path.filter(|path| !path.trim().is_empty());
    if path.as_ref().is_some_and(|path| path.len() > PATH_BYTES_MAX) {
        let message = format!("{name} is longer than {PATH_BYTES_MAX} bytes");
        return Err(RestError::bad(message));
    }
    Ok(path)
}

/// Takes a savepoint.
pub(super) async fn take_savepoint(
    State(context): Shared,
    Path(id): Path<String>,
    body: Body,
) -> Answer<TriggerResponse> {
    let body: SavepointTriggerRequestBody = read_json(body).await?;
    let target = checked_path("target-directory", body.target_directory)?;
    let cancel = body.cancel_job.unwrap_or(false);
    let request = CheckpointRequest::Savepoint { target, cancel };
    trigger(&context, &id, body.trigger_id, request).await
}

/// Stops a job with a savepoint.
pub(super) async fn stop(
    State(context): Shared,
    Path(id): Path<String>,
    body: Body,
) -> Answer<TriggerResponse> {
    let body: StopWithSavepointRequestBody = read_json(body).await?;
    let target = checked_path("targetDirectory", body.target_directory)?;
    let drain = body.drain.unwrap_or(false);
    trigger(&context, &id, body.trigger_id, CheckpointRequest::Stop { target, drain }).await
}

/// Stops a job for clients that can send `GET` alone.
pub(super) async fn stop_by_get(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<TriggerResponse> {
    jobs::web_cancel_enabled(&context)?;
    let request = CheckpointRequest::Stop { target: None, drain: false };
    trigger(&context, &id, None, request).await
}

/// Takes a checkpoint.
pub(super) async fn take_checkpoint(
    State(context): Shared,
    Path(id): Path<String>,
    body: Body,
) -> Answer<TriggerResponse> {
    // Every kind is a full checkpoint, as the configured ones are.
    let body: CheckpointTriggerRequestBody = read_json(body).await?;
    trigger(&context, &id, body.trigger_id, CheckpointRequest::Checkpoint).await
}

fn is_checkpoint(request: &CheckpointRequest) -> bool {
    match request {
        CheckpointRequest::Checkpoint => true,
        CheckpointRequest::Savepoint { .. } | CheckpointRequest::Stop { .. } => false,
    }
}

fn shown(job: &JobDetails, trigger: TriggerId) -> Option<&RequestDetails> {
    job.requests.iter().map(AsRef::as_ref).find(|request| request.trigger == trigger)
}

/// Hands a request to a job, and answers once the job shows it.
async fn trigger(
    context: &Context,
    id: &str,
    trigger: Option<String>,
    request: CheckpointRequest,
) -> Answer<TriggerResponse> {
    let job: JobId = parse_id("jobid", id)?;
    let dispatcher = &context.services.dispatcher;
    let mut details = dispatcher.follow(job).await.ok_or(UnknownJob(job))?;
    let trigger = trigger_of(trigger)?;
    let checkpoint = is_checkpoint(&request);
    let is_settled =
        |job: &JobDetails| shown(job, trigger).is_some() || job.status.is_globally_terminal();
    let before = details.borrow().clone();
    let settled = if is_settled(&before) {
        Ok(before)
    } else {
        dispatcher.request(job, trigger, request).await?;
        let settled = details.wait_for(|job| is_settled(job));
        let settled = tokio::time::timeout(TAKEN_WITHIN, settled).await;
        settled.map(|settled| settled.map_or(before, |last| Arc::clone(&last)))
    };
    let settled = settled.map_err(|_| {
        let seconds = TAKEN_WITHIN.as_secs();
        let message = format!(
            "job {job} has not answered within {seconds} s: it may still take the request as \
             triggerId={trigger}"
        );
        RestError::new(StatusCode::GATEWAY_TIMEOUT, message)
    })?;
    match shown(&settled, trigger) {
        Some(known) if is_checkpoint(&known.request) == checkpoint => {
            Ok(Json(StatusCode::ACCEPTED, TriggerResponse { request_id: trigger }))
        }
        Some(_) => Err(RestError::new(StatusCode::CONFLICT, other_kind(trigger, checkpoint))),
        None => Err(RestError::new(StatusCode::CONFLICT, ended(&settled, checkpoint))),
    }
}

fn other_kind(trigger: TriggerId, checkpoint: bool) -> String {
    let other = if checkpoint { "savepoint" } else { "checkpoint" };
    format!("triggerId={trigger} is a {other}'s: choose another one")
}

fn ended(job: &JobDetails, checkpoint: bool) -> String {
    let what = if checkpoint { "checkpoint" } else { "savepoint" };
    let (job, status) = (job.job, job.status);
    if status.is_globally_terminal() {
        return format!("job {job} takes no {what} because it has ended already ({status})");
    }
    format!("job {job} takes no {what} because its JobMaster has stopped")
}

/// Finds a request of a job.
async fn find(
    context: &Context,
    id: &str,
    trigger: &str,
    checkpoint: bool,
) -> Result<(Arc<JobDetails>, RequestDetails), RestError> {
    let job = jobs::find(context, id).await?;
    let trigger: TriggerId = parse_id("triggerid", trigger)?;
    let found = shown(&job, trigger).filter(|it| is_checkpoint(&it.request) == checkpoint);
    let found = found.cloned().ok_or_else(|| {
        let job = job.job;
        let message = format!("There is no operation with triggerId={trigger} for job {job}.");
        RestError::not_found(message)
    })?;
    Ok((job, found))
}

/// Shows the outcome of a savepoint, or of a stop.
pub(super) async fn savepoint(
    State(context): Shared,
    Path((id, trigger)): Path<(String, String)>,
) -> Answer<AsynchronousOperationResult<SavepointInfo>> {
    let (job, request) = find(&context, &id, &trigger, false).await?;
    Ok(render::operation::savepoint(&request, job.status).into())
}

/// Shows the outcome of a checkpoint.
pub(super) async fn checkpoint(
    State(context): Shared,
    Path((id, trigger)): Path<(String, String)>,
) -> Answer<AsynchronousOperationResult<CheckpointInfo>> {
    let (job, request) = find(&context, &id, &trigger, true).await?;
    Ok(render::operation::checkpoint(&request, job.status).into())
}
