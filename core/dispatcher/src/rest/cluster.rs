//! The cluster as a whole, its configuration and its TaskManagers.

use std::collections::BTreeSet;

use axum::extract::{Path, Request, State};
use axum::response::Html;
use millstream_gateway::{DispatcherGateway as _, TaskManagerDetails};
use millstream_rest_types::EmptyBody;
use millstream_rest_types::cluster::{
    ClusterDataSetListResponseBody, ClusterOverview, ConfigurationInfoEntry,
    DashboardConfiguration, EnvironmentInfo, Features, JvmInfo, LeaseInfo,
    MultipleApplicationsDetails, ProfilingInfoList, ThreadDumpInfo,
};
use millstream_rest_types::task_managers::{TaskManagerDetailsInfo, TaskManagersInfo};
use millstream_types::{JobId, JobStatus};
use tracing::info;

use super::answer::{Answer, Json, RestError, shortened};
use super::render::worker::Tasks;
use super::{Context, Shared, render};

/// The page behind the ResourceManager's link to the application. Its links are relative, since the
/// browser knows this server by the proxy's address.
pub(super) async fn index() -> Html<&'static str> {
    Html(
        "<!DOCTYPE html><html><head><title>Millstream</title></head><body><h1>Millstream</h1><ul>\
         <li><a href=\"overview\">cluster</a><li><a href=\"jobs/overview\">jobs</a>\
         <li><a href=\"taskmanagers\">TaskManagers</a>\
         <li><a href=\"jobmanager/config\">configuration</a>\
         <li><a href=\"jobmanager/log\">log</a></ul></body></html>\n",
    )
}

pub(super) async fn overview(State(context): Shared) -> Answer<ClusterOverview> {
    let services = &context.services;
    let workers = services.resource_manager.task_managers().await?;
    let jobs = services.dispatcher.jobs().await;
    let count =
        |wanted: fn(JobStatus) -> bool| jobs.iter().filter(|job| wanted(job.status)).count() as u64;
    let slots: u64 = workers.iter().map(|worker| u64::from(worker.registration.slots)).sum();
    let used: u64 = workers.iter().map(|worker| worker.allocated.len() as u64).sum();
    Ok(ClusterOverview {
        taskmanagers: workers.len() as u64,
        taskmanagers_blocked: 0,
        slots_total: slots,
        slots_available: slots.saturating_sub(used),
        slots_free_and_blocked: 0,
        jobs_running: count(|status| !status.is_globally_terminal()),
        jobs_finished: count(|status| status == JobStatus::Finished),
        jobs_cancelled: count(|status| status == JobStatus::Canceled),
        jobs_failed: count(|status| status == JobStatus::Failed),
        flink_version: render::VERSION.to_owned(),
        flink_commit: context.config.revision.clone(),
    }
    .into())
}

pub(super) async fn config(State(context): Shared) -> Json<DashboardConfiguration> {
    let config = &context.config;
    DashboardConfiguration {
        refresh_interval: config.refresh_interval_ms,
        timezone_name: "Coordinated Universal Time".to_owned(),
        timezone_offset: 0,
        flink_version: render::VERSION.to_owned(),
        flink_revision: config.revision.clone(),
        features: Features {
            web_submit: config.web_submit,
            web_cancel: config.web_cancel,
            web_rescale: false,
            web_history: false,
        },
    }
    .into()
}

pub(super) async fn shut_down(State(context): Shared) -> Json<EmptyBody> {
    info!("REST was asked to shut the cluster down");
    context.services.shutdown_requested.cancel();
    Json::empty()
}

/// Renews the lease of the client for which the cluster exists; the answer is its length.
pub(super) async fn renew_lease(State(context): Shared) -> Answer<LeaseInfo> {
    let lease = context.services.lease.as_ref().ok_or_else(|| {
        RestError::not_found("this cluster does not depend on a client".to_owned())
    })?;
    lease.renew();
    let timeout = u64::try_from(lease.timeout().as_millis()).unwrap_or(u64::MAX);
    Ok(LeaseInfo { timeout_ms: timeout }.into())
}

/// Cached results of batch jobs, which do not exist.
pub(super) async fn datasets() -> Json<ClusterDataSetListResponseBody> {
    ClusterDataSetListResponseBody::default().into()
}

pub(super) async fn job_manager_config(
    State(context): Shared,
) -> Json<Vec<ConfigurationInfoEntry>> {
    shown_configuration(&context).into()
}

/// The configuration as Flink lists it, secrets hidden.
pub(super) fn shown_configuration(context: &Context) -> Vec<ConfigurationInfoEntry> {
    let pairs = context.config.configuration.shown();
    pairs
        .map(|(key, value)| ConfigurationInfoEntry { key: key.into(), value: value.into() })
        .collect()
}

pub(super) async fn environment() -> Json<EnvironmentInfo> {
    let version = format!("no JVM: Millstream {}", render::VERSION);
    let arch = std::env::consts::ARCH.to_owned();
    EnvironmentInfo { jvm: JvmInfo { version, arch, options: [] }, classpath: [] }.into()
}

/// No threads: there is no JVM whose stacks could be shown.
pub(super) async fn job_manager_threads() -> Json<ThreadDumpInfo> {
    ThreadDumpInfo::default().into()
}

pub(super) async fn task_manager_threads(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<ThreadDumpInfo> {
    find(&context, &id).await?;
    Ok(job_manager_threads().await)
}

pub(super) async fn profiles() -> Json<ProfilingInfoList> {
    ProfilingInfoList::default().into()
}

pub(super) async fn task_manager_profiles(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<ProfilingInfoList> {
    find(&context, &id).await?;
    Ok(profiles().await)
}

/// Flink 2.3's applications do not exist here; jobs are listed as jobs.
pub(super) async fn applications() -> Json<MultipleApplicationsDetails> {
    MultipleApplicationsDetails::default().into()
}

/// This server, as the client calls it.
pub(super) fn own_url(request: &Request) -> String {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("localhost"))
}

pub(super) async fn task_managers(State(context): Shared) -> Answer<TaskManagersInfo> {
    let workers = context.services.resource_manager.task_managers().await?;
    let mut taskmanagers = Vec::new();
    for worker in &workers {
        taskmanagers.push(render::worker::row(worker, &tasks_on(&context, worker).await));
    }
    Ok(TaskManagersInfo { taskmanagers }.into())
}

pub(super) async fn task_manager(
    State(context): Shared,
    Path(id): Path<String>,
) -> Answer<TaskManagerDetailsInfo> {
    let worker = find(&context, &id).await?;
    let tasks = tasks_on(&context, &worker).await;
    Ok(render::worker::details(&worker, &tasks).into())
}

/// Collects the tasks that jobs with slots of a TaskManager run on it.
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

/// Finds the registered TaskManager of this id.
pub(super) async fn find(context: &Context, id: &str) -> Result<TaskManagerDetails, RestError> {
    let workers = context.services.resource_manager.task_managers().await?;
    let found = workers.into_iter().find(|worker| worker.registration.id.as_str() == id);
    found.ok_or_else(|| {
        RestError::not_found(format!("TaskManager {:?} is not registered", shortened(id)))
    })
}
