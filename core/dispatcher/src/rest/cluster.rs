//! The cluster as a whole, its configuration and its workers.

use std::collections::BTreeSet;

use axum::extract::{Path, Request, State};
use axum::response::Html;
use millstream_gateway::{DispatcherGateway as _, TaskManagerDetails};
use millstream_types::{JobId, JobStatus};
use serde_json::{Value, json};
use tracing::info;

use super::answer::{Answer, Json, RestError, shortened};
use super::render::worker::Tasks;
use super::{Context, Shared, render};

/// Where the ResourceManager's link to the application leads. What it links to is relative, since
/// the browser knows this server by the proxy's address.
pub(super) async fn index() -> Html<&'static str> {
    Html(
        "<!DOCTYPE html><html><head><title>Millstream</title></head><body><h1>Millstream</h1><ul>\
         <li><a href=\"overview\">cluster</a><li><a href=\"jobs/overview\">jobs</a>\
         <li><a href=\"taskmanagers\">TaskManagers</a>\
         <li><a href=\"jobmanager/config\">configuration</a>\
         <li><a href=\"jobmanager/log\">log</a></ul></body></html>\n",
    )
}

pub(super) async fn overview(State(context): Shared) -> Answer {
    let services = &context.services;
    let workers = services.resource_manager.task_managers().await?;
    let jobs = services.dispatcher.jobs().await;
    let count =
        |wanted: fn(JobStatus) -> bool| jobs.iter().filter(|job| wanted(job.status)).count();
    let slots: u64 = workers.iter().map(|worker| u64::from(worker.registration.slots)).sum();
    let used: u64 = workers.iter().map(|worker| worker.allocated.len() as u64).sum();
    Ok(json!({
        "taskmanagers": workers.len(),
        "taskmanagers-blocked": 0,
        "slots-total": slots,
        "slots-available": slots.saturating_sub(used),
        "slots-free-and-blocked": 0,
        "jobs-running": count(|status| !status.is_globally_terminal()),
        "jobs-finished": count(|status| status == JobStatus::Finished),
        "jobs-cancelled": count(|status| status == JobStatus::Canceled),
        "jobs-failed": count(|status| status == JobStatus::Failed),
        "flink-version": render::VERSION,
        "flink-commit": context.config.revision,
    })
    .into())
}

pub(super) async fn config(State(context): Shared) -> Json {
    let config = &context.config;
    json!({
        "refresh-interval": config.refresh_interval_ms,
        "timezone-name": "Coordinated Universal Time",
        "timezone-offset": 0,
        "flink-version": render::VERSION,
        "flink-revision": config.revision,
        "features": {
            "web-submit": config.web_submit,
            "web-cancel": config.web_cancel,
            "web-rescale": false,
            "web-history": false,
        },
    })
    .into()
}

pub(super) async fn shut_down(State(context): Shared) -> Json {
    info!("REST was asked to shut the cluster down");
    context.services.shutdown_requested.cancel();
    Json::empty()
}

/// The client for which the cluster exists lives: the answer says for how long that counts.
pub(super) async fn renew_lease(State(context): Shared) -> Answer {
    let lease = context.services.lease.as_ref().ok_or_else(|| {
        RestError::not_found("this cluster does not depend on a client".to_owned())
    })?;
    lease.renew();
    let timeout = u64::try_from(lease.timeout().as_millis()).unwrap_or(u64::MAX);
    Ok(json!({ "timeout-ms": timeout }).into())
}

/// Cached results of batch jobs, which do not exist.
pub(super) async fn datasets() -> Json {
    json!({ "dataSets": [] }).into()
}

pub(super) async fn job_manager_config(State(context): Shared) -> Json {
    shown_configuration(&context).into()
}

/// The configuration as Flink lists it, secrets hidden.
pub(super) fn shown_configuration(context: &Context) -> Value {
    let pairs = context.config.configuration.shown();
    pairs.map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

pub(super) async fn environment() -> Json {
    let version = format!("no JVM: Millstream {}", render::VERSION);
    let arch = std::env::consts::ARCH;
    json!({
        "jvm": { "version": version, "arch": arch, "options": [] },
        "classpath": [],
    })
    .into()
}

/// No threads: there is no JVM whose stacks could be shown.
pub(super) async fn job_manager_threads() -> Json {
    json!({ "threadInfos": [] }).into()
}

pub(super) async fn task_manager_threads(State(context): Shared, Path(id): Path<String>) -> Answer {
    find(&context, &id).await?;
    Ok(json!({ "threadInfos": [] }).into())
}

pub(super) async fn profiles() -> Json {
    json!({ "profilingList": [] }).into()
}

pub(super) async fn task_manager_profiles(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer {
    find(&context, &id).await?;
    Ok(profiles().await)
}

/// What Flink 2.3 calls applications does not exist here; its jobs are listed as jobs.
pub(super) async fn applications() -> Json {
    json!({ "applications": [] }).into()
}

/// This server, as the client calls it.
pub(super) fn own_url(request: &Request) -> String {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("localhost"))
}

pub(super) async fn task_managers(State(context): Shared) -> Answer {
    let workers = context.services.resource_manager.task_managers().await?;
    let mut rows: Vec<Value> = Vec::new();
    for worker in &workers {
        rows.push(render::worker::row(worker, &tasks_on(&context, worker).await));
    }
    Ok(json!({ "taskmanagers": rows }).into())
}

pub(super) async fn task_manager(State(context): Shared, Path(id): Path<String>) -> Answer {
    let worker = find(&context, &id).await?;
    let tasks = tasks_on(&context, &worker).await;
    Ok(render::worker::details(&worker, &tasks).into())
}

/// What the jobs that have slots of a worker run on it.
async fn tasks_on(context: &Context, worker: &TaskManagerDetails) -> Tasks {
    let jobs: BTreeSet<JobId> = worker.allocated.iter().map(|(_, job)| *job).collect();
    let mut tasks = Tasks::default();
    for job in jobs {
        if let Ok(job) = context.services.dispatcher.job(job).await {
            tasks.add(&job, &worker.registration.id);
        }
    }
    tasks
}

/// The registered worker of this name.
pub(super) async fn find(context: &Context, id: &str) -> Result<TaskManagerDetails, RestError> {
    let workers = context.services.resource_manager.task_managers().await?;
    let found = workers.into_iter().find(|worker| worker.registration.id.as_str() == id);
    found.ok_or_else(|| {
        RestError::not_found(format!("TaskManager {:?} is not registered", shortened(id)))
    })
}
