//! The cluster as a whole, its configuration and its workers.

use axum::extract::{Path, State};
use axum::response::Html;
use millstream_gateway::{DispatcherGateway as _, TaskManagerDetails};
use millstream_types::JobStatus;
use serde_json::{Value, json};
use tracing::info;

use super::answer::{Answer, Json, RestError};
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

pub(super) async fn task_managers(State(context): Shared) -> Answer {
    let workers = context.services.resource_manager.task_managers().await?;
    let rows: Vec<Value> = workers.iter().map(render::worker::row).collect();
    Ok(json!({ "taskmanagers": rows }).into())
}

pub(super) async fn task_manager(State(context): Shared, Path(id): Path<String>) -> Answer {
    Ok(render::worker::details(&find(&context, &id).await?).into())
}

/// The registered worker of this name.
pub(super) async fn find(context: &Context, id: &str) -> Result<TaskManagerDetails, RestError> {
    let workers = context.services.resource_manager.task_managers().await?;
    let found = workers.into_iter().find(|worker| worker.registration.id.as_str() == id);
    found.ok_or_else(|| {
        let shown: String = id.chars().take(64).collect();
        RestError::not_found(format!("TaskManager {shown:?} is not registered"))
    })
}
