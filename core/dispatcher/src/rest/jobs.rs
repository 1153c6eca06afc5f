//! Jobs: their descriptions, and the ways to end them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use millstream_gateway::{DispatcherGateway as _, JobDetails};
use millstream_graph::plan_info;
use millstream_rest_types::cluster::{ConfigurationInfoEntry, EnvironmentInfo, LogUrlResponse};
use millstream_rest_types::jobs::{
    JobAccumulatorsInfo, JobClientHeartbeatRequestBody, JobConfigInfo, JobDetailsInfo,
    JobExceptionsInfoWithHistory, JobExecutionResultResponseBody, JobIdWithStatus,
    JobIdsWithStatusOverview, JobPlanInfo, JobStatusInfo, MultipleJobsDetails,
};
use millstream_rest_types::vertices::{JobVertexResourceRequirements, Parallelism};
use millstream_types::{JobId, JobStatus, Timestamp, VertexId};

use super::answer::{Answer, Json, RestError, parse_id, read_json, shortened};
use super::query::Params;
use super::{Context, Shared, cluster, render};

/// Finds the job that the path names.
pub(super) async fn find(context: &Context, id: &str) -> Result<Arc<JobDetails>, RestError> {
    let job: JobId = parse_id("jobid", id)?;
    Ok(context.services.dispatcher.job(job).await?)
}

pub(super) async fn ids(State(context): Shared) -> Json<JobIdsWithStatusOverview> {
    let jobs = context.services.dispatcher.jobs().await;
    let rows = jobs.iter().map(|job| JobIdWithStatus { id: job.job, status: job.status });
    JobIdsWithStatusOverview { jobs: rows.collect() }.into()
}

pub(super) async fn overview(State(context): Shared) -> Json<MultipleJobsDetails> {
    let (jobs, now) = (context.services.dispatcher.jobs().await, Timestamp::now());
    let rows = jobs.iter().map(|job| render::job::summary(job, now));
    MultipleJobsDetails { jobs: rows.collect() }.into()
}

pub(super) async fn details(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<JobDetailsInfo> {
    let job = find(&context, &id).await?;
    Ok(render::job::details(&job, Timestamp::now()).into())
}

pub(super) async fn status(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<JobStatusInfo> {
    Ok(JobStatusInfo { status: find(&context, &id).await?.status }.into())
}

pub(super) async fn plan(State(context): Shared, Path(id): Path<String>) -> Answer<JobPlanInfo> {
    let job = find(&context, &id).await?;
    Ok(JobPlanInfo { plan: plan_info(&job.graph, job.job) }.into())
}

pub(super) async fn config(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<JobConfigInfo> {
    let job = find(&context, &id).await?;
    Ok(render::job::config(&job, context.config.flink_1_clients).into())
}

pub(super) async fn job_manager_config(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<Vec<ConfigurationInfoEntry>> {
    find(&context, &id).await?;
    Ok(cluster::shown_configuration(&context).into())
}

pub(super) async fn exceptions(
    State(context): Shared,
    Path(id): Path<String>,
    query: Params,
) -> Answer<JobExceptionsInfoWithHistory> {
    const DEFAULT: usize = 20;
    let max = match query.get("maxExceptions") {
        Some(text) => text
            .parse()
            .map_err(|_| RestError::bad("maxExceptions must be a whole number above zero"))?,
        None => DEFAULT,
    };
    Ok(render::job::exceptions(find(&context, &id).await?.as_ref(), max).into())
}

pub(super) async fn accumulators(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<JobAccumulatorsInfo> {
    let job = find(&context, &id).await?;
    let subtasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    Ok(JobAccumulatorsInfo {
        job_accumulators: [],
        user_task_accumulators: render::accumulators(subtasks),
        serialized_user_task_accumulators: BTreeMap::new(),
    }
    .into())
}

pub(super) async fn execution_result(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<JobExecutionResultResponseBody> {
    Ok(render::job::execution_result(find(&context, &id).await?.as_ref()).into())
}

pub(super) async fn terminate(
    State(context): Shared,
    Path(id): Path<String>,
    query: Params,
) -> Answer {
    match query.get("mode").unwrap_or("cancel").to_ascii_lowercase().as_str() {
        "cancel" => cancel(&context, &id).await,
        // Flink's status for it.
        "stop" => {
            let job = find(&context, &id).await?.job;
            let message = format!("there is no mode stop any more: use POST /jobs/{job}/stop");
            Err(RestError::new(StatusCode::PERMANENT_REDIRECT, message))
        }
        other => {
            let shown = shortened(other);
            Err(RestError::bad(format!("the mode is cancel, not {shown:?}")))
        }
    }
}

/// Refuses to end a job by `GET` if that is switched off.
pub(super) fn web_cancel_enabled(context: &Context) -> Result<(), RestError> {
    if context.config.web_cancel {
        return Ok(());
    }
    let message = "cancelling from the web is switched off (web.cancel.enable)";
    Err(RestError::new(StatusCode::FORBIDDEN, message))
}

/// Cancels a job for clients that cannot send PATCH: YARN's proxy, and Flink's web page.
pub(super) async fn cancel_by_get(State(context): Shared, Path(id): Path<String>) -> Answer {
    web_cancel_enabled(&context)?;
    cancel(&context, &id).await
}

async fn cancel(context: &Context, id: &str) -> Answer {
    let job = find(context, id).await?;
    if job.status.is_globally_terminal() && job.status != JobStatus::Canceled {
        return Err(RestError::new(
            StatusCode::CONFLICT,
            format!(
                "job {} cannot be cancelled because it has ended already ({})",
                job.job, job.status
            ),
        ));
    }
    context.services.dispatcher.cancel(job.job).await?;
    Ok(Json::accepted())
}

/// The parallelism of every vertex. Both bounds are the present value, since it cannot be changed.
pub(super) async fn resource_requirements(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<BTreeMap<VertexId, JobVertexResourceRequirements>> {
    let job = find(&context, &id).await?;
    let fixed = |at: u32| JobVertexResourceRequirements {
        parallelism: Parallelism { lower_bound: at, upper_bound: at },
    };
    let rows = job.graph.vertices.iter().map(|vertex| (vertex.id, fixed(vertex.parallelism)));
    Ok(rows.collect::<BTreeMap<_, _>>().into())
}

pub(super) async fn environment(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<EnvironmentInfo> {
    find(&context, &id).await?;
    Ok(cluster::environment().await)
}

/// The address of the JobManager's log.
pub(super) async fn job_manager_log_url(
    State(context): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Answer<LogUrlResponse> {
    find(&context, &id).await?;
    Ok(LogUrlResponse { url: format!("{}/jobmanager/log", cluster::own_url(&request)) }.into())
}

/// The address of a TaskManager's log.
pub(super) async fn task_manager_log_url(
    State(context): Shared,
    Path((id, task_manager)): Path<(String, String)>,
    request: Request,
) -> Answer<LogUrlResponse> {
    find(&context, &id).await?;
    let worker = cluster::find(&context, &task_manager).await?;
    let (own, worker) = (cluster::own_url(&request), &worker.registration.id);
    Ok(LogUrlResponse { url: format!("{own}/taskmanagers/{worker}/log") }.into())
}

pub(super) async fn client_heartbeat(
    State(context): Shared,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    let job: JobId = parse_id("jobid", &id)?;
    let heartbeat: JobClientHeartbeatRequestBody = read_json(body).await?;
    let expires = heartbeat
        .expired_timestamp
        .ok_or_else(|| RestError::bad("the body must have expiredTimestamp, in milliseconds"))?;
    let expires = Timestamp::from_millis(expires);
    context.services.dispatcher.client_heartbeat(job, expires).await?;
    Ok(Json::accepted())
}
