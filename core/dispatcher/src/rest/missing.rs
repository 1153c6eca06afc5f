//! Endpoints of Flink's features that this version lacks.
//!
//! Each is refused with one sentence that says so, after the job that the path names was looked up:
//! a wrong job id must not read like a missing feature. A feature that comes takes its routes away
//! from here.

use axum::extract::{Path, State};
use millstream_rest_types::TriggerId;

use super::answer::{Answer, RestError, parse_id, shortened};
use super::{Shared, jobs};

/// A rescaling that was triggered: none exists, since none can be triggered.
pub(super) async fn operation(
    State(context): Shared,
    Path((id, trigger)): Path<(String, String)>,
) -> Answer {
    let job = jobs::find(&context, &id).await?.job;
    let trigger: TriggerId = parse_id("triggerid", &trigger)?;
    let message = format!("There is no operation with triggerId={trigger} for job {job}.");
    Err(RestError::not_found(message))
}

/// The same for operations of no job.
pub(super) async fn cluster_operation(Path(trigger): Path<String>) -> RestError {
    let trigger = shortened(&trigger);
    RestError::not_found(format!("There is no operation with triggerId={trigger}."))
}

pub(super) async fn rescaling(State(context): Shared, Path(id): Path<String>) -> Answer {
    jobs::find(&context, &id).await?;
    Err(RestError::not_here(
        "this version cannot change a running job's parallelism: cancel it and run it anew",
    ))
}

/// The adaptive scheduler's history.
pub(super) async fn rescales(State(context): Shared, Path(id): Path<String>) -> Answer {
    let job = jobs::find(&context, &id).await?.job;
    Err(RestError::not_found(format!("job {job} is not rescaled: it has no adaptive scheduler")))
}

pub(super) async fn rescale_detail(
    State(context): Shared,
    Path((id, _rescale)): Path<(String, String)>,
) -> Answer {
    rescales(State(context), Path(id)).await
}

/// Flink's `collect()` and the like.
pub(super) async fn coordinator_message(
    State(context): Shared,
    Path((id, _operator)): Path<(String, String)>,
) -> Answer {
    jobs::find(&context, &id).await?;
    Err(RestError::not_here(
        "messages to a coordinator are Java objects, which cannot be read here",
    ))
}

pub(super) async fn profile() -> RestError {
    RestError::not_here("this version has no profiler; perf(1) works on its processes")
}

pub(super) async fn data_set(Path(id): Path<String>) -> RestError {
    RestError::not_found(format!("there is no data set {:?}", shortened(&id)))
}

/// Flink 2.3 calls a program that started jobs an application.
pub(super) async fn application(Path(id): Path<String>) -> RestError {
    RestError::not_found(format!("Application {} not found", shortened(&id)))
}

pub(super) async fn run_application(Path(_jar): Path<String>) -> RestError {
    RestError::not_here(
        "this version does not run an uploaded program as an application: use POST \
         /jars/:jarid/run",
    )
}
