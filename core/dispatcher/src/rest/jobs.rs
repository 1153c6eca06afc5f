//! Jobs: what they are, and how to end them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use millstream_gateway::{DispatcherGateway as _, JobDetails};
use millstream_types::{JobId, JobStatus, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Json, RestError, parse_id, read_json, shortened};
use super::query::Params;
use super::{Context, Shared, cluster, missing, render};
use millstream_graph::plan_json;

/// The job that the path names.
pub(super) async fn find(context: &Context, id: &str) -> Result<Arc<JobDetails>, RestError> {
    let job: JobId = parse_id("jobid", id)?;
    Ok(context.services.dispatcher.job(job).await?)
}

pub(super) async fn ids(State(context): Shared) -> Json {
    let jobs = context.services.dispatcher.jobs().await;
    let row = |id: JobId, status: JobStatus| json!({ "id": id, "status": status });
    let rows: Vec<Value> = jobs.iter().map(|job| row(job.job, job.status)).collect();
    json!({ "jobs": rows }).into()
}

pub(super) async fn overview(State(context): Shared) -> Json {
    let (jobs, now) = (context.services.dispatcher.jobs().await, Timestamp::now());
    let rows: Vec<Value> = jobs.iter().map(|job| render::job::overview(job, now)).collect();
    json!({ "jobs": rows }).into()
}

pub(super) async fn details(State(context): Shared, Path(id): Path<String>) -> Answer {
    let job = find(&context, &id).await?;
    Ok(render::job::details(&job, Timestamp::now()).into())
}

pub(super) async fn status(State(context): Shared, Path(id): Path<String>) -> Answer {
    Ok(json!({ "status": find(&context, &id).await?.status }).into())
}

pub(super) async fn plan(State(context): Shared, Path(id): Path<String>) -> Answer {
    let job = find(&context, &id).await?;
    Ok(json!({ "plan": plan_json(&job.graph, job.job) }).into())
}

pub(super) async fn config(State(context): Shared, Path(id): Path<String>) -> Answer {
    let job = find(&context, &id).await?;
    Ok(render::job::config(&job, context.config.flink_1_clients).into())
}

pub(super) async fn job_manager_config(State(context): Shared, Path(id): Path<String>) -> Answer {
    find(&context, &id).await?;
    Ok(cluster::shown_configuration(&context).into())
}

pub(super) async fn exceptions(
    State(context): Shared,
    Path(id): Path<String>,
    query: Params,
) -> Answer {
    const DEFAULT: usize = 20;
    let max = match query.get("maxExceptions") {
        Some(text) => text
            .parse()
            .map_err(|_| RestError::bad("maxExceptions must be a whole number above zero"))?,
        None => DEFAULT,
    };
    Ok(render::job::exceptions(find(&context, &id).await?.as_ref(), max).into())
}

pub(super) async fn accumulators(State(context): Shared, Path(id): Path<String>) -> Answer {
    let job = find(&context, &id).await?;
    let subtasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    Ok(json!({
        "job-accumulators": [],
        "user-task-accumulators": render::accumulators(subtasks),
        "serialized-user-task-accumulators": {},
    })
    .into())
}

pub(super) async fn execution_result(State(context): Shared, Path(id): Path<String>) -> Answer {
    Ok(render::job::execution_result(find(&context, &id).await?.as_ref()).into())
}

pub(super) async fn terminate(
    State(context): Shared,
    Path(id): Path<String>,
    query: Params,
) -> Answer {
    match query.get("mode").unwrap_or("cancel").to_ascii_lowercase().as_str() {
        "cancel" => cancel(&context, &id).await,
        "stop" => missing::savepoint(State(context), Path(id)).await,
        other => {
            let shown = shortened(other);
            Err(RestError::bad(format!("the mode is cancel, not {shown:?}")))
        }
    }
}

/// The same for those who cannot send PATCH: YARN's proxy, and Flink's web page.
pub(super) async fn cancel_by_get(State(context): Shared, Path(id): Path<String>) -> Answer {
    if !context.config.web_cancel {
        let message = "cancelling from the web is switched off (web.cancel.enable)";
        return Err(RestError::new(StatusCode::FORBIDDEN, message));
    }
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

/// The parallelism of every vertex: what it has is what it needs, since it cannot be changed.
pub(super) async fn resource_requirements(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer {
    let job = find(&context, &id).await?;
    let bounds = |parallelism: u32| json!({ "lowerBound": parallelism, "upperBound": parallelism });
    let rows: serde_json::Map<String, Value> = job
        .graph
        .vertices
        .iter()
        .map(|vertex| (vertex.id.to_string(), json!({ "parallelism": bounds(vertex.parallelism) })))
        .collect();
    Ok(Value::Object(rows).into())
}

pub(super) async fn environment(State(context): Shared, Path(id): Path<String>) -> Answer {
    find(&context, &id).await?;
    Ok(cluster::environment().await)
}

/// Where the JobManager's log is.
pub(super) async fn job_manager_log_url(
    State(context): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    find(&context, &id).await?;
    Ok(json!({ "url": format!("{}/jobmanager/log", cluster::own_url(&request)) }).into())
}

/// Where a TaskManager's log is.
pub(super) async fn task_manager_log_url(
    State(context): Shared,
    Path((id, task_manager)): Path<(String, String)>,
    request: Request,
) -> Answer {
    find(&context, &id).await?;
    let worker = cluster::find(&context, &task_manager).await?;
    let (own, worker) = (cluster::own_url(&request), &worker.registration.id);
    Ok(json!({ "url": format!("{own}/taskmanagers/{worker}/log") }).into())
}

#[derive(Debug, Default, Deserialize)]
struct Heartbeat {
    #[serde(rename = "expiredTimestamp")]
    expired_timestamp: Option<i64>,
}

pub(super) async fn client_heartbeat(
    State(context): Shared,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    let job: JobId = parse_id("jobid", &id)?;
    let heartbeat: Heartbeat = read_json(body).await?;
    let expires = heartbeat
        .expired_timestamp
        .ok_or_else(|| RestError::bad("the body must have expiredTimestamp, in milliseconds"))?;
    let expires = Timestamp::from_millis(expires);
    context.services.dispatcher.client_heartbeat(job, expires).await?;
    Ok(Json::accepted())
}
